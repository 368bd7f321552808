//! Changes that operators make by the command line and the API: each says all by itself.

use super::DesiredState;
use crate::agent::queue::{Proposal, Queue, RequestError};
use lb_api::Applied;
use lb_core::desired::Change;

/// The command line and the API.
#[derive(Debug)]
pub(in crate::agent) struct LocalSource;

impl DesiredState for LocalSource {
    fn takes(&self, change: &Change) -> bool {
        !matches!(change, Change::Reload { .. })
    }

    async fn read(&self, change: Change) -> Result<Proposal, RequestError> {
        Ok(Proposal::Change(Box::new(change)))
    }

    async fn propose(
        &self,
        queue: &Queue,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Applied, RequestError> {
        queue.write(Proposal::Change(Box::new(change)), expected).await
    }

    async fn watch(&self, _: &Queue) -> std::io::Result<()> {
        // Nothing changes here unless an operator says so.
        Ok(())
    }
}
