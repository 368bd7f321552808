//! The host's routing decision, by `bpf_fib_lookup`.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as Fib,
    },
    helpers::bpf_fib_lookup,
    programs::XdpContext,
};
use lb_common::pipeline::{Route, RouteQuery};

/// Address families as the kernel numbers them.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// Asks the kernel's FIB and neighbour tables, as it would for a packet that came in here.
///
/// `struct bpf_fib_lookup` is put together in whole words: field by field LLVM would merge accesses across words, and
/// the verifier refuses misaligned ones on the stack.
#[inline(always)]
pub(crate) fn look_up(context: &XdpContext, query: &RouteQuery) -> Route {
    let RouteQuery {
        v6,
        source,
        destination,
        protocol,
        tos,
        len,
    } = *query;
    let family = if v6 { AF_INET6 } else { AF_INET };
    // IPv6 wants the flow information word, in wire order; IPv4 the type of service.
    let tos = if v6 {
        (u32::from(tos) << 20).to_be()
    } else {
        u32::from(tos)
    };
    let interface = context.ingress_ifindex() as u64;
    let mut fib: [u64; 8] = [
        // family, l4_protocol, sport, dport, tot_len
        family | u64::from(protocol) << 8 | u64::from(len) << 48,
        // ifindex, tos or flowinfo
        interface & 0xffff_ffff | u64::from(tos) << 32,
        source[0],
        source[1],
        destination[0],
        destination[1],
        // h_vlan_proto, h_vlan_TCI, smac, dmac
        0,
        0,
    ];
    const _: () = assert!(size_of::<Fib>() == 64);
    // SAFETY: the context is the kernel's, and the array is as large as the structure it stands for.
    let answer = unsafe { bpf_fib_lookup(context.ctx.cast(), fib.as_mut_ptr().cast(), 64, 0) };
    match answer as u32 {
        BPF_FIB_LKUP_RET_SUCCESS => Route::Hop {
            macs_head: fib[7] >> 16 | (fib[6] >> 32) << 48,
            macs_tail: (fib[6] >> 48) as u32 | (fib[7] as u32) << 16,
            egress: fib[1] as u32,
        },
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Route::TooBig,
        _ => Route::None,
    }
}
