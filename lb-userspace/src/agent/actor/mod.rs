//! The agent's heart: it alone owns the desired state, the knowledge and the tables, and brings the tables in line.
//!
//! Invariant: the tables always show one desired and one observed state as a whole; a change that cannot be applied
//! leaves everything as it was.

pub(super) mod attachments;
mod counting;
pub(super) mod draining;
pub(super) mod egress;
mod explain;
pub(super) mod persist;
pub(super) mod ports;
pub(super) mod reconcile;
pub(super) mod scope;
pub(super) mod stop;
pub(super) mod sweeper;
mod views;
mod warnings;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::MissedTickBehavior,
};

use attachments::Attachments;
use egress::Egress;
use persist::Persist;
use ports::Ports;
use reconcile::Reconciler;
use stop::Ending;
use sweeper::Sweeper;

use crate::agent::{
    backend_states::BackendStates,
    drains::Drains,
    events::{Event, Sinks},
    handle::{Command, RequestError},
    nat_sweeper::{NatLook, NatSweeper},
    observed::ObservedState,
    queue::{Proposal, ProposedFile},
    tally::Tally,
    vip_routes::VipRoutes,
};
use crate::dataplane::{Attached, Dataplane, MappedTables};
use crate::health;
use crate::netlink::{Devices, Macs, NextHops, ResolverHandle, Uppers};
use crate::supervise::Vitals;
use lb_api::{Applied, checkpoint::RestoredView};
use lb_core::desired::{Change, ChangeError, Dependents, Losses, MacAddress, PortRange, Prefix, Services};
use lb_core::observed::InterfaceMacs;
use lb_core::plan::{Capacity, Layout};

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
    pub(super) nat_sweeper: NatSweeper,
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
    pub(super) nat_looks: watch::Receiver<Arc<NatLook>>,
    pub(super) uppers: watch::Receiver<Uppers>,
    pub(super) devices: watch::Receiver<Arc<Devices>>,
    pub(super) macs: watch::Receiver<Macs>,
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
    /// The state of each backend, and since when it has been that.
    pub(super) backend_states: BackendStates,
    /// Which services depend on each health check and address.
    pub(super) dependents: Dependents,
    pub(super) reconciler: Reconciler,
    pub(super) events: Sinks,
    pub(super) drains: Drains,
    pub(super) sweeper: Sweeper,
    pub(super) known_macs: Macs,
    /// MACs that frames to this host bear where the program runs.
    pub(super) macs: BTreeMap<u32, InterfaceMacs>,
    pub(super) egress: Egress,
    /// This host's interfaces with their addresses, and the VIPs, in whose name neither checks nor ICMP errors are sent.
    pub(super) uppers: Uppers,
    pub(super) vips: Vec<Prefix>,
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
            backend_states: BackendStates::default(),
            dependents: Dependents::default(),
            reconciler: Reconciler::default(),
            events: Sinks::default(),
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
                    // Verdicts that came together are applied together.
                    let others = std::iter::from_fn(|| inputs.verdicts.try_recv().ok());
                    self.learn_verdicts(std::iter::once(verdict).chain(others));
                }
                Ok(()) = inputs.hops.changed() => {
                    let hops = inputs.hops.borrow_and_update().clone();
                    self.learn_next_hops(hops);
                }
                Ok(()) = inputs.nat_looks.changed() => {
                    let look = Arc::clone(&inputs.nat_looks.borrow_and_update());
                    self.take_nat_look(look);
                }
                Ok(()) = inputs.uppers.changed() => {
                    self.uppers = inputs.uppers.borrow_and_update().clone();
                    self.tell_own_addresses();
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
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // A caller that no longer waits for its answer is no error.
        match command {
            Command::Services { name, reply } => drop(reply.send(self.services_view(name.as_ref()))),
            Command::Status(reply) => drop(reply.send(self.status_view())),
            Command::Stats(reply) => drop(reply.send(self.stats_view())),
            Command::Drains(reply) => drop(reply.send(self.drains_view())),
            Command::Write {
                proposal,
                expected,
                reply,
            } => {
                let made = self.write(proposal, expected);
                self.answer(made, Applied::with_saved, reply);
            }
            Command::Plan {
                proposal,
                expected,
                reply,
            } => drop(reply.send(self.preview(proposal.into_change(), expected))),
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

    /// Makes what a source proposes, if the generation is the expected one.
    fn write(&mut self, proposal: Proposal, expected: Option<u64>) -> Result<Applied, RequestError> {
        match proposal {
            Proposal::Change(change) => self.change(*change, expected),
            Proposal::File(read) => self.turn_to_file(*read, expected),
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

    /// Tells the program and the health checks which addresses are this host's own, and which are VIPs.
    pub(super) fn tell_own_addresses(&mut self) {
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

    /// Makes everything what a configuration file says, unless that takes away so much that it looks like a mistake.
    fn turn_to_file(&mut self, read: ProposedFile, expected: Option<u64>) -> Result<Applied, RequestError> {
        let ProposedFile {
            path,
            file,
            removal,
            force,
        } = read;
        let losses = Losses::between(&self.services, &file.config.services);
        if losses.is_drastic() && !force {
            return Err(RequestError::Drastic(losses.refusal(&path.display())));
        }
        let change = Change::ReplaceAll(file.config.services.clone(), removal);
        let applied = self.change(change, expected)?;
        self.parts.persist.note_file(&path, &file);
        if !losses.names().is_empty() {
            self.events.tell(&Event::FileTakesAway {
                path,
                losses: losses.clone(),
            });
        }
        Ok(Applied {
            removed: Some(losses.names()),
            ..applied
        })
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
        self.audit();
    }

    /// Answers to clients go past the host's stack, which therefore neither asks for their next hops nor doubts them.
    fn revalidate_next_hops(&mut self) {
        match self.parts.dataplane.take_next_hops(NEXT_HOPS_AT_ONCE) {
            Ok(next_hops) if next_hops.is_empty() => {}
            Ok(next_hops) => self.parts.resolver.revalidate(next_hops),
            Err(error) => log::error!("cannot read the next hops in use: {error:#}"),
        }
    }
}
