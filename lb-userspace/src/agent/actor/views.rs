//! What the agent answers when it is asked.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use lb_common::abi::{ABI_VERSION, Action, Reason, TargetCounters, TrackingCounters};

use crate::agent::actor::Actor;
use crate::dataplane::{Attached, DataplaneSource};
use crate::netlink::Resolution;
use lb_api::{
    quic::QuicView,
    view::{
        BackendView, ConnectionIdsView, DataplaneOrigin, InterfaceView, MapView, ReasonView, ServiceStats,
        ServiceView, ServicesView, SourceView, StatsView, StatusView, Totals, TrackingView,
    },
};
use lb_core::desired::{Backend, Forwarder, Service, ServiceName, Span};
use lb_core::plan::{BackendRef, BackendState, PoolKey};

impl Actor {
    /// All services, or only the one of that `name`, which costs what that one costs.
    pub(in crate::agent) fn services_view(&mut self, name: Option<&ServiceName>) -> ServicesView {
        match name {
            None => self.sample(),
            Some(name) => {
                let cells: Vec<_> = self.parts.layout.owners_of(name).collect();
                self.sample_cells(&cells);
            }
        }
        let services: Vec<ServiceView> = match name {
            None => self
                .services
                .iter()
                .map(|service| self.service_view(service))
                .collect(),
            Some(name) => self
                .services
                .get(name)
                .map(|service| self.service_view(service))
                .into_iter()
                .collect(),
        };
        ServicesView {
            generation: self.generation,
            outages: self.outages(),
            services,
        }
    }

    fn service_view(&self, service: &Service) -> ServiceView {
        let mut shares = HashMap::new();
        let mut slots = 0;
        for pool in self.pools(service) {
            let of = pool.slots().max(1) as f64;
            shares.extend(
                pool.owned()
                    .into_iter()
                    .map(|(id, owned)| (id, owned as f64 / of)),
            );
            slots = slots.max(pool.slots() as u32);
        }
        let backend = |backend: &Backend| {
            self.backend_view(
                service,
                backend,
                shares.get(&backend.id()).copied().unwrap_or(0.0),
            )
        };
        let backends: Vec<BackendView> = service.backends.iter().map(backend).collect();
        let sum = |of: fn(&BackendView) -> u64| backends.iter().map(of).sum();
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
            slots,
            packets: sum(|b| b.packets),
            bytes: sum(|b| b.bytes),
            flows: sum(|b| b.flows),
            backends,
        }
    }

    fn backend_view(&self, service: &Service, backend: &Backend, share: f64) -> BackendView {
        let id = backend.id();
        let backend_ref = BackendRef {
            service: service.name.clone(),
            backend: id,
        };
        let figures = self.tally.of(&backend_ref);
        let TargetCounters {
            packets,
            bytes,
            flows,
            ..
        } = figures.total;
        let [packets_per_second, bytes_per_second, flows_per_second] = figures.rates;
        let (state, since) = self
            .backend_states
            .of(&service.name, id)
            .unwrap_or((BackendState::Checking, SystemTime::now()));
        BackendView {
            address: backend.address,
            port: backend.port,
            weight: backend.weight,
            state,
            zone: backend.zone.clone(),
            forwarder: backend.forwarder,
            vlan: backend.vlan,
            server_id: backend.server_id.clone(),
            drain: self.drains.view(&backend_ref, backend, Instant::now()),
            reason: self.reason(service, backend, state),
            since: since
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |since| since.as_secs_f64()),
            share,
            packets,
            bytes,
            flows,
            packets_per_second,
            bits_per_second: bytes_per_second * 8.0,
            flows_per_second,
        }
    }

    fn pools(&self, service: &Service) -> impl Iterator<Item = lb_core::plan::PoolView<'_>> {
        PoolKey::of(service).filter_map(|key| self.parts.layout.pool(&key))
    }

    /// Why a backend has its state; for one that is up, its last failure.
    pub(in crate::agent) fn reason(
        &self,
        service: &Service,
        backend: &Backend,
        state: BackendState,
    ) -> Option<String> {
        if state == BackendState::Unresolved {
            return Some(self.unresolved(service, backend));
        }
        let status = self.parts.engine.status(&service.probe_target(backend)?)?;
        status.last_failure.map(|failure| failure.reason)
    }

    fn unresolved(&self, service: &Service, backend: &Backend) -> String {
        let address = backend.address;
        let is_local = backend.forwarder_in_use(service) == Forwarder::Local;
        match self.parts.observed.hops.get(&address) {
            Some(Resolution::Resolved(_) | Resolution::Unresolved { .. }) if is_local => {
                format!("{address} is no address of this host: the local forwarder needs one that is")
            }
            Some(Resolution::Own) if !is_local => {
                format!("{address} is this host: only the local forwarder leaves packets to it")
            }
            Some(Resolution::Unresolved { reason }) => reason.clone(),
            Some(Resolution::Resolved(hop))
                if let Some(why) = self.parts.observed.closed.get(&hop.interface_index) =>
            {
                why.clone()
            }
            Some(Resolution::Resolved(hop)) if let Some(gateway) = hop.gateway => {
                format!(
                    "{address} is behind the gateway {gateway}: l2dsr needs backends on the same link, use ipip"
                )
            }
            Some(Resolution::Resolved(_) | Resolution::Own) | None => {
                format!("the way to {address} is being looked up")
            }
        }
    }

    pub(in crate::agent) fn status_view(&self) -> StatusView {
        let (backends, backends_up) = self.backend_states.counts();
        let (targets, slots) = self.parts.layout.used();
        let capacity = self.parts.capacity;
        let program_id = self.parts.dataplane.program_id().unwrap_or(0);
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            pid: std::process::id(),
            uptime_seconds: self.started.0.elapsed().as_secs_f64(),
            generation: self.generation,
            config: self.parts.config_path.clone(),
            origin: match self.parts.dataplane.origin() {
                DataplaneSource::New => DataplaneOrigin::New,
                DataplaneSource::Adopted => DataplaneOrigin::Adopted,
            },
            pin_dir: self.parts.dataplane.pins().map(|pins| pins.path().to_owned()),
            interfaces: self
                .parts
                .attached
                .iter()
                .map(|attached| interface(attached, program_id))
                .collect(),
            services: self.services.len() as u64,
            backends,
            backends_up,
            targets_used: u64::from(targets),
            targets_capacity: u64::from(capacity.targets),
            slots_used: u64::from(slots),
            slots_capacity: u64::from(capacity.slots),
            flows_tracked: self.sweeper.live,
            flows_capacity: u64::from(capacity.flows),
            fullnat_sources: self.sources(),
            nat_flows_capacity: u64::from(capacity.nat_flows),
            slots_unsafe: self.parts.layout.migrating_slots(),
            last_sweep_us: self.sweeper.took().as_micros() as u64,
            map_bytes: self.map_bytes(),
            last_apply_us: self.last_apply.as_micros() as u64,
            hash_seed: format!("{:#018x}", self.parts.layout.seed()),
            checkpoint: self.parts.persist.view(),
            drift: self.parts.persist.drifts(&self.services),
            outages: self.outages(),
            warnings: self.warnings(),
        }
    }

    /// The addresses of the pool, and those of an earlier one that flows still come from.
    pub(in crate::agent) fn sources(&self) -> Vec<SourceView> {
        let (pool, ports) = &self.parts.sources;
        let ports = u64::from(ports.last().get() - ports.first().get()) + 1;
        let addresses: BTreeSet<IpAddr> = pool.iter().chain(self.sweeper.nat.used.keys()).copied().collect();
        let view = |address: IpAddr| {
            let usage = self.sweeper.nat.used.get(&address).copied().unwrap_or_default();
            SourceView {
                address,
                flows: usage.flows,
                used: usage.busiest,
                total: if pool.contains(&address) { ports } else { 0 },
            }
        };
        addresses.into_iter().map(view).collect()
    }

    fn map_bytes(&self) -> Vec<MapView> {
        match self.parts.dataplane.memory() {
            Ok(maps) => maps
                .into_iter()
                .map(|(map, bytes)| MapView { map, bytes })
                .collect(),
            Err(error) => {
                log::error!("cannot ask the kernel about its maps: {error:#}");
                Vec::new()
            }
        }
    }

    pub(in crate::agent) fn stats_view(&mut self) -> StatsView {
        let ServicesView {
            generation, services, ..
        } = self.services_view(None);
        let counters = self.parts.dataplane.counters();
        let tracking = |name: &str| {
            let service = self.services.get(&name.parse().ok()?)?;
            let counters = counters.as_ref().ok()?;
            let pools = self.pools(service);
            Some(sum(pools.filter_map(|pool| counters.tracking(pool.number()).ok())))
        };
        let services: Vec<ServiceStats> = services
            .into_iter()
            .map(
                |ServiceView {
                     name,
                     packets,
                     bytes,
                     flows,
                     ..
                 }| {
                    let tracked = tracking(&name).unwrap_or_default();
                    ServiceStats {
                        name,
                        packets,
                        bytes,
                        flows,
                        tracking: tracking_view(&tracked),
                        connection_ids: ConnectionIdsView {
                            routed: tracked.routed,
                            unroutable: tracked.unroutable,
                        },
                    }
                },
            )
            .collect();
        let mut totals = Totals::default();
        for service in &services {
            totals.packets += service.packets;
            totals.bytes += service.bytes;
            totals.flows += service.flows;
        }
        let count = |reason: Reason| match reason {
            // Counted with their targets.
            Reason::Forwarded => totals.packets,
            Reason::Returned => self.tally.returned(),
            _ => counters
                .as_ref()
                .ok()
                .and_then(|c| c.reason(reason).ok())
                .unwrap_or(0),
        };
        let reasons = Reason::ALL.iter().map(|reason| ReasonView {
            code: reason.number(),
            name: reason.name().to_owned(),
            action: action_name(reason.action()).to_owned(),
            meaning: reason.meaning().to_owned(),
            packets: count(*reason),
        });
        StatsView {
            generation,
            reasons: reasons.collect(),
            services,
            totals,
        }
    }
}

/// The sum over a service's pools.
fn sum(pools: impl Iterator<Item = TrackingCounters>) -> TrackingCounters {
    let mut sum = TrackingCounters::default();
    pools.for_each(|pool| sum.add(&pool));
    sum
}

fn tracking_view(tracked: &TrackingCounters) -> TrackingView {
    let TrackingCounters {
        hits,
        inserted,
        adopted,
        evicted,
        refused,
        ..
    } = *tracked;
    TrackingView {
        hits,
        inserted,
        adopted,
        evicted,
        refused,
    }
}

fn interface(attached: &Attached, program_id: u32) -> InterfaceView {
    InterfaceView {
        name: attached.interface.name.clone(),
        index: attached.interface.index,
        mode: attached.mode,
        driver: Some(attached.interface.driver.clone()),
        program_id,
        link_id: attached.link_id,
    }
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Send => "tx",
        Action::Hand => "host",
    }
}
