//! Access to the bytes of a frame, and their sum where a checksum has to be made from nothing.

use crate::verifier::masked;

use super::load64;

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
    /// [`sum()`], which the kernel build makes a function of its own.
    fn sum(&self, from: usize, len: usize) -> Option<u64>
    where
        Self: Sized,
    {
        sum(self, from, len)
    }
}

/// Bytes that are summed at once.
const RUN: usize = 32;
/// Runs of the longest packet that is made here: what every IPv6 link carries.
const MAX_RUNS: usize = 1280 / RUN;
/// No such packet reaches further into the frame: a mask, for the verifier.
const MAX_END: usize = 0x7ff;

/// The sum of `len` bytes from `from` on (RFC 1071), as native words over wire bytes; `None` where the frame ends before. An
/// odd byte counts as if a zero followed it.
#[inline(always)]
pub fn sum<P: Bytes>(packet: &P, from: usize, len: usize) -> Option<u64> {
    let (mut at, mut left, mut sum) = (from, len, 0);
    for _ in 0..MAX_RUNS {
        if left < RUN {
            break;
        }
        let run: &[u8; RUN] = packet.view(masked::<MAX_END>(at))?;
        for i in 0..RUN / 8 {
            let word = load64(run, i * 8);
            sum += (word & 0xffff_ffff) + (word >> 32);
        }
        at += RUN;
        left -= RUN;
    }
    // What is left, by halves of a run.
    sum += part::<16, P>(packet, &mut at, left)?;
    sum += part::<8, P>(packet, &mut at, left)?;
    sum += part::<4, P>(packet, &mut at, left)?;
    sum += part::<2, P>(packet, &mut at, left)?;
    if left % 2 != 0 {
        // With the byte before it, which is there: the verifier does not follow a check for a single one.
        let last: &[u8; 2] = packet.view(masked::<MAX_END>(at - 1))?;
        sum += u64::from(u16::from_ne_bytes([last[1], 0]));
    }
    Some(sum)
}

/// The sum of `N` bytes, a power of two, if they are part of what is `left`.
#[inline(always)]
fn part<const N: usize, P: Bytes>(packet: &P, at: &mut usize, left: usize) -> Option<u64> {
    if left & N == 0 {
        return Some(0);
    }
    let bytes: &[u8; N] = packet.view(masked::<MAX_END>(*at))?;
    *at += N;
    let mut sum = 0;
    for i in 0..N / 2 {
        sum += u64::from(u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]));
    }
    Some(sum)
}
