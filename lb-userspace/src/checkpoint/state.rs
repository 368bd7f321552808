//! What a checkpoint holds.
//!
//! Invariant: the names in it are those of the desired state, so that it can be understood without the tables it was made of.
//! Fields are added with a default, never renamed or retyped: files of earlier versions stay readable.

use std::{
    path::PathBuf,
    time::{Instant, SystemTime},
};

use lb_common::abi::{FlowKey, FlowValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::clock::BootTime;
use crate::config::{Digest, HashSeed};
use lb_core::desired::{BackendId, Service, ServiceName, Services};
use lb_core::observed::DrainState;
use lb_core::plan::{Capacity, Layout, LayoutSnapshot, RestoreError};

/// All but the flow table: small, and written with every change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedState {
    /// The version of `lb` that wrote it.
    pub lb_version: String,
    /// When it was made.
    pub written: SystemTime,
    /// When it was made, by a clock that nobody sets; absent in files of earlier versions.
    #[serde(default)]
    pub clock: Option<BootTime>,
    /// The generation of the desired state.
    pub generation: u64,
    /// The seed of the flow hash: with another one all flows would have other slots.
    pub hash_seed: HashSeed,
    /// How the dataplane was sized.
    pub capacity: Capacity,
    /// The configuration file that the desired state began with; absent without one.
    #[serde(default)]
    pub config: Option<ConfigMark>,
    /// The desired state.
    #[serde(with = "services")]
    pub services: Services,
    /// What was believed of backends with a health check; those that nothing was known of are absent.
    #[serde(default)]
    pub health: Vec<BackendBelief>,
    /// Since when backends drain.
    #[serde(default)]
    pub drains: Vec<DrainState>,
    /// The tables by name: which backend owned which slots.
    #[serde(default)]
    pub tables: LayoutSnapshot,
}

impl SavedState {
    /// Checks what must hold between its parts; that the desired state is good was found when it was read.
    pub(super) fn check(&self) -> Result<(), String> {
        let health = self
            .health
            .iter()
            .map(|standing| (&standing.service, standing.backend));
        let drains = self.drains.iter().map(|drain| (&drain.service, drain.backend));
        for (service, backend) in health.chain(drains) {
            let known = self
                .services
                .get(service)
                .and_then(|service| service.backend(backend));
            if known.is_none() {
                return Err(format!(
                    "there is no backend {backend} of a service {service}, but it is named"
                ));
            }
        }
        Ok(())
    }
}

impl SavedState {
    /// Checks that the tables can be made again, and that their histories lead to them. A state whose tables cannot still has a desired state to go on from.
    ///
    /// # Errors
    /// What contradicts itself, or does not fit.
    pub fn check_tables(&self) -> Result<(), RestoreError> {
        let HashSeed(seed) = self.hash_seed;
        self.tables.check_histories()?;
        Layout::restore(self.capacity, seed, &self.tables, Instant::now()).map(drop)
    }
}

/// Tells whether a configuration file is the one that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMark {
    /// Where it lay.
    pub path: PathBuf,
    /// Its content.
    pub sha256: Digest,
}

/// What was believed of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendBelief {
    /// The service.
    pub service: ServiceName,
    /// Its backend.
    pub backend: BackendId,
    /// Whether its health check was good.
    pub up: bool,
}

/// The entries of the flow table that are in use. Their service numbers and owners mean what they meant to the state in
/// the same file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedFlows {
    /// The flow clock when they were read; their ages are counted from it.
    pub clock: u32,
    /// Keys and values.
    pub entries: Vec<(FlowKey, FlowValue)>,
}

/// Services as a list; what breaks a rule is no [`SavedState`].
mod services {
    use super::{Deserialize, Deserializer, Error, Serializer, Service, Services};

    pub(super) fn serialize<S: Serializer>(services: &Services, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(services.iter().map(AsRef::<Service>::as_ref))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Services, D::Error> {
        Services::new(Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
