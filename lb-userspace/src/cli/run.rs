//! `lb run`: the agent, in the foreground.

use super::output::{Failure, Output};
use crate::agent::Options;
use crate::config::ConfigError;

pub(super) async fn run(options: Options, json: bool) -> Result<Output, Failure> {
    if json {
        return Err(Failure::BadInput(
            "`lb run` prints a log, no JSON: leave --json out".into(),
        ));
    }
    for (i, interface) in options.interfaces.iter().enumerate() {
        if options.interfaces[..i].contains(interface) {
            return Err(Failure::BadInput(format!(
                "--iface names {interface} twice: name each interface once"
            )));
        }
    }
    super::log_to_stderr("info");
    crate::agent::run(options)
        .await
        .map_err(|error| match error.downcast::<ConfigError>() {
            Ok(bad_file) => Failure::BadInput(bad_file.to_string()),
            Err(error) => Failure::Refused(format!("{error:#}")),
        })?;
    Ok(Output::nothing())
}
