//! Reading the counters: per-CPU values, summed.

use anyhow::{Context, Result, anyhow, ensure};
use aya::{
    maps::{Map, MapData, PerCpuArray},
    util::nr_cpus,
};
use lb_common::abi::{Reason, TargetCounters, TrackingCounters, map};

use super::{Dataplane, bpf};

/// Targets that are read by one system call: so many that calls cost little beside reading, so few that they need no large
/// buffers (48 KiB for each possible CPU).
const BATCH: usize = 1024;

/// A [`TargetCounters`] that aya can read.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodCount(TargetCounters);

// SAFETY: `TargetCounters` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodCount {}

/// A [`TrackingCounters`] that aya can read.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodTracking(TrackingCounters);

// SAFETY: `TrackingCounters` is bytemuck::Pod: plain integers without padding.
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

/// What all CPUs have counted together.
fn sum(by_cpu: &[PodCount]) -> TargetCounters {
    let mut sum = TargetCounters::default();
    for PodCount(cpu) in by_cpu {
        sum.add(cpu);
    }
    sum
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

    /// What each of the first `count` targets has counted since the dataplane was loaded. Many are read by one system call.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn targets(&self, count: u32) -> Result<Vec<TargetCounters>> {
        let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
        let count = count.min(self.counts.len()) as usize;
        let mut keys = vec![0; count.min(BATCH)];
        let mut values = vec![PodCount(TargetCounters::default()); keys.len() * cpus];
        let mut sums = Vec::with_capacity(count);
        let mut next = None;
        while sums.len() < count {
            let wanted = (count - sums.len()).min(BATCH);
            let (read, rest) =
                bpf::look_up_per_cpu_batch(&self.counts, next, &mut keys[..wanted], &mut values, cpus)
                    .context("cannot read map COUNTS")?;
            ensure!(read > 0, "map COUNTS has fewer entries than it says");
            sums.extend(values.chunks(cpus).take(read).map(sum));
            next = rest;
        }
        Ok(sums)
    }

    /// What that target has counted since the dataplane was loaded.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn target(&self, index: u32) -> Result<TargetCounters> {
        Ok(sum(&self.counts.get(&index, 0)?))
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
