//! Sizes of the dataplane's tables.

use lb_common::abi::{FLOWS_PER_LINE, SLOTS_PER_LINE};
use serde::{Deserialize, Serialize};

/// Sizes of the dataplane's tables, fixed when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Services that fit.
    pub services: u32,
    /// Targets (backends of services) that fit.
    pub targets: u32,
    /// Slots of all tables together.
    pub slots: u32,
    /// Entries of the flow table; a power of two of at least 8.
    pub flows: u32,
    /// Flows through `fullnat`.
    #[serde(default)]
    pub nat_flows: u32,
}

impl Capacity {
    /// log2 of the lines that service keys hash to. VIPs and the answers of `nat` backends need room beside services.
    pub fn service_bits(&self) -> u32 {
        (self.services.max(16) * 4).next_power_of_two().ilog2()
    }

    /// Lines of each service table: two halves, each with as many lines again for chains.
    pub fn service_lines(&self) -> u32 {
        4 << self.service_bits()
    }

    /// Numbers of pools: two for each service, whose families `nat` keeps apart, and some that rest. The highest number
    /// of 16 bits stands for VIPs.
    pub fn numbers(&self) -> u32 {
        (self.services * 2 + self.services / 4 + 16).min(u32::from(u16::MAX))
    }

    /// Cells of the target table: a quarter more than targets, so that pools can move.
    pub fn target_cells(&self) -> u32 {
        self.targets + self.targets / 4
    }

    /// Lines of the flow table.
    pub fn flow_lines(&self) -> u32 {
        self.flows / FLOWS_PER_LINE as u32
    }

    /// New flows that one service may put into the flow table a second, on all CPUs together: a sixteenth of the table.
    pub fn flow_budget(&self) -> u32 {
        self.flows / 16
    }

    /// Sets of QUIC configurations: services that can route by connection IDs, with room for sets that replace others.
    pub fn quic_sets(&self) -> u32 {
        (self.services / 16).max(16)
    }

    /// Lines for server IDs: enough for all targets, and as many again while one set replaces another.
    pub fn server_lines(&self) -> u32 {
        self.targets.next_power_of_two() * 2
    }

    /// Entries of the table of `fullnat` flows: one for each direction.
    pub fn translations(&self) -> u32 {
        self.nat_flows * 2
    }

    /// Lines of the slot table.
    pub fn slot_lines(&self) -> u32 {
        self.slots / SLOTS_PER_LINE
    }
}
