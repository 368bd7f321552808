//! The configuration file, read beside the agent's other work.
//!
//! Invariant: what was read last is proposed last. One reading at a time reaches the agent's queue.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
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
pub(super) struct FileSource {
    path: Option<PathBuf>,
    /// Tells of each SIGHUP since the agent began, those before somebody watches among them.
    hangups: Mutex<Signal>,
    /// Held by who reads and proposes.
    turn: Mutex<()>,
}

impl DesiredState for FileSource {
    fn new(config: Option<&Path>) -> io::Result<Self> {
        Ok(Self {
            path: config.map(Path::to_owned),
            hangups: Mutex::new(signal(SignalKind::hangup())?),
            turn: Mutex::default(),
        })
    }

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

    async fn watch(&self, queue: &Queue) -> io::Result<()> {
        let mut hangups = self.hangups.lock().await;
        while hangups.recv().await.is_some() {
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
