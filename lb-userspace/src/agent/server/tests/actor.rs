//! An agent without a dataplane: it owns a real desired state and answers the real commands from it.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Instant,
};

use lb_common::abi::TagsEntry;
use tokio::sync::{mpsc, watch};

use super::super::{ApiSocket, serve};
use crate::agent::drains::Drains;
use crate::agent::handle::{AgentHandle, Command, RequestError};
use crate::agent::preview::preview;
use crate::agent::queue::{Proposal, Queue};
use crate::agent::sources::Sources;
use crate::config::DataplaneConfig;
use crate::supervise::{Supervisor, Vitals};
use lb_api::{
    Applied,
    checkpoint::SavingView,
    client::Client,
    packet,
    plan::PlanView,
    quic::QuicView,
    view::{
        BackendState, BackendView, DataplaneOrigin, ExplainView, ServiceStats, ServiceView, ServicesView,
        StatsView, StatusView, StopView, Totals,
    },
};
use lb_core::desired::{AdminState, Backend, Change, Service, Services, Span};
use lb_core::plan::{Availability, BackendRef, Capacity, Layout, NextHop, Observed, TunnelSources};

/// A served agent in a directory of its own; it ends when this is dropped.
pub(crate) struct Lab {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) client: Client,
    _stop: watch::Sender<()>,
}

impl Lab {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("lb.sock");
        let config = directory.path().join("lb.toml");
        let (queue, commands) = Queue::channel();
        let sources = Sources::new(Some(&config)).expect("sources");
        let agent = AgentHandle::new(queue, Arc::new(sources));
        tokio::spawn(
            Actor {
                services: Services::default(),
                drains: Drains::default(),
                generation: 0,
            }
            .run(commands),
        );
        let (stop, stopped) = watch::channel(());
        let bound = ApiSocket::bind(&socket).expect("a socket");
        let supervisor = Supervisor::new("the API", &Vitals::default());
        tokio::spawn(serve(bound, agent, stopped, supervisor));
        Self {
            client: Client::new(&socket),
            directory,
            _stop: stop,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("lb.sock")
    }
}

struct Actor {
    services: Services,
    drains: Drains,
    generation: u64,
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            self.end_drains();
            // A reader that went away needs no answer.
            match command {
                Command::Services { name, reply } => drop(reply.send(self.services(name.as_ref()))),
                Command::Status(reply) => drop(reply.send(self.status())),
                Command::Stats(reply) => drop(reply.send(self.stats())),
                Command::Drains(reply) => {
                    let view = self.drains.all(&self.services, self.generation, Instant::now());
                    drop(reply.send(view));
                }
                Command::Write {
                    proposal,
                    expected,
                    reply,
                } => drop(reply.send(self.write(proposal, expected))),
                Command::Plan {
                    proposal,
                    expected,
                    reply,
                } => drop(reply.send(self.preview(proposal.into_change(), expected))),
                Command::SaveCheckpoint(reply) => drop(reply.send(Err(no_checkpoints()))),
                Command::Checkpoints(reply) => drop(reply.send(Err(no_checkpoints()))),
                Command::LoadCheckpoint { number, reply } => {
                    drop(reply.send(Err(RequestError::NoCheckpoint(number))));
                }
                Command::Restore { reply, .. } => drop(reply.send(Err(no_checkpoints()))),
                Command::Explain {
                    frame,
                    is_for_interface: _,
                    interface,
                    reply,
                } => drop(reply.send(explain(&frame, interface.as_deref()))),
                Command::Stop { detach, reply } => {
                    drop(reply.send(Ok(stopped(detach))));
                    return;
                }
            }
        }
    }

    fn write(&mut self, proposal: Proposal, expected: Option<u64>) -> Result<Applied, RequestError> {
        if let Proposal::Change(change) = proposal {
            return self.change(*change, expected);
        }
        let applied = self.change(proposal.into_change(), expected)?;
        Ok(Applied {
            removed: Some(Vec::new()),
            ..applied
        })
    }

    fn change(&mut self, change: Change, expected: Option<u64>) -> Result<Applied, RequestError> {
        let begin = Instant::now();
        self.check_generation(expected)?;
        let next = self.services.after(change)?;
        let names = self.services.differing(&next).cloned().collect();
        self.services = next;
        self.generation += 1;
        self.drains.follow(&self.services, &names, Instant::now());
        let apply_us = begin.elapsed().as_micros().try_into().expect("a short time");
        Ok(Applied {
            generation: self.generation,
            apply_us,
            saved: true,
            removed: None,
        })
    }

    fn check_generation(&self, expected: Option<u64>) -> Result<(), RequestError> {
        match expected.filter(|expected| *expected != self.generation) {
            None => Ok(()),
            Some(expected) => Err(RequestError::Conflict {
                expected,
                actual: self.generation,
            }),
        }
    }

    /// Every backend has a hundred flows, and the tables are those of a balancer that has just been started.
    fn preview(&self, change: Change, expected: Option<u64>) -> Result<PlanView, RequestError> {
        self.check_generation(expected)?;
        let next = self.services.after(change)?;
        let capacity = Capacity {
            services: 100,
            targets: 2000,
            slots: 1 << 20,
            flows: 4096,
            nat_flows: 4096,
        };
        let empty = Layout::new(capacity, 1);
        let pools = empty.pools(&self.services, &AllIsWell);
        let present = empty.plan(pools, self.generation, Instant::now());
        let layout = present.expect("room for what is there").layout;
        let services = preview(&layout, &self.services, &next, &AllIsWell, |_| 100)
            .map_err(|error| RequestError::Capacity(error.to_string()))?;
        Ok(PlanView {
            generation: self.generation,
            services,
        })
    }

    /// Nobody is down, and no packet ever comes: drains end when their backends have been silent for long enough.
    fn end_drains(&mut self) {
        self.drains.observe_packets(|_| 0, Instant::now());
        let over = self.drains.outcomes(|_| false, Instant::now());
        if over.is_empty() {
            return;
        }
        let names = over
            .iter()
            .map(|over| (over.backend_ref.service.clone(), over.backend_ref.backend));
        let before = self.services.clone();
        let ended = self.change(Change::EndDrains(names.collect()), None);
        let generation = ended.expect("a drain can end").generation;
        self.drains.remember(over, &before, generation);
    }

    fn services(&self, name: Option<&lb_core::desired::ServiceName>) -> ServicesView {
        let services = self
            .services
            .iter()
            .filter(|service| name.is_none_or(|name| service.name == *name))
            .map(|service| self.service_view(service))
            .collect();
        ServicesView {
            generation: self.generation,
            outages: Vec::new(),
            services,
        }
    }

    fn service_view(&self, service: &Service) -> ServiceView {
        ServiceView {
            name: service.name.to_string(),
            vips: service.vips.clone(),
            protocol: service.protocol,
            port: service.port,
            forwarder: service.forwarder,
            tunnel_port: service.tunnel_port,
            scheduler: service.scheduler,
            affinity: service.affinity,
            on_empty: service.on_empty,
            unserved: service.unserved,
            ttl_expired: service.ttl_expired,
            mss_clamp: service.mss_clamp,
            fragments: service.fragments,
            source: service.source.clone(),
            quic: service.quic.as_ref().map(QuicView::from),
            tracking: service.tracking,
            window: Span::nearest(service.window_in_use()),
            idle: Span::nearest(service.idle_in_use()),
            drain_deadline: Span::nearest(service.drain_deadline_in_use()),
            check: service.check.clone(),
            slots: service.slots.unwrap_or(4096),
            packets: 0,
            bytes: 0,
            flows: 0,
            backends: service
                .backends
                .iter()
                .map(|b| self.backend_view(service, b))
                .collect(),
        }
    }

    fn backend_view(&self, service: &Service, backend: &Backend) -> BackendView {
        let backend_ref = BackendRef {
            service: service.name.clone(),
            backend: backend.id(),
        };
        BackendView {
            address: backend.address,
            port: backend.port,
            weight: backend.weight,
            state: match backend.state {
                AdminState::Ready => BackendState::Checking,
                AdminState::Drain | AdminState::Leaving => BackendState::Drain,
                AdminState::Maint => BackendState::Maint,
            },
            zone: backend.zone.clone(),
            forwarder: backend.forwarder,
            vlan: backend.vlan,
            server_id: backend.server_id.clone(),
            drain: self.drains.view(&backend_ref, backend, Instant::now()),
            reason: Some("not checked yet".into()),
            since: 0.0,
            share: 0.0,
            packets: 0,
            bytes: 0,
            flows: 0,
            packets_per_second: 0.0,
            bits_per_second: 0.0,
            flows_per_second: 0.0,
        }
    }

    fn status(&self) -> StatusView {
        StatusView {
            version: env!("CARGO_PKG_VERSION").into(),
            abi_version: 1,
            pid: std::process::id(),
            uptime_seconds: 1.0,
            generation: self.generation,
            config: None,
            origin: DataplaneOrigin::New,
            pin_dir: None,
            interfaces: Vec::new(),
            services: self.services.len() as u64,
            backends: self.services.iter().map(|s| s.backends.len() as u64).sum(),
            backends_up: 0,
            targets_used: 0,
            targets_capacity: 16_384,
            slots_used: 0,
            slots_capacity: 8_388_608,
            flows_tracked: 0,
            flows_capacity: 1 << 20,
            fullnat_sources: Vec::new(),
            nat_flows_capacity: 1 << 18,
            slots_unsafe: 0,
            last_sweep_us: 0,
            map_bytes: Vec::new(),
            last_apply_us: 0,
            hash_seed: "0x0000000000000001".into(),
            checkpoint: SavingView::default(),
            drift: false,
            outages: Vec::new(),
            warnings: vec!["this agent has no dataplane".into()],
        }
    }

    fn stats(&self) -> StatsView {
        let line = |s: &Service| ServiceStats {
            tracking: Default::default(),
            connection_ids: Default::default(),
            name: s.name.to_string(),
            packets: 0,
            bytes: 0,
            flows: 0,
        };
        let services = self.services.iter().map(|s| line(s)).collect();
        StatsView {
            generation: self.generation,
            reasons: Vec::new(),
            services,
            totals: Totals::default(),
        }
    }
}

/// Every backend is up and next door.
struct AllIsWell;

impl Observed for AllIsWell {
    fn availability(&self, _: &Service, _: &Backend) -> Availability {
        Availability::Up
    }

    fn next_hop(&self, _: IpAddr) -> Option<NextHop> {
        Some(NextHop {
            interface: 2,
            destination_mac: [2, 0, 0, 0, 0, 1],
            source_mac: [2, 0, 0, 0, 0, 2],
            mtu: 1500,
            on_link: true,
            tags: TagsEntry::NONE,
        })
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        static SOURCES: LazyLock<TunnelSources> = LazyLock::new(|| {
            let DataplaneConfig {
                tunnel_source_v4: v4,
                tunnel_source_v6: v6,
                ..
            } = DataplaneConfig::default();
            TunnelSources { v4, v6 }
        });
        &SOURCES
    }

    fn only_interface(&self) -> Option<u32> {
        None
    }
}

fn no_checkpoints() -> RequestError {
    RequestError::NotSaved("this agent has no state directory".into())
}

fn explain(frame: &[u8], interface: Option<&str>) -> Result<ExplainView, RequestError> {
    if interface.is_some_and(|name| name != "eth0") {
        return Err(RequestError::Refused(
            "the agent does not serve that interface".into(),
        ));
    }
    Ok(ExplainView {
        action: "pass".into(),
        reason: "no-service".into(),
        reason_code: 1,
        meaning: "The packet is for no service.".into(),
        service: None,
        backend: None,
        placement: "slot".to_owned(),
        placement_meaning: "By its slot.".to_owned(),
        slot: None,
        interface: "eth0".into(),
        outages: Vec::new(),
        in_hex: packet::to_hex(frame),
        out_hex: Some(packet::to_hex(frame)),
    })
}

fn stopped(detach: bool) -> StopView {
    StopView {
        pid: Some(std::process::id()),
        forwarding: !detach,
        pin_dir: Some("/sys/fs/bpf/lb".into()),
        interfaces: Vec::new(),
        removed: if detach {
            vec!["the program on eth0".into()]
        } else {
            Vec::new()
        },
        left: Vec::new(),
    }
}
