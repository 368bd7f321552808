//! The command line: `lb run` is the agent, every other verb talks to it.
//!
//! Invariant: what is typed is parsed first, without a look at anything else; then checked; only then is the agent
//! asked. Exit codes: 0 done, 1 refused or failed, 2 bad usage or input, 3 no agent, 4 conflict, 5 a deadline.

mod backend;
mod backend_setup;
mod check;
mod check_config;
mod checkpoint;
mod decap;
mod decode;
mod drain;
mod explain;
mod list;
mod output;
mod plan;
mod run;
mod service;
mod stats;
mod status;
mod stop;
mod traffic;
mod wait;
mod words;
mod write;
mod write_options;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::agent;
use lb_api::client::Client;
use output::{Failure, Output};

/// Where the agent listens unless told otherwise.
const SOCKET: &str = "/run/lb/lb.sock";

const EXIT_CODES: &str = "\
Exit codes:
  0  Done.
  1  The agent refused, as things stand, or failed.
  2  Bad usage, bad input or a bad configuration file.
  3  No agent can be reached.
  4  Conflict: the generation has moved since --if-generation.
  5  With --wait: the deadline ended a drain.

Examples:
  lb run --iface eth0 --config /etc/lb/lb.toml
  lb service add web --vip 192.0.2.80 --protocol tcp --port 80 \\
      --forwarder ipip --backend 10.0.0.5,10.0.0.6
  lb backend drain web 10.0.0.5
  lb list";

/// lb balances TCP and UDP services over backends, packet by packet, in XDP.
#[derive(Parser, Debug)]
#[command(name = "lb", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The unix socket of the agent.
    #[arg(long, global = true, env = "LB_SOCKET", default_value = SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run the agent: attach to interfaces, check backends and serve the API until stopped.
    Run(agent::Options),
    #[command(flatten)]
    Write(write::WriteVerb),
    /// List services and their backends with states and rates, much like `ipvsadm -Ln`.
    #[command(visible_alias = "ls")]
    List(list::ListArgs),
    /// Show the state of the agent and its dataplane.
    Status,
    /// Show how many packets left the dataplane in which way, and the counters of each service.
    Stats,
    /// Show what a write would do: slots that would move, and flows that this concerns. Nothing is written.
    #[command(subcommand, after_help = plan::HELP)]
    Plan(write::WriteVerb),
    /// Check a configuration file; needs no agent and changes nothing.
    CheckConfig(check_config::CheckConfigArgs),
    /// List, save, restore and verify checkpoints: what the agent goes on from after a restart.
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointVerb),
    /// Ask what the dataplane would do with a packet; it leaves no trace in counters and tables.
    Explain(explain::ExplainArgs),
    /// Print or do what a backend host needs for a service's forwarder, and undo it.
    BackendSetup(backend_setup::BackendSetupArgs),
    /// Take the outer headers off that tunnels put on: on a backend, in XDP, without tunnel devices. Needs no agent.
    Decap(decap::DecapArgs),
    /// End the agent; the dataplane goes on without it unless told otherwise.
    Stop(stop::StopArgs),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  lb completions bash > /usr/share/bash-completion/completions/lb")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to complain about a help text.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(output::BAD_INPUT));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::finish(Err(Failure::Refused(format!("cannot start: {error}")))),
    };
    output::finish(runtime.block_on(execute(cli)))
}

/// Does what was asked; what is to be printed comes back.
async fn execute(Cli { socket, json, verb }: Cli) -> Result<Output, Failure> {
    let client = Client::new(&socket);
    match verb {
        Verb::Run(options) => run::run(agent::Options { socket, ..options }, json).await,
        Verb::Write(verb) => verb.execute(&client, json).await,
        Verb::List(args) => args.execute(&client, json).await,
        Verb::Status => status::execute(&client, json).await,
        Verb::Stats => stats::execute(&client, json).await,
        Verb::Plan(verb) => verb.plan(&client, json).await,
        Verb::CheckConfig(args) => args.execute(json),
        Verb::Checkpoint(verb) => verb.execute(&client, json).await,
        Verb::Explain(args) => args.execute(&client, json).await,
        Verb::BackendSetup(args) => args.execute(&client, json).await,
        Verb::Decap(args) => args.execute(json).await,
        Verb::Stop(args) => args.execute(&client, json).await,
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lb", &mut script);
            Ok(Output::bytes(script))
        }
    }
}

/// Begins to log, as `RUST_LOG` says or else from the level `usual` on.
fn log_to_stderr(usual: &str) {
    let mut logger = env_logger::Builder::new();
    // Of releases such as `7.3-amd64` aya cannot read the version, says so at each of its questions, and goes on well.
    logger.filter_module("aya::util", log::LevelFilter::Error);
    logger
        .parse_env(env_logger::Env::default().default_filter_or(usual))
        .init();
}

#[cfg(test)]
mod tests;
