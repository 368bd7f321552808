//! The BPF maps. Sizes given here are placeholders: the agent sets them when it loads the program.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action, xdp_md},
    macros::map,
    maps::{
        Array, DevMapHash, HashMap, PerCpuArray, ProgramArray,
        lpm_trie::{Key, LpmTrie},
    },
    programs::XdpContext,
};
use lb_common::{
    abi::{
        AclKey, CellEntry, DeviceEntry, Features, FlowEnds, FragmentEntry, FragmentKey, Key4, Key6, Lengths,
        MAX_MACS, MAX_SOURCES, MAX_UPPERS, Mac, MacKey, Meta, NatEntry, OptionsEntry, PoolEntry,
        QuicSetEntry, Reason, RoundKeys, ServerIdEntry, ServerLine, ServerTable, ServiceEntry, ServiceLine4,
        ServiceLine6, SlotLine, SnatPoolEntry, TableIndex, TagsEntry, TargetCounters, TargetEntry, Trace,
    },
    flows::{Event, Query, Selected},
    pipeline::{self, Outcome, Route, RouteQuery, Tables, detour::InsertOutcome, detour::Scratch},
    quic::aes::{Block, Cipher},
    verifier::hidden,
};

use super::{answers, cipher, flows, fragments, globals, route, trace, translations};

#[map]
static SERVICES4: Array<ServiceLine4> = Array::with_max_entries(4, BPF_F_MMAPABLE);
#[map]
static SERVICES6: Array<ServiceLine6> = Array::with_max_entries(4, BPF_F_MMAPABLE);
#[map]
static SLOTS: Array<SlotLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TARGETS: Array<TargetEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TAGS: Array<TagsEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static POOLS: Array<PoolEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static CELLS: Array<CellEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static OPTIONS: Array<OptionsEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SOURCES: LpmTrie<AclKey, u32> = LpmTrie::with_max_entries(2 * MAX_SOURCES, 0);
#[map]
static QUIC: Array<QuicSetEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SERVERS: Array<ServerLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static COUNTS: PerCpuArray<TargetCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);
#[map]
static UPPERS: HashMap<u32, DeviceEntry> = HashMap::with_max_entries(MAX_UPPERS, 0);
#[map]
static MACS: HashMap<MacKey, u32> = HashMap::with_max_entries(MAX_MACS, BPF_F_NO_PREALLOC);
#[map]
static EGRESS: DevMapHash = DevMapHash::with_max_entries(64, 0);
#[map]
static DETOURS: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static SEEN: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
static META: Array<Meta> = Array::with_max_entries(1, 0);

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

impl Cipher for Maps<'_> {
    #[inline(always)]
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        cipher::encrypt(keys, block)
    }

    #[inline(always)]
    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        cipher::decrypt(keys, block)
    }
}

impl Tables for Maps<'_> {
    #[inline(always)]
    fn seed(&self) -> u64 {
        globals::SEED.load()
    }

    #[inline(always)]
    fn features(&self) -> Features {
        globals::features()
    }

    #[inline(always)]
    fn service_index(&self, v6: bool) -> TableIndex {
        globals::service_index(v6)
    }

    #[inline(always)]
    fn service_line4(&self, line: u32) -> Option<&ServiceLine4> {
        SERVICES4.get(line)
    }

    #[inline(always)]
    fn service_line6(&self, line: u32) -> Option<&ServiceLine6> {
        SERVICES6.get(line)
    }

    #[inline(always)]
    fn follow4(&self, first: u32, key: &Key4) -> u32 {
        chain::lb_follow4(first, key.0)
    }

    #[inline(always)]
    fn follow6(&self, first: u32, key: &Key6) -> u32 {
        let [a, b, c] = key.0;
        chain::lb_follow6(first, a, b, c)
    }

    #[inline(always)]
    fn look_up4(&self, key: &Key4) -> Option<ServiceEntry> {
        let mut service = chain::nothing_found();
        (chain::lb_look_up4(self.context.ctx, key.0, &mut service) != 0).then_some(service)
    }

    #[inline(always)]
    fn look_up6(&self, key: &Key6) -> Option<ServiceEntry> {
        let mut service = chain::nothing_found();
        let [a, b, c] = key.0;
        (chain::lb_look_up6(self.context.ctx, a, b, c, &mut service) != 0).then_some(service)
    }

    #[inline(always)]
    fn lengths(&self, v6: bool) -> Lengths {
        globals::lengths(v6)
    }

    #[inline(always)]
    fn slots(&self, line: u32) -> Option<&SlotLine> {
        SLOTS.get(line)
    }

    #[inline(always)]
    fn fragments(&self, key: &FragmentKey, record: &mut FragmentEntry) -> bool {
        fragments::get(key, record)
    }

    #[inline(always)]
    fn note_fragments(&self, key: &FragmentKey, record: &FragmentEntry) {
        fragments::note(key, record);
    }

    #[inline(always)]
    fn forget_fragments(&self, key: &FragmentKey) {
        fragments::forget(key);
    }

    #[inline(always)]
    fn translation<R>(&self, key: &FlowEnds, visit: impl FnOnce(&mut NatEntry) -> R) -> Option<R> {
        translations::get(key).map(visit)
    }

    #[inline(always)]
    fn claim(&self, key: &FlowEnds, entry: &NatEntry) -> InsertOutcome {
        translations::claim(key, entry)
    }

    #[inline(always)]
    fn forget_translation(&self, key: &FlowEnds) {
        translations::forget(key);
    }

    #[inline(always)]
    fn source_pool(&self, v6: bool) -> SnatPoolEntry {
        translations::pool(v6)
    }

    #[inline(always)]
    fn nat_source(&self, index: u32) -> Option<[u64; 2]> {
        translations::source(index)
    }

    #[inline(always)]
    fn may_answer(&self, reason: Reason) -> bool {
        self.explains() || answers::spend(reason)
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        flows::clock()
    }

    #[inline(always)]
    fn look_up(&self, query: &Query) -> Selected {
        flows::ask(query)
    }

    #[inline(always)]
    fn explains(&self) -> bool {
        trace::of(self.context).is_some()
    }

    #[inline(always)]
    fn target(&self, index: u32) -> Option<&TargetEntry> {
        TARGETS.get(index)
    }

    #[inline(always)]
    fn tags(&self, index: u32) -> Option<&TagsEntry> {
        TAGS.get(index)
    }

    #[inline(always)]
    fn options(&self, number: u32) -> Option<&OptionsEntry> {
        OPTIONS.get(number)
    }

    #[inline(always)]
    fn access(&self, client: &AclKey) -> u32 {
        let entry = SOURCES.get(Key::new(AclKey::BITS, *client));
        entry.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn quic(&self, index: u32) -> Option<&QuicSetEntry> {
        QUIC.get(index)
    }

    #[inline(always)]
    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32> {
        let ServerTable { first, mask, seed } = *table;
        let [high, low] = id.0;
        let target = lb_server(first, mask, seed, high, low);
        (target != Trace::NONE).then_some(target)
    }

    #[inline(always)]
    fn count(&self, number: u32, event: Event) {
        flows::count(number, event);
    }

    #[inline(always)]
    fn common_mac(&self, index: usize) -> Mac {
        globals::common_mac(index)
    }

    #[inline(always)]
    fn own_mac(&self, interface: u32) -> MacKey {
        globals::own_mac(interface)
    }

    #[inline(always)]
    fn has_mac(&self, key: &MacKey) -> bool {
        // SAFETY: only whether there is one is asked.
        unsafe { MACS.get(key) }.is_some()
    }

    #[inline(always)]
    fn accepts(&self, mac: Mac, is_for_group: bool) -> bool {
        lb_accepts(self.context.ctx, mac.0, is_for_group.into()) != 0
    }

    #[inline(always)]
    fn upper(&self, interface: u32) -> Option<DeviceEntry> {
        upper(interface)
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        route::look_up(self.context, query)
    }
}

/// [`pipeline::accepts`] as a function of its own: only frames that are not to the common MAC call it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_accepts(context: *mut xdp_md, mac: u64, is_for_group: u32) -> u32 {
    let context = XdpContext::new(hidden(context));
    pipeline::accepts(&Maps::new(&context), Mac(mac), is_for_group != 0).into()
}

/// The target that the server ID of words `high` and `low` names by the table of the other words, or [`Trace::NONE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_server(first: u32, mask: u32, seed: u64, high: u64, low: u64) -> u32 {
    let table = ServerTable { first, mask, seed };
    table
        .look_up(&ServerIdEntry([high, low]), |line| SERVERS.get(line))
        .unwrap_or(Trace::NONE)
}

/// Following chains, and whole look-ups, as functions of their own: the verifier checks a global function once, whoever
/// calls it.
mod chain {
    use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
    use lb_common::{
        abi::{Key4, Key6, ServiceEntry, ServiceFlags, follow_chain},
        pipeline,
        verifier::hidden,
    };

    use super::{Maps, SERVICES4, SERVICES6};

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub(super) extern "C" fn lb_follow4(first: u32, key: u64) -> u32 {
        follow_chain(first, &Key4(key), |line| SERVICES4.get(line))
    }

    #[unsafe(no_mangle)]
    #[inline(never)]
    pub(super) extern "C" fn lb_follow6(first: u32, a: u64, b: u64, c: u64) -> u32 {
        follow_chain(first, &Key6([a, b, c]), |line| SERVICES6.get(line))
    }

    /// 1 if there is a service of that key, which `found` tells then.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub(super) extern "C" fn lb_look_up4(context: *mut xdp_md, key: u64, found: *mut ServiceEntry) -> u32 {
        // Nobody looks at it, and LLVM leaves undefined what nobody looks at; the verifier does look.
        let context = XdpContext::new(hidden(context));
        tell(pipeline::look_up4(&Maps::new(&context), &Key4(key)), found)
    }

    /// The same of IPv6; `a`, `b` and `c` are the key's words.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub(super) extern "C" fn lb_look_up6(
        context: *mut xdp_md,
        a: u64,
        b: u64,
        c: u64,
        found: *mut ServiceEntry,
    ) -> u32 {
        let context = XdpContext::new(hidden(context));
        tell(pipeline::look_up6(&Maps::new(&context), &Key6([a, b, c])), found)
    }

    /// A service to be filled in. LLVM must not see that it is all zero: it would call a function that goes byte by byte.
    #[inline(always)]
    pub(super) fn nothing_found() -> ServiceEntry {
        let zero = hidden(0_u32);
        ServiceEntry {
            slot_line: zero,
            slot_mask: zero as u16,
            flags: ServiceFlags(zero as u16),
            target_base: zero,
            id: zero,
        }
    }

    #[inline(always)]
    fn tell(service: Option<ServiceEntry>, found: *mut ServiceEntry) -> u32 {
        // SAFETY: the caller's memory of that type, or null; the verifier holds every caller to it.
        match (service, unsafe { found.as_mut() }) {
            (Some(service), Some(found)) => {
                // Word by word: what copies it as a whole is a function that goes byte by byte.
                found.slot_line = service.slot_line;
                found.slot_mask = service.slot_mask;
                found.flags = service.flags;
                found.target_base = service.target_base;
                found.id = service.id;
                1
            }
            _ => 0,
        }
    }
}

/// One counter write: a packet of a target counts there, any other under its reason.
#[inline(always)]
pub(super) fn count(reason: Reason, outcome: &Outcome) {
    match reason {
        Reason::Forwarded | Reason::Local => {
            if let Some(count) = COUNTS.get_ptr_mut(outcome.target) {
                // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
                let count = unsafe { &mut *count };
                count.packets += 1;
                count.bytes += u64::from(outcome.bytes);
                if outcome.concerns_flow() {
                    count.flows += u64::from(outcome.opens_flow());
                    count.closed += u64::from(outcome.closes_flow());
                }
            }
        }
        Reason::Returned => {
            if let Some(count) = COUNTS.get_ptr_mut(outcome.target) {
                // SAFETY: as above.
                let count = unsafe { &mut *count };
                count.returned_packets += 1;
                count.returned_bytes += u64::from(outcome.bytes);
            }
        }
        reason => {
            if let Some(packets) = REASONS.get_ptr_mut(reason as u32) {
                // SAFETY: as above.
                unsafe { *packets += 1 };
            }
        }
    }
}

/// What is known of the interface of that index.
#[inline(always)]
pub(super) fn upper(interface: u32) -> Option<DeviceEntry> {
    // SAFETY: entries are replaced whole, and what is read here outlives the program's run (RCU).
    unsafe { UPPERS.get(interface) }.copied()
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

/// Has a frame sent out of another interface; false if the agent did not list that.
#[inline(always)]
pub(super) fn redirect(interface: u32) -> bool {
    EGRESS
        .redirect(interface, u64::from(xdp_action::XDP_DROP))
        .is_ok()
}

const _: () = assert!(
    Trace::NONE == u32::MAX,
    "no target has that index, so nothing is counted there"
);
