//! The steps of the detour in the kernel: global functions, which the verifier checks once each, for any context and any
//! content of what was seen.

use aya_ebpf::{bindings::xdp_md, programs::XdpContext};
use lb_common::{
    abi::Reason,
    detour_steps,
    pipeline::detour::{Scratch, StepByStep, StepResult, Steps},
    verifier::hidden,
};

use super::{frame::Frame, maps::Maps};

/// The steps as calls.
pub(super) struct Calls {
    context: *mut xdp_md,
}

impl Calls {
    #[inline(always)]
    pub(super) fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx }
    }
}

/// Declares each step as a global function, and calls it.
macro_rules! kernel_functions {
    ($($(#[$doc:meta])+ $step:ident $function:ident ($($on:ident),+);)+) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $function(context: *mut xdp_md, scratch: *mut Scratch) -> u32 {
                // SAFETY: the caller's memory of that type, or null; the verifier holds every caller to it.
                let Some(scratch) = (unsafe { scratch.as_mut() }) else {
                    return number(Err(Reason::NoService));
                };
                // Not every step looks at it, and LLVM leaves undefined what nobody looks at; the verifier does look.
                let context = XdpContext::new(hidden(context));
                let mut steps = StepByStep {
                    packet: &mut Frame::<true>::new(&context),
                    tables: &Maps::new(&context),
                };
                number(steps.$step(scratch))
            }
        )+

        impl Steps for Calls {
            $(
                #[inline(always)]
                fn $step(&mut self, scratch: &mut Scratch) -> StepResult {
                    step($function(self.context, scratch))
                }
            )+
        }
    };
}

detour_steps!(kernel_functions);

/// A step's result as a number: 0 to go on, else the reason's and 1.
#[inline(always)]
pub(super) fn number(step: StepResult) -> u32 {
    match step {
        Ok(()) => 0,
        Err(reason) => reason.number() + 1,
    }
}

/// The result that the number stands for.
#[inline(always)]
pub(super) fn step(number: u32) -> StepResult {
    // LLVM knows what the functions return and would leave the bounds check out; the verifier takes it for any number.
    match hidden(number).checked_sub(1) {
        None => Ok(()),
        Some(reason) => Err(Reason::from_number(reason).unwrap_or(Reason::NoService)),
    }
}
