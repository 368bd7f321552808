//! How the rest of the process talks to the agent: a bounded queue of commands, each with a place for its answer.
//!
//! Invariant: the agent alone owns the desired state; every read and write passes through this queue, one at a time, so two
//! writers can never overwrite each other unseen.

use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Checkpoint;
use lb_api::{
    Applied,
    checkpoint::{CheckpointsView, RestoredView, SavedView},
    plan::PlanView,
    view::{DrainsView, ExplainView, ServicesView, StatsView, StatusView, StopView},
};
use lb_core::desired::{Change, ChangeError, ServiceName};

/// Why the agent did not do what it was asked; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The change names what is not there, or breaks a rule.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The writer had seen another generation than the present one.
    #[error(
        "generation {expected} was expected, but it is {actual} by now: somebody else made a change; look at the \
         present state and try again"
    )]
    Conflict {
        /// What the writer had seen.
        expected: u64,
        /// What is in force.
        actual: u64,
    },
    /// The configuration file was refused; the text names file, line and key.
    #[error("{0}")]
    Config(String),
    /// The kernel refused.
    #[error("{0}")]
    Dataplane(String),
    /// The dataplane was sized for less.
    #[error("{0}")]
    Capacity(String),
    /// The configuration file would take away what nobody takes away in passing.
    #[error("{0}")]
    Drastic(String),
    /// The request itself makes no sense to the agent, such as an interface it does not serve.
    #[error("{0}")]
    Refused(String),
    /// There is no checkpoint of that number.
    #[error("there is no checkpoint {0}: `lb checkpoint list` shows them")]
    NoCheckpoint(u64),
    /// The disk refused.
    #[error("{0}")]
    NotSaved(String),
    /// The agent is on its way out.
    #[error("the agent is stopping")]
    Stopping,
}

/// What the agent may be asked. A dropped receiver of the answer does not undo the command.
#[derive(Debug)]
pub enum Command {
    /// The services with their counters.
    Services {
        /// Only the service of that name, if there is one.
        name: Option<ServiceName>,
        /// Where the answer goes.
        reply: oneshot::Sender<ServicesView>,
    },
    /// The state of the agent itself.
    Status(oneshot::Sender<StatusView>),
    /// All counters.
    Stats(oneshot::Sender<StatsView>),
    /// The drains under way, and those that ended of late.
    Drains(oneshot::Sender<DrainsView>),
    /// Make a change.
    Write {
        /// The change.
        change: Change,
        /// Refuse with [`RequestError::Conflict`] unless this is the generation in force.
        expected: Option<u64>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Applied, RequestError>>,
    },
    /// What would a change do?
    Plan {
        /// The change.
        change: Change,
        /// Refuse with [`RequestError::Conflict`] unless this is the generation in force.
        expected: Option<u64>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<PlanView, RequestError>>,
    },
    /// Write a checkpoint now.
    SaveCheckpoint(oneshot::Sender<Result<SavedView, RequestError>>),
    /// All checkpoints.
    Checkpoints(oneshot::Sender<Result<CheckpointsView, RequestError>>),
    /// Read one checkpoint.
    LoadCheckpoint {
        /// Which.
        number: u64,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Box<Checkpoint>, RequestError>>,
    },
    /// Make the desired state what a checkpoint says.
    Restore {
        /// Which that is.
        number: u64,
        /// What it says.
        checkpoint: Box<Checkpoint>,
        /// Refuse with [`RequestError::Conflict`] unless this is the generation in force.
        expected: Option<u64>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<RestoredView, RequestError>>,
    },
    /// What would the dataplane do with this frame?
    Explain {
        /// An Ethernet frame without its checksum.
        frame: Vec<u8>,
        /// Whether it is sent to the interface's own MAC, whatever it says.
        is_for_interface: bool,
        /// The interface it would arrive on; the first one where absent.
        interface: Option<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ExplainView, RequestError>>,
    },
    /// End the agent.
    Stop {
        /// Whether the dataplane is to end, too.
        detach: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<StopView, RequestError>>,
    },
}

/// A caller's end of the queue.
#[derive(Clone, Debug)]
pub struct AgentHandle(mpsc::Sender<Command>);

impl AgentHandle {
    /// Most commands that wait in the queue; further callers wait before it.
    pub const QUEUE: usize = 256;

    /// Both ends of a new queue.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(Self::QUEUE);
        (Self(sender), receiver)
    }

    /// The services with their counters, or only the one of that `name`.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn services(&self, name: Option<ServiceName>) -> Result<ServicesView, RequestError> {
        self.ask(|reply| Command::Services { name, reply }).await
    }

    /// The state of the agent itself.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn status(&self) -> Result<StatusView, RequestError> {
        self.ask(Command::Status).await
    }

    /// All counters.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn stats(&self) -> Result<StatsView, RequestError> {
        self.ask(Command::Stats).await
    }

    /// The drains under way, and those that ended of late.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn drains(&self) -> Result<DrainsView, RequestError> {
        self.ask(Command::Drains).await
    }

    /// Makes a change, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn write(&self, change: Change, expected: Option<u64>) -> Result<Applied, RequestError> {
        self.ask(|reply| Command::Write {
            change,
            expected,
            reply,
        })
        .await?
    }

    /// Says what a change would do, unless the generation in force is not the `expected` one. Nothing is written.
    ///
    /// # Errors
    /// Why it would not be made.
    pub async fn plan(&self, change: Change, expected: Option<u64>) -> Result<PlanView, RequestError> {
        self.ask(|reply| Command::Plan {
            change,
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
        self.ask(Command::SaveCheckpoint).await?
    }

    /// All checkpoints.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub async fn checkpoints(&self) -> Result<CheckpointsView, RequestError> {
        self.ask(Command::Checkpoints).await?
    }

    /// Makes the desired state what a checkpoint says, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn restore(&self, number: u64, expected: Option<u64>) -> Result<RestoredView, RequestError> {
        let checkpoint = self
            .ask(|reply| Command::LoadCheckpoint { number, reply })
            .await??;
        self.ask(|reply| Command::Restore {
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
        self.ask(|reply| Command::Explain {
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
        self.ask(|reply| Command::Stop { detach, reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(command(reply))
            .await
            .map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)
    }
}
