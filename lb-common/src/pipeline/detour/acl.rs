//! Whether a client may use the service.

use crate::abi::{AclKey, AclVerdict, Reason};

use super::{super::ServiceTables, Scratch, StepResult};

/// Asks the service's source list, if it has one.
#[inline(always)]
pub(super) fn acl<T: ServiceTables>(tables: &T, scratch: &mut Scratch) -> StepResult {
    let list = tables
        .options(scratch.service.number())
        .map_or(0, |options| options.source_list);
    if list == 0 {
        return Ok(());
    }
    let client = AclKey::new(list, scratch.v6 != 0, scratch.source);
    // Every list answers about everybody: where one does not, it is not there, and nobody is let in.
    if tables.access(&client) == Some(AclVerdict::Allowed) {
        Ok(())
    } else {
        Err(Reason::Denied)
    }
}
