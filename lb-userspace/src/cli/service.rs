//! `lb service`: services are added, changed and removed.

use clap::{Args, Subcommand};

use super::{
    check::CheckArgs,
    output::Failure,
    traffic::{Traffic, Unset},
    words::{Slots, Time, WeightedBackend, one_of},
    write_options::WriteOptions,
};
use lb_core::desired::{
    Affinity, Change, Forwarder, OnEmpty, Prefix, Protocol, Scheduler, Service, ServiceName, ServicePatch,
    ServicePort, Services, TrackingPolicy,
};

#[derive(Subcommand, Debug)]
pub(super) enum ServiceVerb {
    /// Add a service.
    #[command(after_help = "Examples:
  lb service add web --vip 192.0.2.80 --protocol tcp --port 80 \\
      --forwarder ipip --backend 10.0.0.5@3,10.0.0.6
  lb service add dns --vip 192.0.2.53,2001:db8::53 --protocol udp --port 53 \\
      --forwarder l2dsr
  lb service add game --vip 198.51.100.0/24 --protocol udp --port 30000-32767 \\
      --forwarder gue --fragments hash3
  lb service add app --vip 192.0.2.81 --protocol tcp --port 443 \\
      --forwarder nat --backend 10.0.0.5:8443 \\
      --check http --check-port 8080 --check-path /healthz")]
    Add(AddArgs),
    /// Change parts of a service; what is not named stays.
    #[command(after_help = "Examples:
  lb service set web --affinity client-ip
  lb service set web --check http --check-path /healthz --check-interval 1s
  lb service set web --idle 1h --drain-deadline 8h
  lb service set web --mss-clamp true --deny 203.0.113.0/24,2001:db8:bad::/48
  lb service set web --slots auto --window auto")]
    Set(SetArgs),
    /// Remove a service with its backends.
    #[command(after_help = "Example:\n  lb service remove web")]
    Remove {
        /// The service.
        name: ServiceName,
        #[command(flatten)]
        write: WriteOptions,
    },
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// The name of the service: letters, digits, ".", "_" and "-".
    name: ServiceName,
    /// The addresses that clients use, or their prefixes.
    #[arg(long = "vip", required = true, num_args = 1.., value_delimiter = ',', value_name = "ADDR[/LENGTH]")]
    vips: Vec<Prefix>,
    /// The transport protocol.
    #[arg(long, value_parser = one_of::<Protocol>(Protocol::WORDS))]
    protocol: Protocol,
    /// The port that clients use, a range of ports, or "any".
    #[arg(long, value_name = "PORT|FIRST-LAST|any")]
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
    /// Which flows are written down, so that they keep their backend: those whose slot changed of late, all, or none.
    #[arg(long, default_value_t, value_parser = one_of::<TrackingPolicy>(TrackingPolicy::WORDS))]
    tracking: TrackingPolicy,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    traffic: Traffic,
    /// The hosts that serve it; the weight is 1 where none is given.
    #[arg(long = "backend", num_args = 1.., value_delimiter = ',', value_name = "ADDR[:PORT][@WEIGHT]")]
    backends: Vec<WeightedBackend>,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// The service.
    name: ServiceName,
    /// Not to be changed: the error says what to do instead.
    #[arg(long, hide = true, value_parser = fixed)]
    port: Option<String>,
    /// As `port`.
    #[arg(long, hide = true, value_parser = fixed)]
    protocol: Option<String>,
    /// The addresses that clients use, or their prefixes, all of them.
    #[arg(long = "vip", num_args = 1.., value_delimiter = ',', value_name = "ADDR[/LENGTH]")]
    vips: Option<Vec<Prefix>>,
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
    /// Which flows are written down, so that they keep their backend: those whose slot changed of late, all, or none.
    #[arg(long, value_parser = one_of::<TrackingPolicy>(TrackingPolicy::WORDS))]
    tracking: Option<TrackingPolicy>,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    unset: Unset,
    #[command(flatten)]
    write: WriteOptions,
    #[command(flatten)]
    check: CheckArgs,
}

/// Refuses what makes a service another one.
fn fixed(_: &str) -> Result<String, &'static str> {
    Err(
        "protocol and port of a service cannot be changed, since its flows go by them: add another service \
         (`lb service add`), and remove this one when its clients have gone (`lb service remove`)",
    )
}

/// How long the balancer waits for flows that say nothing.
#[derive(Args, Debug)]
pub(super) struct Times {
    /// How long after a slot's last change its silent flows still belong to the previous owner, 1s to 1d, or "auto":
    /// 2m for tcp, 10s for udp.
    #[arg(long, value_name = "TIME")]
    window: Option<Time>,
    /// How long a flow may be silent before it is forgotten, 1s to 1d and at least the window, or "auto": 15m for tcp,
    /// 2m for udp.
    #[arg(long, value_name = "TIME")]
    idle: Option<Time>,
    /// When a drain ends at the latest, flows left or not, 1s to 1d, or "auto": 1h.
    #[arg(long, value_name = "TIME")]
    drain_deadline: Option<Time>,
}

impl ServiceVerb {
    /// What was typed, as the agent takes it.
    pub(super) fn change(self) -> Result<(Change, WriteOptions), Failure> {
        Ok(match self {
            Self::Add(args) => {
                let write = args.write;
                (Change::AddService(args.service()?), write)
            }
            Self::Set(args) => {
                let (service, write) = (args.name.clone(), args.write);
                let patch = args.patch()?;
                (Change::SetService { service, patch }, write)
            }
            Self::Remove { name: service, write } => (Change::RemoveService { service }, write),
        })
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
            tracking,
            times,
            traffic,
            check,
            backends,
            write: _,
        } = self;
        let asked = |time: Option<Time>| time.and_then(|Time(span)| span);
        let mut service = Service {
            scheduler,
            affinity,
            on_empty,
            slots: slots.0,
            tracking,
            window: asked(times.window),
            idle: asked(times.idle),
            drain_deadline: asked(times.drain_deadline),
            check: check.check()?,
            backends: backends
                .into_iter()
                .map(|WeightedBackend(backend)| backend)
                .collect(),
            ..Service::new(name, vips, protocol, port, forwarder)
        };
        traffic.patch()?.apply(&mut service);
        Services::new(vec![service.clone()])?;
        Ok(service)
    }
}

impl SetArgs {
    pub(super) fn patch(self) -> Result<ServicePatch, Failure> {
        let Self {
            name: _,
            port: _,
            protocol: _,
            vips,
            forwarder,
            scheduler,
            affinity,
            on_empty,
            slots,
            tracking,
            times,
            traffic,
            unset,
            check,
            write: _,
        } = self;
        let asked = |time: Option<Time>| time.map(|Time(span)| span);
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
            tracking,
            window: asked(times.window),
            idle: asked(times.idle),
            drain_deadline: asked(times.drain_deadline),
            ..unset.and(traffic.patch()?)
        };
        if patch == ServicePatch::default() {
            let message =
                "nothing is to be changed: name what, such as --affinity; see `lb service set --help`";
            return Err(Failure::BadInput(message.into()));
        }
        Ok(patch)
    }
}
