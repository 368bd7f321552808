//! The XDP programs that the lab of network namespaces needs around the balancer.
//!
//! Nothing here is part of the product: `pass` makes a veth end accept frames that its peer sends with `XDP_TX`,
//! and `count` takes the place of a backend that only has to say how many packets it got. A packet that `count` has no
//! business with reaches the host untouched. `tag`, `stack` and `untag` stand in for a client's VLAN device, which not
//! every kernel has.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::bpf_xdp_adjust_head,
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use lb_common::net::{ETHERNET, ICMPV6, IPV4_HEADER, IPV6_HEADER, TCP};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// Behind the MAC addresses: VLAN 100 (IEEE 802.1Q).
const CUSTOMER_TAG: [u8; 4] = [0x81, 0x00, 0, 100];
/// VLAN 200 of a provider (IEEE 802.1ad).
const SERVICE_TAG: [u8; 4] = [0x88, 0xa8, 0, 200];

/// The types of ICMPv6 that neighbours speak (RFC 4861).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

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
    let Some(headers) = load::<{ ETHERNET + IPV4_HEADER }>(&ctx, 0) else {
        return XDP_PASS;
    };
    if [headers[12], headers[13]] != ETHERTYPE_IPV4 || headers[ETHERNET + 9] != TCP {
        return XDP_PASS;
    }
    if let Some(received) = RECEIVED.get_ptr_mut(0) {
        // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
        unsafe { *received += 1 };
    }
    XDP_DROP
}

/// Puts IP packets into VLAN 100; what neighbours say to find each other stays outside.
#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the macro hands the context over by value"
)]
fn tag(ctx: XdpContext) -> u32 {
    push(&ctx, [CUSTOMER_TAG])
}

/// Puts IP packets into VLAN 100, with a provider's tag around its own; what neighbours say to find each other stays
/// outside.
#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the macro hands the context over by value"
)]
fn stack(ctx: XdpContext) -> u32 {
    push(&ctx, [SERVICE_TAG, CUSTOMER_TAG])
}

/// Takes up to two tags off.
#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the macro hands the context over by value"
)]
fn untag(ctx: XdpContext) -> u32 {
    let is_tag = |at| load::<2>(&ctx, at).is_some_and(|t| t == [0x81, 0x00] || t == [0x88, 0xa8]);
    let tags = match (is_tag(12), is_tag(16)) {
        (false, _) => return XDP_PASS,
        (true, false) => 1,
        (true, true) => 2,
    };
    moved(&ctx, tags * 4).map_or(XDP_ABORTED, |()| XDP_PASS)
}

#[inline(always)]
fn push<const N: usize>(ctx: &XdpContext, tags: [[u8; 4]; N]) -> u32 {
    let ip = match load::<2>(ctx, 12) {
        Some(ETHERTYPE_IPV4) => true,
        Some(ETHERTYPE_IPV6) => !is_between_neighbours(ctx),
        _ => false,
    };
    if !ip {
        return XDP_PASS;
    }
    let write = || {
        moved(ctx, -4 * N as i32)?;
        for (i, tag) in tags.into_iter().enumerate() {
            let place = pointer_to::<4>(ctx, 12 + 4 * i)?;
            // SAFETY: `pointer_to` checked that the tag lies inside the packet; an array of bytes has no alignment.
            unsafe { place.write(tag) };
        }
        Some(())
    };
    write().map_or(XDP_ABORTED, |()| XDP_PASS)
}

#[inline(always)]
fn is_between_neighbours(ctx: &XdpContext) -> bool {
    let next = load::<1>(ctx, ETHERNET + 6);
    let kind = load::<1>(ctx, ETHERNET + IPV6_HEADER);
    next == Some([ICMPV6]) && kind.is_some_and(|[kind]| NEIGHBOUR_DISCOVERY.contains(&kind))
}

/// Moves the MAC addresses `by` bytes toward the packet's end, and its beginning with them.
#[inline(always)]
fn moved(ctx: &XdpContext, by: i32) -> Option<()> {
    let macs = load::<12>(ctx, 0)?;
    // SAFETY: `ctx.ctx` is the context that the kernel gave to this program.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, by) } != 0 {
        return None;
    }
    let place = pointer_to::<12>(ctx, 0)?;
    // SAFETY: `pointer_to` checked that both addresses lie inside the packet; an array of bytes has no alignment.
    unsafe { place.write(macs) };
    Some(())
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
