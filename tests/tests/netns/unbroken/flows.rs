//! The flow table and its counters, read from their pins.

use std::path::Path;

use aya::maps::{Array, Map, MapData, PerCpuArray};
use lb_common::abi::{FlowLine, FlowValue, TrackingCounters, map};

/// The flow table of a dataplane.
pub(super) struct FlowTable {
    lines: Array<MapData, [u64; 8]>,
    counters: PerCpuArray<MapData, [u64; 8]>,
}

impl FlowTable {
    /// `pins` is the directory in which the dataplane is pinned.
    pub(super) fn of(pins: &Path) -> Self {
        let open = |name| MapData::from_pin(pins.join("maps").join(name)).unwrap();
        Self {
            lines: Map::Array(open(map::FLOWS)).try_into().unwrap(),
            counters: Map::PerCpuArray(open(map::TRACKING)).try_into().unwrap(),
        }
    }

    /// How many entries are in use, of all services.
    pub(super) fn in_use(&self) -> usize {
        let lines = self
            .lines
            .iter()
            .map(|line| bytemuck::cast::<_, FlowLine>(line.unwrap()));
        lines
            .map(|line| {
                line.values
                    .into_iter()
                    .filter(|value| FlowValue::is_used(*value))
                    .count()
            })
            .sum()
    }

    /// What became of packets that needed it, of all services and on all CPUs.
    pub(super) fn counters(&self) -> TrackingCounters {
        let mut sum = TrackingCounters::default();
        for cpus in self.counters.iter() {
            for cpu in cpus.unwrap().iter() {
                sum.add(&bytemuck::cast(*cpu));
            }
        }
        sum
    }
}
