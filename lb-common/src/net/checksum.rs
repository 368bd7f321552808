//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//!
//! Sums are kept as 32-bit sums of 16-bit words in native order over wire bytes, which RFC 1071 §2.B allows: folded
//! and stored the same way, they are right on the wire.

/// Folds carries until 16 bits are left. Good for sums of up to 65,535 words.
#[inline(always)]
pub const fn fold(sum: u32) -> u32 {
    let once = (sum & 0xffff) + (sum >> 16);
    (once & 0xffff) + (once >> 16)
}

/// The sum of a word's two halves.
#[inline(always)]
pub const fn halves(word: u32) -> u32 {
    (word & 0xffff) + (word >> 16)
}

/// What to add to a sum when the words whose sum is `old` become words whose sum is `new`: ~m + m'.
#[inline(always)]
pub const fn delta(old: u32, new: u32) -> u32 {
    fold((!fold(old) & 0xffff) + fold(new))
}

/// The opposite of a delta: what to add when the change is undone.
#[inline(always)]
pub const fn reversed(delta: u32) -> u32 {
    !delta & 0xffff
}

/// A checksum field after a change: HC' = ~(~HC + ~m + m'). It is 0 where the words come to zero, which is right unless all
/// of them are 0: then it is 0xffff (RFC 1624 §3). Headers of IP, TCP and UDP have words that never are.
#[inline(always)]
pub const fn adjusted(checksum: u16, delta: u32) -> u16 {
    !(fold((!checksum) as u32 + delta) as u16)
}

/// UDP's checksum after a change (RFC 768): 0 says that there is none and stays, and one that comes to 0 is sent as 0xffff.
#[inline(always)]
pub const fn adjusted_udp(checksum: u16, delta: u32) -> u16 {
    if checksum == 0 {
        return 0;
    }
    match adjusted(checksum, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

/// The checksum of words whose sum is `sum`, be they of 16 or 32 bits.
#[inline(always)]
pub const fn of(sum: u64) -> u16 {
    let once = (sum & 0xffff_ffff) + (sum >> 32);
    let twice = (once & 0xffff) + (once >> 16);
    !(fold((twice & 0xffff) as u32 + (twice >> 16) as u32) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The checksum of some words by the letter of RFC 1071.
    fn naive(words: &[u16]) -> u16 {
        let mut sum: u64 = words.iter().map(|w| u64::from(*w)).sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn an_adjusted_checksum_equals_one_made_anew(
            mut words in proptest::collection::vec(any::<u16>(), 2..40),
            (new_a, new_b) in any::<(u16, u16)>(),
        ) {
            // A header is never all zero (its version is not), so the two zeros of one's complement do not meet.
            words.push(0x4500);
            let before = naive(&words);
            let old = u32::from(words[0]) + u32::from(words[1]);
            let change = delta(old, u32::from(new_a) + u32::from(new_b));
            let original = words.clone();
            words[0] = new_a;
            words[1] = new_b;
            prop_assert_eq!(adjusted(before, change), naive(&words));
            prop_assert_eq!(adjusted(naive(&words), reversed(change)), naive(&original));
        }

        /// Words that come to zero are one in 65,536, so the last one is chosen to have them come so.
        #[test]
        fn a_checksum_of_udp_says_none_if_and_only_if_there_was_none(
            mut words in proptest::collection::vec(any::<u16>(), 1..40),
            new in any::<u16>(),
            comes_to_zero in any::<bool>(),
        ) {
            // The pseudo header has the protocol in it.
            words.push(0x0011);
            let mut after = [&[new], &words[1..]].concat();
            if comes_to_zero {
                let last = naive(&after);
                words.push(last);
                after.push(last);
            }
            let sent = |sum| if sum == 0 { 0xffff } else { sum };
            let change = delta(u32::from(words[0]), u32::from(new));
            prop_assert_eq!(adjusted_udp(sent(naive(&words)), change), sent(naive(&after)));
            prop_assert_eq!(adjusted_udp(0, change), 0);
        }
    }
}
