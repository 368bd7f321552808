//! `lb drain` and `lb ready`: a whole host, or a zone, in all services at once.

use std::net::IpAddr;

use clap::Args;

use super::{
    WriteOptions, applied,
    output::{Failure, Output},
    wait::{Waited, wait},
};
use lb_api::{client::Client, plan::WriteRequest};
use lb_core::desired::{SelectBy, Selection, ServiceName, Span, Zone};

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
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let Self { select, how, write } = self;
        let selection = select.selection()?;
        let done = client
            .drain(&selection, how.deadline, write.if_generation)
            .await?;
        if !how.wait {
            return applied(done, json);
        }
        wait(client, done, &Waited::Selection(selection), json).await
    }

    /// What is to be written.
    pub(super) fn request(self) -> Result<(WriteRequest, WriteOptions), Failure> {
        let selection = self.select.selection()?;
        Ok((WriteRequest::drain(&selection, self.how.deadline), self.write))
    }

    /// Whether the end is to be waited for.
    pub(super) fn waits(&self) -> bool {
        self.how.wait
    }
}

impl ReadyArgs {
    /// What is to be written.
    pub(super) fn request(self) -> Result<(WriteRequest, WriteOptions), Failure> {
        let selection = self.select.selection()?;
        Ok((WriteRequest::ready(&selection), self.write))
    }

    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let selection = self.select.selection()?;
        applied(client.ready(&selection, self.write.if_generation).await?, json)
    }
}

impl Select {
    fn selection(self) -> Result<Selection, Failure> {
        let Self { host, zone, service } = self;
        let whom = match (host, zone) {
            (Some(host), None) => SelectBy::Host(host),
            (None, Some(zone)) => SelectBy::Zone(zone),
            _ => return Err(Failure::BadInput("name either a host or a --zone".into())),
        };
        Ok(Selection { whom, service })
    }
}
