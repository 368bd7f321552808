//! How the rest of the process talks to the agent: reads go into its queue, and changes to the source that takes them.

use std::sync::Arc;

use super::{queue::Queue, sources::Sources};
use lb_api::{
    Applied,
    checkpoint::{CheckpointsView, RestoredView, SavedView},
    plan::PlanView,
    view::{DrainsView, ExplainView, ServicesView, StatsView, StatusView, StopView},
};
use lb_core::desired::{Change, ServiceName};

pub use super::queue::{Command, RequestError};

/// A caller's end.
#[derive(Clone, Debug)]
pub struct AgentHandle {
    queue: Queue,
    sources: Arc<Sources>,
}

impl AgentHandle {
    /// Asks the agent at the other end of `queue`, and proposes changes to `sources`.
    pub fn new(queue: Queue, sources: Arc<Sources>) -> Self {
        Self { queue, sources }
    }

    /// The services with their counters, or only the one of that `name`.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn services(&self, name: Option<ServiceName>) -> Result<ServicesView, RequestError> {
        self.queue.ask(|reply| Command::Services { name, reply }).await
    }

    /// The state of the agent itself.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn status(&self) -> Result<StatusView, RequestError> {
        self.queue.ask(Command::Status).await
    }

    /// All counters.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn stats(&self) -> Result<StatsView, RequestError> {
        self.queue.ask(Command::Stats).await
    }

    /// The drains under way, and those that ended of late.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn drains(&self) -> Result<DrainsView, RequestError> {
        self.queue.ask(Command::Drains).await
    }

    /// Makes a change, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn write(&self, change: Change, expected: Option<u64>) -> Result<Applied, RequestError> {
        self.sources.propose(&self.queue, change, expected).await
    }

    /// Says what a change would do, unless the generation in force is not the `expected` one. Nothing is written.
    ///
    /// # Errors
    /// Why it would not be made.
    pub async fn plan(&self, change: Change, expected: Option<u64>) -> Result<PlanView, RequestError> {
        let proposal = self.sources.read(change).await?;
        self.queue
            .ask(|reply| Command::Plan {
                proposal,
                expected,
                reply,
            })
            .await?
    }

    /// Writes a checkpoint; it is on disk when the answer comes.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn save_checkpoint(&self) -> Result<SavedView, RequestError> {
        self.queue.ask(Command::SaveCheckpoint).await?
    }

    /// All checkpoints.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn checkpoints(&self) -> Result<CheckpointsView, RequestError> {
        self.queue.ask(Command::Checkpoints).await?
    }

    /// Makes the desired state what a checkpoint says, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn restore(&self, number: u64, expected: Option<u64>) -> Result<RestoredView, RequestError> {
        let checkpoint = self
            .queue
            .ask(|reply| Command::LoadCheckpoint { number, reply })
            .await??;
        self.queue
            .ask(|reply| Command::Restore {
                number,
                checkpoint,
                expected,
                reply,
            })
            .await?
    }

    /// Asks the dataplane what it would do with `frame`, sent to the interface's own MAC if `is_for_interface`, without a trace in its counters and tables.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn explain(
        &self,
        frame: Vec<u8>,
        is_for_interface: bool,
        interface: Option<String>,
    ) -> Result<ExplainView, RequestError> {
        self.queue
            .ask(|reply| Command::Explain {
                frame,
                is_for_interface,
                interface,
                reply,
            })
            .await?
    }

    /// Ends the agent; the answer comes when the dataplane is out of its hands.
    ///
    /// # Errors
    /// Why the dataplane could not be detached; the agent ends nevertheless.
    pub async fn stop(&self, detach: bool) -> Result<StopView, RequestError> {
        self.queue.ask(|reply| Command::Stop { detach, reply }).await?
    }
}
