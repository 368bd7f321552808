//! How far drains are.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::desired::{BackendId, ServiceName};

/// A drain as it outlives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainState {
    /// The service.
    pub service: ServiceName,
    /// Its backend that drains.
    pub backend: BackendId,
    /// When the drain began.
    pub since: SystemTime,
}
