//! The balancer's XDP programs: run lb-common's pipeline on kernel packets and BPF maps, then count what it did.
//! Interfaces run `lb`, which calls `lb_detour` for packets that are not plain.
//!
//! Invariant: no decision about a packet is made here. Adapters only: packet access, maps, helpers.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For one intrinsic: compare and exchange, which the BPF target's atomic types do not offer.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, adt_const_params))]
#![cfg_attr(target_arch = "bpf", expect(internal_features, reason = "as above"))]

mod cipher;
mod detour;
#[path = "../frame.rs"]
mod frame;
mod globals;
mod maps;
mod packet;
mod trace;

use core::hint::black_box;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use lb_common::{
    abi::{Action, Reason},
    pipeline::{
        Outcome,
        detour::{Scratch, detour},
        direct,
    },
};

use detour::Calls;
use frame::Frame;
use maps::Maps;

/// Balances one packet. Inlined into what `#[xdp]` makes of it: as a function of its own it would cost each packet a call.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
#[inline(always)]
fn lb(context: XdpContext) -> u32 {
    let mut outcome = Outcome::UNDECIDED;
    // Kept in memory: as registers, every way out would set all of its fields anew.
    let outcome = black_box(&mut outcome);
    let reason = match direct(&mut Frame::<false>::new(&context), &Maps::new(&context), outcome) {
        Some(reason) => reason,
        None => maps::detour(&context),
    };
    leave(&context, reason, outcome)
}

/// Balances one packet that is not plain.
#[expect(clippy::needless_pass_by_value, reason = "the signature that #[xdp] wants")]
#[xdp]
#[inline(always)]
fn lb_detour(context: XdpContext) -> u32 {
    let Some(scratch) = maps::scratch() else {
        return leave(&context, Reason::NoDetour, &Outcome::UNDECIDED);
    };
    *scratch = Scratch::NOTHING;
    let reason = detour(&mut Calls::new(&context), scratch);
    leave(&context, reason, &scratch.outcome)
}

/// Counts a packet, or fills in its trace, and lets it go.
#[inline(always)]
fn leave(context: &XdpContext, reason: Reason, outcome: &Outcome) -> u32 {
    let (reason, action) = match reason.action() {
        Action::Pass | Action::Hand => (reason, xdp_action::XDP_PASS),
        Action::Drop => (reason, xdp_action::XDP_DROP),
        Action::Send if outcome.egress == 0 => (reason, xdp_action::XDP_TX),
        Action::Send if maps::redirect(outcome.egress) => (reason, xdp_action::XDP_REDIRECT),
        Action::Send => (Reason::NoEgress, xdp_action::XDP_DROP),
    };
    if !trace::fill_in(context, reason, outcome) {
        maps::count(reason, outcome);
    }
    if globals::DEBUG.load() != 0 {
        aya_log_ebpf::debug!(
            context,
            "reason {} service {} slot {} target {} bytes {}",
            reason.number(),
            outcome.service_number(),
            outcome.slot,
            outcome.target,
            outcome.bytes
        );
    }
    action
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
