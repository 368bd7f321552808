//! How many queues a network card has, and whether XDP gets some of its own. `virtio_net` runs XDP without, too, and tells
//! the kernel's log alone.

use std::io;

use super::ethtool::{self, Question};

/// `ETHTOOL_GCHANNELS` of `linux/ethtool.h`.
const GET_CHANNELS: u32 = 0x3c;

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Channels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// Pairs of queues of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    /// In use.
    pub(crate) used: u32,
    /// That there can be.
    pub(crate) most: u32,
}

impl Queues {
    /// Asks the driver of the interface `name`, in the network namespace of the calling thread.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let channels = channels(name).ok()?;
        Some(Self {
            used: channels.combined,
            most: channels.max_combined,
        })
    }

    /// Whether `virtio_net` finds no queue for each of `cpus` besides those in use (`virtnet_xdp_set`), as they were
    /// before a program was attached.
    pub(crate) const fn too_few_for(self, cpus: u32) -> bool {
        self.used.saturating_add(cpus) > self.most
    }
}

// SAFETY: the structure of the command that it is used with here.
unsafe impl Question for Channels {}

fn channels(name: &str) -> io::Result<Channels> {
    let mut channels = Channels {
        command: GET_CHANNELS,
        ..Channels::default()
    };
    ethtool::ask(name, &mut channels)?;
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cpu_needs_a_queue_besides_those_in_use() {
        let queues = |used, most| Queues { used, most };
        assert!(!queues(2, 4).too_few_for(2));
        assert!(queues(3, 4).too_few_for(2));
        assert!(queues(1, 1).too_few_for(1));
        assert!(queues(u32::MAX, 4).too_few_for(2));
    }

    #[test]
    fn what_has_no_queues_says_so() {
        assert_eq!(Queues::of("lo"), None);
        assert_eq!(Queues::of("a-name-that-is-too-long"), None);
    }
}
