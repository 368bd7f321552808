//! `lb-demo`: real traffic through the real agent in a lab; one backend is killed and brought back meanwhile.
//!
//! What must hold: whatever ends the demo (its end, an error, a signal, a panic), all that it made is removed, because
//! every part of it is owned by a value on the stack of [`run`].

mod config;
mod interrupt;
mod screen;
mod stage;
mod tally;

use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use interrupt::Interrupt;
use lb_lab::{Forwarder, find_binary};
use screen::Screen;
use stage::Stage;
use tally::{Summary, Timeline};

/// How long each undisturbed part lasts.
const STEADY: Duration = Duration::from_secs(4);
/// How long the agent may take to see that a backend died or is back.
const CHANGE_LIMIT: Duration = Duration::from_secs(8);
/// The backend that is killed: the second of three.
const VICTIM: usize = 1;

/// Show lb at work: a lab of network namespaces, HTTP through XDP, a backend that dies and comes back.
#[derive(Debug, Parser)]
#[command(name = "lb-demo", version)]
pub struct Options {
    /// End with one line of JSON instead of a summary in words.
    #[arg(long)]
    json: bool,
    /// How packets reach the backends.
    #[arg(long, default_value = "ipip")]
    forwarder: Forwarder,
    /// The IP version of the traffic.
    #[arg(long, default_value = "4")]
    family: Family,
    /// The lb binary [default: what LB_BIN names, or the one beside this program].
    #[arg(long, value_name = "PATH")]
    lb: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Family {
    #[value(name = "4")]
    Ipv4,
    #[value(name = "6")]
    Ipv6,
}

impl Family {
    fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::Ipv4)
    }
}

/// Runs the demo from start to end.
///
/// Exit code 0: no request failed but while the dead backend was not detected yet; 1: others did; 128 + signal number:
/// interrupted.
///
/// # Errors
/// When the lab cannot be built, the agent does not run, or does not notice what happens to the backend.
pub fn run(options: &Options) -> Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let summary = match perform(options, &interrupt) {
        Ok(summary) => summary,
        Err(error) => {
            let code = interrupt.exit_code().ok_or(error)?;
            eprintln!("Interrupted; everything is cleaned up.");
            return Ok(code);
        }
    };
    if options.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{summary}");
    }
    Ok(if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The play itself. The stage is taken down before the summary is returned.
fn perform(options: &Options, interrupt: &Interrupt) -> Result<Summary> {
    let lb = match &options.lb {
        Some(path) => path.clone(),
        None => find_binary("lb", "LB_BIN")?,
    };
    let mut screen = Screen::new();
    screen.say("Building a lab of network namespaces: a client, the balancer, three backends.")?;
    let mut stage = Stage::build(options, lb, screen, interrupt)?;

    stage.announce("Steady: requests spread over three backends.", "steady")?;
    stage.watch(STEADY)?;

    let name = stage.backend_name(VICTIM).to_owned();
    let killed = stage.kill(VICTIM)?;
    stage.announce(
        &format!("{name} is killed with SIGKILL; the agent has not noticed yet."),
        "detecting",
    )?;
    let down = stage.watch_until(VICTIM, "down", CHANGE_LIMIT)?;
    let drained = down.seen;
    let apply_us = stage.last_apply_us()?;
    let detection_ms = drained.duration_since(killed).as_millis();
    stage.announce(
        &format!(
            "Noticed after {detection_ms} ms; {name} was taken out in {apply_us} µs and gets no more traffic."
        ),
        "drained",
    )?;
    stage.watch(STEADY)?;

    stage.revive(VICTIM)?;
    stage.announce(&format!("{name} is started again."), "returning")?;
    let rejoined = stage.watch_until(VICTIM, "up", CHANGE_LIMIT)?;
    stage.announce(
        &format!("{name} passed its checks and has its share again."),
        "steady",
    )?;
    stage.watch(STEADY)?;

    let timeline = Timeline {
        killed,
        drained,
        rejoined,
    };
    let mode = stage.mode()?;
    let backends = stage.backend_names();
    let records = stage.take_down().context("cannot take the lab down")?;
    Ok(Summary::new(
        mode,
        options.forwarder,
        &backends,
        &records,
        &timeline,
        apply_us,
    ))
}
