//! The detour: the whole way of a packet that is not plain, step by step.
//!
//! Invariant: until [`Steps::send`] or an answer the packet is as it came, so that the host gets what was sent to it.
//!
//! In the kernel every step is a function of its own, which the verifier walks through once, whoever calls it. That
//! is why a step takes one record, [`Seen`], and why nothing else passes from step to step.

mod back;
mod dissect;
mod find;
mod permit;
mod place;
mod seen;
mod send;

use crate::abi::{Lengths, Reason};

use super::{Packet, Tables};

pub use seen::{Kind, Seen};

/// What a step leaves behind: `Err` says that the packet's way ends here, and why.
pub type Step = Result<(), Reason>;

/// The steps of the detour.
pub trait Steps {
    /// Reads the headers.
    fn dissect(&mut self, seen: &mut Seen) -> Step;
    /// Looks in one place for the service that it is for; to be called for as long as [`Seen::is_looked_for`].
    fn find(&mut self, seen: &mut Seen) -> Step;
    /// Takes it back to its client, if it is a backend's answer.
    fn give_back(&mut self, seen: &mut Seen) -> Step;
    /// Lets its client use the service, or not.
    fn permit(&mut self, seen: &mut Seen) -> Step;
    /// Picks its backend.
    fn place(&mut self, seen: &mut Seen) -> Step;
    /// Rewrites it toward its backend.
    fn send(&mut self, seen: &mut Seen) -> Step;
}

/// Takes a packet all the way and says why it left as it did; [`Seen::outcome`] says more.
#[inline(always)]
pub fn detour<S: Steps>(steps: &mut S, seen: &mut Seen) -> Reason {
    match step_by_step(steps, seen) {
        Ok(()) => Reason::Forwarded,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn step_by_step<S: Steps>(steps: &mut S, seen: &mut Seen) -> Step {
    steps.dissect(seen)?;
    // Twice as many lengths of prefixes for as long as one set of services takes the place of another.
    for _ in 0..=2 * Lengths::MAX {
        if seen.is_looked_for() {
            steps.find(seen)?;
        }
    }
    if seen.is_for_no_service() {
        return steps.give_back(seen);
    }
    steps.permit(seen)?;
    steps.place(seen)?;
    steps.send(seen)
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
    fn dissect(&mut self, seen: &mut Seen) -> Step {
        dissect::dissect(self.packet, seen)
    }

    #[inline(always)]
    fn find(&mut self, seen: &mut Seen) -> Step {
        find::find(self.tables, seen)
    }

    #[inline(always)]
    fn give_back(&mut self, seen: &mut Seen) -> Step {
        back::give_back(self.packet, self.tables, seen)
    }

    #[inline(always)]
    fn permit(&mut self, seen: &mut Seen) -> Step {
        permit::permit(self.tables, seen)
    }

    #[inline(always)]
    fn place(&mut self, seen: &mut Seen) -> Step {
        place::place(self.tables, seen)
    }

    #[inline(always)]
    fn send(&mut self, seen: &mut Seen) -> Step {
        send::send(self.packet, self.tables, seen)
    }
}
