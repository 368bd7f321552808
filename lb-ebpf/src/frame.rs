//! Access to a frame in the kernel.

use aya_ebpf::{bindings::xdp_md, helpers::bpf_xdp_adjust_head, programs::XdpContext};
use lb_common::{
    net::{self, Bytes},
    verifier::hidden,
};

/// A frame between `data` and `end`, which the verifier knows as packet pointers.
///
/// With `VARIES` its headers stand where only the packet says. From one check LLVM then concludes that another one is
/// needless, or may be put in another form, which the verifier does not follow; so it is not told what is checked.
pub(super) struct Frame<const VARIES: bool> {
    pub(super) context: *mut xdp_md,
    data: usize,
    end: usize,
}

impl<const VARIES: bool> Frame<VARIES> {
    #[inline(always)]
    pub(super) fn new(context: &XdpContext) -> Self {
        Self {
            context: context.ctx,
            data: context.data(),
            end: context.data_end(),
        }
    }

    /// Reads both ends anew, when the frame's start may have moved.
    #[inline(always)]
    pub(super) fn read_ends(&mut self) {
        // SAFETY: the context is the one that the kernel called the program with.
        unsafe {
            self.data = (*self.context).data as usize;
            self.end = (*self.context).data_end as usize;
        }
    }

    #[inline(always)]
    fn at<const N: usize>(&self, offset: usize) -> Option<*mut [u8; N]> {
        let start = self.data + offset;
        let after = if VARIES { hidden(start + N) } else { start + N };
        if after > self.end {
            None
        } else {
            Some(start as *mut [u8; N])
        }
    }
}

impl<const VARIES: bool> Bytes for Frame<VARIES> {
    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        // SAFETY: `at` checked that the bytes lie inside the frame, which is ours while the program runs; any bytes
        // are a valid array; the borrow of `self` keeps the frame from being written or moved meanwhile.
        self.at(offset).map(|bytes| unsafe { &*bytes })
    }

    #[inline(always)]
    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        // SAFETY: as in `view`; the exclusive borrow of `self` makes this the only view.
        self.at(offset).map(|bytes| unsafe { &mut *bytes })
    }

    #[inline(always)]
    fn grow(&mut self, bytes: i32) -> bool {
        // SAFETY: the context is the one that the kernel called the program with.
        if unsafe { bpf_xdp_adjust_head(self.context, -bytes) } != 0 {
            return false;
        }
        self.read_ends();
        true
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        self.end - self.data
    }

    #[inline(always)]
    fn sum(&self, from: usize, len: usize) -> Option<u64> {
        let sum = lb_sum(self.context, from as u32, len as u32);
        (sum != NO_SUM).then_some(sum)
    }
}

/// No sum of so few bytes.
const NO_SUM: u64 = u64::MAX;

/// A global function: the verifier checks its loops once, whoever calls it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_sum(context: *mut xdp_md, from: u32, len: u32) -> u64 {
    let context = XdpContext::new(hidden(context));
    net::sum(&Frame::<true>::new(&context), from as usize, len as usize).unwrap_or(NO_SUM)
}
