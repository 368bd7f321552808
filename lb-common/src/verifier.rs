//! Bounds in the forms that every kernel's verifier understands.
//!
//! What must hold: where an index or an offset comes from a packet or a map, its bound is established here.
//!
//! The verifier follows what the compiled program does, not what the source says. LLVM knows more than the verifier, and
//! uses it to drop a check, to turn it into an equal one, or to add constants to a pointer first. How much of that a verifier
//! can follow differs from kernel to kernel:
//!
//! | LLVM makes | of | refused by |
//! |---|---|---|
//! | `i == 7` | `i >= 7`, where it knows `i <= 7` | kernels before 6.8, which learn no bound from inequality |
//! | `(data - 1) + at` | `data + (at - 1)` | 7.2 and later, which add the parts up and find a minimum of -1 |
//! | nothing | `at & 0x3ff`, where it knows `at <= 0x3ff` | all, where the knowledge comes from what they have forgotten |
//!
//! So these functions hide the value from LLVM first. Hiding costs no instruction of its own: a value stays in its register.

use core::hint::black_box;

/// `value`, of which LLVM knows nothing any more.
///
/// It is for values that the verifier takes for anything: what a called function returns, a difference of two pointers, a
/// context that a function may not read.
#[inline(always)]
#[must_use]
pub fn hidden<T>(value: T) -> T {
    black_box(value)
}

/// `value`, bounded by `MASK`, a power of two less one. The mask stays in the program, and what is added to a pointer is
/// this value as a whole.
///
/// A value that is larger loses its upper bits: the caller makes sure that no valid one is.
#[inline(always)]
#[must_use]
pub fn masked<const MASK: usize>(value: usize) -> usize {
    const { assert!((MASK + 1).is_power_of_two()) };
    hidden(value) & MASK
}

/// The element of `array` at `index`; `None` behind its end. The comparison stays one for order.
#[inline(always)]
#[must_use]
pub fn element<T, const N: usize>(array: &[T; N], index: usize) -> Option<&T> {
    array.get(hidden(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_unchanged() {
        assert_eq!(hidden(7), 7);
        assert_eq!(
            [0, 1, 0x3ff, 0x400, 0x401].map(masked::<0x3ff>),
            [0, 1, 0x3ff, 0, 1]
        );
        assert_eq!(
            [0, 1, 2, usize::MAX].map(|i| element(&[5, 6], i)),
            [Some(&5), Some(&6), None, None]
        );
    }
}
