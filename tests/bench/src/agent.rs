//! What the agent's own work costs: reacting to a failure, working out slot tables, checking backends.
//!
//! What must hold: this is the agent's code on real tables in the kernel, not a model of it.

use std::{
    collections::HashSet,
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_check::{Check, Close, ProbeTarget, Timing};
use lb_core::desired::{BackendId, Scheduler};
use lb_core::schedule::{Last, Member, schedule, table_size};
use lb_userspace::health::{Beliefs, Engine, Health};
use serde::Serialize;

use super::{
    Options, cpu,
    report::Spread,
    scenario::{Balancer, Scenario},
};

/// How often a short figure is taken.
const TAKES: usize = 11;
/// Services that share their backends, and how many backends these are.
const SERVICES: [u32; 3] = [1, 100, 1000];
const BACKENDS: [u32; 3] = [16, 100, 1000];
/// Most backends of all services together for which figures are taken; beyond, the tables take a gigabyte.
const MOST_TARGETS: u32 = 100_000;

/// One figure.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) unit: &'static str,
    #[serde(flatten)]
    pub(super) value: Spread,
}

/// Takes all figures.
pub(super) fn run(options: &Options, interface: u32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for &scheduler in Scheduler::ALL {
        for backends in BACKENDS {
            rows.push(Row {
                name: format!("slot-table-{scheduler}-{backends}-backends"),
                unit: "us",
                value: slot_table(scheduler, backends)?,
            });
        }
    }
    for backends in BACKENDS {
        for services in SERVICES {
            if services * backends <= MOST_TARGETS {
                rows.push(Row {
                    name: format!("failure-to-last-slot-{services}-services-{backends}-backends"),
                    unit: "us",
                    value: failure(options, services, backends, interface)?,
                });
            }
        }
    }
    rows.push(Row {
        name: "heartbeats-per-cpu-second".to_owned(),
        unit: "1/s",
        value: health_checks()?,
    });
    Ok(rows)
}

/// From a verdict on a backend, or on its return, to the last slot written; planning included.
fn failure(options: &Options, services: u32, backends: u32, interface: u32) -> Result<Spread> {
    let scenario = Scenario {
        services,
        backends,
        shared: true,
        ..Scenario::one(SocketAddr::new(options.vip.into(), options.port))
    };
    let mut balancer = Balancer::load(&scenario, interface)?;
    spread(|take| balancer.learn(take % 2 == 0))
}

/// Working out one service's slot table when a backend fails or comes back.
fn slot_table(scheduler: Scheduler, backends: u32) -> Result<Spread> {
    let member = |i: u32| Member {
        id: BackendId {
            address: Ipv4Addr::from(0x0a00_0001 + i).into(),
            port: None,
        },
        weight: 1,
    };
    let mut members: Vec<Member> = (0..backends).map(member).collect();
    let ids: Vec<BackendId> = members.iter().map(|member| member.id).collect();
    let slots = table_size(members.iter().map(|member| member.weight));
    let mut owners = schedule(scheduler, None, &members, slots).context("no slot table")?;
    spread(|_| {
        members[0].weight ^= 1;
        let last = Last {
            owners: &owners,
            ids: &ids,
        };
        let start = Instant::now();
        let table = schedule(scheduler, Some(&last), &members, slots);
        let spent = start.elapsed();
        owners = table.context("no slot table")?;
        ensure!(owners.len() == slots as usize, "a slot table of another size");
        Ok(spent)
    })
}

/// Microseconds of as many takes.
fn spread(mut take: impl FnMut(usize) -> Result<Duration>) -> Result<Spread> {
    let mut samples = Vec::with_capacity(TAKES);
    for i in 0..TAKES {
        samples.push(take(i)?.as_secs_f64() * 1e6);
    }
    Spread::of(&samples).context("no figure was taken")
}

/// TCP health checks that a second of one CPU's time is enough for. The targets are on the loopback device, so that the
/// kernel's part of answering is in it.
fn health_checks() -> Result<Spread> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot listen")?;
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listener.local_addr()?.port());
    let (answered, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) && listener.accept().is_ok() {
                answered.fetch_add(1, Relaxed);
            }
        });
        let rates = beat(address.port(), &answered);
        done.store(true, Relaxed);
        // Wakes the thread that answers.
        TcpStream::connect(address).context("cannot connect over the loopback device")?;
        Spread::of(&rates?).context("no figure was taken")
    })
}

/// Runs health checks in this thread; how many were answered in each second of its CPU time.
fn beat(port: u16, answered: &AtomicU64) -> Result<Vec<f64>> {
    const TARGETS: u32 = 2000;
    const INTERVAL: Duration = Duration::from_millis(250);
    const TAKE: Duration = Duration::from_millis(300);
    let check = Check {
        // Thousands of connections in TIME_WAIT are no part of what is measured.
        close: Close::Reset,
        timing: Timing {
            interval: INTERVAL,
            timeout: INTERVAL,
            ..Timing::default()
        },
        ..Check::default()
    };
    check.validate()?;
    let first = u32::from(Ipv4Addr::LOCALHOST);
    let targets = (0..TARGETS).filter_map(|i| {
        let host = Ipv4Addr::from(first + i);
        ProbeTarget::new(SocketAddr::new(host.into(), port), &check)
    });
    let targets: HashSet<ProbeTarget> = targets.collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (engine, mut verdicts) = Engine::spawn();
        engine.set_targets(targets, &Beliefs::new());
        let mut up = 0;
        while up < TARGETS {
            let verdict = verdicts.recv().await.context("the health checks ended")?;
            ensure!(
                verdict.state == Health::Up,
                "{} does not answer",
                verdict.target.address()
            );
            up += 1;
        }
        let mut rates = Vec::with_capacity(TAKES);
        for _ in 0..TAKES {
            let (spent, count) = (cpu::thread_time()?, answered.load(Relaxed));
            tokio::time::sleep(TAKE).await;
            let spent = cpu::thread_time()? - spent;
            rates.push((answered.load(Relaxed) - count) as f64 / spent.as_secs_f64());
        }
        Ok(rates)
    })
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            unit,
            value: Spread { min, median, max },
        } = self;
        write!(f, "{name:<48} {min:>10.0} {median:>10.0} {max:>10.0} {unit}")
    }
}
