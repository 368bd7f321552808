//! Time that passes while no agent runs, without the clock on the wall, which anybody may set.

use std::{fs, time::Duration};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment of the machine's life since it was started, suspended or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    /// The kernel's name for the time since it was started.
    boot: String,
    /// How long that was ago.
    at: Duration,
}

impl BootTime {
    /// Now; absent where the kernel does not tell.
    pub fn now() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let at = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
        Some(Self {
            boot: boot.trim().to_owned(),
            at: at.into(),
        })
    }

    /// The time from then to this moment: none that anybody could know of, if the machine was started in between.
    pub fn since(&self, then: &Self) -> Duration {
        if self.boot == then.boot {
            self.at.saturating_sub(then.at)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_known_within_a_boot() {
        let at = |boot: &str, seconds| BootTime {
            boot: boot.into(),
            at: Duration::from_secs(seconds),
        };
        assert_eq!(at("a", 50).since(&at("a", 20)), Duration::from_secs(30));
        assert_eq!(at("a", 20).since(&at("a", 50)), Duration::ZERO);
        assert_eq!(at("b", 50).since(&at("a", 20)), Duration::ZERO);
        let before = BootTime::now().unwrap();
        let after = BootTime::now().unwrap();
        assert!(after.since(&before) < Duration::from_secs(3600));
        assert_eq!(after.boot, before.boot);
    }
}
