//! The options that describe a check; one for each key of `[service.check]`.
//!
//! Invariant: they become a check by the same way as the keys of the file do.

use std::fmt::Display;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use serde_json::{Map, Value};

use super::output::Failure;
use lb_check::{Check, CheckKey, Kind};

/// How checks end their connections.
const CLOSES: [&str; 2] = ["fin", "reset"];

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Checks of the backends")]
pub(super) struct CheckArgs {
    /// How the backends are checked; without it, in a way that fits the service. The other options of checks go with
    /// it, and together they describe the check as a whole.
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    check: Option<String>,
    /// The port to check, where it is not the one of the backend.
    #[arg(long, value_name = "PORT", requires = "check")]
    check_port: Option<u16>,
    #[command(flatten)]
    of_kinds: KindArgs,
    /// How tcp and http checks end their connections: in order, as clients do, or by a reset; "fin" by default.
    #[arg(long, value_name = "HOW", value_parser = CLOSES, requires = "check")]
    check_close: Option<String>,
    /// The time from one check to the next, such as "500ms"; "2s" by default.
    #[arg(long, value_name = "TIME", requires = "check")]
    check_interval: Option<String>,
    /// The time from one check to the next while in doubt; a quarter of the interval by default.
    #[arg(long, value_name = "TIME", requires = "check")]
    check_fast_interval: Option<String>,
    /// How long a check may take; "1s" by default.
    #[arg(long, value_name = "TIME", requires = "check")]
    check_timeout: Option<String>,
    /// How many successes bring a backend up; 2 by default.
    #[arg(long, value_name = "N", requires = "check")]
    check_rise: Option<u8>,
    /// How many failures bring a backend down; 3 by default.
    #[arg(long, value_name = "N", requires = "check")]
    check_fall: Option<u8>,
}

/// The options of the kinds of checks, with their keys.
#[derive(Clone, Debug, Default)]
struct KindArgs(Map<String, Value>);

/// What `--check` may say.
fn kinds() -> PossibleValuesParser {
    Kind::ALL.iter().map(|info| info.word).into()
}

fn keys() -> impl Iterator<Item = &'static CheckKey> {
    Kind::ALL.iter().flat_map(|info| info.keys)
}

impl Args for KindArgs {
    fn augment_args(command: Command) -> Command {
        command.args(keys().map(|key| {
            Arg::new(key.option)
                .long(key.option)
                .value_name(key.value)
                .help(key.help)
                .requires("check")
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KindArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in keys() {
            if let Some(text) = matches.get_one::<String>(key.option) {
                self.0.insert(key.name.to_owned(), text.clone().into());
            }
        }
        Ok(())
    }
}

impl CheckArgs {
    /// The check that was described, if one was.
    pub(super) fn check(self) -> Result<Option<Check>, Failure> {
        let Some(kind) = self.check else { return Ok(None) };
        let mut table = self.of_kinds.0;
        let mut put = |key: &str, value: Option<Value>| value.map(|value| table.insert(key.into(), value));
        put("type", Some(kind.into()));
        put("port", self.check_port.map(Value::from));
        put("close", self.check_close.map(Value::from));
        put("interval", self.check_interval.map(Value::from));
        put("fast_interval", self.check_fast_interval.map(Value::from));
        put("timeout", self.check_timeout.map(Value::from));
        put("rise", self.check_rise.map(Value::from));
        put("fall", self.check_fall.map(Value::from));
        serde_json::from_value(table.into())
            .map(Some)
            .map_err(|error| bad_check(&error))
    }
}

fn bad_check(error: &impl Display) -> Failure {
    Failure::BadInput(format!("the check cannot be made: {error}"))
}
