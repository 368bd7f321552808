//! The long-running process that owns the wish and the dataplane.

mod actor;
mod draining;
pub mod drains;
mod facts;
mod handle;
mod persist;
pub(crate) mod preview;
mod seed;
mod situations;
mod stop;
mod sweeper;
mod takeover;
mod tally;
mod views;
mod warnings;

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    time::timeout,
};

use actor::{Actor, Inputs, Parts};
pub use drains::DrainState;
use facts::Knowledge;
pub use handle::{AgentHandle, Applied, Command, Planned, RequestError};
use persist::Found;
pub use stop::remove_dataplane;
use takeover::Takeover;

use crate::{
    api::{self, ApiSocket},
    cli::RunOptions,
    config::{self, Config},
    dataplane::{Attached, Dataplane, Mode, Origin, PinDir, Settings},
    health,
    netlink::{self, Carrier, Uppers},
    plan::{Capacity, TunnelSources},
};

/// How long a start waits for the list of interfaces.
const INTERFACES_LISTED: Duration = Duration::from_secs(1);

/// Runs the agent until it is told to stop: SIGTERM, SIGINT and `lb stop` end it, and the dataplane goes on without it;
/// SIGHUP reloads the configuration.
///
/// # Errors
/// Why it could not start.
pub async fn run(options: RunOptions) -> Result<()> {
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
    let carriers = carriers(&options.interfaces).await?;
    let mut found = Found::in_directory(&options.state_dir, &config.checkpoint)?;
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
    let ports = config.dataplane.fullnat_ports;
    dataplane.set_source_pools(
        &config.dataplane.fullnat_addresses,
        ports.first().get()..=ports.last().get(),
    )?;
    let mut tables = dataplane.tables()?;
    let takeover = Takeover::of(&dataplane, &mut tables, &mut found)?;
    let (persist, kept) = found.go_on(&options.state_dir, &config.checkpoint)?;

    let indexes: BTreeSet<u32> = carriers.iter().map(|carrier| carrier.interface.index).collect();
    let vrf = netlink::common_vrf(indexes.iter().copied()).await?;
    let (engine, verdicts) = health::Engine::spawn_in(vrf);
    let (resolver, mut hops) = netlink::spawn_resolver(config.dataplane.next_hop_grace.get())?;
    resolver.set_gateway_interfaces(indexes)?;
    takeover.find_ways(&resolver, &mut hops).await?;
    let (route_changes, uppers) = (resolver.changes(), resolver.uppers());
    let interfaces = interfaces(uppers.clone()).await;
    let knowledge = Knowledge {
        verdicts: HashMap::new(),
        serving: takeover.serving,
        hops: hops.borrow_and_update().clone(),
        sources: TunnelSources {
            v4: config.dataplane.tunnel_source_v4,
            v6: config.dataplane.tunnel_source_v6,
        },
        only_interface: only_interface(&carriers, options.mode),
    };
    let mut actor = Actor::new(Parts {
        config_path: options.config.clone(),
        capacity: dataplane.capacity(),
        translations: dataplane.translations()?,
        dataplane,
        tables,
        sources: (
            config.dataplane.fullnat_addresses.clone(),
            config.dataplane.fullnat_ports,
        ),
        layout: takeover.layout,
        attached: Vec::new(),
        knowledge,
        engine,
        resolver,
        persist,
    });
    actor.generation = takeover.generation;
    actor.tally = takeover.tally;
    actor.uppers = interfaces;
    actor.begin(kept, file)?;
    actor.parts.attached = attach_all(&mut actor.parts.dataplane, carriers, &options)?;

    let (handle, commands) = AgentHandle::channel();
    let (stop_api, stopped) = watch::channel(());
    let api = tokio::spawn(api::serve(socket, handle, stopped));
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(forward_hangups(reload));
    log::info!("serving on {}", options.socket.display());
    let ending = actor
        .serve(
            Inputs {
                commands,
                verdicts,
                hops,
                route_changes,
                uppers,
                reloads,
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

/// The interface that all packets come by, if there is only one.
fn only_interface(carriers: &[Carrier], mode: Mode) -> Option<u32> {
    // Generic mode may run on a VLAN device, which is not what its packets leave by.
    let below = |carrier: &Carrier| mode == Mode::Native || carrier.vlan.is_none();
    let (first, others) = carriers.split_first()?;
    let same = |other: &Carrier| other.interface.index == first.interface.index;
    (carriers.iter().all(below) && others.iter().all(same)).then_some(first.interface.index)
}

/// Where the packets of the named interfaces are seen: what lies below comes first, as the kernel wants it.
async fn carriers(names: &[String]) -> Result<Vec<Carrier>> {
    let mut found: Vec<Carrier> = Vec::with_capacity(names.len());
    for name in names {
        let carrier = netlink::find_carrier(name).await?;
        if !found.contains(&carrier) {
            found.push(carrier);
        }
    }
    found.sort_by_key(|carrier| carrier.vlan.is_some());
    Ok(found)
}

/// Takes over the dataplane of an earlier agent, or makes one.
fn open_dataplane(
    options: &RunOptions,
    capacity: &Capacity,
    seed: u64,
    settings: Settings,
) -> Result<Dataplane> {
    if options.ephemeral {
        return Dataplane::load(capacity, seed, settings);
    }
    let pins = PinDir::lock(&options.pin_dir)?;
    let dataplane = Dataplane::open(pins, capacity, seed, settings)?;
    if dataplane.origin() == Origin::New {
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

fn capacity(config: &config::Dataplane) -> Capacity {
    Capacity {
        services: config.max_services,
        targets: config.max_targets,
        slots: config.max_slots,
        flows: config.max_flows,
        nat_flows: config.max_nat_flows,
    }
}

/// Attaches to all interfaces or, if one refuses, to none.
fn attach_all(
    dataplane: &mut Dataplane,
    carriers: Vec<Carrier>,
    options: &RunOptions,
) -> Result<Vec<Attached>> {
    for interface in carriers.iter().map(|carrier| &carrier.interface) {
        if let Err(error) = dataplane.allow_egress(interface.index) {
            log::debug!("{} cannot be redirected to: {error:#}", interface.name);
        }
    }
    let attached = dataplane.attach(carriers, options.mode)?;
    for one in &attached {
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
        for warning in &one.warnings {
            log::warn!("{warning}");
        }
    }
    Ok(attached)
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

async fn forward_hangups(reload: mpsc::Sender<()>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        // A reload that waits already will read what this one would.
        let _ = reload.try_send(());
    }
}
