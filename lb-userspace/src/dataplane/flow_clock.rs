//! The flow clock: the kernel's tick counter in units of about a quarter of a second, which the program reads for
//! nothing and which goes on without an agent.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::time::{ClockId, clock_getres};

use lb_api::packet::MIN_FRAME;

use super::Dataplane;
use lb_core::plan::FlowTime;

/// About what a unit is meant to be worth.
const UNIT: Duration = Duration::from_millis(256);

/// By how many bits the kernel's ticks are shifted for a unit of the flow clock.
///
/// # Errors
/// When the kernel does not say how long a tick is.
pub(super) fn shift() -> Result<u32> {
    let ticks = UNIT.as_nanos() / tick()?.as_nanos().max(1);
    Ok(ticks.max(1).ilog2())
}

/// What of something that all CPUs together may do `a_second` times, one CPU may do in one unit.
///
/// # Errors
/// As for [`shift`], or when the number of CPUs cannot be told.
pub(super) fn per_cpu(a_second: u32, shift: u32) -> Result<u32> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow!("{path}: {error}"))?;
    let a_unit = f64::from(a_second) * unit(shift)?.as_secs_f64();
    Ok((a_unit / cpus as f64).ceil().max(1.0) as u32)
}

/// What one unit is worth.
fn unit(shift: u32) -> Result<Duration> {
    Ok(tick()? * (1 << shift))
}

/// The resolution of the coarse clocks is one tick of the kernel (clock_getres(2)).
fn tick() -> Result<Duration> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("the kernel does not tell its tick")?;
    Ok(tick.into())
}

impl Dataplane {
    /// What the flow clock says.
    ///
    /// # Errors
    /// When the kernel refuses to run the program, which is asked.
    pub fn flow_time(&self) -> Result<FlowTime> {
        // A frame of no protocol, from nowhere.
        let now = self.explain(&[0; MIN_FRAME], 0)?.clock;
        Ok(FlowTime {
            now,
            unit: unit(self.meta().clock_shift)?,
        })
    }
}
