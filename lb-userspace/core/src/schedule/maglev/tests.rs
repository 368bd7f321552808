//! `maglev` is fair at the sizes that services have, and its tables stay what they are.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::desired::Scheduler;
use crate::schedule::table_size;
use crate::schedule::tests::{check_shares, checksum, counts, members, next};

#[test]
fn one_to_ten_gives_one_to_ten() {
    let members = members(&[1, 10]);
    let counts = counts(&next(Scheduler::Maglev, None, &members, table_size([1, 10])).unwrap());
    let ratio = f64::from(counts[&members[1].id]) / f64::from(counts[&members[0].id]);
    assert!((9.9..10.1).contains(&ratio), "{counts:?}");
}

proptest! {
    #[test]
    fn every_member_is_within_one_slot_of_its_share(weights in vec(0..=1000_u16, 1..200)) {
        let members = members(&weights);
        if let Some(table) = next(Scheduler::Maglev, None, &members, table_size(weights)) {
            check_shares(&table, &members)?;
        }
    }
}

/// Tables must not differ between releases or machines.
#[test]
fn tables_are_what_they_have_always_been() {
    let weights: Vec<u16> = (0..100).map(|n| n % 7).collect();
    let table = maglev(&members(&weights), 16_384).unwrap();
    assert_eq!(checksum(&table), 0xa647_e182_3765_85a4, "{:#x}", checksum(&table));
}
