//! One run: clients send, operators change, the agent sweeps, and every packet is checked.
//!
//! What must hold: a flow's owner is whoever got its first packet, and nothing but that packet tells.

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Result;
use lb_api::view::DrainEnd;
use lb_common::{
    abi::Reason,
    net::{SCTP, TCP, UDP},
    pipeline::{Outcome, process},
};
use lb_core::desired::{AdminState, Backend, BackendId, Change, Protocol, Service, ServiceName};
use lb_userspace::agent::drains::Drains;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    balancer::Balancer,
    frame::{Frame, Template},
    hosts::{Host, Life, Lives},
    kinds::{Kind, Mix},
    operator::Operator,
    rivals::{Choice, Front},
    services::Plot,
    tally::Tally,
    wheel::{TICK_MILLIS, Wheel},
    workload::{ACKNOWLEDGMENTS, End, Flow, Pauses, Stage, exponential},
};

/// What is run.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) plots: &'static [Plot],
    pub(super) mix: Mix,
    pub(super) seed: u64,
    pub(super) flows: u64,
    pub(super) changes: u64,
    /// Entries of the flow table.
    pub(super) entries: u32,
    /// From one change to the next, on average.
    pub(super) pace: Duration,
    /// Whether changes come in heaps, and what follows from one does not wait for its turn.
    pub(super) overlaps: bool,
}

impl Scenario {
    /// Name of the run with one change a minute.
    pub(super) const ORDINARY: &str = "ordinary";
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 0x04;
/// Ticks of a second, about.
const SECOND: u64 = 1000 / TICK_MILLIS;
/// By then a sweep has been made, however the last ones fell.
const SWEEP: u64 = 4 * SECOND;

/// Whether that backend is to have new flows.
fn takes(backend: &&Backend) -> bool {
    backend.state == AdminState::Ready && backend.weight > 0
}
/// Before the first change, flows gather.
const WARM_UP: u64 = 300 * SECOND;
/// After the last change and the last new flow, flows go on so long.
const COOL_DOWN: u64 = 300 * SECOND;
/// Packets between two writes of a change.
const BETWEEN_WRITES: usize = 4;

/// A service, and its backends that live.
type Serving = (Arc<Service>, Vec<BackendId>);

/// A service as its clients know it.
struct Face {
    name: ServiceName,
    protocol: Protocol,
    vips: [IpAddr; 2],
    templates: [Template; 2],
    fronts: [Front; 2],
    pauses: Pauses,
    /// The service and its backends that live, and when either changed last.
    last_change: (Option<Serving>, u64),
    /// Packets that each host has got.
    packets: Vec<u64>,
}

/// A run under way.
pub(super) struct Run {
    scenario: Scenario,
    balancer: Balancer,
    operator: Operator,
    drains: Drains,
    lives: Lives,
    faces: Vec<Face>,
    /// One entry of a service's number for each part of the flows that it gets.
    parts: Vec<u8>,
    wheel: Wheel,
    frame: Frame,
    flows: Vec<Flow>,
    free: Vec<u32>,
    sockets: u32,
    live: u64,
    tally: Tally,
    rng: StdRng,
    tick: u64,
    next_change: u64,
    arrivals: f64,
}

impl Run {
    pub(super) fn new(scenario: Scenario) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let numbered = || (0..).zip(scenario.plots);
        let services: Vec<_> = numbered()
            .map(|(n, plot)| plot.service(n))
            .collect::<Result<_>>()?;
        let names: Vec<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        let protocols: Vec<Protocol> = services.iter().map(|service| service.protocol).collect();
        let balancer = Balancer::new(services, scenario.entries, rng.random())?;
        let mut faces = Vec::new();
        for ((number, name), protocol) in (0..).zip(&names).zip(protocols) {
            let vips = Plot::vips(number);
            let [v4, v6] = vips.map(|vip| Template::new(vip, Plot::PORT, protocol));
            faces.push(Face {
                name: name.clone(),
                protocol,
                vips,
                templates: [v4?, v6?],
                fronts: Default::default(),
                pauses: Pauses::new(protocol),
                last_change: (None, 0),
                packets: vec![0; usize::from(Host::MOST)],
            });
        }
        let parts = numbered().flat_map(|(n, plot)| std::iter::repeat_n(n, plot.part as usize));
        let operator_rng = StdRng::seed_from_u64(rng.random());
        let mut run = Self {
            operator: Operator::new(names, &balancer.services, scenario.mix, operator_rng),
            balancer,
            drains: Drains::default(),
            lives: Lives::new(scenario.plots.len()),
            faces,
            parts: parts.collect(),
            wheel: Wheel::new(),
            frame: Frame::new(),
            flows: Vec::new(),
            free: Vec::new(),
            sockets: 0,
            live: 0,
            tally: Tally::default(),
            rng,
            tick: 0,
            next_change: WARM_UP,
            arrivals: 0.0,
            scenario,
        };
        run.after_change(&[]);
        run.find_fronts();
        Ok(run)
    }

    /// Runs to the end; `progress` is called now and then with what has been counted so far.
    ///
    /// # Errors
    /// When the planner refuses to follow what is known.
    pub(super) fn run(mut self, mut progress: impl FnMut(&Tally)) -> Result<Tally> {
        let mut due = Vec::new();
        let mut end = None;
        loop {
            self.tick += 1;
            self.balancer.at(self.tick);
            self.wheel.advance(&mut due);
            self.change()?;
            if self.tick.is_multiple_of(SECOND) {
                self.each_second();
            }
            self.arrive();
            for (i, flow) in due.iter().enumerate() {
                if i % BETWEEN_WRITES == 0 && self.balancer.write() {
                    self.find_fronts();
                }
                self.packet(*flow);
            }
            if self.balancer.is_writing() {
                self.balancer.finish_writing();
                self.find_fronts();
            }
            if self.tick.is_multiple_of(SECOND * 256) {
                progress(&self.tally);
            }
            let is_done = self.is_changed() && self.tally.flows >= self.scenario.flows;
            if is_done && *end.get_or_insert(self.tick + COOL_DOWN) <= self.tick {
                self.tally.refused = self.balancer.refused();
                return Ok(self.tally);
            }
        }
    }

    fn is_changed(&self) -> bool {
        self.tally.all_changes() >= self.scenario.changes
    }

    fn change(&mut self) -> Result<()> {
        let is_turn = self.tick >= self.next_change;
        let mut made = None;
        if is_turn || self.scenario.overlaps {
            made = self.operator.follow_up(&mut self.balancer, self.tick)?;
        }
        // What has begun is brought to its end, or hosts that are down would stay so.
        if made.is_none() && is_turn && !self.is_changed() {
            made = self.operator.change(&mut self.balancer, self.tick)?;
        }
        let Some(kind) = made else { return Ok(()) };
        *self.tally.changes.entry(kind).or_default() += 1;
        let pace = self.scenario.pace.as_millis() as f64 / TICK_MILLIS as f64;
        let pause = if self.scenario.overlaps {
            exponential(&mut self.rng, pace)
        } else {
            pace
        };
        self.next_change = self.tick + pause as u64;
        self.after_change(&[]);
        Ok(())
    }

    /// The desired state or what is known has changed: who lives now? Those `in_peace` are gone with no flows left.
    fn after_change(&mut self, in_peace: &[(u8, Host)]) {
        let mut living = HashSet::new();
        for (number, face) in (0..).zip(&mut self.faces) {
            let Some(service) = self.balancer.services.get(&face.name) else {
                continue;
            };
            let lives = |backend: &&Backend| {
                backend.state != AdminState::Maint && self.balancer.known.is_up(&face.name, backend.id())
            };
            let hosts = service.backends.iter().filter(lives);
            living.extend(hosts.map(|backend| (number, Host::of_backend(backend.id()))));
            let hosts = service.backends.iter().filter(lives).map(Backend::id);
            let now = Some((Arc::clone(service), hosts.collect()));
            if face.last_change.0 != now {
                face.last_change = (now, self.tick);
            }
        }
        self.lives.follow(living, in_peace);
        let services = &self.balancer.services;
        self.drains
            .follow(services, &services.names(), self.balancer.now());
    }

    fn find_fronts(&mut self) {
        for face in &mut self.faces {
            let protocol = match face.protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
                Protocol::Sctp => SCTP,
            };
            face.fronts = face
                .vips
                .map(|vip| Front::find(&self.balancer.memory, vip, Plot::PORT, protocol));
        }
    }

    /// What the agent does once a second.
    fn each_second(&mut self) {
        self.balancer.sweep_in_turn();
        self.find_fronts();
        let peak = self.balancer.take_peak();
        if self.tick > WARM_UP && self.live > 0 {
            let share = peak as f64 / self.live as f64;
            self.tally.peak_share = self.tally.peak_share.max(share);
            if !self.is_changed() {
                self.tally.shares.0 += share;
                self.tally.shares.1 += 1;
            }
        }
        self.end_drains();
    }

    fn end_drains(&mut self) {
        let now = self.balancer.now();
        let number = |name: &ServiceName| self.faces.iter().position(|face| face.name == *name);
        let packets = |backend_ref: &lb_core::plan::BackendRef| {
            let host = Host::of_backend(backend_ref.backend);
            number(&backend_ref.service).map_or(0, |n| self.faces[n].packets[usize::from(host.0)])
        };
        self.drains.observe_packets(packets, now);
        if let Some(flows) = self.balancer.take_flows() {
            self.drains.observe_flows(&flows, now);
        }
        let known = &self.balancer.known;
        let over = self.drains.outcomes(
            |backend_ref| !known.is_up(&backend_ref.service, backend_ref.backend),
            now,
        );
        if over.is_empty() {
            return;
        }
        let in_peace: Vec<(u8, Host)> = over
            .iter()
            .filter(|over| matches!(over.end, DrainEnd::NoFlows | DrainEnd::Silent))
            .filter_map(|over| {
                Some((
                    number(&over.backend_ref.service)? as u8,
                    Host::of_backend(over.backend_ref.backend),
                ))
            })
            .collect();
        let names = over
            .into_iter()
            .map(|over| (over.backend_ref.service, over.backend_ref.backend));
        if self.balancer.change(Change::EndDrains(names.collect())) {
            *self.tally.changes.entry(Kind::DrainsOver).or_default() += 1;
            self.after_change(&in_peace);
        }
    }

    /// New flows come at an even rate, and never end before the changes do.
    fn arrive(&mut self) {
        let changes = self.scenario.changes as f64 * self.scenario.pace.as_millis() as f64;
        let ticks = changes / TICK_MILLIS as f64 + WARM_UP as f64;
        self.arrivals += self.scenario.flows as f64 / ticks;
        while self.arrivals >= 1.0 {
            self.arrivals -= 1.0;
            self.sockets += 1;
            let service = self.parts[self.rng.random_range(0..self.parts.len())];
            let v6 = self.rng.random_range(0..3) == 0;
            self.begin(self.sockets, service, v6);
        }
    }

    fn begin(&mut self, socket: u32, service: u8, v6: bool) {
        let protocol = self.faces[usize::from(service)].protocol;
        let flow = Flow::new(socket, service, v6, protocol, &mut self.rng);
        let id = match self.free.pop() {
            Some(id) => {
                self.flows[id as usize] = flow;
                id
            }
            None => {
                self.flows.push(flow);
                self.flows.len() as u32 - 1
            }
        };
        self.wheel.schedule(id, self.rng.random_range(1..SECOND as u32));
    }

    /// A flow sends its next packet.
    fn packet(&mut self, id: u32) {
        let mut flow = self.flows[id as usize];
        let is_last = flow.stage == Stage::Open && flow.left == 0;
        let opens = flow.stage == Stage::New;
        let tcp_flags = match flow.end {
            _ if opens => SYN,
            End::Fin | End::HalfClose if is_last => FIN_ACK,
            End::Reset if is_last => RST,
            _ => ACK,
        };
        let sent = self.send(&flow, opens, tcp_flags);
        let next = match flow.stage {
            Stage::New => self.open(&mut flow, sent),
            _ if self.lives.host(flow.owner).is_none() => {
                self.tally.cut += 1;
                None
            }
            _ => self.go_on(&mut flow, sent, is_last),
        };
        self.flows[id as usize] = flow;
        match next {
            Some(pause) => self.wheel.schedule(id, pause),
            None => {
                self.live -= u64::from(flow.owner != Life::NONE);
                self.free.push(id);
                if self.reuses_socket(&flow) {
                    self.begin(flow.socket, flow.service, flow.v6);
                }
            }
        }
    }

    /// Whether the client takes the same port again for its next connection: one in ten does.
    fn reuses_socket(&mut self, flow: &Flow) -> bool {
        let has_ended = flow.stage == Stage::Ended && flow.end != End::Silence;
        let is_due = self.tally.flows < self.scenario.flows;
        has_ended && is_due && self.rng.random_range(0..10) == 0
    }

    /// Takes a packet through the balancer: whom it was sent to, and whom the rivals would have sent it to.
    fn send(&mut self, flow: &Flow, opens: bool, tcp_flags: u8) -> (Host, Choice) {
        let face = &mut self.faces[usize::from(flow.service)];
        let family = usize::from(flow.v6);
        self.frame.load(&face.templates[family], flow.socket, tcp_flags);
        let mut outcome = Outcome::UNDECIDED;
        let reason = process(&mut self.frame, &self.balancer.memory, &mut outcome);
        self.tally.packets += 1;
        let host = if reason == Reason::Forwarded {
            self.frame.host()
        } else {
            Host::NOBODY
        };
        face.packets[usize::from(host.0)] += 1;
        let opens = opens && face.protocol == Protocol::Tcp;
        let choice = face.fronts[family].choose(&self.balancer.memory, outcome.slot, opens);
        (host, choice)
    }

    /// A flow's first packet: whoever got it has the flow.
    fn open(&mut self, flow: &mut Flow, (host, choice): (Host, Choice)) -> Option<u32> {
        if host == Host::NOBODY {
            self.tally.without_backend += 1;
            return Some(self.rng.random_range(SECOND as u32..3 * SECOND as u32));
        }
        self.tally.flows += 1;
        self.live += 1;
        self.tally.most_live = self.tally.most_live.max(self.live);
        let mut life = |host| self.lives.of(flow.service, host);
        flow.owner = life(host);
        flow.stateless = life(choice.stateless);
        flow.syn_rule = life(choice.syn_rule);
        flow.stage = Stage::Open;
        self.check_taker(flow.service, host);
        Some(self.rng.random_range(1..4))
    }

    /// Who drains gets no new flows, from the last write of the change on. UDP flows do not show that they are new: there
    /// it is so once the window is over, and a sweep has found that.
    fn check_taker(&mut self, service: u8, host: Host) {
        let face = &self.faces[usize::from(service)];
        let Some(service) = self.balancer.services.get(&face.name) else {
            return;
        };
        let is_told = face.protocol != Protocol::Udp || {
            let window = service.window_in_use().as_millis() as u64 / TICK_MILLIS;
            self.tick > face.last_change.1 + window + SWEEP
        };
        if !is_told || self.balancer.is_writing() {
            return;
        }
        let backend = service.backend(host.backend());
        self.tally.strays += u64::from(!backend.as_ref().is_some_and(takes));
    }

    /// A later packet: did it reach the owner? When the next one follows, if any does.
    fn go_on(&mut self, flow: &mut Flow, (host, choice): (Host, Choice), is_last: bool) -> Option<u32> {
        let is_lost = |life: Life, host: Host| self.lives.host(life).is_some_and(|owner| owner != host);
        if is_lost(flow.stateless, choice.stateless) {
            flow.stateless = Life::NONE;
            self.tally.stateless_breaks += u64::from(!flow.outside);
        }
        if is_lost(flow.syn_rule, choice.syn_rule) {
            flow.syn_rule = Life::NONE;
            self.tally.syn_rule_breaks += u64::from(!flow.outside);
        }
        if is_lost(flow.owner, host) {
            let counter = if flow.outside {
                &mut self.tally.silent_breaks
            } else {
                &mut self.tally.breaks
            };
            *counter += 1;
            return None;
        }
        if is_last && flow.end == End::Fin {
            flow.stage = Stage::Closing;
            return Some(1);
        }
        if is_last && flow.end == End::HalfClose {
            flow.stage = Stage::HalfClosed;
            flow.left = ACKNOWLEDGMENTS;
        } else if is_last || flow.stage == Stage::Closing || flow.left == 0 {
            flow.stage = Stage::Ended;
            return None;
        }
        flow.left -= 1;
        let pauses = &self.faces[usize::from(flow.service)].pauses;
        let pause = pauses.draw(flow.habit, &mut self.rng);
        if pauses.is_outside(pause) && !flow.outside {
            flow.outside = true;
            self.tally.silent += 1;
        }
        Some(pause)
    }
}
