//! Changes that operators make by the command line and the API: each says all by itself.

use std::{io, path::Path};

use super::DesiredState;
use crate::agent::queue::{Proposal, Queue, RequestError};
use lb_core::desired::Change;

/// The command line and the API.
#[derive(Debug)]
pub(super) struct LocalSource;

impl DesiredState for LocalSource {
    fn new(_: Option<&Path>) -> io::Result<Self> {
        Ok(Self)
    }

    fn takes(&self, change: &Change) -> bool {
        !matches!(change, Change::Reload { .. })
    }

    async fn read(&self, change: Change) -> Result<Proposal, RequestError> {
        Ok(Proposal::Change(Box::new(change)))
    }

    async fn watch(&self, _: &Queue) -> io::Result<()> {
        // Nothing changes here unless an operator says so.
        Ok(())
    }
}
