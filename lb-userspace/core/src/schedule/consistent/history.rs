//! How a table of [`super::consistent()`] came to be, in few words: where it began, and each change since.
//!
//! What must hold: replaying a history yields the table that the changes yielded when they were made, on every machine.
//! Of the other schedulers' tables the set of members tells all; they need no history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{consistent, packed};
use crate::desired::{BackendId, Invalid, MAX_BACKENDS, Service};
use crate::schedule::{Last, Member};

/// Members by name, those of weight 0 left out.
type Weights = BTreeMap<BackendId, u16>;

/// Where a table began, and the changes since, at most [`History::MAX_STEPS`]. A clone shares them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct History {
    start: Arc<Start>,
    steps: Vec<Arc<Step>>,
    /// The members by now, as they were given last.
    members: Vec<Member>,
    slots: u32,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    start: Start,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// The generation of the desired state that it is from.
    generation: u64,
    slots: u32,
    weights: Weights,
    /// The table, as indices into the members in the order of their names; absent: the canonical one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owners: Option<ByteBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// The generation of the desired state when it was made; a failure or a recovery makes no new one.
    generation: u64,
    slots: u32,
    /// The new weights of those whose weight has changed; 0 for those that have gone.
    weights: Weights,
}

impl History {
    /// Most steps that are kept. Each takes some 60 bytes, and up to 0.1 ms to replay; a table that is written out takes
    /// 14 kB (100 backends) to 82 kB (1,000 backends).
    pub const MAX_STEPS: usize = 256;

    /// Begins with the table that `members` have without a past.
    pub fn canonical(generation: u64, slots: u32, members: &[Member]) -> Self {
        let start = Start {
            generation,
            slots,
            weights: weights(members),
            owners: None,
        };
        Self::starting(start, members.to_vec())
    }

    /// Begins with a table that is there already: indices into `members`, all of which have weight.
    pub fn written_out(generation: u64, members: &[Member], owners: &[u16]) -> Self {
        let weights = weights(members);
        let rank: HashMap<BackendId, u16> = weights.keys().copied().zip(0..).collect();
        let rank = |member: &Member| rank.get(&member.id).copied().unwrap_or_default();
        let ranks: Vec<u16> = members.iter().map(rank).collect();
        let owners: Vec<u16> = owners.iter().map(|owner| ranks[usize::from(*owner)]).collect();
        let start = Start {
            generation,
            slots: owners.len() as u32,
            owners: Some(ByteBuf::from(packed::write(&owners, weights.len()))),
            weights,
        };
        Self::starting(start, members.to_vec())
    }

    fn starting(start: Start, members: Vec<Member>) -> Self {
        Self {
            slots: start.slots,
            start: Arc::new(start),
            steps: Vec::new(),
            members,
        }
    }

    /// Notes that the table became `owners`, indices into `members`, as the scheduler gave it; `None` when no member has
    /// any weight. A change that changes nothing is not noted.
    pub fn push(&mut self, generation: u64, slots: u32, members: &[Member], owners: Option<&[u16]>) {
        let weights = self.changed(members);
        if weights.is_empty() && slots == self.slots {
            return;
        }
        if self.steps.len() >= Self::MAX_STEPS {
            *self = match owners {
                Some(owners) => Self::written_out(generation, members, owners),
                None => Self::canonical(generation, slots, members),
            };
            return;
        }
        self.slots = slots;
        self.members.clear();
        self.members.extend_from_slice(members);
        self.steps.push(Arc::new(Step {
            generation,
            slots,
            weights,
        }));
    }

    /// The generation of the last change.
    pub fn generation(&self) -> u64 {
        let last = self.steps.last();
        last.map_or(self.start.generation, |step| step.generation)
    }

    /// The table's size.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// The table that it leads to: names, and for each slot whom of these it belongs to. `None` when nobody has any
    /// weight.
    pub fn replay(&self) -> Option<(Vec<BackendId>, Vec<u16>)> {
        let mut weights = self.start.weights.clone();
        let mut table = self.start.table();
        for step in &self.steps {
            step.apply(&mut weights);
            let members = members(&weights);
            let last = table.as_ref().map(|(ids, owners)| Last { owners, ids });
            let owners = consistent(last.as_ref(), &members, step.slots);
            table = owners.map(|owners| (weights.keys().copied().collect(), owners));
        }
        table
    }

    /// The weights that are others than before.
    fn changed(&self, members: &[Member]) -> Weights {
        let same_order = self.members.len() == members.len()
            && self
                .members
                .iter()
                .zip(members)
                .all(|(old, new)| old.id == new.id);
        let differs =
            |(old, new): (&Member, &Member)| (old.weight != new.weight).then_some((new.id, new.weight));
        if same_order {
            return self.members.iter().zip(members).filter_map(differs).collect();
        }
        let mut old: HashMap<BackendId, u16> = self.members.iter().map(|m| (m.id, m.weight)).collect();
        let mut changed: Weights = members
            .iter()
            .filter(|m| old.remove(&m.id).unwrap_or(0) != m.weight)
            .map(|m| (m.id, m.weight))
            .collect();
        changed.extend(
            old.into_iter()
                .filter(|(_, weight)| *weight > 0)
                .map(|(id, _)| (id, 0)),
        );
        changed
    }
}

impl Start {
    /// The table; what is written has been read before.
    fn table(&self) -> Option<(Vec<BackendId>, Vec<u16>)> {
        let members = members(&self.weights);
        let owners = match &self.owners {
            Some(bytes) => packed::read(bytes, members.len(), self.slots as usize).ok(),
            None => consistent(None, &members, self.slots),
        };
        Some((self.weights.keys().copied().collect(), owners?))
    }
}

impl Step {
    fn apply(&self, weights: &mut Weights) {
        weights.extend(self.weights.iter().map(|(id, weight)| (*id, *weight)));
        weights.retain(|_, weight| *weight > 0);
    }
}

fn weights(members: &[Member]) -> Weights {
    let with_weight = members.iter().filter(|m| m.weight > 0);
    with_weight.map(|m| (m.id, m.weight)).collect()
}

fn members(weights: &Weights) -> Vec<Member> {
    let member = |(id, weight): (&BackendId, &u16)| Member {
        id: *id,
        weight: *weight,
    };
    weights.iter().map(member).collect()
}

impl From<History> for Record {
    fn from(History { start, steps, .. }: History) -> Self {
        Self {
            start: Arc::unwrap_or_clone(start),
            steps: steps.into_iter().map(Arc::unwrap_or_clone).collect(),
        }
    }
}

impl TryFrom<Record> for History {
    type Error = Invalid;

    /// A record may come from a file, and is believed in nothing.
    fn try_from(record: Record) -> Result<Self, Invalid> {
        let Record { start, steps } = &record;
        check_size(start.slots)?;
        check_members(&start.weights)?;
        if start.weights.values().any(|weight| *weight == 0) {
            return Err(Invalid::new("a history begins with members that have no weight"));
        }
        if let Some(bytes) = &start.owners {
            packed::read(bytes, start.weights.len(), start.slots as usize)?;
        }
        if steps.len() > Self::MAX_STEPS {
            let (n, most) = (steps.len(), Self::MAX_STEPS);
            return Err(Invalid::new(format!(
                "a history has {n} steps: {most} are the most"
            )));
        }
        let (mut weights, mut generation, mut slots) = (start.weights.clone(), start.generation, start.slots);
        for step in steps {
            check_size(step.slots)?;
            if step.generation < generation {
                return Err(Invalid::new(format!(
                    "the steps of a history are out of order: generation {} comes after {generation}",
                    step.generation
                )));
            }
            step.apply(&mut weights);
            check_members(&weights)?;
            (generation, slots) = (step.generation, step.slots);
        }
        Ok(Self {
            members: members(&weights),
            slots,
            start: Arc::new(record.start),
            steps: record.steps.into_iter().map(Arc::new).collect(),
        })
    }
}

fn check_size(slots: u32) -> Result<(), Invalid> {
    if slots.is_power_of_two() && (Service::MIN_SLOTS..=Service::MAX_SLOTS).contains(&slots) {
        return Ok(());
    }
    Err(Invalid::new(format!("a history has a table of {slots} slots")))
}

fn check_members(weights: &Weights) -> Result<(), Invalid> {
    if weights.len() <= MAX_BACKENDS {
        return Ok(());
    }
    let n = weights.len();
    Err(Invalid::new(format!(
        "a history has {n} members: {MAX_BACKENDS} are the most"
    )))
}
