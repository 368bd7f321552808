//! The XDP program of `lb decap`: runs lb-common's `decap` on kernel packets, then counts what it did.
//!
//! Invariant: no decision about a packet is made here. Adapters only: packet access, maps, helpers.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[path = "../frame.rs"]
mod frame;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, xdp_action},
    macros::{map, xdp},
    maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::XdpContext,
};
use lb_common::{
    abi::Action,
    decap::{Address, Ports, Reason, Rules, decap},
};

use frame::Frame;

/// UDP ports of GUE, set at load.
#[unsafe(no_mangle)]
static GUE_PORTS: Global<u64> = Global::new(0);
/// UDP ports of FOU, set at load.
#[unsafe(no_mangle)]
static FOU_PORTS: Global<u64> = Global::new(0);
/// Tunnels without UDP, set at load.
#[unsafe(no_mangle)]
static PROTOCOLS: Global<u32> = Global::new(0);
/// Whether only some may send, set at load.
#[unsafe(no_mangle)]
static FILTERED: Global<u32> = Global::new(0);

#[map]
static OURS: HashMap<Address, u8> = HashMap::with_max_entries(4096, 0);
#[map]
static SOURCES: LpmTrie<Address, u8> = LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
static DECAP_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Reason::COUNT, 0);

/// Takes the outer headers of a tunnel off one packet.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
fn lb_decap(context: XdpContext) -> u32 {
    let reason = decap(&mut Frame::<true>::new(&context), &Maps);
    if let Some(count) = DECAP_COUNTS.get_ptr_mut(reason.number()) {
        // SAFETY: a per-CPU entry, and XDP programs are not preempted by one another on a CPU.
        unsafe { *count += 1 };
    }
    match reason.action() {
        Action::Drop => xdp_action::XDP_DROP,
        Action::Pass | Action::Send | Action::Hand => xdp_action::XDP_PASS,
    }
}

/// What user space says.
struct Maps;

impl Rules for Maps {
    #[inline(always)]
    fn protocols(&self) -> u32 {
        PROTOCOLS.load()
    }

    #[inline(always)]
    fn gue_ports(&self) -> Ports {
        Ports(GUE_PORTS.load())
    }

    #[inline(always)]
    fn fou_ports(&self) -> Ports {
        Ports(FOU_PORTS.load())
    }

    #[inline(always)]
    fn is_ours(&self, destination: &Address) -> bool {
        OURS.get_ptr(destination).is_some()
    }

    #[inline(always)]
    fn allows(&self, source: &Address) -> bool {
        FILTERED.load() == 0 || SOURCES.get(Key::new(128, *source)).is_some()
    }
}

/// The licence the kernel is told; it decides which helpers a program may call.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could get here.
    loop {}
}

/// On the host there is nothing to run: the crate is compiled there only to be checked.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
