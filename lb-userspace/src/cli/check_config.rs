//! `lb check-config`: is a configuration file good?

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Failure, Output};
use crate::config::{Config, ConfigError, ConfigFile};

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  lb check-config /etc/lb/lb.toml && systemctl reload lb")]
pub(super) struct CheckConfigArgs {
    /// The file.
    file: PathBuf,
}

impl CheckConfigArgs {
    pub(super) fn execute(&self, json: bool) -> Result<Output, Failure> {
        match Config::load_file(&self.file) {
            Ok(file) => self.good(&file, json),
            Err(error) if json => Err(Failure::Shown(described(&error)?)),
            Err(error) => Err(Failure::BadInput(error.to_string())),
        }
    }

    fn good(&self, loaded: &ConfigFile, json: bool) -> Result<Output, Failure> {
        let config = &loaded.config;
        let warnings: Vec<String> = loaded.warning(&self.file).into_iter().collect();
        let services = config.services.len();
        let backends: usize = config.services.iter().map(|service| service.backends.len()).sum();
        let file = self.file.display();
        let value = json!({
            "file": file.to_string(), "valid": true, "services": services, "backends": backends, "warnings": warnings,
        });
        Output::either(json, &value, || {
            let mut lines = vec![format!(
                "{file}: good; services: {services}, backends: {backends}"
            )];
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            lines.join("\n")
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
