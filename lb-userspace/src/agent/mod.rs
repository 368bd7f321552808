//! The long-running process that owns the wish and the dataplane.

mod handle;

pub use handle::{AgentHandle, Applied, Command, RequestError};
