//! The BPF maps. Sizes given here are placeholders: the agent sets them when it loads the program.

mod answers;
mod counters;
mod devices;
mod flow_table;
mod flows;
mod host;
mod nat;
mod quic;
mod route;
mod services;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use lb_common::{
    abi::{CellEntry, Meta, PoolEntry, Reason},
    pipeline::detour::Scratch,
};

pub(super) use counters::count;
pub(super) use flow_table::clock;
pub(super) use host::redirect;

// Only agents read and write these.
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);
#[map]
static POOLS: Array<PoolEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static CELLS: Array<CellEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
static DETOURS: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static SEEN: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The maps, for one packet.
pub(super) struct Maps<'a> {
    context: &'a XdpContext,
}

impl<'a> Maps<'a> {
    #[inline(always)]
    pub(super) fn new(context: &'a XdpContext) -> Self {
        Self { context }
    }
}

/// Where the detour notes what it sees of this CPU's packet: on the stack there would be too little left for the steps.
#[inline(always)]
pub(super) fn scratch<'s>() -> Option<&'s mut Scratch> {
    // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
    SEEN.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// Lets the other program have the packet. Returns only if that is not there: why the packet goes no further then.
#[inline(always)]
pub(super) fn detour(context: &XdpContext) -> Reason {
    // SAFETY: a tail call ends this program; nothing of its stack is borrowed beyond.
    unsafe { DETOURS.tail_call(context, 0) };
    Reason::NoDetour
}
