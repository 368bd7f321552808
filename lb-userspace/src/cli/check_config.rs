//! `lb check-config`: is a configuration file good?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Failure, Output};
use crate::config::{Config, ConfigError};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  lb check-config /etc/lb/lb.toml && systemctl reload lb")]
pub(super) struct CheckConfigArgs {
    /// The file.
    file: PathBuf,
}

impl CheckConfigArgs {
    pub(super) fn execute(&self, json: bool) -> Result<Output, Failure> {
        match Config::load(&self.file) {
            Ok(config) => self.good(&config, json),
            Err(error) if json => Err(Failure::Shown(described(&error)?)),
            Err(error) => Err(Failure::BadInput(error.to_string())),
        }
    }

    fn good(&self, config: &Config, json: bool) -> Result<Output, Failure> {
        let services = config.services.len();
        let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
        let file = self.file.display();
        let value =
            json!({"file": file.to_string(), "valid": true, "services": services, "backends": backends});
        Output::either(json, &value, || {
            format!("{file}: good; services: {services}, backends: {backends}")
        })
    }
}

fn described(error: &ConfigError) -> Result<Output, Failure> {
    let ConfigError { file, place, message } = error;
    let (line, column, key) = match place {
        Some(place) => (Some(place.line), Some(place.column), Some(&place.key)),
        None => (None, None, None),
    };
    let error = json!({"line": line, "column": column, "key": key, "message": message});
    let value = json!({"file": file.display().to_string(), "valid": false, "error": error});
    Output::either(true, &value, String::new)
}
