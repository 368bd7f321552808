//! What packets are led by: the service tables in use, and the control words.
//!
//! Invariant: a half of a service table is written only while no packet reads it.

use std::{sync::Arc, time::Instant};

use lb_common::abi::{
    Control, KEYS_PER_LINE_V4, KEYS_PER_LINE_V6, Key4, Key6, Selector, ServiceEntry, TableIndex,
};

use super::{
    fit::CapacityError,
    keys::{Entries, Keys},
    placed_pool::COOL_DOWN,
};
use crate::plan::tables::{service_table, write::Write};

/// The service tables in use, and the control words.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct Published {
    pub(in crate::plan) keys4: Arc<Entries<Key4>>,
    pub(in crate::plan) keys6: Arc<Entries<Key6>>,
    pub(in crate::plan) control: Control,
    /// When a half was switched last.
    switched: Option<Instant>,
}

impl Published {
    /// The writes that make `keys` visible as `generation`; without keys, those that are visible stay. A service table has
    /// halves of 2^`bits` lines.
    ///
    /// # Errors
    /// When the keys do not fit.
    pub(super) fn change(
        &mut self,
        keys: Option<Keys>,
        bits: u32,
        generation: u64,
        now: Instant,
    ) -> Result<Vec<Write>, CapacityError> {
        let mut writes = match keys {
            Some(keys) => self.change_keys(keys, bits, now)?,
            None => Vec::new(),
        };
        self.control.generation = generation;
        writes.push(Write::Publish(self.control));
        Ok(writes)
    }

    /// The writes of the halves that `keys` need.
    fn change_keys(&mut self, keys: Keys, bits: u32, now: Instant) -> Result<Vec<Write>, CapacityError> {
        let Keys {
            v4: keys4,
            v6: keys6,
            features,
            lengths,
        } = keys;
        let mut halves = Vec::new();
        if keys4 != *self.keys4 {
            let index = self.other_half(false, bits);
            let table = service_table::build::<Key4, KEYS_PER_LINE_V4, 3>(&keys4, index)?;
            self.control.set_index(false, table.index);
            halves.push(Write::Services4 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys4 = Arc::new(keys4);
        }
        if keys6 != *self.keys6 {
            let index = self.other_half(true, bits);
            let table = service_table::build::<Key6, KEYS_PER_LINE_V6, 5>(&keys6, index)?;
            self.control.set_index(true, table.index);
            halves.push(Write::Services6 {
                line: table.index.base(),
                lines: table.lines,
            });
            self.keys6 = Arc::new(keys6);
        }
        let mut writes = Vec::new();
        if !halves.is_empty() {
            // Packets may still read the half that was in use before the last switch.
            if self
                .switched
                .is_some_and(|at| now.saturating_duration_since(at) < COOL_DOWN)
            {
                writes.push(Write::Wait);
            }
            self.switched = Some(now);
        }
        writes.extend(halves);
        self.control.features = features;
        self.control.lengths = lengths;
        Ok(writes)
    }

    /// The half of a family's service table that no packet reads.
    fn other_half(&self, v6: bool, bits: u32) -> TableIndex {
        let used = self.control.index(v6, bits);
        TableIndex {
            half: 1 - used.half,
            ..used
        }
    }

    /// The entries that lead packets to the pool of that number.
    pub(super) fn leads_to(&self, number: u32) -> Vec<ServiceEntry> {
        let v4 = self
            .keys4
            .iter()
            .map(|(key, service)| (Selector((key.0 >> 32) as u32), service));
        let v6 = self
            .keys6
            .iter()
            .map(|(key, service)| (Selector(key.0[2] as u32), service));
        v4.chain(v6)
            .filter(|(selector, service)| service.number() == number && selector.leads_to_slots())
            .map(|(_, service)| *service)
            .collect()
    }
}
