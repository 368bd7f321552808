//! The configuration file, read beside the agent's other work.
//!
//! Invariant: what was read last is proposed last. One reading at a time reaches the agent's queue.

use std::path::PathBuf;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
    task::spawn_blocking,
};

use super::DesiredState;
use crate::agent::queue::{Proposal, ProposedFile, Queue, RequestError};
use crate::config::Config;
use lb_api::Applied;
use lb_core::desired::{Change, Removal};

/// The configuration file, if there is one.
#[derive(Debug)]
pub(in crate::agent) struct FileSource {
    path: Option<PathBuf>,
    /// Held by who reads and proposes.
    turn: Mutex<()>,
}

impl FileSource {
    /// The file at `path`.
    pub(in crate::agent) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            turn: Mutex::default(),
        }
    }
}

impl DesiredState for FileSource {
    fn takes(&self, change: &Change) -> bool {
        matches!(change, Change::Reload { .. })
    }

    async fn read(&self, change: Change) -> Result<Proposal, RequestError> {
        let Change::Reload { removal, force } = change else {
            return Ok(Proposal::Change(Box::new(change)));
        };
        let Some(path) = self.path.clone() else {
            return Err(RequestError::Config(
                "there is nothing to reload: lb runs without --config".to_owned(),
            ));
        };
        let read = spawn_blocking(move || {
            let file = Config::load_file(&path).map_err(|error| RequestError::Config(error.to_string()))?;
            if let Some(warning) = file.warning(&path) {
                log::warn!("{warning}");
            }
            Ok(Proposal::File(Box::new(ProposedFile {
                path,
                file,
                removal,
                force,
            })))
        });
        read.await
            .map_err(|panic| RequestError::Config(format!("reading the configuration file failed: {panic}")))?
    }

    async fn propose(
        &self,
        queue: &Queue,
        change: Change,
        expected: Option<u64>,
    ) -> Result<Applied, RequestError> {
        let _turn = self.turn.lock().await;
        queue.write(self.read(change).await?, expected).await
    }

    async fn watch(&self, queue: &Queue) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        while hangup.recv().await.is_some() {
            let reload = Change::Reload {
                removal: Removal::Drain,
                force: false,
            };
            match self.propose(queue, reload, None).await {
                Ok(applied) => log::info!("reloaded: generation {}", applied.generation),
                Err(RequestError::Stopping) => break,
                Err(error) => log::error!("not reloaded, nothing changed: {error}"),
            }
        }
        Ok(())
    }
}
