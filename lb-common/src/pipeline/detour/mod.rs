//! The detour: the whole way of a packet that is not plain, step by step.
//!
//! Invariant: until [`Steps::send`] or an answer the packet is as it came, so that the host gets what was sent to it. Only
//! what the host is to send in the balancer's stead goes to it translated.
//!
//! In the kernel every step is a function of its own, which the verifier walks through once, whoever calls it. That
//! is why a step takes one record, [`Scratch`], and why nothing else passes from step to step.

mod answer;
mod back;
mod clamp;
mod dissect;
mod echo;
mod error;
mod extensions;
mod find;
mod fragments;
mod fullnat;
mod identify;
mod own;
mod permit;
mod place;
mod quote;
mod reset;
mod seen;
mod send;
mod translate;

use crate::abi::{Lengths, Reason, ServiceFlags};

use super::{Packet, Tables};

use answer::is_answer;

pub use fullnat::InsertOutcome;
pub use seen::{PacketKind, Scratch};

/// What a step leaves behind: `Err` says that the packet's way ends here, and why.
pub type StepResult = Result<(), Reason>;

/// The steps of the detour.
pub trait Steps {
    /// Reads the headers.
    fn dissect(&mut self, seen: &mut Scratch) -> StepResult;
    /// Takes the flow that an ICMP error is about from the packet that it quotes.
    fn quote(&mut self, seen: &mut Scratch) -> StepResult;
    /// Has a later fragment follow the first, and notes what later ones need to know of a first one.
    fn follow(&mut self, seen: &mut Scratch) -> StepResult;
    /// Looks in one place for the service that it is for; to be called for as long as [`Scratch::is_looked_for`].
    fn find(&mut self, seen: &mut Scratch) -> StepResult;
    /// Takes it back to its client, if it is a backend's answer.
    fn give_back(&mut self, seen: &mut Scratch) -> StepResult;
    /// Lets its client use the service, or not.
    fn permit(&mut self, seen: &mut Scratch) -> StepResult;
    /// Finds the backend that its connection ID names, for services that are routed so.
    fn identify(&mut self, seen: &mut Scratch) -> StepResult;
    /// Finds the backend that its flow has already, if that is reached by `fullnat`.
    fn recall(&mut self, seen: &mut Scratch) -> StepResult;
    /// Picks its backend, if it has none yet.
    fn place(&mut self, seen: &mut Scratch) -> StepResult;
    /// Gives its flow an address and port, if its backend is reached by `fullnat`.
    fn assign(&mut self, seen: &mut Scratch) -> StepResult;
    /// Makes that its flow's.
    fn settle(&mut self, seen: &mut Scratch) -> StepResult;
    /// Makes the MSS that a SYN tells small enough.
    fn clamp(&mut self, seen: &mut Scratch) -> StepResult;
    /// Rewrites it toward its backend.
    fn send(&mut self, seen: &mut Scratch) -> StepResult;
    /// Answers an echo request.
    fn echo(&mut self, seen: &mut Scratch) -> StepResult;
    /// Tells its sender that it goes no further: [`Scratch::answer`].
    fn answer(&mut self, seen: &mut Scratch) -> StepResult;
}

/// Takes a packet all the way and says why it left as it did; [`Scratch::outcome`] says more.
#[inline(always)]
pub fn detour<S: Steps>(steps: &mut S, seen: &mut Scratch) -> Reason {
    match step_by_step(steps, seen) {
        Ok(()) => Reason::Forwarded,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn step_by_step<S: Steps>(steps: &mut S, seen: &mut Scratch) -> StepResult {
    steps.dissect(seen)?;
    if seen.is(PacketKind::IcmpError) {
        steps.quote(seen)?;
    } else if seen.is(PacketKind::LaterFragment) {
        steps.follow(seen)?;
    }
    // Twice as many lengths of prefixes for as long as one set of services takes the place of another.
    for _ in 0..=2 * Lengths::MAX {
        if !seen.is_looked_for() {
            break;
        }
        steps.find(seen)?;
    }
    if seen.is(PacketKind::Echo) {
        return steps.echo(seen);
    }
    if seen.is(PacketKind::FirstFragment) && seen.is_for_vip != 0 {
        steps.follow(seen)?;
    }
    if seen.is_for_no_service() {
        let given_back = steps.give_back(seen);
        let is_returned = matches!(given_back, Err(Reason::Returned | Reason::ReturnedByHost));
        if is_returned && seen.has_syn() {
            steps.clamp(seen)?;
        }
        return or_answer(steps, seen, given_back);
    }
    if let Some(oddity) = seen.oddity() {
        return Err(oddity);
    }
    steps.permit(seen)?;
    if seen.service.flags.has(ServiceFlags::DETOUR) {
        steps.identify(seen)?;
        steps.recall(seen)?;
    }
    let placed = steps.place(seen);
    if placed.is_err() {
        return or_answer(steps, seen, placed);
    }
    if seen.service.flags.has(ServiceFlags::DETOUR) {
        let assigned = steps.assign(seen);
        if assigned.is_err() {
            return or_answer(steps, seen, assigned);
        }
        steps.settle(seen)?;
    }
    if seen.has_syn() {
        steps.clamp(seen)?;
    }
    steps.send(seen)
}

/// What a step has left behind, or, if the sender is to be told of it, what becomes of the answer.
#[inline(always)]
fn or_answer<S: Steps>(steps: &mut S, seen: &mut Scratch, step: StepResult) -> StepResult {
    match step {
        Err(reason) if is_answer(reason) => {
            seen.answer = reason as u32;
            steps.answer(seen)
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

impl<P: Packet, T: Tables> Steps for StepByStep<'_, P, T> {
    #[inline(always)]
    fn dissect(&mut self, seen: &mut Scratch) -> StepResult {
        dissect::dissect(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn quote(&mut self, seen: &mut Scratch) -> StepResult {
        quote::quote(self.packet, seen)
    }

    #[inline(always)]
    fn follow(&mut self, seen: &mut Scratch) -> StepResult {
        fragments::follow(self.tables, seen)
    }

    #[inline(always)]
    fn find(&mut self, seen: &mut Scratch) -> StepResult {
        find::find(self.tables, seen)
    }

    #[inline(always)]
    fn give_back(&mut self, seen: &mut Scratch) -> StepResult {
        back::give_back(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn permit(&mut self, seen: &mut Scratch) -> StepResult {
        permit::permit(self.tables, seen)
    }

    #[inline(always)]
    fn identify(&mut self, seen: &mut Scratch) -> StepResult {
        identify::identify(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn recall(&mut self, seen: &mut Scratch) -> StepResult {
        fullnat::recall(self.tables, seen)
    }

    #[inline(always)]
    fn assign(&mut self, seen: &mut Scratch) -> StepResult {
        fullnat::assign(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn settle(&mut self, seen: &mut Scratch) -> StepResult {
        fullnat::settle(self.tables, seen)
    }

    #[inline(always)]
    fn place(&mut self, seen: &mut Scratch) -> StepResult {
        place::place(self.tables, seen)
    }

    #[inline(always)]
    fn send(&mut self, seen: &mut Scratch) -> StepResult {
        send::send(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn clamp(&mut self, seen: &mut Scratch) -> StepResult {
        clamp::clamp(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn echo(&mut self, seen: &mut Scratch) -> StepResult {
        echo::echo(self.packet, seen)
    }

    #[inline(always)]
    fn answer(&mut self, seen: &mut Scratch) -> StepResult {
        answer::answer(self.packet, self.tables, seen)
    }
}
