//! Which services a change or an observation concerns.

use std::collections::BTreeSet;

use lb_core::desired::ServiceName;

/// The services that something concerns.
#[derive(Clone, Debug)]
pub(in crate::agent) enum Scope {
    /// All of them.
    All,
    /// These ones. Some of them may be gone.
    Of(BTreeSet<ServiceName>),
}

impl Scope {
    /// These services and `more` of them.
    pub(super) fn with(&self, more: &BTreeSet<ServiceName>) -> Self {
        match self {
            Self::All => Self::All,
            Self::Of(names) => Self::Of(names.union(more).cloned().collect()),
        }
    }
}
