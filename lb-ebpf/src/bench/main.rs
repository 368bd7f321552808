//! The XDP programs of the bench: the wrapper that feeds a program under test, and what it is compared with.
//!
//! Nothing here is part of the product. What must hold: no work of the bench is charged to the program under test. The
//! wrapper undoes what it did with stores at least as wide as its loads, so that none of those waits for a store.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

mod floor;
mod packet;
mod wrapper;

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
    macros::{map, xdp},
    maps::{PerCpuArray, ProgramArray},
    programs::XdpContext,
};

/// The program under test.
#[map]
static UNDER_TEST: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Frames that `sink` took, per CPU.
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Restores the frame, picks the next flow and goes over to the program under test.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
fn wrapper(context: XdpContext) -> u32 {
    if wrapper::prepare(&context).is_some() {
        // SAFETY: nothing is left to be done, or dropped, when the other program takes over.
        unsafe { UNDER_TEST.tail_call(&context, 0) };
    }
    XDP_ABORTED
}

/// Does nothing, and sends the frame back.
#[xdp]
fn empty(_context: XdpContext) -> u32 {
    XDP_TX
}

/// Does nothing, and lets the frame through.
#[xdp]
fn pass(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// The least work that forwards IPv4 through a tunnel.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
fn floor4(context: XdpContext) -> u32 {
    floor::encapsulate4(&context).map_or(XDP_ABORTED, |()| XDP_TX)
}

/// The least work that forwards IPv6 through a tunnel.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
fn floor6(context: XdpContext) -> u32 {
    floor::encapsulate6(&context).map_or(XDP_ABORTED, |()| XDP_TX)
}

/// The far end of the wire: counts frames and drops them.
#[xdp]
fn sink(_context: XdpContext) -> u32 {
    if let Some(received) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
        unsafe { *received += 1 };
    }
    XDP_DROP
}

/// A panic cannot be reached: the verifier would have to follow this loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On the host there is nothing to run: the crate is compiled there only to be checked.
#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The helpers that are called here may be used by any program.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
