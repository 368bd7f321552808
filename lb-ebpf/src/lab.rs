//! The XDP programs that the lab of network namespaces needs around the balancer.
//!
//! Nothing here is part of the product: `pass` makes a veth end accept frames that its peer sends with `XDP_TX`,
//! and `count` takes the place of a backend that only has to say how many packets it got. A packet that `count` has no
//! business with reaches the host untouched.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];

const PROTOCOL_TCP: u8 = 6;

/// Packets that `count` took, per CPU.
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Lets every packet through.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Counts TCP packets over plain IPv4, and drops them.
#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the macro hands the context over by value"
)]
fn count(ctx: XdpContext) -> u32 {
    let Some(headers) = load::<{ ETHERNET_LEN + IPV4_LEN }>(&ctx, 0) else {
        return XDP_PASS;
    };
    if [headers[12], headers[13]] != ETHERTYPE_IPV4 || headers[ETHERNET_LEN + 9] != PROTOCOL_TCP {
        return XDP_PASS;
    }
    if let Some(received) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
        unsafe { *received += 1 };
    }
    XDP_DROP
}

/// Copies `N` bytes of the packet, or `None` where the packet ends before them.
#[inline(always)]
fn load<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<[u8; N]> {
    let bytes = pointer_to::<N>(ctx, offset)?;
    // SAFETY: `pointer_to` checked that all `N` bytes lie inside the packet; an array of bytes has no alignment.
    Some(unsafe { bytes.read() })
}

/// The address of `N` bytes at `offset`, or `None` where the packet ends before their end.
#[inline(always)]
fn pointer_to<const N: usize>(ctx: &XdpContext, offset: usize) -> Option<*mut [u8; N]> {
    let start = ctx.data() + offset;
    (start + N <= ctx.data_end()).then_some(start as *mut [u8; N])
}

/// A panic cannot be reached: the verifier would have to follow this loop.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

/// The helpers that `lab` calls may be used by any program.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
