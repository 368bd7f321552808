//! The agent's heart: it alone owns the desired state, the knowledge and the tables, and brings the tables in line.
//!
//! Invariant: the tables always show one desired and one observed state as a whole; a change that cannot be applied
//! leaves everything as it was.

pub(super) mod attachments;
pub(super) mod draining;
pub(super) mod egress;
pub(super) mod persist;
pub(super) mod ports;
pub(super) mod stop;
pub(super) mod sweeper;
mod views;
mod warnings;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::MissedTickBehavior,
};

use attachments::Attachments;
use egress::{Egress, Review};
use persist::Persist;
use ports::Ports;
use stop::Ending;
use sweeper::Sweeper;

use crate::agent::{
    backend_states::{BackendStates, Transition},
    drains::Drains,
    handle::{Command, RequestError},
    observed::{self, Expected, ObservedState},
    tally::Tally,
    vip_routes::VipRoutes,
};
use crate::config::{Config, ConfigFile};
use crate::dataplane::{Attached, Dataplane, MappedTables, Translations};
use crate::health::{self, Beliefs};
use crate::netlink::{Devices, Macs, NextHops, ResolverHandle, Uppers};
use crate::supervise::Vitals;
use lb_api::{Applied, checkpoint::RestoredView};
use lb_core::desired::{Change, ChangeError, Losses, MacAddress, PortRange, Prefix, Removal, Services};
use lb_core::observed::InterfaceMacs;
use lb_core::plan::{self, BackendRef, BackendState, Capacity, Layout, Plan};

/// Why a file is not obeyed that takes away so much.
pub(super) fn drastic(path: &Path, losses: &Losses) -> String {
    format!(
        "{} no longer has {losses}: more than half of the services, or all backends of one. Nothing was changed; if that is \
         meant, `lb reload --force`",
        path.display()
    )
}

/// How often the counters are read.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Next hops of answers that are made sure of in one turn.
const NEXT_HOPS_AT_ONCE: usize = 256;

/// The resolver acts on a new desired state after some 20 ms; nobody says when gateways are given back.
const NEIGHBOURS_GIVEN_BACK: Duration = Duration::from_millis(100);
/// Thousands of neighbours take a while; what is left then stays as it is.
const NEIGHBOURS_LEFT: Duration = Duration::from_secs(5);

/// What the actor is made of; `run` puts it together.
pub(super) struct ActorParts {
    pub(super) config_path: Option<PathBuf>,
    pub(super) capacity: Capacity,
    pub(super) dataplane: Dataplane,
    pub(super) tables: MappedTables,
    pub(super) translations: Translations,
    /// What `fullnat` takes addresses and ports from.
    pub(super) sources: (Vec<IpAddr>, PortRange),
    /// MACs that frames to this host bear beside those of the interfaces.
    pub(super) accept_macs: Vec<MacAddress>,
    pub(super) layout: Layout,
    /// Where the program runs, and where it should.
    pub(super) attached: Vec<Attached>,
    pub(super) attachments: Attachments,
    /// Has the interfaces listed.
    pub(super) devices_wanted: Arc<Notify>,
    pub(super) vip_routes: VipRoutes,
    /// How the tasks beside the actor fare.
    pub(super) vitals: Vitals,
    pub(super) observed: ObservedState,
    pub(super) engine: health::Engine,
    pub(super) resolver: ResolverHandle,
    pub(super) persist: Persist,
}

impl ActorParts {
    /// Lets the kernel forget the neighbours that it was asked to keep fresh.
    pub(super) async fn give_neighbours_back(&self) {
        let desired = self.resolver.set_addresses(BTreeSet::new());
        if desired
            .and_then(|()| self.resolver.set_gateway_interfaces(BTreeSet::new()))
            .is_ok()
        {
            tokio::time::sleep(NEIGHBOURS_GIVEN_BACK).await;
            let _ = tokio::time::timeout(NEIGHBOURS_LEFT, self.resolver.given_back()).await;
        }
    }
}

/// What happens around the actor.
pub(super) struct Inputs {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) verdicts: mpsc::Receiver<health::Verdict>,
    pub(super) hops: watch::Receiver<NextHops>,
    /// Any change of the host's routes and neighbours.
    pub(super) route_changes: watch::Receiver<u64>,
    pub(super) uppers: watch::Receiver<Uppers>,
    pub(super) devices: watch::Receiver<Arc<Devices>>,
    pub(super) macs: watch::Receiver<Macs>,
    pub(super) reloads: mpsc::Receiver<()>,
    /// Why the agent had better end.
    pub(super) hopeless: watch::Receiver<Option<String>>,
}

/// The actor.
pub(super) struct Actor {
    pub(super) parts: ActorParts,
    pub(super) services: Services,
    pub(super) generation: u64,
    pub(super) tally: Tally,
    pub(super) last_apply: Duration,
    pub(super) started: (Instant, SystemTime),
    /// Since when each backend stands where it stands.
    pub(super) situations: BackendStates,
    pub(super) drains: Drains,
    pub(super) sweeper: Sweeper,
    pub(super) known_macs: Macs,
    /// MACs that frames to this host bear where the program runs.
    pub(super) macs: BTreeMap<u32, InterfaceMacs>,
    pub(super) egress: Egress,
    /// This host's interfaces with their addresses, and the VIPs, in whose name neither checks nor ICMP errors are sent.
    pub(super) uppers: Uppers,
    vips: Vec<Prefix>,
    pub(super) ports: Ports,
}

impl Actor {
    pub(super) fn new(parts: ActorParts) -> Self {
        Self {
            parts,
            services: Services::default(),
            generation: 0,
            tally: Tally::default(),
            last_apply: Duration::ZERO,
            started: (Instant::now(), SystemTime::now()),
            situations: BackendStates::default(),
            drains: Drains::default(),
            sweeper: Sweeper::default(),
            known_macs: Macs::default(),
            macs: BTreeMap::new(),
            egress: Egress::default(),
            uppers: Uppers::default(),
            vips: Vec::new(),
            ports: Ports::default(),
        }
    }

    /// Serves until `stop` resolves, or somebody asks for the end.
    pub(super) async fn serve(&mut self, mut inputs: Inputs, stop: impl Future<Output = ()>) -> Ending {
        let mut tick = tokio::time::interval(SAMPLE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return Ending::default(),
                Ok(()) = inputs.hopeless.changed() => {
                    let failed = inputs.hopeless.borrow().clone();
                    return Ending { failed, ..Ending::default() };
                }
                Some(verdict) = inputs.verdicts.recv() => {
                    self.learn_verdict(verdict);
                    // Verdicts that came together are applied together.
                    while let Ok(verdict) = inputs.verdicts.try_recv() {
                        self.learn_verdict(verdict);
                    }
                    self.refresh();
                }
                Ok(()) = inputs.hops.changed() => {
                    self.parts.observed.hops = inputs.hops.borrow_and_update().clone();
                    self.refresh();
                }
                Ok(()) = inputs.uppers.changed() => {
                    self.uppers = inputs.uppers.borrow_and_update().clone();
                    self.speak();
                    self.parts.tables.distrust_routes();
                }
                Ok(()) = inputs.devices.changed() => {
                    let devices = Arc::clone(&inputs.devices.borrow_and_update());
                    self.follow_devices(&devices);
                }
                Ok(()) = inputs.macs.changed() => {
                    self.known_macs = inputs.macs.borrow_and_update().clone();
                    self.refresh_macs();
                }
                Ok(()) = inputs.route_changes.changed() => {
                    self.parts.tables.distrust_routes();
                }
                Some(command) = inputs.commands.recv() => match command {
                    Command::Stop { detach, reply } => {
                        return Ending { detach, reply: Some(reply), failed: None };
                    }
                    command => self.obey(command),
                },
                Some(()) = inputs.reloads.recv() => match self.reload(Removal::Drain, false, None) {
                    Ok(applied) => log::info!("reloaded: generation {}", applied.generation),
                    Err(error) => log::error!("not reloaded, nothing changed: {error}"),
                },
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // A caller that no longer waits for its answer is no error.
        match command {
            Command::Services(reply) => drop(reply.send(self.services_view())),
            Command::Status(reply) => drop(reply.send(self.status_view())),
            Command::Stats(reply) => drop(reply.send(self.stats_view())),
            Command::Drains(reply) => drop(reply.send(self.drains_view())),
            Command::Write {
                change,
                expected,
                reply,
            } => {
                let made = self.write(change, expected);
                self.answer(made, Applied::with_saved, reply);
            }
            Command::Plan {
                change,
                expected,
                reply,
            } => drop(reply.send(self.preview(change, expected))),
            Command::SaveCheckpoint(reply) => self.save_on_request(reply),
            Command::Checkpoints(reply) => self.list_checkpoints(reply),
            Command::LoadCheckpoint { number, reply } => self.load_checkpoint(number, reply),
            Command::Restore {
                number,
                checkpoint,
                expected,
                reply,
            } => {
                let made = self.restore(number, *checkpoint, expected);
                self.answer(made, RestoredView::with_saved, reply);
            }
            Command::Explain {
                frame,
                is_for_interface,
                interface,
                reply,
            } => {
                let explained = self.explain_view(frame, is_for_interface, interface.as_deref());
                drop(reply.send(explained));
            }
            // `serve` ends with it.
            Command::Stop { reply, .. } => drop(reply.send(Err(RequestError::Stopping))),
        }
    }

    /// Makes a change, if the generation is the expected one. Only a reload looks at more than the change itself.
    fn write(&mut self, change: Change, expected: Option<u64>) -> Result<Applied, RequestError> {
        match change {
            Change::Reload { removal, force } => self.reload(removal, force, expected),
            change => self.change(change, expected),
        }
    }

    /// Makes a change that says all by itself, if the generation is the expected one.
    pub(super) fn change(&mut self, change: Change, expected: Option<u64>) -> Result<Applied, RequestError> {
        self.check_generation(expected)?;
        let next = self.services.after(change)?;
        self.check_sources(&next)?;
        self.turn_to(next)
    }

    /// Refuses what brings `fullnat` backends that there is no address for. What lacks one already may change: addresses
    /// may have gone at the agent's start.
    pub(super) fn check_sources(&self, next: &Services) -> Result<(), RequestError> {
        let (pool, _) = &self.parts.sources;
        for service in next.iter() {
            let present = self.services.get(&service.name);
            if present.is_none_or(|present| present.check_sources(pool).is_ok()) {
                service.check_sources(pool).map_err(ChangeError::from)?;
            }
        }
        Ok(())
    }

    /// Makes `next` the desired state, as a generation of its own.
    pub(super) fn turn_to(&mut self, next: Services) -> Result<Applied, RequestError> {
        let beliefs = self.parts.observed.beliefs(&self.services, &next);
        self.turn_to_believing(next, &beliefs)
    }

    /// Makes `next` the desired state, as a generation of its own; `beliefs` say what is believed of health checks that
    /// nothing is known of.
    pub(super) fn turn_to_believing(
        &mut self,
        next: Services,
        beliefs: &Beliefs,
    ) -> Result<Applied, RequestError> {
        let started = Instant::now();
        let plan = self.plan(&next, self.generation + 1, beliefs)?;
        self.carry_out(plan, started)?;
        // From here on nothing fails: a change that is refused has left no trace in what is known.
        self.parts.observed.accept(&next, beliefs);
        self.services = next;
        self.generation += 1;
        self.parts.persist.note_change();
        self.observe_situations();
        self.drains.follow(&self.services, Instant::now());
        let vips = self
            .services
            .iter()
            .flat_map(|service| service.vips.iter().copied());
        let vips: Vec<Prefix> = vips.collect();
        if self.vips != vips {
            self.parts.vip_routes.set_vips(&vips);
            self.vips = vips;
            self.speak();
        }
        self.parts
            .engine
            .set_targets(observed::probe_targets(&self.services), beliefs);
        let pool = &self.parts.sources.0;
        let wanted = self
            .parts
            .resolver
            .set_needs(observed::needs(&self.services, pool));
        let addresses = observed::addresses(&self.services, pool);
        if let Err(error) = wanted.and_then(|()| self.parts.resolver.set_addresses(addresses)) {
            log::error!("{error}");
        }
        let owners: HashSet<BackendRef> = self
            .parts
            .layout
            .owners()
            .map(|(_, backend_ref)| backend_ref)
            .collect();
        self.tally.keep(|backend_ref| owners.contains(backend_ref));
        Ok(Applied {
            generation: self.generation,
            apply_us: self.last_apply.as_micros() as u64,
            saved: false,
            removed: None,
        })
    }

    /// Tells the program and the checks by which addresses they speak.
    fn speak(&mut self) {
        let own = self.uppers.iter().flat_map(|(index, upper)| {
            let own = |address: &IpAddr| health::OwnAddress {
                interface: *index,
                address: *address,
            };
            upper.addresses.iter().map(own)
        });
        self.parts
            .engine
            .set_sources(health::ProbeSources::new(own, &self.vips));
        if let Err(error) = self.parts.dataplane.set_uppers(&self.uppers, &self.vips) {
            log::error!("the dataplane does not know the interfaces as they are now: {error:#}");
        }
    }

    pub(super) fn check_generation(&self, expected: Option<u64>) -> Result<(), RequestError> {
        match expected.filter(|expected| *expected != self.generation) {
            None => Ok(()),
            Some(expected) => Err(RequestError::Conflict {
                expected,
                actual: self.generation,
            }),
        }
    }

    fn reload(
        &mut self,
        removal: Removal,
        force: bool,
        expected: Option<u64>,
    ) -> Result<Applied, RequestError> {
        let (path, file) = self.read_file()?;
        let losses = Losses::between(&self.services, &file.config.services);
        if losses.is_drastic() && !force {
            return Err(RequestError::Drastic(drastic(&path, &losses)));
        }
        let change = Change::ReplaceAll(file.config.services.clone(), removal);
        let applied = self.change(change, expected)?;
        self.parts.persist.note_file(&path, &file);
        if !losses.names().is_empty() {
            log::info!("{} no longer has {losses}", path.display());
        }
        Ok(Applied {
            removed: Some(losses.names()),
            ..applied
        })
    }

    /// The change that makes the desired state what the configuration file says.
    pub(super) fn file(&self, removal: Removal) -> Result<Change, RequestError> {
        let (_, file) = self.read_file()?;
        Ok(Change::ReplaceAll(file.config.services, removal))
    }

    fn read_file(&self) -> Result<(PathBuf, ConfigFile), RequestError> {
        let Some(path) = self.parts.config_path.clone() else {
            return Err(RequestError::Config(
                "there is nothing to reload: lb runs without --config".to_owned(),
            ));
        };
        let file = Config::load_file(&path).map_err(|error| RequestError::Config(error.to_string()))?;
        if let Some(warning) = file.warning(&path) {
            log::warn!("{warning}");
        }
        Ok((path, file))
    }

    /// Takes a verdict as the sign to look how the health check stands. The verdict itself may be of one that has ended
    /// meanwhile, which says nothing about the one that began in its place.
    fn learn_verdict(&mut self, verdict: health::Verdict) {
        let health::Verdict { target, .. } = verdict;
        if let Some(status) = self.parts.engine.status(&target) {
            self.parts.observed.verdicts.insert(target, status.state);
            self.parts.persist.note_change();
        }
    }

    /// Notes and logs which backends stand elsewhere now.
    fn observe_situations(&mut self) {
        let moves = self
            .situations
            .observe(&self.services, &self.parts.observed, SystemTime::now());
        for Transition {
            service,
            backend,
            before,
            now,
        } in moves
        {
            let why = self.services.get(&service).and_then(|service| {
                let backend = service.backend(backend)?;
                self.reason(service, backend, now)
            });
            match (now, before, why) {
                (BackendState::Down | BackendState::Unresolved, Some(_), Some(why)) => {
                    log::warn!("{service}: {backend} is {now}: {why}");
                }
                (now, _, _) => log::info!("{service}: {backend} is {now}"),
            }
        }
    }

    /// Brings the tables in line with what is known now.
    pub(super) fn refresh(&mut self) {
        let started = Instant::now();
        let done = match self.plan(&self.services.clone(), self.generation, &Beliefs::new()) {
            // Nothing but the generation, which is the same.
            Ok(plan) if plan.writes.len() == 1 => Ok(()),
            Ok(plan) => self.carry_out(plan, started),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            log::error!("the tables stay as they are: {error}");
        }
        self.observe_situations();
        self.end_drains();
    }

    fn plan(
        &mut self,
        services: &Services,
        generation: u64,
        beliefs: &Beliefs,
    ) -> Result<Plan, RequestError> {
        self.review_egress(Review::Passing);
        let plan_from = |ActorParts { layout, observed, .. }: &ActorParts| {
            let pools = layout.pools(services, &Expected { observed, beliefs });
            layout.plan(pools, generation, Instant::now())
        };
        let plan = match plan_from(&self.parts) {
            Err(_) if self.parts.layout.has_retired() || self.parts.layout.is_recovered() => {
                // What was given up of late may be all the room there is: wait for its last readers.
                self.reclaim();
                plan_from(&self.parts)
            }
            planned => planned,
        };
        plan.map_err(|error| RequestError::Capacity(draining::with_advice(error.to_string(), services)))
    }

    /// Makes the tables what the plan says.
    ///
    /// # Errors
    /// When the kernel refuses; they are as they were then.
    pub(super) fn carry_out(&mut self, plan: Plan, started: Instant) -> Result<(), RequestError> {
        let Plan { layout, mut writes } = plan;
        let lists = plan::take_lists(&mut writes);
        let written = self.parts.tables.write_lists(&lists);
        written.map_err(|error| RequestError::Dataplane(format!("{error:#}: nothing was changed")))?;
        if self.parts.layout.gives_up_cells(&layout) {
            // What cells have counted belongs to their owners until now.
            self.sample();
        }
        plan::apply(&writes, &mut self.parts.tables);
        self.parts.layout = layout;
        self.last_apply = started.elapsed();
        if self.parts.layout.sweep_is_due() {
            self.sweep();
        }
        log::debug!(
            "{} writes in {:?}, generation {}",
            writes.len(),
            self.last_apply,
            self.generation
        );
        Ok(())
    }

    /// What is done once a second.
    fn tick(&mut self) {
        self.look_at_links();
        self.sample();
        self.revalidate_next_hops();
        self.refresh_macs();
        self.review_egress_in_turn();
        self.sweep_in_turn();
        self.end_drains();
        self.save_in_turn();
    }

    /// Answers to clients go past the host's stack, which therefore neither asks for their next hops nor doubts them.
    fn revalidate_next_hops(&mut self) {
        match self.parts.dataplane.take_next_hops(NEXT_HOPS_AT_ONCE) {
            Ok(next_hops) if next_hops.is_empty() => {}
            Ok(next_hops) => self.parts.resolver.revalidate(next_hops),
            Err(error) => log::error!("cannot read the next hops in use: {error:#}"),
        }
    }

    /// Reads the counters of all targets.
    pub(super) fn sample(&mut self) {
        let now = Instant::now();
        let counters = match self.parts.dataplane.counters() {
            Ok(counters) => counters,
            Err(error) => return log::error!("cannot read the counters: {error:#}"),
        };
        let readings =
            self.parts
                .layout
                .owners()
                .filter_map(|(cell, backend_ref)| match counters.target(cell) {
                    Ok(count) => Some((cell, backend_ref, count)),
                    Err(error) => {
                        log::error!("cannot read the counter of target {cell}: {error:#}");
                        None
                    }
                });
        let readings: Vec<(u32, BackendRef, _)> = readings.collect();
        self.tally.take(readings, now);
    }

    /// How many backends there are, and how many of them take traffic.
    pub(super) fn backends(&self) -> (u64, u64) {
        observed::each(&self.services).fold((0, 0), |(all, up), (service, backend)| {
            let takes = plan::backend_state(&self.parts.observed, service, backend) == BackendState::Up;
            (all + 1, up + u64::from(takes))
        })
    }
}
