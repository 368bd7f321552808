//! What was changed on this host, on disk.
//!
//! Invariant: the file is whole at any time; when nothing is left to undo, there is none.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::SetupStep;

const FILE: &str = "backend-setup.json";

/// A step that was taken, and the way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupChange {
    /// The step.
    pub step: SetupStep,
    /// How it was before.
    pub undo: Undo,
}

/// The way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "kebab-case")]
pub enum Undo {
    /// Set a kernel setting.
    Sysctl {
        /// Below `/proc/sys`.
        key: String,
        /// What it was.
        value: String,
    },
    /// Remove an address from `lo`, or from a VRF device.
    RemoveAddress {
        /// The address.
        address: IpAddr,
        /// The VRF device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vrf: Option<String>,
    },
    /// Remove a route, and put back what it took the place of.
    Route {
        /// The route that was made, as a netlink message.
        made: Vec<u8>,
        /// The route that was there.
        before: Option<Vec<u8>>,
    },
    /// Set an interface's MTU.
    Mtu {
        /// The interface.
        interface: String,
        /// What it was.
        mtu: u32,
    },
    /// Run the step's command that undoes it.
    Command,
    /// Take `lb decap` off.
    Decap,
}

/// Everything that was changed and not undone.
#[derive(Debug)]
pub struct Done {
    path: PathBuf,
    changes: Vec<SetupChange>,
}

impl Done {
    /// What is written down in that directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let changes = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("{} is not of this version of lb", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(Self { path, changes })
    }

    /// Whether that step was taken.
    pub fn has(&self, step: &SetupStep) -> bool {
        self.changes.iter().any(|change| change.step == *step)
    }

    /// What was done to that step's `lb decap` before.
    pub(super) fn decap(&self, step: &SetupStep) -> Option<&SetupStep> {
        let mut steps = self.changes.iter().map(|change| &change.step);
        steps.find(|before| before.is_same_decap(step))
    }

    /// What was changed last.
    pub fn last(&self) -> Option<&SetupChange> {
        self.changes.last()
    }

    /// Adds a change, in the place of an earlier one to the same `lb decap`.
    pub(super) fn add(&mut self, change: SetupChange) -> Result<()> {
        let same = |before: &&mut SetupChange| before.step.is_same_decap(&change.step);
        match self.changes.iter_mut().find(same) {
            Some(before) => *before = change,
            None => self.changes.push(change),
        }
        self.save()
    }

    pub(super) fn remove_last(&mut self) -> Result<()> {
        self.changes.pop();
        self.save()
    }

    fn save(&self) -> Result<()> {
        let save = || -> Result<()> {
            let directory = self.path.parent().unwrap_or(Path::new("/"));
            if self.changes.is_empty() {
                fs::remove_file(&self.path)?;
            } else {
                let new = self.path.with_extension("new");
                fs::create_dir_all(directory)?;
                let mut file = File::create(&new)?;
                file.write_all(&serde_json::to_vec_pretty(&self.changes)?)?;
                // What was changed on the host lasts over a crash, and so does what undoes it.
                file.sync_all()?;
                fs::rename(&new, &self.path)?;
            }
            Ok(File::open(directory)?.sync_all()?)
        };
        save().with_context(|| format!("cannot write down what was changed in {}", self.path.display()))
    }
}
