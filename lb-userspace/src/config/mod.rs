//! The configuration file.
//!
//! Invariant: a [`Config`] is valid as a whole. A file with any error yields no `Config`, only a [`ConfigError`] that
//! names the line and the key, so that a bad file changes nothing.

mod checkpoint;
mod dataplane;
mod digest;
mod error;
mod locate;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, Deserializer};

pub use checkpoint::CheckpointConfig;
pub use dataplane::{DataplaneConfig, HashSeed};
pub use digest::Digest;
pub use error::ConfigError;

use crate::objects::Objects;
use lb_core::desired::{Invalid, Key, Service, Services};
use locate::Document;

/// What a configuration file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The services that are wanted.
    pub services: Services,
    /// How the dataplane is sized.
    pub dataplane: DataplaneConfig,
    /// How checkpoints are made and kept.
    pub checkpoint: CheckpointConfig,
}

/// A configuration file: what it says, and which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// What it says.
    pub config: Config,
    /// Of its content.
    pub digest: Digest,
    /// Whether everybody on this host can read keys of QUIC in it.
    pub exposes_keys: bool,
}

impl ConfigFile {
    /// What is wrong with a file of that name that everybody can read.
    pub fn warning(&self, path: &Path) -> Option<String> {
        self.exposes_keys.then(|| {
            format!(
                "{} holds keys of QUIC, and everybody on this host can read it: `chmod o-r {0}`",
                path.display()
            )
        })
    }
}

/// The file's own shape.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Root {
    #[serde(default)]
    dataplane: DataplaneConfig,
    #[serde(default)]
    checkpoint: CheckpointConfig,
    #[serde(default, rename = "service")]
    services: Vec<Service>,
}

impl Config {
    /// Largest file that is read, in bytes.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Why it cannot be read, or its first mistake with line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Ok(Self::load_file(path)?.config)
    }

    /// Reads the file at `path`, and takes its digest.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_file(path: &Path) -> Result<ConfigFile, ConfigError> {
        let (text, mode) = read(path).map_err(|message| ConfigError::file(path, message))?;
        let config = Self::parse(&text, path)?;
        Ok(ConfigFile {
            exposes_keys: mode & 0o004 != 0 && config.has_keys(),
            config,
            digest: Digest::of(text.as_bytes()),
        })
    }

    /// The configuration that `text` spells out; `path` only names it in errors.
    ///
    /// # Errors
    /// The first mistake with line and key.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let (table, syntax) = DeTable::parse_recoverable(text);
        let document = Document::new(text, table.get_ref());
        if let Some(error) = syntax.first() {
            return Err(ConfigError::from_toml(path, &document, error));
        }
        let root = Root::deserialize(Objects(Deserializer::from(table.clone())))
            .map_err(|error| ConfigError::from_toml(path, &document, &error.theirs()))?;
        Self::checked(root).map_err(|invalid| ConfigError::from_rule(path, &document, &invalid))
    }

    fn checked(root: Root) -> Result<Self, Invalid> {
        let Root {
            dataplane,
            checkpoint,
            services,
        } = root;
        dataplane.validate().map_err(|e| e.at(Key::Name("dataplane")))?;
        checkpoint.validate().map_err(|e| e.at(Key::Name("checkpoint")))?;
        for (i, service) in services.iter().enumerate() {
            let here = |e: Invalid| e.at(Key::Index(i)).at(Key::Name("service"));
            service.check_desired().map_err(here)?;
            service
                .check_sources(&dataplane.fullnat_addresses)
                .map_err(here)?;
        }
        let config = Self {
            services: Services::new(services)?,
            dataplane,
            checkpoint,
        };
        config.check_capacity()?;
        Ok(config)
    }

    fn check_capacity(&self) -> Result<(), Invalid> {
        let services = self.services.len();
        let targets: usize = self.services.iter().map(|service| service.backends.len()).sum();
        let DataplaneConfig {
            max_services,
            max_targets,
            ..
        } = self.dataplane;
        let (most_services, most_targets) =
            (*DataplaneConfig::SERVICES.end(), *DataplaneConfig::TARGETS.end());
        let used = [
            ("max_services", services, max_services, most_services, "services"),
            (
                "max_targets",
                targets,
                max_targets,
                most_targets,
                "backends of services",
            ),
        ];
        for (key, count, limit, most, what) in used {
            if u32::try_from(count).is_ok_and(|count| count <= limit) {
                continue;
            }
            let remedy = if u32::try_from(count).is_ok_and(|count| count <= most) {
                "raise it".to_owned()
            } else {
                format!("more than {most} are not possible")
            };
            let message =
                format!("the file has {count} {what}, but the dataplane is sized for {limit}: {remedy}");
            return Err(Invalid::new(message)
                .at(Key::Name(key))
                .at(Key::Name("dataplane")));
        }
        Ok(())
    }

    fn has_keys(&self) -> bool {
        let mut quic = self.services.iter().filter_map(|service| service.quic.as_ref());
        quic.any(|quic| quic.configs.iter().any(|config| config.key.is_some()))
    }

    /// The file that says this.
    ///
    /// # Errors
    /// Nothing that can be met: every value has a form in TOML.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let services = self
            .services
            .iter()
            .map(|service| Service::clone(service))
            .collect();
        toml::to_string(&Root {
            dataplane: self.dataplane.clone(),
            checkpoint: self.checkpoint.clone(),
            services,
        })
    }
}

/// The text of a regular file of bearable size and the file's mode, or what is wrong with it.
fn read(path: &Path) -> Result<(String, u32), String> {
    // Without O_NONBLOCK, opening a named pipe would hang the agent at a reload.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(|error| cannot_read(&error))?;
    let metadata = file.metadata().map_err(|error| cannot_read(&error))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() {
            "a directory"
        } else {
            "no regular file"
        };
        return Err(format!("this is {found}: expected a TOML file"));
    }
    let bytes = read_bytes(&file).map_err(|error| cannot_read(&error))?;
    if bytes.len() as u64 > Config::MAX_BYTES {
        return Err(format!(
            "the file has more than {} MiB, the most that is read",
            Config::MAX_BYTES >> 20
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        format!("line {line} has bytes that are no UTF-8: save the file as UTF-8")
    })?;
    Ok((text, metadata.mode()))
}

fn read_bytes(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(Config::MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn cannot_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file: check the path".into(),
        io::ErrorKind::PermissionDenied => "permission denied: this user may not read the file".into(),
        _ => format!("cannot read it: {error}"),
    }
}

#[cfg(test)]
mod tests;
