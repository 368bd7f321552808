//! Pools, each a set of targets that packets to some VIPs are spread over, and how a service becomes pools.

use std::{net::IpAddr, sync::Arc};

use lb_common::abi::ServiceFlags;

use super::backend_state::{BackendState, Observed, backend_state, serves, way};
use crate::desired::{Backend, BackendId, Forwarder, MssClamp, Prefix, Service, ServiceName, Source};
use crate::plan::tables::{
    service_flags::FlaggedWords,
    target::{TargetCell, encode},
};
use crate::schedule::{Member, table_size};

/// The name of a pool. A service with `nat` or `fullnat` has a pool for each family, since such backends serve VIPs of
/// their own family only.
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

/// One backend's part in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolMember {
    /// The backend's name.
    pub id: BackendId,
    /// How packets to the backend are rewritten; all zero while its next hop is unknown.
    pub entry: TargetCell,
    /// The backend's weight, if it takes new flows now; else 0.
    pub weight: u16,
    /// The weight that the backend has when it is back, if it is out and its operator wants it in; else 0.
    pub away: u16,
    /// What becomes of the flows that the backend has.
    pub flows: FlowFate,
}

/// What becomes of a backend's flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowFate {
    /// The backend cannot serve them any more, or must not.
    #[default]
    Cut,
    /// They stay with the backend.
    Keep,
    /// They stay with the backend until the last has ended, however long that takes.
    Drain,
}

/// Where the knowledge of a pool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolOrigin {
    /// It was worked out from a desired state.
    Desired,
    /// It was read back from tables or a snapshot, which do not say all that it means. So the pool equals no pool that
    /// is wanted, and its slot table is one to start from, not an answer.
    Recovered,
    /// It was read back from tables that lead to it differently for the two families.
    Torn,
}

/// A set of targets and the VIPs whose packets are spread over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pool's name.
    pub key: PoolKey,
    /// The service as declared.
    pub service: Arc<Service>,
    /// The VIPs that lead to the pool.
    pub vips: Vec<Prefix>,
    /// How to treat packets, in the dataplane's words.
    pub flags: ServiceFlags,
    /// Size of the slot table: what the service asks for, but never less than the present size. A table that shrank
    /// would join flows of two owners in one slot.
    pub slots: u32,
    /// All declared backends of the pool, in the order declared.
    pub members: Vec<PoolMember>,
    /// Which member owns each slot; `None` if no member can. Pools whose members agree share one table.
    pub owners: Option<Arc<Vec<u16>>>,
    /// How much of the pool is known.
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
    pub(in crate::plan) fn takers(&self) -> impl Iterator<Item = Member> {
        self.members.iter().map(PoolMember::taker)
    }

    /// Whether both pools have the same members with the same weights, no matter which members are away.
    pub(in crate::plan) fn declares_the_same(&self, other: &Self) -> bool {
        let declared = |member: &PoolMember| (member.id, member.weight.max(member.away));
        self.slots == other.slots
            && self.service.scheduler == other.service.scheduler
            && self
                .members
                .iter()
                .map(declared)
                .eq(other.members.iter().map(declared))
    }

    /// Whether a member that takes flows here is away in `next`, which declares the same members.
    pub(in crate::plan) fn loses_members_in(&self, next: &Self) -> bool {
        let mut pairs = self.members.iter().zip(&next.members);
        pairs.any(|(old, new)| old.weight > 0 && new.away > 0)
    }

    /// Whether both pools have the same slot table.
    pub(in crate::plan) fn shares_table_with(&self, other: &Self) -> bool {
        self.origin == PoolOrigin::Desired
            && self.service.scheduler == other.service.scheduler
            && self.slots == other.slots
            && self.takers().eq(other.takers())
    }
}

/// All pools that these services want, given what is observed. Their slots have no owners yet.
pub(in crate::plan) fn declared<'s>(
    services: impl Iterator<Item = &'s Arc<Service>>,
    observed: &impl Observed,
) -> Vec<Pool> {
    services.flat_map(parts).map(|part| part.pool(observed)).collect()
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
    /// The pool of this part. Its slots have no owners yet.
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
            origin: PoolOrigin::Desired,
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
