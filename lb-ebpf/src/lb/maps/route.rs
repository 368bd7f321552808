//! The host's routing decision, by `bpf_fib_lookup`, and a memory for its answers.
//!
//! The helper costs more than all the rest of a packet's way together, so each CPU remembers its last answers, one
//! for each of a number of places that destinations hash to. Every change of the host's routes or neighbours makes
//! the whole memory worthless at once: see `Control::routes`.

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_NOT_FWDED,
        BPF_FIB_LKUP_RET_SUCCESS, BPF_NOEXIST, bpf_fib_lookup as Fib,
    },
    helpers::bpf_fib_lookup,
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::XdpContext,
};
use lb_common::{
    abi::{MAX_NEXT_HOPS, NextHopKey, TagsEntry},
    hash,
    pipeline::{Route, RouteQuery},
};

use super::{
    super::{globals, trace},
    devices::upper,
};

/// Address families as the kernel numbers them.
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;

/// Places of the memory; a power of two.
const PLACES: u32 = 4096;

/// One remembered answer. All zero is none: no VIP is the address zero.
#[repr(C, align(64))]
struct Remembered {
    /// The answered query's destination and source, wide.
    destination: [u64; 2],
    source: [u64; 2],
    /// `Route::Hop`.
    macs_head: u64,
    macs_tail: u32,
    egress: u32,
    /// Largest IP packet of the route.
    mtu: u32,
    /// The interface that the query was for.
    ingress: u32,
    /// `Control::routes` at the time.
    routes: u32,
    /// The VLAN device that the route goes over, or 0.
    over: u32,
}

#[map]
static ROUTES: PerCpuArray<Remembered> = PerCpuArray::with_max_entries(PLACES, 0);

/// Next hops that were asked for, until the agent has had the kernel make sure of them.
#[map]
static NEXT_HOPS: HashMap<NextHopKey, u32> = HashMap::with_max_entries(MAX_NEXT_HOPS, 0);

/// What the host would do with such a packet that came in here.
#[inline(always)]
pub(super) fn look_up(context: &XdpContext, query: &RouteQuery) -> Route {
    let RouteQuery {
        source,
        destination,
        len,
        ..
    } = *query;
    let (routes, ingress) = (globals::routes(), context.ingress_ifindex() as u32);
    let place = hash::mix(destination[0] ^ destination[1].rotate_left(17), 0) >> 48;
    let Some(remembered) = ROUTES.get_ptr_mut(place as u32 & (PLACES - 1)) else {
        return Route::None;
    };
    // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
    let remembered = unsafe { &mut *remembered };
    let same = (remembered.destination[0] ^ destination[0])
        | (remembered.destination[1] ^ destination[1])
        | (remembered.source[0] ^ source[0])
        | (remembered.source[1] ^ source[1]);
    if same == 0 && remembered.routes == routes && remembered.ingress == ingress {
        if u32::from(len) > remembered.mtu {
            return Route::TooBig(remembered.mtu as u16);
        }
        let Remembered {
            macs_head,
            macs_tail,
            egress,
            over,
            ..
        } = *remembered;
        let tags = if over == 0 { TagsEntry::NONE } else { below(over).1 };
        return Route::Hop {
            macs_head,
            macs_tail,
            egress,
            tags,
        };
    }
    let (mut route, mtu) = ask(context, query, ingress);
    if let Route::Hop {
        macs_head,
        macs_tail,
        egress,
        tags,
    } = &mut route
    {
        let device = *egress;
        (*egress, *tags) = below(device);
        let (macs_head, macs_tail, egress) = (*macs_head, *macs_tail, *egress);
        *remembered = Remembered {
            destination,
            source,
            macs_head,
            macs_tail,
            egress,
            mtu,
            ingress,
            routes,
            over: if tags.is_empty() { 0 } else { device },
        };
    }
    route
}

/// The interface that carries the frames of the one of that index, and the tags that they carry there.
#[inline(always)]
fn below(interface: u32) -> (u32, TagsEntry) {
    upper(interface).map_or((interface, TagsEntry::NONE), |upper| {
        (upper.interface, upper.tags)
    })
}

/// Asks the kernel's FIB and neighbour tables. The second value is the route's MTU, if there is a route.
///
/// `struct bpf_fib_lookup` is put together in whole words: field by field LLVM would merge accesses across words, and
/// the verifier refuses misaligned ones on the stack.
#[inline(always)]
fn ask(context: &XdpContext, query: &RouteQuery, ingress: u32) -> (Route, u32) {
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
    let mut fib: [u64; 8] = [
        // family, l4_protocol, sport, dport, tot_len
        family | u64::from(protocol) << 8 | u64::from(len) << 48,
        // ifindex, tos or flowinfo
        u64::from(ingress) | u64::from(tos) << 32,
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
    let answer = answer as u32;
    if answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH {
        note(context, &fib);
    }
    // Where there was a length, the answer has the route's MTU.
    let mtu = (fib[0] >> 48) as u32;
    let route = match answer {
        BPF_FIB_LKUP_RET_SUCCESS => Route::Hop {
            macs_head: fib[7] >> 16 | (fib[6] >> 32) << 48,
            macs_tail: (fib[6] >> 48) as u32 | (fib[7] as u32) << 16,
            egress: fib[1] as u32,
            tags: TagsEntry::NONE,
        },
        BPF_FIB_LKUP_RET_NOT_FWDED => Route::Local,
        BPF_FIB_LKUP_RET_NO_NEIGH => Route::NoNeighbour,
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Route::TooBig(mtu as u16),
        _ => Route::None,
    };
    (route, mtu)
}

/// Notes the next hop that the kernel named: it takes a MAC address for good however old it is, and asks for none. Where
/// there is no room the next packets will do.
#[inline(always)]
fn note(context: &XdpContext, fib: &[u64; 8]) {
    if trace::of(context).is_some() {
        return;
    }
    let key = NextHopKey {
        // A gateway has taken the destination's place, which may be one of IPv6 for a destination of IPv4.
        address: [fib[4], fib[5]],
        interface: fib[1] as u32,
        family: fib[0] as u32 & 0xff,
    };
    let _ = NEXT_HOPS.insert(key, 0, u64::from(BPF_NOEXIST));
}
