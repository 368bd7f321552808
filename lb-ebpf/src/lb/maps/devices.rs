//! Interfaces, as the agent tells of them.

use aya_ebpf::{macros::map, maps::HashMap};
use lb_common::abi::{DeviceEntry, MAX_UPPERS};

#[map]
static UPPERS: HashMap<u32, DeviceEntry> = HashMap::with_max_entries(MAX_UPPERS, 0);

/// What is known of the interface of that index.
#[inline(always)]
pub(super) fn upper(interface: u32) -> Option<DeviceEntry> {
    // SAFETY: entries are replaced whole, and what is read here outlives the program's run (RCU).
    unsafe { UPPERS.get(interface) }.copied()
}
