//! `lb backend`: backends are added, changed, drained and removed.

use clap::{Args, Subcommand};

use super::{
    Write, applied,
    output::{Failure, Output},
};
use crate::{
    api::client::Client,
    model::{AdminState, Backend, BackendId, BackendPatch, ServiceName},
};

#[derive(Subcommand, Debug)]
pub(super) enum BackendVerb {
    /// Add a backend to a service.
    #[command(after_help = "Examples:
  lb backend add web 10.0.0.7
  lb backend add app 10.0.0.7:8443 --weight 10")]
    Add {
        #[command(flatten)]
        which: Which,
        /// Its part of the new flows against the weights of the others, 0 to 65535.
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u16,
    },
    /// Change the weight of a backend.
    #[command(after_help = "Example:\n  lb backend set web 10.0.0.7 --weight 5")]
    Set {
        #[command(flatten)]
        which: Which,
        /// Its part of the new flows against the weights of the others, 0 to 65535.
        #[arg(long, value_name = "N")]
        weight: u16,
    },
    /// Remove a backend from a service.
    #[command(after_help = "Example:\n  lb backend remove web 10.0.0.7")]
    Remove(Which),
    /// Send a backend no new flows.
    #[command(after_help = "Example:\n  lb backend drain web 10.0.0.7")]
    Drain(Which),
    /// Let a backend take traffic again, as soon as its check is good.
    #[command(after_help = "Example:\n  lb backend ready web 10.0.0.7")]
    Ready(Which),
    /// Take a backend out for maintenance: no traffic and no checks.
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

impl BackendVerb {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let state = |state| BackendPatch {
            state: Some(state),
            weight: None,
        };
        let (which, patch) = match self {
            Self::Add {
                which:
                    Which {
                        service,
                        backend,
                        write,
                    },
                weight,
            } => {
                let backend = Backend {
                    weight,
                    ..Backend::new(backend)
                };
                return applied(
                    client
                        .add_backend(&service, &backend, write.if_generation)
                        .await?,
                    json,
                );
            }
            Self::Remove(Which {
                service,
                backend,
                write,
            }) => {
                return applied(
                    client
                        .remove_backend(&service, backend, write.if_generation)
                        .await?,
                    json,
                );
            }
            Self::Set { which, weight } => (
                which,
                BackendPatch {
                    weight: Some(weight),
                    state: None,
                },
            ),
            Self::Drain(which) => (which, state(AdminState::Drain)),
            Self::Ready(which) => (which, state(AdminState::Ready)),
            Self::Maint(which) => (which, state(AdminState::Maint)),
        };
        let Which {
            service,
            backend,
            write,
        } = which;
        applied(
            client
                .set_backend(&service, backend, &patch, write.if_generation)
                .await?,
            json,
        )
    }
}
