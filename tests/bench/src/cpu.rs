//! The CPU that is measured on, and the time it spends.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::utsname::uname,
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use serde::Serialize;

/// Keeps the calling thread on that CPU.
pub(super) fn pin(cpu: u32) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu as usize)?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("cannot run on CPU {cpu}: choose another with --cpu"))
}

/// What the calling thread has had of its CPU so far; sleep and other threads are not in it.
pub(super) fn thread_time() -> Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("cannot read the thread's CPU time")?;
    Ok(time.into())
}

/// Where a figure comes from; without it none can be compared.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) cpu_model: String,
    /// CPUs of the machine.
    pub(super) cpus: usize,
    /// The CPU measured on.
    pub(super) cpu: u32,
    pub(super) governor: String,
    pub(super) kernel: String,
}

impl Machine {
    pub(super) fn here(cpu: u32) -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        let model = info.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let governor = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let governor = fs::read_to_string(governor).map(|governor| governor.trim().to_owned());
        Ok(Self {
            cpu_model: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: info.lines().filter(|line| line.starts_with("processor")).count(),
            cpu,
            governor: governor.unwrap_or_else(|_| "not shown (virtual machine?)".to_owned()),
            kernel: uname()?.release().to_string_lossy().into_owned(),
        })
    }
}
