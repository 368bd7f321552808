//! The drains under way: when each began, what is left of it, and when it is over.
//!
//! Invariant: there is a drain for each backend that the desired state lets run dry, and for no other; it ends by what is known
//! of it, never by the time of day. A pure state machine: it is told the time.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lb_api::view::{DrainEnd, DrainView, DrainingView, DrainsView, EndedView};
use lb_core::desired::{Backend, Service, ServiceName, Services, Span};
use lb_core::observed::DrainState;
use lb_core::plan::BackendRef;

/// Every drain, and how the last ones ended.
#[derive(Debug, Default)]
pub struct Drains {
    under_way: HashMap<BackendRef, Drain>,
    ended: VecDeque<EndedView>,
    /// From before this agent, until the desired state has been seen.
    restored: HashMap<BackendRef, Duration>,
}

/// One drain.
#[derive(Debug)]
struct Drain {
    began: Instant,
    /// How long it had been running when this agent took it over.
    before: Duration,
    terms: Terms,
    /// What its backend had been sent and had answered when that was looked at last.
    packets: Option<u64>,
    /// When that was last found to have grown.
    last_packet: Instant,
    /// How many entries of the flow table were its backend's, and when they were counted.
    flows: Option<(u64, Instant)>,
}

/// What a drain is measured by.
#[derive(Clone, Copy, Debug)]
struct Terms {
    deadline: Duration,
    window: Duration,
    idle: Duration,
}

impl Terms {
    fn of(service: &Service, backend: &Backend) -> Self {
        Self {
            deadline: backend
                .deadline
                .map_or_else(|| service.drain_deadline_in_use(), Span::get),
            window: service.window_in_use(),
            idle: service.idle_in_use(),
        }
    }
}

/// A drain that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainOutcome {
    /// The backend.
    pub backend_ref: BackendRef,
    /// Why.
    pub end: DrainEnd,
    /// Its flows when they were counted last.
    pub flows: Option<u64>,
}

impl Drains {
    /// How many ended drains are remembered, for those who wait for them.
    const REMEMBERED: usize = 4096;

    /// The drains that [`Drains::states`] told at `written`, which go on; until the desired state is followed they wait. `passed` is
    /// the time since then, as far as it is known: what the clock on the wall shows now says nothing about it.
    pub(crate) fn restored(states: Vec<DrainState>, written: SystemTime, passed: Duration) -> Self {
        let age = |since| written.duration_since(since).unwrap_or_default() + passed;
        let restored = states.into_iter().map(
            |DrainState {
                 service,
                 backend,
                 since,
             }| (BackendRef { service, backend }, age(since)),
        );
        Self {
            restored: restored.collect(),
            ..Self::default()
        }
    }

    /// The drains under way, for a later agent.
    pub(crate) fn states(&self, now: Instant, wall: SystemTime) -> Vec<DrainState> {
        let state = |(backend_ref, drain): (&BackendRef, &Drain)| DrainState {
            service: backend_ref.service.clone(),
            backend: backend_ref.backend,
            since: wall.checked_sub(drain.age(now)).unwrap_or(UNIX_EPOCH),
        };
        self.under_way.iter().map(state).collect()
    }

    /// Begins and gives up drains of the services `names` as the desired state asks for. A drain that goes on keeps its start,
    /// though its terms may be others.
    pub fn follow(&mut self, services: &Services, names: &BTreeSet<ServiceName>, now: Instant) {
        let restored = std::mem::take(&mut self.restored);
        let concerns = |backend_ref: &BackendRef| names.contains(&backend_ref.service);
        let mut before: HashMap<BackendRef, Drain> = self
            .under_way
            .extract_if(|backend_ref, _| concerns(backend_ref))
            .collect();
        let present = names.iter().filter_map(|name| services.get(name));
        for (service, backend) in present.flat_map(|service| draining_of(service)) {
            let backend_ref = backend_ref(service, backend);
            let terms = Terms::of(service, backend);
            let drain = match before.remove(&backend_ref) {
                Some(drain) => Drain { terms, ..drain },
                None => Drain {
                    began: now,
                    before: restored.get(&backend_ref).copied().unwrap_or_default(),
                    terms,
                    packets: None,
                    last_packet: now,
                    flows: None,
                },
            };
            self.under_way.insert(backend_ref, drain);
        }
    }

    /// Whether none is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Takes in what each backend has been sent and has answered in all.
    pub fn observe_packets(&mut self, packets: impl Fn(&BackendRef) -> u64, now: Instant) {
        for (backend_ref, drain) in &mut self.under_way {
            let packets = packets(backend_ref);
            if drain.packets.replace(packets).is_some_and(|seen| seen != packets) {
                drain.last_packet = now;
            }
        }
    }

    /// Takes in how many entries of the flow table each backend has; those who are not named have none.
    pub fn observe_flows(&mut self, flows: &HashMap<BackendRef, u64>, now: Instant) {
        for (backend_ref, drain) in &mut self.under_way {
            drain.flows = Some((flows.get(backend_ref).copied().unwrap_or(0), now));
        }
    }

    /// The drains that are over.
    pub fn outcomes(&self, is_down: impl Fn(&BackendRef) -> bool, now: Instant) -> Vec<DrainOutcome> {
        let over = |(backend_ref, drain): (&BackendRef, &Drain)| {
            Some(DrainOutcome {
                backend_ref: backend_ref.clone(),
                end: if is_down(backend_ref) {
                    DrainEnd::Down
                } else {
                    drain.end(now)?
                },
                flows: drain.flows.map(|(flows, _)| flows),
            })
        };
        self.under_way.iter().filter_map(over).collect()
    }

    /// Remembers how drains ended, for those who wait for them; `before` is the desired state that they were part of.
    pub(crate) fn remember(&mut self, over: Vec<DrainOutcome>, before: &Services, generation: u64) {
        for DrainOutcome {
            backend_ref,
            end,
            flows,
        } in over
        {
            let service = before.get(&backend_ref.service);
            let Some(backend) = service.and_then(|service| service.backend(backend_ref.backend)) else {
                continue;
            };
            self.ended.push_back(EndedView {
                service: backend_ref.service,
                backend: backend_ref.backend,
                zone: backend.zone.clone(),
                leaving: backend.leaves(),
                end,
                flows,
                generation,
            });
        }
        let surplus = self.ended.len().saturating_sub(Self::REMEMBERED);
        self.ended.drain(..surplus);
    }

    /// How the drain of that backend stands, if it drains.
    pub(crate) fn view(
        &self,
        backend_ref: &BackendRef,
        backend: &Backend,
        now: Instant,
    ) -> Option<DrainView> {
        let drain = self.under_way.get(backend_ref)?;
        Some(DrainView {
            leaving: backend.leaves(),
            flows: drain.flows.map(|(flows, _)| flows),
            silent_seconds: drain.silence(now).as_secs_f64(),
            over_in_seconds: drain.over_in(now).as_secs_f64(),
            ends_in_seconds: drain.left(now).as_secs_f64(),
        })
    }

    /// All drains, and those that ended of late.
    pub(crate) fn all(&self, services: &Services, generation: u64, now: Instant) -> DrainsView {
        let each = draining(services).filter_map(|(service, backend)| {
            Some(DrainingView {
                service: service.name.clone(),
                backend: backend.id(),
                zone: backend.zone.clone(),
                drain: self.view(&backend_ref(service, backend), backend, now)?,
            })
        });
        DrainsView {
            generation,
            drains: each.collect(),
            ended: self.ended.iter().cloned().collect(),
        }
    }
}

impl Drain {
    fn age(&self, now: Instant) -> Duration {
        self.before + now.saturating_duration_since(self.began)
    }

    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_packet)
    }

    /// Time until the deadline.
    fn left(&self, now: Instant) -> Duration {
        self.terms.deadline.saturating_sub(self.age(now))
    }

    /// Time until it is over at the latest if no packet comes any more.
    fn over_in(&self, now: Instant) -> Duration {
        let silence = if self.has_no_flows() {
            self.terms.window
        } else {
            self.terms.idle
        };
        silence.saturating_sub(self.silence(now)).min(self.left(now))
    }

    /// Whoever has sent a packet within the window has an entry: a count from after the last packet has all.
    fn has_no_flows(&self) -> bool {
        self.flows
            .is_some_and(|(flows, at)| flows == 0 && at >= self.last_packet)
    }

    /// Why it is over; `None` while it is not.
    fn end(&self, now: Instant) -> Option<DrainEnd> {
        let silence = self.silence(now);
        if self.has_no_flows() && silence >= self.terms.window {
            Some(DrainEnd::NoFlows)
        } else if silence >= self.terms.idle {
            Some(DrainEnd::Silent)
        } else if self.left(now).is_zero() {
            Some(DrainEnd::Deadline)
        } else {
            None
        }
    }
}

fn draining(services: &Services) -> impl Iterator<Item = (&Service, &Backend)> {
    services.iter().flat_map(|service| draining_of(service))
}

fn draining_of(service: &Service) -> impl Iterator<Item = (&Service, &Backend)> {
    let backends = service.backends.iter().filter(|backend| backend.drains());
    backends.map(move |backend| (service, backend))
}

fn backend_ref(service: &Service, backend: &Backend) -> BackendRef {
    BackendRef {
        service: service.name.clone(),
        backend: backend.id(),
    }
}

#[cfg(test)]
mod tests;
