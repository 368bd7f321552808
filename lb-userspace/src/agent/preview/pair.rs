//! One pool before and after a write: who gains and loses slots, and what becomes of flows.
//!
//! What must hold: slots are compared as flows see them: in a table that grows, slot `i` belongs before to the owner of
//! slot `i` modulo the old size.

use std::collections::HashMap;

use lb_common::abi::ServiceFlags;

use lb_api::plan::{BackendPlan, Fate, ServiceChange, ServicePlan};
use lb_core::desired::{BackendId, Protocol, ServiceName, TrackingPolicy};
use lb_core::plan::{BackendRef, FlowFate, Pool, PoolMember};
use lb_core::schedule::{Last, Member, fewest_moves};

/// A pool before and after.
pub(super) enum Pair<'a> {
    Added(&'a Pool),
    Changed(&'a Pool, &'a Pool),
    Removed(&'a Pool),
}

impl<'a> Pair<'a> {
    pub(super) fn name(&self) -> &'a ServiceName {
        &self.any().key.service
    }

    fn any(&self) -> &'a Pool {
        let (Self::Added(pool) | Self::Changed(_, pool) | Self::Removed(pool)) = self;
        pool
    }

    fn before(&self) -> Option<&'a Pool> {
        match self {
            Self::Changed(pool, _) | Self::Removed(pool) => Some(pool),
            Self::Added(_) => None,
        }
    }

    fn after(&self) -> Option<&'a Pool> {
        match self {
            Self::Added(pool) | Self::Changed(_, pool) => Some(pool),
            Self::Removed(_) => None,
        }
    }

    /// What happens to the service, as far as this pool goes.
    pub(super) fn plan(&self, live: &impl Fn(&BackendRef) -> u64) -> ServicePlan {
        let slots = |pool: Option<&Pool>| pool.map_or(0, |pool| pool.slots);
        let shares = self.shares();
        let (change, moved, fewest, notes) = match self {
            Self::Added(_) => (ServiceChange::Added, 0, 0, Vec::new()),
            Self::Changed(before, after) => (
                ServiceChange::Changed,
                moved(after, &shares),
                fewest(before, after, &shares),
                notes(before, after),
            ),
            Self::Removed(_) => (ServiceChange::Removed, 0, 0, Vec::new()),
        };
        let backends: Vec<BackendPlan> = shares.iter().map(|share| self.backend(share, live)).collect();
        let mut plan = ServicePlan {
            name: self.name().to_string(),
            change,
            slots_before: slots(self.before()),
            slots: slots(self.after()),
            moved,
            fewest,
            moved_percent: 0.0,
            fewest_percent: 0.0,
            flows: backends.iter().map(|backend| backend.flows).sum(),
            flows_moved: backends.iter().map(|backend| backend.flows_moved).sum(),
            flows_cut: backends.iter().map(|backend| backend.flows_cut).sum(),
            notes,
            backends,
        };
        plan.set_percent();
        plan
    }

    /// Every backend's slots before and after, in a table of the later size.
    fn shares(&self) -> Vec<Share> {
        let (before, after) = (self.before(), self.after());
        let mut shares: Vec<Share> = members(before).iter().map(Share::new).collect();
        let mut at: HashMap<BackendId, usize> = shares.iter().map(|share| share.id).zip(0..).collect();
        for (member, share) in members(before).iter().zip(&mut shares) {
            share.before = Some(member.flows);
        }
        for member in members(after) {
            let index = *at.entry(member.id).or_insert(shares.len());
            if index == shares.len() {
                shares.push(Share::new(member));
            }
            shares[index].after = Some(member.flows);
        }
        let places = |pool| -> Vec<usize> { members(pool).iter().map(|member| at[&member.id]).collect() };
        let (old_places, new_places) = (places(before), places(after));
        let slots = after.or(before).map_or(0, |pool| pool.slots as usize);
        for slot in 0..slots {
            let old = owner(before, slot).map(|owner| old_places[owner]);
            let new = owner(after, slot).map(|owner| new_places[owner]);
            if let Some(old) = old {
                shares[old].slots_before += 1;
                shares[old].lost += u32::from(new != Some(old));
            }
            if let Some(new) = new {
                shares[new].slots += 1;
                shares[new].gained += u32::from(old != Some(new));
            }
        }
        shares
    }

    fn backend(&self, share: &Share, live: &impl Fn(&BackendRef) -> u64) -> BackendPlan {
        let backend_ref = BackendRef {
            service: self.name().clone(),
            backend: share.id,
        };
        // Only TCP flows are counted: they say when they begin.
        let counted = self.any().service.protocol == Protocol::Tcp;
        let flows = counted.then(|| share.before.map_or(0, |_| live(&backend_ref)));
        let fate = share.fate();
        let part = |slots: u32| f64::from(slots) / f64::from(share.slots_before.max(1));
        let of = |part: f64| flows.map(|flows| (flows as f64 * part).round() as u64);
        let (moved, cut) = match self {
            _ if fate == Fate::Cut => (0.0, 1.0),
            Self::Changed(before, after) if hashes_otherwise(before, after) => {
                // By chance some fall into a slot of the same backend.
                (0.0, 1.0 - f64::from(share.slots) / f64::from(after.slots.max(1)))
            }
            Self::Changed(_, after) if after.service.tracking == TrackingPolicy::Never => {
                (0.0, part(share.lost))
            }
            Self::Added(_) | Self::Changed(..) | Self::Removed(_) => (part(share.lost), 0.0),
        };
        BackendPlan {
            address: share.id.address,
            port: share.id.port,
            fate,
            slots_before: share.slots_before,
            slots: share.slots,
            flows,
            flows_moved: of(moved),
            flows_cut: of(cut),
        }
    }
}

/// One backend's part of a pool, before and after.
struct Share {
    id: BackendId,
    before: Option<FlowFate>,
    after: Option<FlowFate>,
    slots_before: u32,
    slots: u32,
    lost: u32,
    gained: u32,
}

impl Share {
    fn new(member: &PoolMember) -> Self {
        Self {
            id: member.id,
            before: None,
            after: None,
            slots_before: 0,
            slots: 0,
            lost: 0,
            gained: 0,
        }
    }

    fn fate(&self) -> Fate {
        let serves = |flows: Option<FlowFate>| flows.unwrap_or(FlowFate::Cut);
        match (serves(self.before), serves(self.after)) {
            (FlowFate::Keep | FlowFate::Drain, FlowFate::Cut) => Fate::Cut,
            (FlowFate::Keep, FlowFate::Drain) => Fate::Drains,
            (FlowFate::Cut | FlowFate::Drain, FlowFate::Keep) => Fate::Joins,
            (FlowFate::Cut, FlowFate::Cut | FlowFate::Drain)
            | (FlowFate::Keep, FlowFate::Keep)
            | (FlowFate::Drain, FlowFate::Drain) => Fate::Stays,
        }
    }
}

fn members(pool: Option<&Pool>) -> &[PoolMember] {
    pool.map_or(&[], |pool| &pool.members)
}

/// Who owns the slot that flows of `slot` are in; the table may be smaller than the one that `slot` counts in.
fn owner(pool: Option<&Pool>, slot: usize) -> Option<usize> {
    let owners = pool?.owners.as_ref()?;
    owners
        .get(slot % owners.len().max(1))
        .map(|owner| usize::from(*owner))
}

/// Slots with another owner than before, or none.
fn moved(after: &Pool, shares: &[Share]) -> u32 {
    let changed = |share: &Share| match after.owners {
        Some(_) => share.gained,
        None => share.lost,
    };
    shares.iter().map(changed).sum()
}

fn fewest(before: &Pool, after: &Pool, shares: &[Share]) -> u32 {
    if after.owners.is_none() {
        return moved(after, shares);
    }
    let ids: Vec<BackendId> = before.members.iter().map(|member| member.id).collect();
    let owners = before.owners.as_ref().map_or(&[][..], |owners| &owners[..]);
    let last = Last { owners, ids: &ids };
    let member = |member: &PoolMember| Member {
        id: member.id,
        weight: member.weight,
    };
    let members: Vec<Member> = after.members.iter().map(member).collect();
    fewest_moves(&last, &members, after.slots)
}

/// Whether packets choose their slots in another way.
fn hashes_otherwise(before: &Pool, after: &Pool) -> bool {
    before.flags.intersects(ServiceFlags::CLIENT_IP) != after.flags.intersects(ServiceFlags::CLIENT_IP)
}

fn notes(before: &Pool, after: &Pool) -> Vec<String> {
    let mut notes = Vec::new();
    if hashes_otherwise(before, after) {
        notes.push("another affinity gives nearly every flow another slot: they break".to_owned());
    }
    if before.service.forwarder != after.service.forwarder {
        notes.push(format!(
            "flows go on by {} instead of {}: backends must expect that",
            after.service.forwarder, before.service.forwarder
        ));
    }
    for vip in before.vips.iter().filter(|vip| !after.vips.contains(vip)) {
        notes.push(format!(
            "flows to {vip} break, as it goes; they are not counted here"
        ));
    }
    notes
}
