//! Reading and writing words of a frame, each checked against the frame's end.

use aya_ebpf::{helpers::bpf_xdp_adjust_head, programs::XdpContext};

/// A plain integer: any bytes are a value of it.
pub(crate) trait Word: Copy {}

impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// A frame whose first `N` bytes are known to be there.
pub(crate) struct Head<const N: usize> {
    start: usize,
}

impl<const N: usize> Head<N> {
    /// `None` when the frame is shorter. Moving the frame's start makes the value stale; see [`shift`].
    #[inline(always)]
    pub(crate) fn of(context: &XdpContext) -> Option<Self> {
        let start = context.data();
        (start + N <= context.data_end()).then_some(Self { start })
    }

    /// The word at `AT`, in native order.
    #[inline(always)]
    pub(crate) fn load<T: Word, const AT: usize>(&self) -> T {
        const { assert!(AT + size_of::<T>() <= N) };
        // SAFETY: `of` checked that `N` bytes are there, and the assertion that the word lies within them.
        unsafe { ((self.start + AT) as *const T).read_unaligned() }
    }

    /// Stores `value` at `AT`, in native order and in one store.
    #[inline(always)]
    pub(crate) fn store<T: Word, const AT: usize>(&self, value: T) {
        const { assert!(AT + size_of::<T>() <= N) };
        // SAFETY: as in `load`; the frame is ours while the program runs.
        unsafe { ((self.start + AT) as *mut T).write_unaligned(value) };
    }
}

/// Stores `value` at an offset known only when the program is loaded; nothing when the frame ends before.
#[inline(always)]
pub(crate) fn store_at(context: &XdpContext, offset: usize, value: u16) {
    let start = context.data() + offset;
    if start + size_of::<u16>() <= context.data_end() {
        // SAFETY: just checked to lie inside the frame, which is ours while the program runs.
        unsafe { (start as *mut u16).write_unaligned(value) };
    }
}

/// Moves the frame's start by that many bytes; every [`Head`] of it is stale then.
#[inline(always)]
pub(crate) fn shift(context: &XdpContext, bytes: i32) -> Option<()> {
    // SAFETY: the context is the one that the kernel called the program with.
    (unsafe { bpf_xdp_adjust_head(context.ctx, bytes) } == 0).then_some(())
}
