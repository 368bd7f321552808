//! The detour: the whole way of a packet that is not plain, step by step.
//!
//! Invariant: until [`Steps::send`] or an answer the packet is as it came, so that the host gets what was sent to it. Only
//! what the host is to send in the balancer's stead goes to it translated.
//!
//! In the kernel every step is a function of its own, which the verifier walks through once, whoever calls it. That
//! is why a step takes one record, [`Scratch`], and why nothing else passes from step to step.

mod acl;
mod allocate;
mod answer;
mod cid_route;
mod clamp;
mod confirm;
mod dissect;
mod echo;
mod error;
mod extensions;
mod find;
mod fragment;
mod fullnat;
mod icmp_inner;
mod nat_lookup;
mod own;
mod reset;
mod reverse_nat;
mod scratch;
mod select;
mod send;
mod translate;

use crate::abi::{Lengths, Reason, ServiceFlags};

use super::{Packet, Tables};

pub use scratch::{PacketKind, Scratch};

/// What a step leaves behind: `Err` says that the packet's way ends here, and why.
pub type StepResult = Result<(), Reason>;

/// The registry of steps: a step is a file of that name with one function of that name, and a line here.
///
/// A line gives the step's documentation, its name, its global function in the kernel, and what the step works on. From these
/// lines come the trait [`Steps`], the run on the host, and the kernel's functions.
#[macro_export]
macro_rules! detour_steps {
    ($with:ident) => {
        $with! {
            /// Reads the headers.
            dissect lb_dissect (packet, tables);
            /// Takes the flow that an ICMP error is about from the packet that the error quotes.
            icmp_inner lb_icmp_inner (packet);
            /// Gives a later fragment the ports of the first, and notes those of a first one.
            fragment lb_fragment (tables);
            /// Looks for the service by the destination, then by one prefix a call; for as long as [`Scratch::is_looked_for`].
            find lb_find (tables);
            /// Takes a backend's answer back to its client.
            reverse_nat lb_reverse_nat (packet, tables);
            /// Asks the list of clients of the service.
            acl lb_acl (tables);
            /// Finds the backend that a QUIC connection ID names.
            cid_route lb_cid_route (packet, tables);
            /// Finds the backend of a known `fullnat` flow.
            nat_lookup lb_nat_lookup (tables);
            /// Selects a backend, if none is known yet.
            select lb_select (tables);
            /// Allocates an address and port for a new `fullnat` flow.
            allocate lb_allocate (packet, tables);
            /// Confirms the allocation, unless another packet of the flow was faster.
            confirm lb_confirm (tables);
            /// Makes the MSS of a SYN small enough.
            clamp lb_clamp (packet, tables);
            /// Rewrites the packet toward its backend.
            send lb_send (packet, tables);
            /// Answers an echo request.
            echo lb_echo (packet);
            /// Tells the sender that the packet goes no further: [`Scratch::answer`].
            answer lb_answer (packet, tables);
        }
    };
}

macro_rules! trait_and_host_run {
    ($($(#[$doc:meta])+ $step:ident $function:ident ($($on:ident),+);)+) => {
        /// The steps of the detour.
        pub trait Steps {
            $($(#[$doc])+ fn $step(&mut self, scratch: &mut Scratch) -> StepResult;)+
        }

        impl<P: Packet, T: Tables> Steps for StepByStep<'_, P, T> {
            $(
                #[inline(always)]
                fn $step(&mut self, scratch: &mut Scratch) -> StepResult {
                    $step::$step($(self.$on,)+ scratch)
                }
            )+
        }
    };
}

detour_steps!(trait_and_host_run);

/// Takes a packet all the way and says why it left as it did; [`Scratch::outcome`] says more.
#[inline(always)]
pub fn detour<S: Steps>(steps: &mut S, scratch: &mut Scratch) -> Reason {
    match step_by_step(steps, scratch) {
        Ok(()) => Reason::Forwarded,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn step_by_step<S: Steps>(steps: &mut S, scratch: &mut Scratch) -> StepResult {
    steps.dissect(scratch)?;
    if scratch.is(PacketKind::IcmpError) {
        steps.icmp_inner(scratch)?;
    } else if scratch.is(PacketKind::LaterFragment) {
        steps.fragment(scratch)?;
    }
    // Twice as many lengths of prefixes for as long as one set of services takes the place of another.
    for _ in 0..=2 * Lengths::MAX {
        if !scratch.is_looked_for() {
            break;
        }
        steps.find(scratch)?;
    }
    if scratch.is(PacketKind::Echo) {
        return steps.echo(scratch);
    }
    if scratch.is(PacketKind::FirstFragment) && scratch.is_for_vip != 0 {
        steps.fragment(scratch)?;
    }
    if scratch.is_for_no_service() {
        let returned = steps.reverse_nat(scratch);
        let is_returned = matches!(returned, Err(Reason::Returned | Reason::ReturnedByHost));
        if is_returned && scratch.has_syn() {
            steps.clamp(scratch)?;
        }
        return or_answer(steps, scratch, returned);
    }
    if let Some(oddity) = scratch.oddity() {
        return Err(oddity);
    }
    steps.acl(scratch)?;
    if scratch.service.flags.intersects(ServiceFlags::DETOUR) {
        steps.cid_route(scratch)?;
        steps.nat_lookup(scratch)?;
    }
    let selected = steps.select(scratch);
    if selected.is_err() {
        return or_answer(steps, scratch, selected);
    }
    if scratch.service.flags.intersects(ServiceFlags::DETOUR) {
        let allocated = steps.allocate(scratch);
        if allocated.is_err() {
            return or_answer(steps, scratch, allocated);
        }
        steps.confirm(scratch)?;
    }
    if scratch.has_syn() {
        steps.clamp(scratch)?;
    }
    steps.send(scratch)
}

/// What a step has left behind, or, if the sender is to be told of it, what becomes of the answer.
#[inline(always)]
fn or_answer<S: Steps>(steps: &mut S, scratch: &mut Scratch, step: StepResult) -> StepResult {
    match step {
        Err(reason) if reason.is_answer() => {
            scratch.answer = reason.number();
            steps.answer(scratch)
        }
        step => step,
    }
}

/// The steps as plain calls.
pub struct StepByStep<'a, P, T> {
    /// The packet.
    pub packet: &'a mut P,
    /// The tables.
    pub tables: &'a T,
}
