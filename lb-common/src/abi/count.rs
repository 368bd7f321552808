//! Counters of one target (a backend of a service) on one CPU.

use bytemuck::{Pod, Zeroable};

/// Map `COUNTS`, per CPU, indexed like `TARGETS`. User space sums the CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TargetCounters {
    /// Packets forwarded to the backend.
    pub packets: u64,
    /// Their bytes, from the IP header on, before any encapsulation.
    pub bytes: u64,
    /// TCP SYNs among them: new flows.
    pub flows: u64,
    /// Packets of the backend returned to clients (`nat`, `fullnat`).
    pub returned_packets: u64,
    /// Their bytes, from the IP header on.
    pub returned_bytes: u64,
    /// TCP FINs and RSTs among the packets forwarded: ends of flows, though a flow may send several, or none.
    pub closed: u64,
}

const _: () = assert!(size_of::<TargetCounters>() == 48);

impl TargetCounters {
    /// Adds what was counted elsewhere, on another CPU or at another time.
    pub fn add(&mut self, other: &Self) {
        let Self {
            packets,
            bytes,
            flows,
            returned_packets,
            returned_bytes,
            closed,
        } = *other;
        self.packets += packets;
        self.bytes += bytes;
        self.flows += flows;
        self.returned_packets += returned_packets;
        self.returned_bytes += returned_bytes;
        self.closed += closed;
    }
}
