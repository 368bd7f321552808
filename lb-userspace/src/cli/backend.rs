//! `lb backend`: backends are added, changed, drained and removed.

use clap::{Args, Subcommand};

use super::{
    Write, applied,
    drain::DrainOptions,
    output::{Failure, Output},
    wait::{self, Waited},
};
use crate::{
    agent::Applied,
    api::client::Client,
    model::{AdminState, Backend, BackendId, BackendPatch, Removal, ServiceName, Zone},
};

#[derive(Subcommand, Debug)]
pub(super) enum BackendVerb {
    /// Add a backend to a service; one that is leaving stays after all.
    #[command(after_help = "Examples:
  lb backend add web 10.0.0.7
  lb backend add app 10.0.0.7:8443 --weight 10 --zone rack-2")]
    Add {
        #[command(flatten)]
        which: Which,
        /// Its part of the new flows against the weights of the others, 0 to 65535.
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u16,
        /// A label that it shares with others, so that all of them can be drained together.
        #[arg(long)]
        zone: Option<Zone>,
    },
    /// Change the weight or the zone of a backend.
    #[command(after_help = "Examples:
  lb backend set web 10.0.0.7 --weight 5
  lb backend set web 10.0.0.7 --zone rack-2")]
    Set {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        parts: Parts,
    },
    /// Remove a backend from a service: it takes no new flows, and goes when its drain is over.
    #[command(after_help = "Examples:
  lb backend remove web 10.0.0.7
  lb backend remove web 10.0.0.7 --now")]
    Remove {
        #[command(flatten)]
        which: Which,
        /// Cut its flows, instead of draining it first.
        #[arg(long)]
        now: bool,
    },
    /// Send a backend no new flows; when the flows it has are over, it is in maintenance.
    #[command(after_help = "Examples:
  lb backend drain web 10.0.0.7
  lb backend drain web 10.0.0.7 --deadline 10m --wait")]
    Drain {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: DrainOptions,
    },
    /// Let a backend take traffic again, as soon as its check is good.
    #[command(after_help = "Example:\n  lb backend ready web 10.0.0.7")]
    Ready(Which),
    /// Take a backend out for maintenance at once: no traffic and no checks.
    #[command(after_help = "Example:\n  lb backend maint web 10.0.0.7")]
    Maint(Which),
}

#[derive(Args, Debug)]
pub(super) struct Which {
    /// The service.
    service: ServiceName,
    /// The backend: its address, and its port where that is not the service's.
    #[arg(value_name = "ADDR[:PORT]")]
    backend: BackendId,
    #[command(flatten)]
    write: Write,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(super) struct Parts {
    /// Its part of the new flows against the weights of the others, 0 to 65535.
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// A label that it shares with others, so that all of them can be drained together.
    #[arg(long)]
    zone: Option<Zone>,
    /// Take its zone from it.
    #[arg(long, conflicts_with = "zone")]
    no_zone: bool,
}

impl BackendVerb {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let done = match self {
            Self::Add { which, weight, zone } => {
                let backend = Backend {
                    weight,
                    zone,
                    ..Backend::new(which.backend)
                };
                let expected = which.write.if_generation;
                client.add_backend(&which.service, &backend, expected).await?
            }
            Self::Remove { which, now } => {
                let expected = which.write.if_generation;
                let removal = Removal::when(now);
                client
                    .remove_backend(&which.service, which.backend, removal, expected)
                    .await?
            }
            Self::Set { which, parts } => which.set(client, &parts.patch()).await?,
            Self::Drain { which, how } => return which.drain(client, how, json).await,
            Self::Ready(which) => which.set(client, &state(AdminState::Ready)).await?,
            Self::Maint(which) => which.set(client, &state(AdminState::Maint)).await?,
        };
        applied(done, json)
    }
}

impl Which {
    async fn drain(self, client: &Client, how: DrainOptions, json: bool) -> Result<Output, Failure> {
        let DrainOptions { deadline, wait } = how;
        let patch = BackendPatch {
            deadline,
            ..state(AdminState::Drain)
        };
        let done = self.set(client, &patch).await?;
        if !wait {
            return applied(done, json);
        }
        let Self { service, backend, .. } = self;
        // The agent leaves out a port that is the service's own.
        let port = client.service(&service).await?.port.exact();
        let port = backend.port.filter(|_| backend.port != port);
        let waited = Waited::One(service, BackendId { port, ..backend });
        wait::wait(client, done, &waited, json).await
    }

    async fn set(&self, client: &Client, patch: &BackendPatch) -> Result<Applied, Failure> {
        let expected = self.write.if_generation;
        Ok(client
            .set_backend(&self.service, self.backend, patch, expected)
            .await?)
    }
}

impl Parts {
    fn patch(self) -> BackendPatch {
        let Self {
            weight,
            zone,
            no_zone,
        } = self;
        BackendPatch {
            weight,
            zone: if no_zone { Some(None) } else { zone.map(Some) },
            ..BackendPatch::default()
        }
    }
}

fn state(state: AdminState) -> BackendPatch {
    BackendPatch {
        state: Some(state),
        ..BackendPatch::default()
    }
}
