//! What the agent costs as a process: its start, its memory, a change by its API.
//!
//! What must hold: the binary `lb` is measured, on a network where every backend has a next hop.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_api::client::Client;
use lb_core::desired::{BackendPatch, Change, Services};
use lb_lab::{Agent, Forwarder, Lab, LabOptions, LbOptions, NextHop, Route};
use lb_userspace::config::Config;

use super::{
    Options,
    agent::Row,
    report::Spread,
    scenario::{BACKENDS4, Scenario},
};

const SERVICES: u32 = 1000;
const BACKENDS: u32 = 16;
/// How often the agent is started, and how many changes it is asked for.
const STARTS: usize = 3;
const CHANGES: u16 = 40;
/// How long a start may take.
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// Starts the agent with 1,000 services of 16 backends, and asks it for changes.
pub(super) fn run(options: &Options, lb: &Path) -> Result<Vec<Row>> {
    let lab = Lab::new(LabOptions::new(Forwarder::Ipip))?;
    route_to_backends(&lab)?;
    let scenario = Scenario {
        services: SERVICES,
        backends: BACKENDS,
        ..Scenario::one((options.vip, options.port).into())
    };
    let services = scenario.services()?;
    let config = Config {
        services: services.clone(),
        ..Config::default()
    };
    let lb = LbOptions::new(lb.to_owned(), Some(config.to_toml()?));

    let (mut answers, mut starts) = (Vec::new(), Vec::new());
    let (mut memory, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut agent = Agent::start(&lab.balancer, &lb)?;
        answers.push(start.elapsed().as_secs_f64() * 1e3);
        wait_until_all_are_up(&agent, start)?;
        starts.push(start.elapsed().as_secs_f64() * 1e3);
        changes.extend(change(&agent, &services)?);
        memory.push(resident_megabytes(agent.process().id())?);
        agent.stop()?;
    }
    let of = format!("{SERVICES}-services-{BACKENDS}-backends");
    let row = |name: &str, unit, samples: &[f64]| {
        let value = Spread::of(samples).context("no figure was taken")?;
        anyhow::Ok(Row {
            name: format!("{name}-{of}"),
            unit,
            value,
        })
    };
    Ok(vec![
        row("start-to-answer", "ms", &answers)?,
        row("start-to-all-up", "ms", &starts)?,
        row("resident-memory", "MB", &memory)?,
        row("api-changes", "1/s", &changes)?,
    ])
}

/// One router stands for all backends.
fn route_to_backends(lab: &Lab) -> Result<()> {
    let router = lab.backends.first().context("the lab has no backend")?.ipv4;
    lab.balancer.namespace.netlink(async |netlink| {
        let route = Route {
            destination: IpAddr::from((BACKENDS4 & 0xffff_0000).to_be_bytes()),
            prefix: 16,
            next: NextHop::Via(router),
            mtu: None,
        };
        netlink.add_route(&route).await
    })
}

fn wait_until_all_are_up(agent: &Agent, start: Instant) -> Result<()> {
    loop {
        let up = agent.get("/v1/status")?["backends_up"].as_u64();
        if up == Some(u64::from(SERVICES * BACKENDS)) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < START_LIMIT,
            "only {up:?} backends are up after {START_LIMIT:?}; the agent's log ends:\n{}",
            agent.log_end()
        );
        thread::sleep(POLL);
    }
}

/// How many changes a second the agent makes, one after the other.
fn change(agent: &Agent, services: &Services) -> Result<Vec<f64>> {
    let service = services.iter().next().context("no service")?;
    let backend = service.backends.first().context("no backend")?.id();
    let client = Client::new(&agent.socket());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut rates = Vec::new();
        for i in 0..CHANGES {
            let patch = BackendPatch {
                weight: Some(2 + i % 2),
                ..BackendPatch::default()
            };
            let service = service.name.clone();
            let change = Change::SetBackend {
                service,
                backend,
                patch,
            };
            let start = Instant::now();
            client.write(&change, None).await?;
            rates.push(1.0 / start.elapsed().as_secs_f64());
        }
        Ok(rates)
    })
}

fn resident_megabytes(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the agent is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.context("/proc does not tell the agent's memory")? * 1024.0 / 1e6)
}
