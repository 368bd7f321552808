//! `lb checkpoint`: the files that the agent goes on from after a restart.
//!
//! Invariant: `verify` needs no agent and changes nothing.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    output::{Failure, Output},
    write::unless_saved,
    write_options::WriteOptions,
};
use crate::agent::STATE_DIR;
use crate::checkpoint::{self, Checkpoint, Unusable};
use lb_api::{
    checkpoint::{CheckpointView, CheckpointsView, ContentView, RestoredView, SavedView},
    client::Client,
};

#[derive(Subcommand, Debug)]
pub(super) enum CheckpointVerb {
    /// List the checkpoints, the newest first, and whether they are good.
    List,
    /// Write a checkpoint now; it is on disk when this returns.
    Save,
    /// Make the services what they were in a checkpoint, as a change with a new generation.
    #[command(after_help = "Examples:
  lb checkpoint list
  lb checkpoint restore 42")]
    Restore {
        /// Its number, as `lb checkpoint list` shows it.
        #[arg(value_name = "N")]
        number: u64,
        #[command(flatten)]
        write: WriteOptions,
    },
    /// Check checkpoints: whole, undamaged, and their services good; needs no agent and changes nothing.
    #[command(
        after_help = "Exit code 1 when one is bad; those that an agent has set aside are only listed.

Examples:
  lb checkpoint verify
  lb checkpoint verify /var/lib/lb/checkpoints/0000000042.checkpoint"
    )]
    Verify(VerifyArgs),
}

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// A file, or `all` of the state directory.
    #[arg(value_name = "FILE|all", default_value = ALL)]
    what: PathBuf,
    /// The agent's state directory.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

const ALL: &str = "all";

impl CheckpointVerb {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        match self {
            Self::List => {
                let view = client.checkpoints().await?;
                Output::either(json, &view, || listing(&view))
            }
            Self::Save => {
                let view = client.save_checkpoint().await?;
                Output::either(json, &view, || saved(&view))
            }
            Self::Restore { number, write } => {
                let view = client.restore(number, write.if_generation).await?;
                Output::either(json, &view, || restored(&view))
            }
            Self::Verify(VerifyArgs { what, state_dir }) if what == Path::new(ALL) => {
                verify_all(&state_dir, json)
            }
            Self::Verify(VerifyArgs { what, .. }) => verify_one(what, json),
        }
    }
}

fn saved(view: &SavedView) -> String {
    let SavedView {
        number,
        generation,
        bytes,
        written: _,
    } = view;
    format!(
        "saved: checkpoint {number}, generation {generation}, {}",
        size(*bytes)
    )
}

fn restored(view: &RestoredView) -> String {
    let RestoredView {
        number,
        generation,
        apply_us,
        saved,
        left_out,
    } = view;
    let unsaved = unless_saved(*saved);
    let mut text =
        format!("restored checkpoint {number}: generation {generation}, applied in {apply_us} µs{unsaved}");
    for what in left_out {
        let _ = write!(text, "\nnot restored: {what}");
    }
    text
}

fn listing(view: &CheckpointsView) -> String {
    let CheckpointsView {
        directory,
        checkpoints,
    } = view;
    if checkpoints.is_empty() {
        return format!("no checkpoints in {}", directory.display());
    }
    let mut text = format!(
        "{:>10}  {:<20}  {:>10}  {:>8}  {:>8}  {:>9}  {:>9}  state\n",
        "number", "written", "generation", "services", "backends", "flows", "size"
    );
    for one in checkpoints {
        let cells = one.content.as_ref().map_or_else(
            || ["-"; 5].map(str::to_owned),
            |content| {
                let ContentView {
                    written,
                    generation,
                    services,
                    backends,
                    flows,
                    lb_version: _,
                } = content;
                let flows = flows.map_or_else(|| "-".to_owned(), |flows| flows.to_string());
                let numbers = [generation, services, backends].map(u64::to_string);
                let [generation, services, backends] = numbers;
                [time(*written), generation, services, backends, flows]
            },
        );
        let [written, generation, services, backends, flows] = cells;
        let _ = writeln!(
            text,
            "{:>10}  {written:<20}  {generation:>10}  {services:>8}  {backends:>8}  {flows:>9}  {:>9}  {}",
            one.number,
            size(one.bytes),
            state(one)
        );
    }
    text
}

fn state(one: &CheckpointView) -> String {
    let aside = if one.set_aside { "set aside, " } else { "" };
    match &one.error {
        None => format!("{aside}good"),
        Some(error) => format!("{aside}bad: {error}"),
    }
}

fn verify_all(state_dir: &Path, json: bool) -> Result<Output, Failure> {
    let mut listed = checkpoint::list(state_dir).map_err(|error| {
        Failure::Refused(format!(
            "{}: {error}: name the agent's state directory with --state-dir",
            checkpoint::directory(state_dir).display()
        ))
    })?;
    for one in &mut listed {
        let read = std::mem::replace(&mut one.content, Err(Unusable::Empty));
        one.content = with_good_tables(read);
    }
    let view = checkpoint::checkpoints_view(state_dir, &listed);
    let none_good = view.checkpoints.iter().all(|one| one.error.is_some());
    let some_bad = view
        .checkpoints
        .iter()
        .any(|one| one.error.is_some() && !one.set_aside);
    let output = Output::either(json, &view, || listing(&view))?;
    if none_good || some_bad {
        return Err(bad(output));
    }
    Ok(output)
}

/// What `verify` says about one file.
#[derive(Serialize)]
struct Verified {
    file: PathBuf,
    valid: bool,
    error: Option<String>,
    content: Option<ContentView>,
}

fn verify_one(file: PathBuf, json: bool) -> Result<Output, Failure> {
    let read = with_good_tables(checkpoint::read(&file));
    let verified = Verified {
        valid: read.is_ok(),
        error: read.as_ref().err().map(ToString::to_string),
        content: read.as_ref().ok().map(checkpoint::content_view),
        file,
    };
    let output = Output::either(json, &verified, || {
        let file = verified.file.display();
        match (&verified.error, &verified.content) {
            (None, Some(content)) => format!(
                "{file}: good; written {} by lb {}, generation {}, services: {}, backends: {}",
                time(content.written),
                content.lb_version,
                content.generation,
                content.services,
                content.backends
            ),
            (error, _) => format!("{file}: {}", error.as_deref().unwrap_or_default()),
        }
    })?;
    if verified.valid {
        Ok(output)
    } else {
        Err(bad(output))
    }
}

/// The checkpoint that was read, if its tables could be made again.
fn with_good_tables(read: Result<Checkpoint, Unusable>) -> Result<Checkpoint, Unusable> {
    let read = read?;
    match read.state.check_tables() {
        Ok(()) => Ok(read),
        Err(error) => Err(Unusable::Content(error.to_string())),
    }
}

/// The output says what is wrong.
fn bad(output: Output) -> Failure {
    Failure::Ended {
        code: 1,
        output,
        message: "not all is good".to_owned(),
    }
}

/// Seconds since 1970 as a date.
pub(super) fn time(seconds: f64) -> String {
    let at = Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since))
        .unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Bytes in a fitting unit.
#[expect(
    clippy::cast_precision_loss,
    reason = "the figure is rounded to a tenth when it is shown"
)]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..0x400 => format!("{bytes} B"),
        0x400..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
