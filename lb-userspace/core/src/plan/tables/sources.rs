//! Lists of clients that may use a service, as map `SOURCES` has them.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::abi::{AclKey, AclVerdict};

use super::target::wide;
use crate::desired::{Prefix, Source};

/// An entry of map `SOURCES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceEntry {
    /// How many bits of the key count, from its begin.
    pub bits: u32,
    /// List and address; bits that do not count are zero.
    pub key: AclKey,
    /// What becomes of packets of these clients.
    pub access: AclVerdict,
}

impl SourceEntry {
    fn new(prefix: Prefix, access: AclVerdict) -> Self {
        Self {
            bits: AclKey::LIST_BITS + u32::from(prefix.length()),
            key: AclKey::new(0, prefix.is_ipv6(), wide(prefix.address())),
            access,
        }
    }

    /// The entry for clients of a family that the list does not name.
    fn unnamed(v6: bool, access: AclVerdict) -> Self {
        Self {
            bits: AclKey::LIST_BITS,
            key: AclKey::new(0, v6, [0; 2]),
            access,
        }
    }

    /// This entry, in the list of that number.
    pub(in crate::plan) fn of_list(self, list: u32) -> Self {
        Self {
            key: self.key.of_list(list),
            ..self
        }
    }
}

/// The entries of a service's list, without the list's number: the shortest prefixes first. The list is empty if every
/// client may use the service.
pub(in crate::plan) fn entries(source: Option<&Source>) -> Arc<[SourceEntry]> {
    let Some(source) = source.filter(|source| !source.is_empty()) else {
        return Arc::from([]);
    };
    let unnamed = if source.allow.is_empty() {
        AclVerdict::Allowed
    } else {
        AclVerdict::Denied
    };
    let mut entries = BTreeMap::new();
    let mut add = |entry: SourceEntry| {
        entries.insert((entry.bits, entry.key), entry);
    };
    add(SourceEntry::unnamed(false, unnamed));
    add(SourceEntry::unnamed(true, unnamed));
    // A prefix of length 0 replaces the entry for clients that the list does not name.
    for (list, access) in [
        (&source.allow, AclVerdict::Allowed),
        (&source.deny, AclVerdict::Denied),
    ] {
        for prefix in list {
            add(SourceEntry::new(*prefix, access));
        }
    }
    entries.into_values().collect()
}
