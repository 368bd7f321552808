//! The rows on the host build of the pipeline.

use std::net::IpAddr;

use anyhow::Result;
use lb_common::{
    abi::{Placement, Trace, TrackingCounters},
    pipeline::{Outcome, Route, process},
};
use lb_core::plan::{Capacity, InMemory, Layout, MacTable, Memory};
use lb_packets::Buffer;
use lb_world::{Interfaces, in_memory};

use super::{fullnat, routes, row::ip_start, service_set::ServiceSet, tracking::Machine, verdict::Verdict};

/// Any numbers will do.
pub(crate) const INTERFACES: Interfaces = Interfaces {
    front: 2,
    back: 4,
    tagged: 6,
};

/// Services in plain memory.
pub(crate) struct Host {
    pub(crate) layout: Layout,
    memory: InMemory,
    interfaces: Interfaces,
}

impl Host {
    pub(crate) fn new(services: ServiceSet, interfaces: Interfaces) -> Self {
        Self::with(&ServiceSet::CAPACITY, interfaces, |memory| {
            services.lay_out(interfaces, memory)
        })
    }

    /// Tables of another size, filled by `build`.
    pub(crate) fn with(
        capacity: &Capacity,
        interfaces: Interfaces,
        build: impl FnOnce(&mut InMemory) -> Layout,
    ) -> Self {
        let mut memory = in_memory(capacity, interfaces, &fullnat::source_pool());
        let layout = build(&mut memory);
        Self {
            layout,
            memory,
            interfaces,
        }
    }

    /// What the pipeline does with a frame.
    pub(crate) fn run(&mut self, frame: &[u8]) -> Verdict {
        self.run_buffer(Buffer::new(frame))
    }

    /// As [`Host::run`], with a buffer of the caller's making.
    pub(crate) fn run_buffer(&mut self, mut buffer: Buffer) -> Verdict {
        self.memory.route = self.route(buffer.frame());
        let mut outcome = Outcome::UNDECIDED;
        let reason = process(&mut buffer, &self.memory, &mut outcome);
        let some = |number: u32| (number != Trace::NONE).then_some(number);
        Verdict {
            reason,
            redirected: outcome.egress != 0,
            service: some(outcome.service_number()),
            slot: some(outcome.slot),
            target: some(outcome.target),
            placement: Placement::from_number(outcome.placement).expect("a placement"),
            frame: buffer.frame().to_vec(),
        }
    }

    /// Has it know these MACs.
    pub(crate) fn set_macs(&mut self, macs: MacTable) {
        self.memory.macs = macs;
    }

    /// Lets one unit of the flow clock pass.
    pub(crate) fn tick(&mut self) {
        self.memory.clock += 1;
    }

    fn route(&self, frame: &[u8]) -> Route {
        let at = ip_start(frame);
        let (destination, len) = match frame.get(at - 2..at) {
            Some([0x08, 0x00]) => (address::<4>(frame, at + 16), word(frame, at + 2)),
            Some([0x86, 0xdd]) => (address::<16>(frame, at + 24), word(frame, at + 4) + 40),
            _ => (None, 0),
        };
        destination.map_or(Route::None, |to| {
            routes::route(fullnat::recipient(to), len, self.interfaces)
        })
    }
}

impl Machine for Host {
    fn memory(&mut self) -> &mut dyn Memory {
        &mut self.memory
    }

    fn clock(&self) -> Result<u32> {
        Ok(self.memory.clock)
    }

    fn explain(&mut self, frame: &[u8]) -> Result<Verdict> {
        self.memory.explains = true;
        let verdict = self.run(frame);
        self.memory.explains = false;
        Ok(verdict)
    }

    fn send(&mut self, frame: &[u8]) -> Result<Option<u32>> {
        Ok(self.run(frame).target)
    }

    fn tracking(&self, number: u32) -> Result<TrackingCounters> {
        Ok(self.memory.tracking(number))
    }
}

fn address<const N: usize>(frame: &[u8], at: usize) -> Option<IpAddr>
where
    IpAddr: From<[u8; N]>,
{
    frame
        .get(at..)?
        .first_chunk::<N>()
        .map(|octets| IpAddr::from(*octets))
}

fn word(frame: &[u8], at: usize) -> usize {
    frame
        .get(at..at + 2)
        .map_or(0, |word| usize::from(word[0]) << 8 | usize::from(word[1]))
}
