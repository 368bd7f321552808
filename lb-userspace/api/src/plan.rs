//! What `POST /v1/plan` answers: what a write would do.

use std::{net::IpAddr, num::NonZeroU16};

use serde::{Deserialize, Serialize};

/// What a write would do. Backends that nothing is known of yet are taken to be well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The generation that it was worked out from; a write that is tied to it does what is said here.
    pub generation: u64,
    /// The services that something changes for, by name.
    pub services: Vec<ServicePlan>,
}

/// What a write would do to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// Whether it comes, goes or changes.
    pub change: ServiceChange,
    /// The size of its slot table now; 0 for a new service.
    pub slots_before: u32,
    /// The size that the table would have; 0 for one that goes.
    pub slots: u32,
    /// Slots of it that would have another owner than the slots that their flows are in now.
    pub moved: u32,
    /// The fewest that can move if every backend is to have its share to within one slot.
    pub fewest: u32,
    /// `moved`, of 100 slots.
    pub moved_percent: f64,
    /// `fewest`, of 100 slots.
    pub fewest_percent: f64,
    /// About how many flows it has; absent where flows are not counted (UDP).
    pub flows: Option<u64>,
    /// About how many of these are in slots that move, and keep their backend.
    pub flows_moved: Option<u64>,
    /// About how many of these break.
    pub flows_cut: Option<u64>,
    /// What else there is to know, in sentences.
    pub notes: Vec<String>,
    /// Its backends, those that come and go included.
    pub backends: Vec<BackendPlan>,
}

impl ServicePlan {
    /// Works out the shares of 100 from the counts.
    pub fn set_percent(&mut self) {
        let percent = |slots: u32| 100.0 * f64::from(slots) / f64::from(self.slots.max(1));
        (self.moved_percent, self.fewest_percent) = (percent(self.moved), percent(self.fewest));
    }

    /// Takes in the other family's part.
    pub fn absorb(&mut self, part: Self) {
        let add = |sum: &mut Option<u64>, more: Option<u64>| *sum = sum.zip(more).map(|(a, b)| a + b);
        self.slots_before += part.slots_before;
        self.slots += part.slots;
        self.moved += part.moved;
        self.fewest += part.fewest;
        add(&mut self.flows, part.flows);
        add(&mut self.flows_moved, part.flows_moved);
        add(&mut self.flows_cut, part.flows_cut);
        self.notes.extend(part.notes);
        self.backends.extend(part.backends);
        if self.change != part.change {
            self.change = ServiceChange::Changed;
        }
        self.set_percent();
    }
}

/// What happens to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceChange {
    /// It is new.
    Added,
    /// It is changed.
    Changed,
    /// It goes.
    Removed,
}

/// What a write would do to a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendPlan {
    /// The host's address.
    pub address: IpAddr,
    /// The port that it listens on, where that is not the service's.
    pub port: Option<NonZeroU16>,
    /// What becomes of it.
    pub fate: Fate,
    /// Its slots now, counted in a table of the size that it would have.
    pub slots_before: u32,
    /// The slots that it would have.
    pub slots: u32,
    /// About how many flows it has; absent where flows are not counted (UDP).
    pub flows: Option<u64>,
    /// About how many of these are in slots that move, and stay with it nevertheless.
    pub flows_moved: Option<u64>,
    /// About how many of these break.
    pub flows_cut: Option<u64>,
}

/// What becomes of a backend and its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// As it was.
    Stays,
    /// It takes flows, and did not before.
    Joins,
    /// It takes no new flows, and serves those that it has.
    Drains,
    /// It served flows, and will not.
    Cut,
}
