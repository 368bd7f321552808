//! The long-running process that owns the desired state and the dataplane.

mod actor;
mod backend_states;
pub mod drains;
mod events;
pub mod handle;
mod limits;
mod macs;
mod nat_sweeper;
mod observed;
mod options;
pub(crate) mod preview;
mod queue;
mod seed;
pub mod server;
mod sources;
mod takeover;
mod tally;
mod vip_routes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    time::timeout,
};

use actor::attachments::Attachments;
use actor::persist::FoundCheckpoint;
pub use actor::stop::remove_dataplane;
use actor::{Actor, ActorParts, Inputs};
use handle::AgentHandle;
use nat_sweeper::NatSweeper;
use observed::ObservedState;
pub use options::{Options, STATE_DIR};
use queue::Queue;
use server::ApiSocket;
use sources::Sources;
use takeover::Takeover;
use vip_routes::VipRoutes;

use crate::config::{self, Config};
use crate::dataplane::{Attached, Dataplane, DataplaneSource, PinDir, Settings};
use crate::health;
use crate::netlink::{self, Devices, Uppers};
use crate::supervise::{Supervisor, Vitals, guarded};
use lb_core::plan::{Capacity, TunnelSources};

/// How long a start waits for the list of interfaces.
const INTERFACES_LISTED: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop: SIGTERM, SIGINT and `lb stop` end it, and the dataplane goes on without it;
/// SIGHUP reloads the configuration.
///
/// # Errors
/// Why it could not start.
pub async fn run(options: Options) -> Result<()> {
    limits::raise_open_files();
    // Before the file is read: who changes it from now on and says so is heard once the agent serves.
    let sources = Arc::new(Sources::new(options.config.as_deref())?);
    let file = match &options.config {
        Some(path) => Some((path.clone(), Config::load_file(path)?)),
        None => None,
    };
    if let Some(warning) = file.as_ref().and_then(|(path, file)| file.warning(path)) {
        log::warn!("{warning}");
    }
    let config = file
        .as_ref()
        .map_or_else(Config::default, |(_, file)| file.config.clone());
    let socket = ApiSocket::bind(&options.socket)?;
    let devices = Devices::list()
        .await
        .context("cannot list the network interfaces")?;
    let attachments = Attachments::find(&options, &devices)?;
    let mut found = FoundCheckpoint::in_directory(&options.state_dir, &config.checkpoint)?;
    let seed = seed::seed(
        options.hash_seed.or(config.dataplane.hash_seed),
        found.state().map(|state| state.hash_seed),
        &options.state_dir,
    )?;
    let settings = Settings {
        debug: options.debug_dataplane,
        icmp_rate: config.dataplane.icmp_rate,
    };
    let mut dataplane = open_dataplane(&options, &capacity(&config.dataplane), seed, settings)?;
    let _log = options
        .debug_dataplane
        .then(|| forward_log(&mut dataplane))
        .transpose()?;
    let mut tables = dataplane.tables()?;
    let takeover = Takeover::of(&dataplane, &mut tables, &mut found)?;
    let (persist, kept) = found.go_on(&options.state_dir, &config.checkpoint)?;

    let vrf = devices.common_vrf(attachments.indexes());
    let vitals = Vitals::default();
    let (engine, verdicts) = health::Engine::spawn_in(vrf.clone(), vitals.clone());
    let grace = config.dataplane.next_hop_grace.get();
    let (resolver, mut hops) = netlink::spawn_resolver(grace, &vitals)?;
    resolver.set_gateway_interfaces(attachments.indexes())?;
    takeover.find_ways(&resolver, &mut hops).await?;
    let (route_changes, uppers, macs) = (resolver.changes(), resolver.uppers(), resolver.macs());
    let interfaces = interfaces(uppers.clone()).await;
    let vrf = vrf.and_then(|name| if_nametoindex(name.as_str()).ok());
    let vip_routes = VipRoutes::spawn(resolver.changes(), vrf);
    let observed = ObservedState {
        verdicts: HashMap::new(),
        serving: takeover.serving,
        hops: hops.borrow_and_update().clone(),
        closed: HashMap::new(),
        sources: TunnelSources {
            v4: config.dataplane.tunnel_source_v4,
            v6: config.dataplane.tunnel_source_v6,
        },
        only_interface: attachments.only_interface(),
    };
    let (nat_sweeper, nat_looks) = NatSweeper::spawn(
        dataplane.translations()?,
        takeover.layout.clone(),
        Supervisor::new("the look at fullnat flows", &vitals),
    );
    let mut actor = Actor::new(ActorParts {
        config_path: options.config.clone(),
        capacity: dataplane.capacity(),
        nat_sweeper,
        dataplane,
        tables,
        sources: (
            config.dataplane.fullnat_addresses.clone(),
            config.dataplane.fullnat_ports,
        ),
        accept_macs: config.dataplane.accept_macs.clone(),
        layout: takeover.layout,
        attached: Vec::new(),
        attachments,
        devices_wanted: Arc::default(),
        vip_routes,
        vitals: vitals.clone(),
        observed,
        engine,
        resolver,
        persist,
    });
    actor.generation = takeover.generation;
    actor.tally = takeover.tally;
    actor.uppers = interfaces;
    // Interfaces are open to what is sent out of them before anything is led there.
    actor.review_egress(actor::egress::Review::Passing);
    actor.begin(kept, file)?;
    // An earlier agent's program takes places there until the new one is attached.
    let ports = config.dataplane.fullnat_ports;
    actor.parts.dataplane.set_source_pools(
        &config.dataplane.fullnat_addresses,
        ports.first().get()..=ports.last().get(),
    )?;
    attach_all(&mut actor.parts, &options)?;
    let (lists, devices) = watch::channel(Arc::default());
    let supervisor = |part| Supervisor::new(part, &vitals);
    tokio::spawn(watch_devices(
        lists,
        Arc::clone(&actor.parts.devices_wanted),
        supervisor("the watch on interfaces"),
    ));
    if actor.review_egress(actor::egress::Review::Thorough) {
        actor.refresh(&actor::scope::Scope::All);
    }

    let (queue, commands) = Queue::channel();
    sources.watch(&queue, &vitals);
    let handle = AgentHandle::new(queue, sources);
    let (stop_api, stopped) = watch::channel(());
    let api = tokio::spawn(server::serve(socket, handle, stopped, supervisor("the API")));
    log::info!("serving on {}", options.socket.display());
    let ending = actor
        .serve(
            Inputs {
                commands,
                verdicts,
                hops,
                nat_looks,
                route_changes,
                uppers,
                devices,
                macs,
                hopeless: vitals.hopeless(),
            },
            told_to_stop()?,
        )
        .await;
    actor.save_at_the_end().await;
    let ended = ending.carry_out(actor.parts).await;
    drop(stop_api);
    api.await.context("the API failed while it stopped")?;
    ended
}

/// This host's interfaces, so that the first check comes from the right address already. They are listed in a moment.
async fn interfaces(mut uppers: watch::Receiver<Uppers>) -> Uppers {
    let listed = timeout(INTERFACES_LISTED, uppers.wait_for(|uppers| !uppers.is_empty())).await;
    match listed {
        Ok(Ok(uppers)) => uppers.clone(),
        _ => Uppers::default(),
    }
}

/// Takes over the dataplane of an earlier agent, or makes one.
fn open_dataplane(
    options: &Options,
    capacity: &Capacity,
    seed: u64,
    settings: Settings,
) -> Result<Dataplane> {
    if options.ephemeral {
        return Dataplane::load(capacity, seed, settings);
    }
    let pins = PinDir::lock(&options.pin_dir)?;
    let dataplane = Dataplane::open(pins, capacity, seed, settings)?;
    if dataplane.origin() == DataplaneSource::New {
        return Ok(dataplane);
    }
    log::info!("took over the dataplane in {}", options.pin_dir.display());
    if dataplane.meta().seed != seed || dataplane.capacity() != *capacity {
        log::warn!(
            "the dataplane keeps its hash seed {:#018x} and its sizes ({:?}), not those of this start: they take effect \
             after `lb stop --detach`",
            dataplane.meta().seed,
            dataplane.capacity()
        );
    }
    Ok(dataplane)
}

fn capacity(config: &config::DataplaneConfig) -> Capacity {
    Capacity {
        services: config.max_services,
        targets: config.max_targets,
        slots: config.max_slots,
        flows: config.max_flows.next_power_of_two(),
        nat_flows: config.max_nat_flows,
    }
}

/// Attaches to all interfaces that are there or, if one refuses, to none.
fn attach_all(parts: &mut ActorParts, options: &Options) -> Result<()> {
    let carriers = parts.attachments.carriers();
    for interface in carriers.iter().map(|carrier| &carrier.interface) {
        if let Err(error) = parts.dataplane.allow_egress(interface.index) {
            log::debug!("{} cannot be redirected to: {error:#}", interface.name);
        }
    }
    parts.attached = if parts.attachments.is_whole() {
        parts.dataplane.attach(carriers, options.mode)?
    } else {
        // What an earlier agent serves may be what is missing, by another name.
        parts.dataplane.attach_beside(carriers, options.mode)?
    };
    log_attached(&parts.attached);
    Ok(())
}

fn log_attached(attached: &[Attached]) {
    for one in attached {
        log::info!(
            "{} {} ({} mode, driver {})",
            if one.kept {
                "replaced the program on"
            } else {
                "attached to"
            },
            one.interface.name,
            one.mode,
            one.interface.driver
        );
        for warning in one.warnings.iter().cloned().chain(one.advice()) {
            log::warn!("{warning}");
        }
    }
}

/// Tells of every change of the interfaces.
async fn watch_devices(lists: watch::Sender<Arc<Devices>>, ask: Arc<Notify>, mut supervisor: Supervisor) {
    while let Err(why) = guarded(netlink::watch_devices(&lists, &ask)).await {
        if !supervisor.again_after(&why).await {
            return;
        }
    }
}

/// Passes what the program logs on to the agent's log, until dropped.
fn forward_log(dataplane: &mut Dataplane) -> Result<tokio::task::JoinHandle<()>> {
    // SAFETY: the logger owns its ring buffer's descriptor and keeps it open and the same until it is dropped.
    let logger = unsafe { AsyncFd::register(dataplane.log()?)? };
    Ok(tokio::spawn(async move {
        let mut logger = logger;
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
        log::warn!("what the dataplane logs cannot be read any more: start lb again to see it");
    }))
}

/// Resolves with the first SIGTERM or SIGINT.
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
