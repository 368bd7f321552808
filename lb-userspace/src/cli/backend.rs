//! `lb backend`: backends are added, changed, drained and removed.

use clap::{Args, Subcommand};

use super::{drain::DrainOptions, words::one_of, write_options::WriteOptions};
use lb_core::desired::{
    AdminState, Backend, BackendId, BackendPatch, Change, Forwarder, Removal, ServerId, ServiceName, Vlan,
    Zone,
};

#[derive(Subcommand, Debug)]
pub(super) enum BackendVerb {
    /// Add a backend to a service; one that is leaving stays after all.
    #[command(after_help = "Examples:
  lb backend add web 10.0.0.7
  lb backend add app 10.0.0.7:8443 --weight 10 --zone rack-2")]
    Add {
        #[command(flatten)]
        which: BackendArgs,
        /// Its part of the new flows against the weights of the others, 0 to 65535.
        #[arg(long, value_name = "N", default_value_t = 1)]
        weight: u16,
        /// A label that it shares with others, so that all of them can be drained together.
        #[arg(long)]
        zone: Option<Zone>,
        /// How packets reach it, where that is not the service's way.
        #[arg(long, value_parser = one_of::<Forwarder>(Forwarder::WORDS))]
        forwarder: Option<Forwarder>,
        /// The VLAN tags of packets toward it, where they are not those of its route: one, or two, the outer one first.
        #[arg(long, value_name = "N[.N]")]
        vlan: Option<Vlan>,
        /// What names it in QUIC connection IDs, in hexadecimal digits.
        #[arg(long, value_name = "HEX")]
        server_id: Option<ServerId>,
    },
    /// Change the weight of a backend, or other parts of it.
    #[command(after_help = "Examples:
  lb backend set web 10.0.0.7 --weight 5
  lb backend set web 10.0.0.7 --zone rack-2
  lb backend set web 10.0.0.7 --forwarder gue --vlan 200.100")]
    Set {
        #[command(flatten)]
        which: BackendArgs,
        #[command(flatten)]
        parts: Parts,
    },
    /// Remove a backend from a service: it takes no new flows, and goes when its drain is over.
    #[command(after_help = "Examples:
  lb backend remove web 10.0.0.7
  lb backend remove web 10.0.0.7 --now")]
    Remove {
        #[command(flatten)]
        which: BackendArgs,
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
        which: BackendArgs,
        #[command(flatten)]
        how: DrainOptions,
    },
    /// Let a backend take traffic again, as soon as its check is good.
    #[command(after_help = "Example:\n  lb backend ready web 10.0.0.7")]
    Ready(BackendArgs),
    /// Take a backend out for maintenance at once: no traffic and no checks.
    #[command(after_help = "Example:\n  lb backend maint web 10.0.0.7")]
    Maint(BackendArgs),
}

#[derive(Args, Debug)]
pub(super) struct BackendArgs {
    /// The service.
    service: ServiceName,
    /// The backend: its address, and its port where that is not the service's.
    #[arg(value_name = "ADDR[:PORT]")]
    backend: BackendId,
    #[command(flatten)]
    write: WriteOptions,
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
    /// How packets reach it, where that is not the service's way.
    #[arg(long, value_parser = one_of::<Forwarder>(Forwarder::WORDS))]
    forwarder: Option<Forwarder>,
    /// Let packets reach it in the service's way.
    #[arg(long, conflicts_with = "forwarder")]
    no_forwarder: bool,
    /// The VLAN tags of packets toward it, where they are not those of its route: one, or two, the outer one first.
    #[arg(long, value_name = "N[.N]")]
    vlan: Option<Vlan>,
    /// Let packets toward it have the tags of its route.
    #[arg(long, conflicts_with = "vlan")]
    no_vlan: bool,
    /// What names it in QUIC connection IDs, in hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    server_id: Option<ServerId>,
    /// Take its name in QUIC connection IDs from it.
    #[arg(long, conflicts_with = "server_id")]
    no_server_id: bool,
}

impl BackendVerb {
    /// What was typed, as the agent takes it.
    pub(super) fn change(self) -> (Change, WriteOptions) {
        match self {
            Self::Add {
                which,
                weight,
                zone,
                forwarder,
                vlan,
                server_id,
            } => {
                let backend = Backend {
                    weight,
                    zone,
                    forwarder,
                    vlan,
                    server_id,
                    ..Backend::new(which.backend)
                };
                let service = which.service;
                (Change::AddBackend { service, backend }, which.write)
            }
            Self::Remove { which, now } => {
                let BackendArgs {
                    service,
                    backend,
                    write,
                } = which;
                let removal = Removal::from(now);
                let change = Change::RemoveBackend {
                    service,
                    backend,
                    removal,
                };
                (change, write)
            }
            Self::Set { which, parts } => which.set(parts.patch()),
            Self::Drain { which, how } => which.set(how.patch()),
            Self::Ready(which) => which.set(state(AdminState::Ready)),
            Self::Maint(which) => which.set(state(AdminState::Maint)),
        }
    }

    /// Whether the end of a drain is to be waited for.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Drain { how, .. } if how.wait)
    }
}

impl BackendArgs {
    fn set(self, patch: BackendPatch) -> (Change, WriteOptions) {
        let Self {
            service,
            backend,
            write,
        } = self;
        let change = Change::SetBackend {
            service,
            backend,
            patch,
        };
        (change, write)
    }
}

impl DrainOptions {
    fn patch(self) -> BackendPatch {
        BackendPatch {
            deadline: self.deadline.map(Some),
            ..state(AdminState::Drain)
        }
    }
}

impl Parts {
    fn patch(self) -> BackendPatch {
        let Self {
            weight,
            zone,
            no_zone,
            forwarder,
            no_forwarder,
            vlan,
            no_vlan,
            server_id,
            no_server_id,
        } = self;
        BackendPatch {
            weight,
            zone: changed(zone, no_zone),
            forwarder: changed(forwarder, no_forwarder),
            vlan: changed(vlan, no_vlan),
            server_id: changed(server_id, no_server_id),
            ..BackendPatch::default()
        }
    }
}

/// A part that may be set, be taken away (`none`), or stay as it is.
fn changed<T>(part: Option<T>, none: bool) -> Option<Option<T>> {
    if none { Some(None) } else { part.map(Some) }
}

fn state(state: AdminState) -> BackendPatch {
    BackendPatch {
        state: Some(state),
        ..BackendPatch::default()
    }
}
