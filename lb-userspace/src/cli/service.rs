//! `lb service`: services are added, changed and removed.

use std::net::IpAddr;

use clap::{Args, Subcommand};

use super::{
    Write, applied,
    check::CheckArgs,
    output::{Failure, Output},
    words::{Slots, WeightedBackend, one_of},
};
use crate::{
    api::client::Client,
    model::{
        Affinity, Forwarder, OnEmpty, Protocol, Scheduler, Service, ServiceName, ServicePatch, ServicePort,
        Services,
    },
};

#[derive(Subcommand, Debug)]
pub(super) enum ServiceVerb {
    /// Add a service.
    #[command(after_help = "Examples:
  lb service add web --vip 192.0.2.80 --protocol tcp --port 80 --forwarder ipip --backend 10.0.0.5@3,10.0.0.6
  lb service add dns --vip 192.0.2.53,2001:db8::53 --protocol udp --port 53 --forwarder l2dsr
  lb service add app --vip 192.0.2.81 --protocol tcp --port 443 --forwarder nat --backend 10.0.0.5:8443 \\
      --check http --check-port 8080 --check-path /healthz")]
    Add(AddArgs),
    /// Change parts of a service; what is not named stays.
    #[command(after_help = "Examples:
  lb service set web --affinity client-ip
  lb service set web --check http --check-path /healthz --check-interval 1s
  lb service set web --slots auto")]
    Set(SetArgs),
    /// Remove a service with its backends.
    #[command(after_help = "Example:\n  lb service remove web")]
    Remove {
        /// The service.
        name: ServiceName,
        #[command(flatten)]
        write: Write,
    },
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// The name of the service: letters, digits, ".", "_" and "-".
    name: ServiceName,
    /// The addresses that clients use.
    #[arg(long = "vip", required = true, num_args = 1.., value_delimiter = ',', value_name = "ADDR")]
    vips: Vec<IpAddr>,
    /// The transport protocol.
    #[arg(long, value_parser = one_of::<Protocol>(Protocol::WORDS))]
    protocol: Protocol,
    /// The port that clients use, or "any".
    #[arg(long)]
    port: ServicePort,
    /// How packets reach the backends.
    #[arg(long, value_parser = one_of::<Forwarder>(Forwarder::WORDS))]
    forwarder: Forwarder,
    /// How new flows are spread.
    #[arg(long, default_value_t, value_parser = one_of::<Scheduler>(Scheduler::WORDS))]
    scheduler: Scheduler,
    /// Whether every flow is on its own, or all flows of a client go to one backend.
    #[arg(long, default_value_t, value_parser = one_of::<Affinity>(Affinity::WORDS))]
    affinity: Affinity,
    /// What happens to packets while no backend is usable.
    #[arg(long, default_value_t, value_parser = one_of::<OnEmpty>(OnEmpty::WORDS))]
    on_empty: OnEmpty,
    /// The size of the slot table, a power of two from 64 to 65536, or "auto": by the number of backends.
    #[arg(long, default_value = "auto", value_name = "N")]
    slots: Slots,
    /// The hosts that serve it; the weight is 1 where none is given.
    #[arg(long = "backend", num_args = 1.., value_delimiter = ',', value_name = "ADDR[:PORT][@WEIGHT]")]
    backends: Vec<WeightedBackend>,
    #[command(flatten)]
    write: Write,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// The service.
    name: ServiceName,
    /// The addresses that clients use, all of them.
    #[arg(long = "vip", num_args = 1.., value_delimiter = ',', value_name = "ADDR")]
    vips: Option<Vec<IpAddr>>,
    /// How packets reach the backends.
    #[arg(long, value_parser = one_of::<Forwarder>(Forwarder::WORDS))]
    forwarder: Option<Forwarder>,
    /// How new flows are spread.
    #[arg(long, value_parser = one_of::<Scheduler>(Scheduler::WORDS))]
    scheduler: Option<Scheduler>,
    /// Whether every flow is on its own, or all flows of a client go to one backend.
    #[arg(long, value_parser = one_of::<Affinity>(Affinity::WORDS))]
    affinity: Option<Affinity>,
    /// What happens to packets while no backend is usable.
    #[arg(long, value_parser = one_of::<OnEmpty>(OnEmpty::WORDS))]
    on_empty: Option<OnEmpty>,
    /// The size of the slot table, a power of two from 64 to 65536, or "auto": by the number of backends.
    #[arg(long, value_name = "N")]
    slots: Option<Slots>,
    #[command(flatten)]
    write: Write,
    #[command(flatten)]
    check: CheckArgs,
}

impl ServiceVerb {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let done = match self {
            Self::Add(args) => {
                let expected = args.write.if_generation;
                client.add_service(&args.service()?, expected).await?
            }
            Self::Set(args) => {
                let (name, expected) = (args.name.clone(), args.write.if_generation);
                client.set_service(&name, &args.patch()?, expected).await?
            }
            Self::Remove { name, write } => client.remove_service(&name, write.if_generation).await?,
        };
        applied(done, json)
    }
}

impl AddArgs {
    /// The service that was typed, with the rules checked that concern it alone.
    pub(super) fn service(self) -> Result<Service, Failure> {
        let Self {
            name,
            vips,
            protocol,
            port,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots,
            ..
        } = self;
        let service = Service {
            name,
            vips,
            protocol,
            port,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots: slots.0,
            tracking: Default::default(),
            window: None,
            idle: None,
            drain_deadline: None,
            check: self.check.check()?,
            backends: self
                .backends
                .into_iter()
                .map(|WeightedBackend(backend)| backend)
                .collect(),
        };
        Services::new(vec![service.clone()])?;
        Ok(service)
    }
}

impl SetArgs {
    pub(super) fn patch(self) -> Result<ServicePatch, Failure> {
        let Self {
            name: _,
            vips,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots,
            check,
            write: _,
        } = self;
        let slots = slots.map(|Slots(slots)| slots);
        let check = check.check()?.map(Some);
        let patch = ServicePatch {
            vips,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots,
            check,
            tracking: None,
            window: None,
            idle: None,
            drain_deadline: None,
        };
        if patch == ServicePatch::default() {
            let message =
                "nothing is to be changed: name what, such as --affinity; see `lb service set --help`";
            return Err(Failure::BadInput(message.into()));
        }
        Ok(patch)
    }
}
