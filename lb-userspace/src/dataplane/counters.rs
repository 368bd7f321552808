//! Reading the counters: per-CPU values, summed.

use anyhow::{Result, anyhow};
use aya::maps::{Map, MapData, PerCpuArray};
use lb_common::abi::{Reason, TargetCounters, TrackingCounters, map};

use super::Dataplane;

/// A [`TargetCounters`] that aya can read.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodCount(TargetCounters);

// SAFETY: `Count` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodCount {}

/// A [`TrackingCounters`] that aya can read.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodTracking(TrackingCounters);

// SAFETY: `Tracking` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodTracking {}

/// The counter maps.
pub struct Counters<'a> {
    counts: PerCpuArray<&'a MapData, PodCount>,
    reasons: PerCpuArray<&'a MapData, u64>,
    tracking: PerCpuArray<&'a MapData, PodTracking>,
}

/// Has the counters of reasons go on from those of `old`, which knew fewer of them.
///
/// # Errors
/// When the kernel does not answer.
pub(super) fn go_on(reasons: &mut Map, old: MapData) -> Result<()> {
    let old: PerCpuArray<_, u64> = Map::PerCpuArray(old).try_into()?;
    let mut reasons: PerCpuArray<&mut MapData, u64> = reasons.try_into()?;
    for index in 0..old.len() {
        reasons.set(index, old.get(&index, 0)?, 0)?;
    }
    Ok(())
}

impl<'a> Counters<'a> {
    pub(super) fn new(dataplane: &'a Dataplane) -> Result<Self> {
        let map = |name: &str| {
            dataplane
                .ebpf
                .map(name)
                .ok_or_else(|| anyhow!("the object holds no map {name}"))
        };
        Ok(Self {
            counts: map(map::COUNTS)?.try_into()?,
            reasons: map(map::REASONS)?.try_into()?,
            tracking: map(map::TRACKING)?.try_into()?,
        })
    }

    /// What that target has counted since the dataplane was loaded.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn target(&self, index: u32) -> Result<TargetCounters> {
        let mut sum = TargetCounters::default();
        for PodCount(count) in self.counts.get(&index, 0)?.iter() {
            let TargetCounters {
                packets,
                bytes,
                flows,
                returned_packets,
                returned_bytes,
                closed,
            } = *count;
            sum.packets += packets;
            sum.bytes += bytes;
            sum.flows += flows;
            sum.returned_packets += returned_packets;
            sum.returned_bytes += returned_bytes;
            sum.closed += closed;
        }
        Ok(sum)
    }

    /// What the flow table did for the pool of that number, since the dataplane was made.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn tracking(&self, number: u32) -> Result<TrackingCounters> {
        let mut sum = TrackingCounters::default();
        for PodTracking(cpu) in self.tracking.get(&number, 0)?.iter() {
            sum.add(cpu);
        }
        Ok(sum)
    }

    /// How many packets left for that reason. Packets of targets are counted there instead.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn reason(&self, reason: Reason) -> Result<u64> {
        Ok(self.reasons.get(&reason.number(), 0)?.iter().sum())
    }
}
