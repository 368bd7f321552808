//! Whether a client may use the service.

use crate::abi::{AclKey, AclVerdict, Reason};

use super::{super::Tables, Scratch, StepResult};

/// Asks the service's source list, if it has one.
#[inline(always)]
pub(super) fn acl<T: Tables>(tables: &T, seen: &mut Scratch) -> StepResult {
    let list = tables
        .options(seen.service.number())
        .map_or(0, |options| options.source_list);
    if list == 0 {
        return Ok(());
    }
    let client = AclKey::new(list, seen.v6 != 0, seen.source);
    // Every list answers about everybody: where one does not, it is not there, and nobody is let in.
    if tables.access(&client) == AclVerdict::Allowed as u32 {
        Ok(())
    } else {
        Err(Reason::Denied)
    }
}
