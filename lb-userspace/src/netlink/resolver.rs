//! Keeps the next hop of every backend address current. The kernel is the only source of truth: its reports of changes
//! say what to ask again, and every snapshot is made from its answers alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::interface::{Link, list_links};
use super::kept::{Kept, RouteNeed};
use super::looked_up::{Life, LookedUp};
use super::macs::{Macs, macs};
use super::monitor::{Monitor, Report};
use super::neighbour::{NeighbourKey, NeighbourTable, Reachability, revalidate};
use super::next_hop::{Resolution, resolve};
use super::route;
use super::socket::{Error, Socket};
use super::upper::{Addresses, Uppers, egress, list_addresses, uppers};
use super::view::{View, views};
use crate::supervise::{Supervisor, Vitals, guarded};

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

/// For each address that is asked for, whether and where packets can be sent. An address that was added a moment ago
/// may still be missing.
pub type NextHops = Arc<HashMap<IpAddr, Resolution>>;

/// The resolver has ended, because its sockets failed; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the next-hop resolver has stopped; see the log, and restart lb")]
pub struct ResolverStopped;

#[derive(Debug, Default)]
struct Wanted {
    addresses: BTreeSet<IpAddr>,
    needs: BTreeMap<IpAddr, RouteNeed>,
    gateway_interfaces: BTreeSet<u32>,
}

/// Tells the resolver what to resolve. The resolver ends when its handle is dropped, and leaves the neighbours that it
/// had the kernel keep fresh as they are: a dataplane may outlive it. Setting no addresses first hands them back.
#[derive(Debug)]
pub struct ResolverHandle {
    wanted: watch::Sender<Wanted>,
    used: mpsc::Sender<Vec<(u32, IpAddr)>>,
    changes: watch::Receiver<u64>,
    uppers: watch::Receiver<Uppers>,
    macs: watch::Receiver<Macs>,
    snapshots: watch::Receiver<NextHops>,
}

impl ResolverHandle {
    /// Waits until the neighbours of addresses are given back, after none is asked for any more.
    pub async fn given_back(&self) {
        let _ = self
            .snapshots
            .clone()
            .wait_for(|snapshot| snapshot.is_empty())
            .await;
    }

    /// Replaces the set of addresses to resolve.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_addresses(&self, addresses: BTreeSet<IpAddr>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.addresses, addresses)
    }

    /// Replaces what addresses need of their ways. Where the only way is another one, the last that was good is kept for as
    /// long as one that is unknown.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_needs(&self, needs: BTreeMap<IpAddr, RouteNeed>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.needs, needs)
    }

    /// Replaces the set of interfaces (by index) that the balancer runs on. Routes are looked up in their VRFs, if need
    /// be from their addresses, and the kernel is to keep the gateways of routes over them, of both families, resolved: packets
    /// that the dataplane routes with `bpf_fib_lookup` leave through them.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_gateway_interfaces(&self, interfaces: BTreeSet<u32>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.gateway_interfaces, interfaces)
    }

    /// Has the kernel make sure of the neighbours that packets were sent to past its stack, each by interface and address.
    /// While the resolver is at work on others they are left out: packets will name them again.
    pub fn revalidate(&self, neighbours: Vec<(u32, IpAddr)>) {
        if let Err(error) = self.used.try_send(neighbours) {
            log::debug!("neighbours in use are not looked after this time: {error}");
        }
    }

    /// Counts the kernel's reports of changes to interfaces, neighbours, addresses, routes, rules and next-hop objects, whether or not
    /// they move a next hop that was asked for.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// What the dataplane must know of all interfaces: every change of it is published whole.
    pub fn uppers(&self) -> watch::Receiver<Uppers> {
        self.uppers.clone()
    }

    /// The MACs that frames to this host bear. They are told at once: what bears a new one is not for this host until then.
    pub fn macs(&self) -> watch::Receiver<Macs> {
        self.macs.clone()
    }

    fn update<T: PartialEq>(
        &self,
        field: impl FnOnce(&mut Wanted) -> &mut T,
        value: T,
    ) -> Result<(), ResolverStopped> {
        self.wanted.send_if_modified(|wanted| {
            let field = field(wanted);
            let changed = *field != value;
            *field = value;
            changed
        });
        if self.wanted.is_closed() {
            Err(ResolverStopped)
        } else {
            Ok(())
        }
    }
}

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

    fn distrust_everything(&mut self) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
        self.todo.links = true;
        self.todo.addresses = true;
        self.distrust_routes();
        self.neighbours.distrust_all();
    }

    fn distrust_routes(&mut self) {
        self.todo.routes.extend(self.routes.keys());
        self.todo.gateways = true;
    }

    /// Reads the reports that have arrived, and the latest desired state, and tells of MACs that have changed.
    fn observe_queued(&mut self) -> Result<(), Error> {
        if self.wanted.has_changed().unwrap_or(false) {
            self.take_wanted();
        }
        while let Some(event) = self.monitor.reports.next().now_or_never() {
            self.observe(event.ok_or(Error::Closed)?);
        }
        // Frames to a new MAC come right after; those of a burst are told at once.
        if std::mem::take(&mut self.macs_changed) {
            self.publish_macs();
        }
        Ok(())
    }

    fn observe(&mut self, event: NetlinkMessage<Report>) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
        match event.payload {
            NetlinkPayload::InnerMessage(Report::Change(change)) => self.observe_change(&change),
            NetlinkPayload::InnerMessage(Report::NextHops) => self.distrust_routes(),
            // Reports were lost, because they came faster than they were read.
            NetlinkPayload::Overrun(_) => self.distrust_everything(),
            _ => {}
        }
    }

    fn observe_change(&mut self, change: &RouteNetlinkMessage) {
        match change {
            RouteNetlinkMessage::NewNeighbour(message) => {
                self.todo.decide |= self.neighbours.observe(message, false);
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                self.todo.decide |= self.neighbours.observe(message, true);
            }
            RouteNetlinkMessage::NewLink(message) => self.observe_link(message, false),
            RouteNetlinkMessage::DelLink(message) => self.observe_link(message, true),
            RouteNetlinkMessage::NewRoute(message) => {
                self.observe_route(message);
                self.note_gateways(message);
            }
            RouteNetlinkMessage::DelRoute(message) => self.observe_route(message),
            // Routes that name a deleted address as their source vanish without a report.
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
                self.todo.addresses = true;
                self.distrust_routes();
            }
            RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => self.distrust_routes(),
            _ => {}
        }
    }

    fn observe_link(&mut self, message: &LinkMessage, deleted: bool) {
        let Some(link) = Link::from_message(message) else {
            return;
        };
        let index = link.index;
        let new = (!deleted).then_some(link);
        let old = match new.clone() {
            Some(link) => self.links.insert(index, link),
            None => self.links.remove(&index),
        };
        if old != new {
            // The routes over an interface that goes down vanish without a report.
            self.distrust_routes();
            self.neighbours.distrust_interface(index);
            self.todo.decide = true;
            self.macs_changed = true;
        }
    }

    fn observe_route(&mut self, message: &RouteMessage) {
        let Some(destination) = route::destination(message) else {
            return;
        };
        self.todo.gateways |= destination.prefix_len() == 0;
        let affected = self
            .routes
            .keys()
            .filter(|address| destination.contains(*address));
        self.todo.routes.extend(affected);
    }

    /// Adds the gateways of a new route to the others at once; whether one is needed no longer is seen when all are
    /// listed.
    fn note_gateways(&mut self, route: &RouteMessage) {
        let before = self.gateways.len();
        if before >= route::MAX_GATEWAYS {
            return;
        }
        for interface in self.with_vlans(self.wanted.borrow().gateway_interfaces.clone()) {
            route::collect_gateways(route, interface, &mut self.gateways);
        }
        self.todo.decide |= self.gateways.len() > before;
    }

    /// Asks the kernel what is in doubt, within bounds, and publishes the outcome.
    async fn round(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.todo.links) {
            match list_links(&self.socket).await {
                Ok(links) => self.links = links,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => log::warn!("cannot list the network interfaces: {error}"),
            }
            self.publish_macs();
        }
        if std::mem::take(&mut self.todo.addresses) {
            match list_addresses(&self.socket).await {
                Ok(addresses) => self.addresses = addresses,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => log::warn!("cannot list the interfaces' addresses: {error}"),
            }
        }
        let views = self.views();
        for _ in 0..ROUTES_PER_ROUND {
            let Some(address) = self.todo.routes.pop_first() else {
                break;
            };
            self.look_up(address, &views).await?;
        }
        if std::mem::take(&mut self.todo.gateways) {
            let interfaces = self.with_vlans(self.wanted.borrow().gateway_interfaces.clone());
            self.gateways = route::gateways(&self.socket, &interfaces).await?;
        }
        self.track_neighbours();
        self.neighbours.refresh(&self.socket).await?;
        self.todo.decide = false;
        self.choose();
        self.publish();
        Ok(())
    }

    /// From where routes are looked up: the interfaces that the balancer runs on, then the VLAN devices on them.
    fn views(&self) -> Vec<View> {
        let given = self.wanted.borrow().gateway_interfaces.clone();
        let vlans = self.with_vlans(given.clone());
        let interfaces: Vec<u32> = given.iter().chain(vlans.difference(&given)).copied().collect();
        views(&interfaces, &self.links, &self.addresses)
    }

    /// Adds to the interfaces the VLAN devices that lie on them.
    fn with_vlans(&self, mut interfaces: BTreeSet<u32>) -> BTreeSet<u32> {
        let on_them = |link: &&Link| {
            egress(link, &self.links).is_ok_and(|egress| interfaces.contains(&egress.interface))
        };
        let vlans: Vec<u32> = self
            .links
            .values()
            .filter(on_them)
            .map(|link| link.index)
            .collect();
        interfaces.extend(vlans);
        interfaces
    }

    async fn look_up(&mut self, address: IpAddr, views: &[View]) -> Result<(), Error> {
        let (route, next_hops) = route::look_up(&self.socket, address, views).await?;
        let known = self.routes.remove(&address);
        self.routes
            .insert(address, LookedUp::new(address, route, next_hops, known));
        Ok(())
    }

    fn track_neighbours(&mut self) {
        let mut used = self.gateways.clone();
        used.extend(self.routes.values().flat_map(LookedUp::neighbours));
        // The kernel resolves nothing over an interface that cannot send, or that has no MAC addresses.
        used.retain(|key| {
            self.links
                .get(&key.interface_index)
                .is_some_and(Link::can_resolve)
        });
        self.neighbours.track(&used);
    }

    fn choose(&mut self) {
        let (links, neighbours) = (&self.links, &self.neighbours);
        let life = |key: &NeighbourKey| {
            if !links.get(&key.interface_index).is_some_and(Link::can_resolve) {
                return Life::Dead;
            }
            match neighbours.reachability(key) {
                Reachability::Known(_) => Life::Alive,
                Reachability::Pending => Life::Unknown,
                Reachability::Failed | Reachability::Refused(_) => Life::Dead,
            }
        };
        for known in self.routes.values_mut() {
            known.choose(life);
        }
    }

    fn publish_macs(&self) {
        let macs = macs(&self.links);
        self.macs.send_if_modified(|published| {
            let changed = *published != macs;
            if changed {
                *published = macs;
            }
            changed
        });
    }

    fn publish(&mut self) {
        let uppers = uppers(&self.links, &self.addresses.ranked);
        self.uppers.send_if_modified(|published| {
            let changed = *published != uppers;
            if changed {
                *published = uppers;
            }
            changed
        });
        let (links, neighbours) = (&self.links, &self.neighbours);
        let (kept, wanted, now) = (&mut self.kept, self.wanted.borrow(), Instant::now());
        let mut ends = None;
        let decide = |(address, known): (&IpAddr, &LookedUp)| {
            let found = resolve(*address, known.route(), known.last_interface(), links, neighbours);
            let way = kept.confirm((*address, &wanted.needs), found, now, &mut ends);
            (*address, way)
        };
        let snapshot: HashMap<_, _> = self.routes.iter().map(decide).collect();
        self.grace_ends = ends;
        self.snapshots.send_if_modified(|published| {
            let changed = **published != snapshot;
            if changed {
                *published = Arc::new(snapshot);
            }
            changed
        });
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
