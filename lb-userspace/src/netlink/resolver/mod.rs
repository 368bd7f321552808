//! Keeps the next hop of every backend address current. The kernel is the only source of truth: its reports of changes
//! say what to ask again, and every snapshot is made from its answers alone.

mod handle;
mod observe;
mod round;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::kept::Kept;
use super::link::Link;
use super::looked_up::LookedUp;
use super::macs::Macs;
use super::monitor::Monitor;
use super::neighbour::{NeighbourKey, NeighbourTable, revalidate};
use super::socket::{Error, Socket};
use super::upper::{Addresses, Uppers};
use crate::supervise::{Supervisor, Vitals, guarded};

pub use handle::{NextHops, ResolverHandle, ResolverStopped};

use handle::Wanted;

/// How long after a change the kernel's further reports are awaited, so that a burst costs one round.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// How many routes are asked for in one round; the rest follow in the next, after the kernel's reports were read.
const ROUTES_PER_ROUND: usize = 2048;
/// How often neighbours are used that the kernel does not keep fresh by itself.
const NEIGHBOUR_INTERVAL: Duration = Duration::from_secs(5);
/// How often everything is asked anew, for the changes that the kernel does not report (an expired path MTU).
const FULL_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The kernel's reports that may move a next hop.
const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// Starts a resolver for the network namespace of the calling thread, on the calling tokio runtime. Every change of
/// the outcome is published as a whole new snapshot. A way that becomes unknown is published as it was for `grace`, unless the
/// kernel has asked for it in vain. A resolver that fails begins again, and `vitals` tell of it; the channel closes if it
/// cannot be helped.
///
/// # Errors
/// When the netlink sockets cannot be opened.
pub fn spawn_resolver(
    grace: Duration,
    vitals: &Vitals,
) -> Result<(ResolverHandle, watch::Receiver<NextHops>), Error> {
    spawn_with(Monitor::open(&GROUPS)?, grace, vitals)
}

/// Starts a resolver with a monitor that may be of no use: the resolver opens another one when it has failed.
pub(super) fn spawn_with(
    monitor: Monitor,
    grace: Duration,
    vitals: &Vitals,
) -> Result<(ResolverHandle, watch::Receiver<NextHops>), Error> {
    let (handle, wanted) = watch::channel(Wanted::default());
    let (used, in_use) = mpsc::channel(1);
    let (snapshots, receiver) = watch::channel(NextHops::default());
    let (changes, changed) = watch::channel(0);
    let (uppers, interfaces) = watch::channel(Uppers::default());
    let (macs, known_macs) = watch::channel(Macs::default());
    let resolver = Resolver {
        socket: Socket::open()?,
        monitor,
        wanted,
        used: in_use,
        snapshots,
        changes,
        uppers,
        macs,
        macs_changed: false,
        seen_from: BTreeSet::new(),
        links: HashMap::new(),
        addresses: Addresses::default(),
        routes: HashMap::new(),
        kept: Kept::new(grace),
        grace_ends: None,
        gateways: HashSet::new(),
        neighbours: NeighbourTable::default(),
        todo: Todo {
            links: true,
            addresses: true,
            ..Todo::default()
        },
    };
    tokio::spawn(run_supervised(
        resolver,
        Supervisor::new("the resolver of next hops", vitals),
    ));
    Ok((
        ResolverHandle {
            wanted: handle,
            used,
            changes: changed,
            uppers: interfaces,
            macs: known_macs,
            snapshots: receiver.clone(),
        },
        receiver,
    ))
}

/// Runs until the handle is dropped, or it cannot be helped.
async fn run_supervised(mut resolver: Resolver, mut supervisor: Supervisor) {
    while let Err(why) = guarded(resolver.run()).await {
        if !supervisor.again_after(&why).await {
            return;
        }
        if let Err(error) = resolver.reopen() {
            log::error!("the resolver of next hops: {error}");
        }
    }
}

/// What the next round must do.
#[derive(Debug, Default)]
struct Todo {
    /// List the interfaces anew, and then everything that hangs on them.
    links: bool,
    /// List the addresses of interfaces anew.
    addresses: bool,
    /// Ask for these routes.
    routes: BTreeSet<IpAddr>,
    /// List the gateways anew.
    gateways: bool,
    /// Decide anew from what is known.
    decide: bool,
}

struct Resolver {
    socket: Socket,
    monitor: Monitor,
    wanted: watch::Receiver<Wanted>,
    used: mpsc::Receiver<Vec<(u32, IpAddr)>>,
    snapshots: watch::Sender<NextHops>,
    changes: watch::Sender<u64>,
    uppers: watch::Sender<Uppers>,
    macs: watch::Sender<Macs>,
    /// Whether they may be others now.
    macs_changed: bool,
    /// The balancer's interfaces that the routes were looked up for.
    seen_from: BTreeSet<u32>,
    links: HashMap<u32, Link>,
    addresses: Addresses,
    routes: HashMap<IpAddr, LookedUp>,
    kept: Kept,
    /// When the first way that is unknown is not kept any longer.
    grace_ends: Option<Instant>,
    gateways: HashSet<NeighbourKey>,
    neighbours: NeighbourTable,
    todo: Todo,
}

impl Resolver {
    /// Opens its sockets anew after they have failed. What is known stays in force until the kernel says otherwise.
    fn reopen(&mut self) -> Result<(), Error> {
        self.socket = Socket::open()?;
        self.monitor = Monitor::open(&GROUPS)?;
        self.distrust_everything();
        Ok(())
    }

    /// Runs until the handle is dropped (`Ok`) or a socket fails.
    async fn run(&mut self) -> Result<(), Error> {
        let mut neighbour_tick = ticks(NEIGHBOUR_INTERVAL);
        let mut full_check = ticks(FULL_CHECK_INTERVAL);
        // Whether the last round left routes to ask for: its reports have been awaited already.
        let mut unfinished = false;
        while self.wanted.has_changed().is_ok() {
            if self.macs_changed {
                self.observe_queued()?;
            }
            if self.has_work() {
                if !unfinished {
                    sleep(DEBOUNCE).await;
                }
                self.observe_queued()?;
                self.round().await?;
                unfinished = !self.todo.routes.is_empty();
                continue;
            }
            tokio::select! {
                wanted = self.wanted.changed() => if wanted.is_ok() {
                    self.take_wanted();
                },
                event = self.monitor.reports.next() => self.observe(event.ok_or(Error::Closed)?),
                _ = neighbour_tick.tick() => self.neighbours.distrust_unmaintained(),
                _ = full_check.tick() => self.distrust_everything(),
                Some(used) = self.used.recv() => self.revalidate(used).await?,
                () = at(self.grace_ends) => self.todo.decide = true,
            }
        }
        Ok(())
    }

    /// Has the kernel check used neighbours that are not tracked: tracked ones are kept fresh anyway, and using them
    /// plainly would end that.
    async fn revalidate(&mut self, used: Vec<(u32, IpAddr)>) -> Result<(), Error> {
        for (interface_index, address) in used {
            let key = NeighbourKey {
                interface_index,
                address,
            };
            let can_resolve = self.links.get(&interface_index).is_some_and(Link::can_resolve);
            if can_resolve && !self.neighbours.is_tracked(&key) {
                revalidate(&self.socket, key).await?;
            }
        }
        Ok(())
    }

    fn has_work(&self) -> bool {
        let Todo {
            links,
            addresses,
            routes,
            gateways,
            decide,
        } = &self.todo;
        *links || *addresses || !routes.is_empty() || *gateways || *decide || self.neighbours.needs_refresh()
    }

    fn take_wanted(&mut self) {
        let wanted = self.wanted.borrow_and_update();
        if self.seen_from != wanted.gateway_interfaces {
            self.seen_from.clone_from(&wanted.gateway_interfaces);
            self.todo.routes.extend(self.routes.keys());
        }
        self.routes
            .retain(|address, _| wanted.addresses.contains(address));
        self.kept.retain(|address| wanted.addresses.contains(address));
        self.todo
            .routes
            .retain(|address| wanted.addresses.contains(address));
        let new = wanted
            .addresses
            .iter()
            .filter(|address| !self.routes.contains_key(address));
        self.todo.routes.extend(new);
        self.todo.gateways = true;
        self.todo.decide = true;
    }
}

/// Waits for that instant, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
