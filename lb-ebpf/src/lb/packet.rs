//! What is done to a packet in the kernel: its new front is a global function, which the verifier checks once, whoever
//! calls it.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_tail, programs::XdpContext};
use lb_common::{
    abi::Reason,
    net::Bytes as _,
    pipeline::{Packet, Tables, Wrap, wrap::wrap},
    verifier::hidden,
};

use super::{
    detour::{number, step},
    frame::Frame,
    maps::Maps,
};

impl<const VARIES: bool> Packet for Frame<VARIES> {
    #[inline(always)]
    fn trim(&mut self, len: usize) -> bool {
        // A difference of two pointers is a number to LLVM, of which 32 bits would do; not so to the verifier.
        let less = len as i32 - hidden(self.frame_len()) as i32;
        // SAFETY: the context is the one that the kernel called the program with.
        if unsafe { bpf_xdp_adjust_tail(self.context, less) } != 0 {
            return false;
        }
        self.read_ends();
        true
    }

    #[inline(always)]
    fn wrap<T: Tables>(&mut self, _: &T, wrap: Wrap) -> Result<(), Reason> {
        let wrapped = lb_wrap(self.context, &wrap);
        self.read_ends();
        step(wrapped)
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_wrap(context: *mut xdp_md, what: *const Wrap) -> u32 {
    // SAFETY: the caller's memory of that type, or null; the verifier holds every caller to it.
    let Some(what) = (unsafe { what.as_ref() }) else {
        return number(Err(Reason::Unresolved));
    };
    let context = XdpContext::new(hidden(context));
    number(wrap(
        &mut Frame::<false>::new(&context),
        &Maps::new(&context),
        *what,
    ))
}
