//! The agent's queue: what it may be asked, each with a place for the answer.
//!
//! Invariant: the agent alone owns the desired state; every read and write passes through this queue, one at a time, so two
//! writers can never overwrite each other unseen.

use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Checkpoint;
use crate::config::ConfigFile;
use lb_api::{
    Applied,
    checkpoint::{CheckpointsView, RestoredView, SavedView},
    plan::PlanView,
    view::{DrainsView, ExplainView, ServicesView, StatsView, StatusView, StopView},
};
use lb_core::desired::{Change, ChangeError, Removal, ServiceName};

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
        /// The change, and where it comes from.
        proposal: Proposal,
        /// Refuse with [`RequestError::Conflict`] unless this is the generation in force.
        expected: Option<u64>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Applied, RequestError>>,
    },
    /// What would a change do?
    Plan {
        /// The change, and where it comes from.
        proposal: Proposal,
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

/// A change as a source of desired state proposes it.
#[derive(Debug)]
pub enum Proposal {
    /// A change that says all by itself.
    Change(Box<Change>),
    /// Everything becomes what a configuration file says.
    File(Box<ProposedFile>),
}

/// A configuration file that was read.
#[derive(Debug)]
pub struct ProposedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says.
    pub file: ConfigFile,
    /// What becomes of backends that it no longer has.
    pub removal: Removal,
    /// Whether it is obeyed even if it takes away so much that it looks like a mistake.
    pub force: bool,
}

impl Proposal {
    /// What it comes to.
    pub fn into_change(self) -> Change {
        match self {
            Self::Change(change) => *change,
            Self::File(read) => Change::ReplaceAll(read.file.config.services, read.removal),
        }
    }
}

/// The caller's end of the queue.
#[derive(Clone, Debug)]
pub struct Queue(mpsc::Sender<Command>);

impl Queue {
    /// Most commands that wait in the queue; further callers wait before it.
    const LENGTH: usize = 256;

    /// Both ends of a new queue.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(Self::LENGTH);
        (Self(sender), receiver)
    }

    /// Makes a change, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn write(&self, proposal: Proposal, expected: Option<u64>) -> Result<Applied, RequestError> {
        self.ask(|reply| Command::Write {
            proposal,
            expected,
            reply,
        })
        .await?
    }

    /// Asks the agent, and waits for the answer.
    ///
    /// # Errors
    /// [`RequestError::Stopping`] when the agent is gone.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(command(reply))
            .await
            .map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)
    }
}
