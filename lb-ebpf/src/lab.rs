//! The XDP programs that the lab of network namespaces needs around the balancer.
//!
//! Nothing here is part of the product: `pass` makes a veth end accept frames that its peer sends with `XDP_TX`,
//! `decap` stands in for the tunnel device of an `ipip` backend, which not every kernel has, and `count` takes the
//! place of a backend that only has to say how many packets it got. A packet that `decap` does not understand, or
//! that `count` has no business with, reaches the host untouched.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS},
    helpers::bpf_xdp_adjust_head,
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

const PROTOCOL_TCP: u8 = 6;
/// IPv4 in an IP header (RFC 2003).
const PROTOCOL_IPIP: u8 = 4;
/// IPv6 in an IP header (RFC 2473, RFC 4213).
const PROTOCOL_IPV6: u8 = 41;

/// Packets that `count` took, per CPU.
#[map]
static RECEIVED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Lets every packet through.
#[xdp]
fn pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Strips one outer IPv4 or IPv6 header from a tunnelled packet and lets the inner one through.
///
/// The outer header must be plain: no IPv4 options or fragments, no IPv6 extension headers.
#[xdp]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the macro hands the context over by value"
)]
fn decap(ctx: XdpContext) -> u32 {
    match tunnel(&ctx) {
        Some(tunnel) => strip(&ctx, &tunnel).map_or(XDP_ABORTED, |()| XDP_PASS),
        None => XDP_PASS,
    }
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

/// What has to change to strip an outer header.
struct Tunnel {
    /// Bytes between the Ethernet header and the inner IP header.
    outer_len: i32,
    /// The Ethernet header for the inner packet.
    ethernet: [u8; ETHERNET_LEN],
}

#[inline(always)]
fn tunnel(ctx: &XdpContext) -> Option<Tunnel> {
    let mut ethernet = load::<ETHERNET_LEN>(ctx, 0)?;
    let (outer_len, next) = match [ethernet[12], ethernet[13]] {
        ETHERTYPE_IPV4 => {
            let outer = load::<IPV4_LEN>(ctx, ETHERNET_LEN)?;
            let fragment = outer[6] & 0x3f != 0 || outer[7] != 0;
            if outer[0] != 0x45 || fragment {
                return None;
            }
            (IPV4_LEN, outer[9])
        }
        ETHERTYPE_IPV6 => (IPV6_LEN, load::<IPV6_LEN>(ctx, ETHERNET_LEN)?[6]),
        _ => return None,
    };
    let inner = match next {
        PROTOCOL_IPIP => ETHERTYPE_IPV4,
        PROTOCOL_IPV6 => ETHERTYPE_IPV6,
        _ => return None,
    };
    ethernet[12] = inner[0];
    ethernet[13] = inner[1];
    Some(Tunnel {
        outer_len: outer_len as i32,
        ethernet,
    })
}

#[inline(always)]
fn strip(ctx: &XdpContext, tunnel: &Tunnel) -> Option<()> {
    // SAFETY: `ctx.ctx` is the context that the kernel gave to this program.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, tunnel.outer_len) } != 0 {
        return None;
    }
    let header = pointer_to::<ETHERNET_LEN>(ctx, 0)?;
    // SAFETY: `pointer_to` checked that the whole header lies inside the packet; an array of bytes has no alignment.
    unsafe { header.write(tunnel.ethernet) };
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
