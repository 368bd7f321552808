//! Lists of clients that may use a service, as map `SOURCES` has them.

use std::sync::Arc;

use lb_common::abi::{Access, SourceKey};

use super::target::wide;
use crate::model::{Prefix, Source};

/// An entry of map `SOURCES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceEntry {
    /// How many bits of the key count.
    pub bits: u32,
    /// List and address; bits that do not count are zero.
    pub key: SourceKey,
    /// An [`Access`] as a number.
    pub access: u32,
}

impl SourceEntry {
    fn new(prefix: Prefix, access: Access) -> Self {
        let v6 = prefix.is_ipv6();
        let in_front = if v6 { 0 } else { SourceKey::MAPPED_BITS };
        Self {
            bits: SourceKey::LIST_BITS + in_front + u32::from(prefix.length()),
            key: SourceKey::new(0, v6, wide(prefix.address())),
            access: access as u32,
        }
    }

    /// What clients meet that the list does not name.
    fn unnamed(access: Access) -> Self {
        Self {
            bits: SourceKey::LIST_BITS,
            key: SourceKey::default(),
            access: access as u32,
        }
    }

    /// The same entry of another list.
    pub(super) fn of_list(mut self, list: u32) -> Self {
        self.key.list = list;
        self
    }

    /// Whether it speaks of that client.
    pub(super) fn holds(&self, client: &SourceKey) -> bool {
        let words = |key: &SourceKey| {
            let [a, b, c, d] = key.address;
            [key.list, a, b, c, d].map(u32::from_be)
        };
        let counts = |i: usize| self.bits.saturating_sub(32 * i as u32).min(32);
        let mask = |i: usize| u32::MAX.checked_shl(32 - counts(i)).unwrap_or(0);
        words(&self.key)
            .iter()
            .zip(words(client))
            .enumerate()
            .all(|(i, (ours, theirs))| (ours ^ theirs) & mask(i) == 0)
    }
}

/// A list without a number, in order; empty if everybody may use the service.
pub(super) fn entries(source: Option<&Source>) -> Arc<[SourceEntry]> {
    let Some(source) = source.filter(|source| !source.is_empty()) else {
        return Arc::from([]);
    };
    let unnamed = if source.allow.is_empty() {
        Access::Allowed
    } else {
        Access::Denied
    };
    let named = |list: &[Prefix], access| {
        let entries = list.iter().map(|prefix| SourceEntry::new(*prefix, access));
        entries.collect::<Vec<_>>()
    };
    let mut entries = vec![SourceEntry::unnamed(unnamed)];
    entries.extend(named(&source.allow, Access::Allowed));
    entries.extend(named(&source.deny, Access::Denied));
    entries.sort_unstable();
    entries.into()
}
