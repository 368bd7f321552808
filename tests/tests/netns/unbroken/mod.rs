//! No connection breaks: not by a planned change, not by the agent's death, not by a new program.
//!
//! Many connections echo all the time, and each is followed from its opening to its end. The service is on the echo
//! port; its check asks the HTTP port, so that what arrives at the echo port is the clients' alone.

mod changes;
mod datagrams;
mod drain;
mod failures;
mod flood;
mod flows;
mod half_closed;
mod kills;
mod moments;
mod reboot;
mod replacement;
mod steady;
mod verdicts;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    panic,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use lb_lab::{
    Forwarder,
    traffic::echo::{self, Connection, EchoOptions, Echoes},
};

use flows::FlowTable;

use super::support::{PORT, Rig, Service, backend_addresses, lab, wait_until};

/// What one test at a time may hold alone, or several side by side.
static MACHINE: RwLock<()> = RwLock::new(());

/// A test's turn; the next one comes when it is dropped.
enum Turn {
    /// For a test that loads the machine: none of the others runs meanwhile.
    Alone { _guard: RwLockWriteGuard<'static, ()> },
    /// For a test that mostly waits: it runs beside others like it.
    Shared { _guard: RwLockReadGuard<'static, ()> },
}

impl Turn {
    // A test that failed leaves nothing behind, so that a poisoned lock is as good as any.
    fn alone() -> Self {
        let _guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
        Self::Alone { _guard }
    }

    fn shared() -> Self {
        let _guard = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
        Self::Shared { _guard }
    }
}

/// A lab with echo servers, and the service `web` on all of them.
struct Stage {
    rig: Rig,
    target: SocketAddr,
    addresses: Vec<IpAddr>,
    service: Service,
    // Dropped last: the next test's turn comes when this one's lab is gone.
    _turn: Turn,
}

/// What a [`Stage`] is made of.
struct Plan {
    forwarder: Forwarder,
    /// Whether the VIP and the backends' addresses are of IPv6.
    v6: bool,
    /// How many hosts are in the service.
    backends: usize,
    /// Further hosts that serve, too, but are not in the service yet.
    spare: usize,
    /// Keys of the service with their values, written as TOML.
    keys: Vec<(&'static str, String)>,
    /// The configuration file's part about the dataplane.
    dataplane: &'static str,
    /// Whether the test mostly waits, so that others may run beside it.
    waits: bool,
}

impl Plan {
    fn new(forwarder: Forwarder, backends: usize) -> Self {
        Self {
            forwarder,
            v6: false,
            backends,
            spare: 0,
            keys: Vec::new(),
            dataplane: "",
            waits: false,
        }
    }
}

impl Stage {
    fn new(plan: Plan) -> Self {
        let Plan {
            forwarder,
            v6,
            backends,
            spare,
            keys,
            dataplane,
            waits,
        } = plan;
        let turn = if waits { Turn::shared() } else { Turn::alone() };
        let lab = lab(forwarder, backends + spare);
        let vip = lab.options().vips[usize::from(v6)];
        let addresses = backend_addresses(&lab, vip);
        let service = Service::new(forwarder, &[vip]).key("port", echo::PORT);
        let service = keys
            .into_iter()
            .fold(service, |service, (key, value)| service.key(key, value));
        let config = format!(
            "{dataplane}\n{}",
            service.clone().backends(&addresses[..backends])
        );
        let rig = Rig::on_ports(lab, &config, &[PORT, echo::PORT]);
        rig.wait_until_all_up();
        Self {
            rig,
            target: SocketAddr::new(vip, echo::PORT),
            addresses,
            service,
            _turn: turn,
        }
    }

    /// Opens `count` connections that stay, and waits until all echo.
    fn hold(&self, count: u32) -> Echoes {
        let echoes = self.echo(EchoOptions::new(self.target, count));
        wait_until("all connections echo", || {
            let connections = echoes.connections();
            connections.iter().filter(|connection| connection.lives()).count() == count as usize
        });
        echoes
    }

    /// The dataplane's flow table.
    fn flow_table(&self) -> FlowTable {
        FlowTable::of(&self.rig.agent.pins().pin_dir())
    }

    fn echo(&self, options: EchoOptions) -> Echoes {
        Echoes::start(&self.rig.client().namespace, options).unwrap()
    }
}

/// Runs `background` in a thread of its own while `work` lasts; what both returned. `background` is told to stop in any
/// case.
fn during<T: Send, U>(background: impl FnOnce(&AtomicBool) -> T + Send, work: impl FnOnce() -> U) -> (T, U) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let running = scope.spawn(|| background(&stop));
        let done = panic::catch_unwind(panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let result = running.join();
        let done = done.unwrap_or_else(|panic| panic::resume_unwind(panic));
        (result.unwrap_or_else(|panic| panic::resume_unwind(panic)), done)
    })
}

/// How many connections have had answers from each server.
fn by_server(connections: &[Connection]) -> BTreeMap<Arc<str>, usize> {
    let mut servers = BTreeMap::new();
    for server in connections
        .iter()
        .filter_map(|connection| connection.server.clone())
    {
        *servers.entry(server).or_default() += 1;
    }
    servers
}
