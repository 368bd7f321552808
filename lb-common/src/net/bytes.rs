//! Access to the bytes of a frame.

/// A frame's bytes, from its Ethernet header on.
pub trait Bytes {
    /// The `N` bytes at `offset`, when they lie inside the frame.
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]>;
    /// As [`Bytes::view`], to write.
    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]>;
    /// Makes room for `bytes` in front of the frame, or takes as many off if it is negative; false when there is no
    /// room.
    fn grow(&mut self, bytes: i32) -> bool;
    /// Length of the frame.
    fn frame_len(&self) -> usize;
    /// [`super::sum()`], which the kernel build makes a function of its own.
    fn sum(&self, from: usize, len: usize) -> Option<u64>
    where
        Self: Sized,
    {
        super::sum(self, from, len)
    }
}
