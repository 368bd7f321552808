//! Tables written out: each owner in as few bits as do. What must hold: what is read is a table of that size whose owners
//! exist.

use crate::desired::Invalid;

/// Bits that tell `count` owners apart.
fn width(count: usize) -> u32 {
    count.saturating_sub(1).checked_ilog2().map_or(0, |bit| bit + 1)
}

/// Owners below `count`; the first one is in the lowest bits of the first bytes.
pub(super) fn write(owners: &[u16], count: usize) -> Vec<u8> {
    let width = width(count);
    let mut bytes = Vec::with_capacity(owners.len() * width as usize / 8 + 1);
    let (mut word, mut bits) = (0_u32, 0);
    for owner in owners {
        word |= u32::from(*owner) << bits;
        bits += width;
        while bits >= 8 {
            bytes.push(word as u8);
            word >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        bytes.push(word as u8);
    }
    bytes
}

/// What [`write()`] wrote: `slots` owners below `count`.
///
/// # Errors
/// When it is something else.
pub(super) fn read(bytes: &[u8], count: usize, slots: usize) -> Result<Vec<u16>, Invalid> {
    let bad = |why: &str| Invalid::new(format!("a table that was written out cannot be read: {why}"));
    let width = width(count);
    if bytes.len() != (slots * width as usize).div_ceil(8) {
        return Err(bad("it has another length than it should"));
    }
    let (mut word, mut bits) = (0_u32, 0);
    let mut bytes = bytes.iter();
    let mut owners = Vec::with_capacity(slots);
    for _ in 0..slots {
        while bits < width {
            word |= bytes.next().map_or(0, |byte| u32::from(*byte)) << bits;
            bits += 8;
        }
        let owner = word & ((1 << width) - 1);
        if owner as usize >= count {
            return Err(bad("a slot belongs to nobody"));
        }
        owners.push(owner as u16);
        word >>= width;
        bits -= width;
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_can_be_read(
            (count, owners) in (1..=1000_usize).prop_flat_map(|n| (Just(n), vec(0..n as u16, 64..300))),
        ) {
            let bytes = write(&owners, count);
            prop_assert_eq!(read(&bytes, count, owners.len()).unwrap(), owners.clone());
            prop_assert!(read(&bytes[bytes.len().min(1)..], count, owners.len()).is_err() || width(count) == 0);
            let short = owners.len() - 9;
            prop_assert!(read(&bytes, count, short).is_err() || width(count) == 0);
        }

        #[test]
        fn nothing_that_is_read_names_an_owner_that_is_not_there(
            bytes in vec(any::<u8>(), 0..200), count in 0..300_usize, slots in 1..200_usize,
        ) {
            if let Ok(owners) = read(&bytes, count, slots) {
                prop_assert_eq!(owners.len(), slots);
                prop_assert!(owners.iter().all(|owner| usize::from(*owner) < count));
            }
        }
    }

    #[test]
    fn a_large_table_takes_little_room() {
        let table = |count: u16, slots: u32| {
            (0..slots)
                .map(|i| (i % u32::from(count)) as u16)
                .collect::<Vec<_>>()
        };
        assert_eq!(write(&table(1000, 65_536), 1000).len(), 81_920);
        assert_eq!(write(&table(100, 16_384), 100).len(), 14_336);
    }
}
