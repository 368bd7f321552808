//! `lb drain` and `lb ready`: a whole host, or a zone, in all services at once.

use std::net::IpAddr;

use clap::Args;

use super::write_options::WriteOptions;
use lb_core::desired::{Change, Selection, ServiceName, Span, Zone};

#[derive(Args, Debug)]
#[command(after_help = "\
Backends that are in maintenance or leaving already stay as they are.

Examples:
  lb drain 10.0.0.7
  lb drain --zone rack-2 --deadline 30m --wait
  lb drain 10.0.0.7 --service web")]
pub(super) struct DrainArgs {
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    how: DrainOptions,
    #[command(flatten)]
    write: WriteOptions,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Backends that drain or are in maintenance become ready; those that are leaving go on leaving.

Examples:
  lb ready 10.0.0.7
  lb ready --zone rack-2")]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    select: Select,
    #[command(flatten)]
    write: WriteOptions,
}

#[derive(Args, Debug)]
struct Select {
    /// The host: all backends with this address.
    #[arg(
        required_unless_present = "zone",
        conflicts_with = "zone",
        value_name = "ADDR"
    )]
    host: Option<IpAddr>,
    /// All backends of this zone.
    #[arg(long)]
    zone: Option<Zone>,
    /// Only those of this service.
    #[arg(long)]
    service: Option<ServiceName>,
}

/// What every drain takes.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct DrainOptions {
    /// When the drain ends at the latest, flows left or not, from 1s to 1d after its start; by default the service's
    /// drain deadline.
    #[arg(long, value_name = "TIME")]
    pub(super) deadline: Option<Span>,
    /// Wait for the end and show the progress; Ctrl-C ends the waiting, not the drain.
    #[arg(long)]
    pub(super) wait: bool,
}

impl DrainArgs {
    /// What was typed, as the agent takes it.
    pub(super) fn change(self) -> (Change, WriteOptions) {
        let Self { select, how, write } = self;
        let selection = Selection {
            deadline: how.deadline,
            ..select.selection()
        };
        (Change::Drain(selection), write)
    }

    /// Whether the end is to be waited for.
    pub(super) fn waits(&self) -> bool {
        self.how.wait
    }
}

impl ReadyArgs {
    /// What was typed, as the agent takes it.
    pub(super) fn change(self) -> (Change, WriteOptions) {
        let Self { select, write } = self;
        (Change::Ready(select.selection()), write)
    }
}

impl Select {
    fn selection(self) -> Selection {
        let Self { host, zone, service } = self;
        Selection {
            host,
            zone,
            service,
            deadline: None,
        }
    }
}
