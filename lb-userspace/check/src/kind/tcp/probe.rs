//! The TCP connect.

use super::TcpCheck;
use crate::probe::{Attempt, Miss, Probe};

impl Probe for TcpCheck {
    type Shared = ();

    async fn probe(&self, (): &(), attempt: &Attempt<'_>) -> Result<(), Miss> {
        let stream = attempt.connect().await?;
        attempt.end(stream);
        Ok(())
    }
}
