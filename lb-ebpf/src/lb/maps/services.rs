//! The tables of services and of their targets in the kernel.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{
        Array,
        lpm_trie::{Key, LpmTrie},
    },
};
use lb_common::{
    abi::{
        AclKey, AclVerdict, Features, Key4, Key6, Lengths, MAX_SOURCES, OptionsEntry, ServiceEntry,
        ServiceLine4, ServiceLine6, TableIndex, TagsEntry, TargetEntry,
    },
    pipeline::ServiceTables,
};

use super::{super::globals, Maps};

#[map]
static SERVICES4: Array<ServiceLine4> = Array::with_max_entries(4, BPF_F_MMAPABLE);
#[map]
static SERVICES6: Array<ServiceLine6> = Array::with_max_entries(4, BPF_F_MMAPABLE);
#[map]
static OPTIONS: Array<OptionsEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SOURCES: LpmTrie<AclKey, AclVerdict> = LpmTrie::with_max_entries(2 * MAX_SOURCES, 0);
#[map]
static TARGETS: Array<TargetEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TAGS: Array<TagsEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

impl ServiceTables for Maps<'_> {
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
    fn options(&self, number: u32) -> Option<&OptionsEntry> {
        OPTIONS.get(number)
    }

    #[inline(always)]
    fn access(&self, client: &AclKey) -> Option<AclVerdict> {
        SOURCES.get(Key::new(AclKey::BITS, *client)).copied()
    }

    #[inline(always)]
    fn target(&self, index: u32) -> Option<&TargetEntry> {
        TARGETS.get(index)
    }

    #[inline(always)]
    fn tags(&self, index: u32) -> Option<&TagsEntry> {
        TAGS.get(index)
    }
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

    /// 1 if there is a service of that IPv6 key, which `found` tells then; `a`, `b` and `c` are the key's words.
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
            flags: ServiceFlags::from_bits_retain(zero as u16),
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
