//! What the tables should mean: pools, each a set of targets that packets to some VIPs are spread over.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use lb_common::abi::ServiceFlags;
use serde::{Deserialize, Serialize};

use super::{
    placed_pool::PlacedPool,
    service_flags::FlaggedWords,
    slots::FlowFate,
    target::{NextHop, TargetCell, TunnelSources, Way, encode},
};
use crate::desired::{
    AdminState, Backend, BackendId, Forwarder, MssClamp, Prefix, Scheduler, Service, ServiceName, Services,
    Source,
};
use crate::schedule::{Last, Member, homeward, schedule, table_size};

/// Names a pool: a service, and with `nat` and `fullnat` the family, since such backends serve VIPs of their own only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey {
    /// The service.
    pub service: ServiceName,
    /// Whether this is the IPv6 part of a service that is split by family.
    pub v6_part: bool,
}

impl PoolKey {
    /// The names of all pools that a service may have.
    pub fn of(service: &Service) -> impl Iterator<Item = Self> {
        let key = |v6_part| Self {
            service: service.name.clone(),
            v6_part,
        };
        let v6_part = service.splits_by_family().then(|| key(true));
        std::iter::once(key(false)).chain(v6_part)
    }
}

/// What is known about a backend beside the operator's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Its health check is good, or it has none.
    Up,
    /// No health check has come back yet.
    Checking,
    /// Its health check is bad.
    Down,
}

/// Where a backend stands, all things considered; what `lb list` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// Takes traffic.
    Up,
    /// Health check bad.
    Down,
    /// Waiting for the first health check.
    Checking,
    /// Next hop unknown.
    Unresolved,
    /// The operator lets it run dry.
    Drain,
    /// The operator took it out.
    Maint,
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Checking => "checking",
            Self::Unresolved => "unresolved",
            Self::Drain => "drain",
            Self::Maint => "maint",
        })
    }
}

/// What the agent knows about the world when it plans.
pub trait Observed {
    /// What the health check of that backend says.
    fn availability(&self, service: &Service, backend: &Backend) -> Availability;
    /// The way to that address, if it is known.
    fn next_hop(&self, address: IpAddr) -> Option<NextHop>;
    /// Whether that address is this host's own.
    fn is_own(&self, address: IpAddr) -> bool;
    /// Outer source addresses of tunnels.
    fn tunnel_sources(&self) -> &TunnelSources;
    /// The only interface that traffic comes in by, when there is one only: what leaves by it needs no redirect.
    fn only_interface(&self) -> Option<u32>;
}

/// The way to a backend that its forwarder can use: a packet that keeps its destination address must not be handed to a
/// gateway, and one that is left to this host must find the backend there.
fn way(observed: &impl Observed, service: &Service, backend: &Backend) -> Option<Way> {
    let hop = || observed.next_hop(backend.address);
    match backend.forwarder_in_use(service) {
        Forwarder::Local => observed.is_own(backend.address).then_some(Way::Here),
        Forwarder::L2dsr => hop().filter(|hop| hop.on_link).map(Way::Hop),
        _ => hop().map(Way::Hop),
    }
}

/// Where `backend` stands.
pub fn backend_state(observed: &impl Observed, service: &Service, backend: &Backend) -> BackendState {
    match (backend.state, observed.availability(service, backend)) {
        (AdminState::Maint, _) => BackendState::Maint,
        (AdminState::Drain | AdminState::Leaving, _) => BackendState::Drain,
        (AdminState::Ready, _) if way(observed, service, backend).is_none() => BackendState::Unresolved,
        (AdminState::Ready, Availability::Checking) => BackendState::Checking,
        (AdminState::Ready, Availability::Down) => BackendState::Down,
        (AdminState::Ready, Availability::Up) => BackendState::Up,
    }
}

/// One backend's part in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolMember {
    /// Who.
    pub id: BackendId,
    /// How its packets are rewritten; all zero while its next hop is unknown.
    pub entry: TargetCell,
    /// Its weight, if it takes new flows now; else 0.
    pub weight: u16,
    /// The weight that it has when it is back, if it is out for what happened to it and not by its operator's wish; else 0.
    pub away: u16,
    /// What becomes of the flows that it has.
    pub flows: FlowFate,
}

/// Where what is known of a pool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolOrigin {
    /// It was worked out from a desired state.
    Wish,
    /// It was read back from tables or a snapshot, which do not say all that it means: it equals no pool that is
    /// wanted, and its slot table is one to start from, not an answer.
    Recovered,
    /// The same, from tables that lead to it differently for the two families.
    Torn,
}

/// A set of targets and the VIPs whose packets are spread over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub key: PoolKey,
    /// The service as declared.
    pub service: Arc<Service>,
    /// The VIPs that lead here.
    pub vips: Vec<Prefix>,
    /// How to treat packets, in the dataplane's words.
    pub flags: ServiceFlags,
    /// Size of the slot table: what the service asks for, but never less than there is. A table that shrank would
    /// join flows of two owners in one slot.
    pub slots: u32,
    /// All declared backends of the pool, in the order declared.
    pub members: Vec<PoolMember>,
    /// Which member owns each slot; `None` when nobody can. Shared by pools whose members agree.
    pub owners: Option<Arc<Vec<u16>>>,
    /// How much of it is known.
    pub origin: PoolOrigin,
}

impl PoolMember {
    fn taker(&self) -> Member {
        Member {
            id: self.id,
            weight: self.weight,
        }
    }
}

impl Pool {
    /// All members, by their weights for new flows.
    pub(super) fn takers(&self) -> impl Iterator<Item = Member> {
        self.members.iter().map(PoolMember::taker)
    }

    /// Whether both are of the same members with the same weights, whoever of them is away.
    pub(super) fn declares_the_same(&self, other: &Self) -> bool {
        let declared = |member: &PoolMember| (member.id, member.weight.max(member.away));
        self.slots == other.slots
            && self.service.scheduler == other.service.scheduler
            && self
                .members
                .iter()
                .map(declared)
                .eq(other.members.iter().map(declared))
    }

    /// Whether somebody who takes flows here is away in `next`, which declares the same.
    pub(super) fn loses_members_in(&self, next: &Self) -> bool {
        let mut pairs = self.members.iter().zip(&next.members);
        pairs.any(|(old, new)| old.weight > 0 && new.away > 0)
    }

    /// Whether both lead to the same slot table.
    fn shares_table_with(&self, other: &Self) -> bool {
        self.origin == PoolOrigin::Wish
            && self.service.scheduler == other.service.scheduler
            && self.slots == other.slots
            && self.takers().eq(other.takers())
    }
}

/// All pools that `services` want, given the facts. Where there are pools already, [`Layout::pools`] says the same for
/// less work.
///
/// [`Layout::pools`]: super::Layout::pools
pub fn pools(services: &Services, observed: &impl Observed) -> Vec<Pool> {
    pools_after(services, observed, |_| None)
}

/// The same, where `present` tells the pool that a name stands for now.
pub(super) fn pools_after<'p>(
    services: &Services,
    observed: &impl Observed,
    present: impl Fn(&PoolKey) -> Option<&'p PlacedPool>,
) -> Vec<Pool> {
    let mut tables = Tables::default();
    services
        .iter()
        .flat_map(parts)
        .map(|part| {
            let mut pool = part.pool(observed);
            let present = present(&pool.key);
            pool.slots = present.map_or(0, |present| present.pool.slots).max(pool.slots);
            pool.owners = match present {
                Some(present) if present.pool.shares_table_with(&pool) => present.pool.owners.clone(),
                present => tables.of(&pool, present),
            };
            pool
        })
        .collect()
}

/// Slot tables worked out already: services that share their backends share the work.
#[derive(Default)]
struct Tables(HashMap<TableKey, Option<Arc<Vec<u16>>>>);

/// All that a slot table depends on; [`Pool::shares_table_with`] compares the same. The last number tells tables
/// apart that are in use: they live as long as this. Where slots are lent, whose they are at home.
type TableKey = (Scheduler, u32, Vec<Member>, usize, Option<Vec<u16>>);

impl Tables {
    fn of(&mut self, pool: &Pool, present: Option<&PlacedPool>) -> Option<Arc<Vec<u16>>> {
        let takers: Vec<Member> = pool.takers().collect();
        // A pure function of the set knows its own tables only; `consistent` can start from anybody's.
        let present = present.filter(|present| {
            let ours = pool.service.scheduler;
            ours == Scheduler::Consistent || ours == present.pool.service.scheduler
        });
        let homes = present
            .filter(|_| pool.service.scheduler == Scheduler::Consistent)
            .and_then(|present| present.homes(pool));
        let members = present.map_or(&[][..], |present| &present.pool.members);
        let ids: Vec<BackendId> = members.iter().map(|member| member.id).collect();
        let owners = present.and_then(|present| present.pool.owners.as_ref());
        let last = owners.map(|owners| Last { owners, ids: &ids });
        let in_use = owners.map_or(0, |owners| owners.as_ptr() as usize);
        self.0
            .entry((pool.service.scheduler, pool.slots, takers, in_use, homes))
            .or_insert_with_key(|(scheduler, slots, takers, _, homes)| {
                match homes {
                    Some(homes) => {
                        let owners = owners.map_or(&[][..], |owners| &owners[..]);
                        homeward(&Last { owners, ids: &ids }, homes, takers, *slots)
                    }
                    None => schedule(*scheduler, last.as_ref(), takers, *slots),
                }
                .map(Arc::new)
            })
            .clone()
    }
}

/// A service, or one family of it.
struct Part<'a> {
    service: &'a Arc<Service>,
    v6_part: bool,
    vips: Vec<Prefix>,
    backends: Vec<&'a Backend>,
}

fn parts(service: &Arc<Service>) -> Vec<Part<'_>> {
    if !service.splits_by_family() {
        let (vips, backends) = (service.vips.clone(), service.backends.iter().collect());
        return vec![Part {
            service,
            v6_part: false,
            vips,
            backends,
        }];
    }
    let family = |v6: bool| Part {
        service,
        v6_part: v6,
        vips: service
            .vips
            .iter()
            .copied()
            .filter(|vip| vip.is_ipv6() == v6)
            .collect(),
        backends: service
            .backends
            .iter()
            .filter(|b| b.address.is_ipv6() == v6 || !b.forwarder_in_use(service).translates())
            .collect(),
    };
    [family(false), family(true)]
        .into_iter()
        .filter(|part| !part.vips.is_empty())
        .collect()
}

impl Part<'_> {
    /// What it means; its slots have no owners yet.
    fn pool(self, observed: &impl Observed) -> Pool {
        let Self {
            service,
            v6_part,
            vips,
            backends,
        } = self;
        let members: Vec<PoolMember> = backends
            .iter()
            .map(|backend| {
                member(
                    observed,
                    service,
                    vips.first().and_then(|vip| vip.host()),
                    backend,
                )
            })
            .collect();
        let slots = service
            .slots
            .unwrap_or_else(|| table_size(backends.iter().map(|b| b.weight)));
        Pool {
            key: PoolKey {
                service: service.name.clone(),
                v6_part,
            },
            service: Arc::clone(service),
            vips,
            flags: flags(service),
            slots,
            members,
            owners: None,
            origin: PoolOrigin::Wish,
        }
    }
}

fn member(observed: &impl Observed, service: &Service, vip: Option<IpAddr>, backend: &Backend) -> PoolMember {
    let mut entry = TargetCell::default();
    if let Some(way) = way(observed, service, backend) {
        entry = encode(service, vip, backend, &way, observed.tunnel_sources());
        if observed.only_interface() == Some(entry.target.egress) {
            entry.target.egress = 0;
        }
    }
    let (weight, away, flows) = match backend_state(observed, service, backend) {
        BackendState::Up => (backend.weight, 0, FlowFate::Keep),
        BackendState::Drain if serves(observed, service, backend) => (0, 0, FlowFate::Drain),
        BackendState::Drain | BackendState::Maint => (0, 0, FlowFate::Cut),
        BackendState::Down | BackendState::Checking | BackendState::Unresolved => {
            (0, backend.weight, FlowFate::Cut)
        }
    };
    PoolMember {
        id: backend.id(),
        entry,
        weight,
        away,
        flows,
    }
}

/// Whether flows that `backend` has are served by it.
pub fn serves(observed: &impl Observed, service: &Service, backend: &Backend) -> bool {
    backend.state != AdminState::Maint
        && way(observed, service, backend).is_some()
        && observed.availability(service, backend) == Availability::Up
}

fn flags(service: &Service) -> ServiceFlags {
    let words = FlaggedWords {
        affinity: service.affinity,
        on_empty: service.on_empty,
        unserved: service.unserved,
        tracking: service.tracking,
    };
    let permits_all = service.source.as_ref().is_none_or(Source::is_empty);
    let backends = &service.backends;
    let full_nat = backends
        .iter()
        .any(|backend| backend.forwarder_in_use(service) == Forwarder::Fullnat);
    let detour = if permits_all && service.quic.is_none() && !full_nat {
        ServiceFlags::empty()
    } else {
        ServiceFlags::DETOUR
    };
    let mss = match service.mss_clamp {
        MssClamp::Off => ServiceFlags::empty(),
        MssClamp::Auto | MssClamp::To(_) => ServiceFlags::DETOUR_SYN,
    };
    words.flags() | detour | mss
}
