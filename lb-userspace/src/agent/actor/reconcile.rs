//! How the agent brings the tables in line with the desired and the observed state.
//!
//! Invariant: a change costs what it changes. The agent plans and observes the services that a change or an observation
//! concerns; all others are looked at by and by, which must find nothing.

use std::{
    collections::BTreeSet,
    time::{Instant, SystemTime},
};

use super::{Actor, ActorParts, draining, egress::Review, scope::Scope};
use crate::agent::{
    backend_states::Transition,
    events::Event,
    handle::RequestError,
    observed::{self, Expected},
};
use crate::health::{self, Beliefs};
use crate::netlink::NextHops;
use lb_api::Applied;
use lb_core::desired::{NeedsDelta, Prefix, ServiceName, Services};
use lb_core::plan::{self, BackendRef, Layout, Plan};

/// Services that are looked at once a second, though nothing is known to have changed for them.
const AUDITED_AT_ONCE: usize = 32;

/// What remains to be done for services where it could not be done at once.
#[derive(Debug, Default)]
pub(in crate::agent) struct Reconciler {
    /// Services whose tables stayed as they were although they ought to be others.
    overdue: BTreeSet<ServiceName>,
    /// The service that was audited last.
    audited: Option<ServiceName>,
}

impl Actor {
    /// Makes `next` the desired state, as a generation of its own.
    pub(in crate::agent) fn turn_to(&mut self, next: Services) -> Result<Applied, RequestError> {
        let differing: BTreeSet<ServiceName> = self.services.differing(&next).cloned().collect();
        let beliefs = self.parts.observed.beliefs(&self.services, &next, &differing);
        self.turn_to_believing(next, &beliefs)
    }

    /// Makes `next` the desired state, as a generation of its own; `beliefs` say what is believed of health checks that
    /// nothing is known of.
    pub(in crate::agent) fn turn_to_believing(
        &mut self,
        next: Services,
        beliefs: &Beliefs,
    ) -> Result<Applied, RequestError> {
        let started = Instant::now();
        let scope = Scope::Of(self.services.differing(&next).cloned().collect());
        let plan = self.plan(&scope, &next, self.generation + 1, beliefs)?;
        self.carry_out(plan, started)?;
        // From here on nothing fails: a change that is refused has left no trace in what is known.
        let needs = self.dependents.change(&self.services, &next);
        let before = std::mem::replace(&mut self.services, next);
        self.parts.observed.accept(&needs, &self.dependents, beliefs);
        self.generation += 1;
        self.parts.persist.note_change();
        self.observe_backend_states(&scope);
        self.drains
            .follow(&self.services, &needs.services, Instant::now());
        self.tell_others(&before, &needs, beliefs);
        Ok(Applied {
            generation: self.generation,
            apply_us: self.last_apply.as_micros() as u64,
            saved: false,
            removed: None,
        })
    }

    /// Tells the parts of the agent beside the actor what they are to do for the new desired state.
    fn tell_others(&mut self, before: &Services, needs: &NeedsDelta, beliefs: &Beliefs) {
        let vips = |services: &Services, name: &ServiceName| -> Option<Vec<Prefix>> {
            services.get(name).map(|service| service.vips.clone())
        };
        let differ = |name: &ServiceName| vips(before, name) != vips(&self.services, name);
        if needs.services.iter().any(differ) {
            let all = self.services.iter();
            let vips: Vec<Prefix> = all.flat_map(|service| service.vips.iter().copied()).collect();
            self.parts.vip_routes.set_vips(&vips);
            self.vips = vips;
            self.tell_own_addresses();
        }
        if !needs.new_checks.is_empty() || !needs.old_checks.is_empty() || !beliefs.is_empty() {
            let targets = observed::probe_targets(&self.services);
            self.parts.engine.set_targets(targets, beliefs);
        }
        if needs.ways_changed {
            let pool = &self.parts.sources.0;
            let resolver = &self.parts.resolver;
            let wanted = resolver.set_needs(observed::needs(&self.services, pool));
            let addresses = observed::addresses(&self.services, pool);
            if let Err(error) = wanted.and_then(|()| resolver.set_addresses(addresses)) {
                log::error!("{error}");
            }
        }
    }

    /// Takes verdicts as the sign to look how the health checks are. A verdict itself may be of a check that has ended
    /// meanwhile, which says nothing about the one that began in its place.
    pub(super) fn learn_verdicts(&mut self, verdicts: impl IntoIterator<Item = health::Verdict>) {
        let mut concerned = BTreeSet::new();
        for health::Verdict { target, .. } in verdicts {
            if let Some(status) = self.parts.engine.status(&target) {
                concerned.extend(self.dependents.of_check(&target).cloned());
                self.parts.observed.verdicts.insert(target, status.state);
                self.parts.persist.note_change();
            }
        }
        self.refresh(&Scope::Of(concerned));
    }

    /// Takes in the ways to backends.
    pub(super) fn learn_next_hops(&mut self, hops: NextHops) {
        let known = &self.parts.observed.hops;
        let is_other = |address: &&std::net::IpAddr| known.get(address) != hops.get(address);
        let differing = known.keys().filter(|address| !hops.contains_key(address));
        let differing = hops.keys().filter(is_other).chain(differing);
        let concerned = differing.flat_map(|address| self.dependents.of_address(address));
        let concerned = concerned.cloned().collect();
        self.parts.observed.hops = hops;
        let scope = if self.review_egress(Review::Passing) {
            Scope::All
        } else {
            Scope::Of(concerned)
        };
        self.refresh(&scope);
    }

    /// Brings the tables in line with what is known now of the services in `scope`.
    pub(in crate::agent) fn refresh(&mut self, scope: &Scope) {
        let started = Instant::now();
        let services = self.services.clone();
        let done = match self.plan(scope, &services, self.generation, &Beliefs::new()) {
            // Nothing but the generation, which is the same.
            Ok(plan) if plan.writes.len() == 1 => Ok(()),
            Ok(plan) => self.carry_out(plan, started),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            log::error!("the tables stay as they are: {error}");
            self.reconciler.overdue = match scope {
                Scope::All => services.names(),
                Scope::Of(names) => self.reconciler.overdue.union(names).cloned().collect(),
            };
        }
        self.observe_backend_states(scope);
        self.end_drains();
    }

    /// Looks at some services for which nothing is known to have changed; in time, at each of them. Whatever a look finds was
    /// overlooked before.
    pub(super) fn audit(&mut self) {
        let after = self.services.names_after(self.reconciler.audited.as_ref());
        let names: BTreeSet<ServiceName> = after.take(AUDITED_AT_ONCE).cloned().collect();
        self.reconciler.audited = names.last().cloned();
        let scope = Scope::Of(names);
        let services = self.services.clone();
        match self.plan(&scope, &services, self.generation, &Beliefs::new()) {
            Ok(plan) if plan.writes.len() == 1 => {}
            // There is room by now for what there was none for.
            Ok(_) if !self.reconciler.overdue.is_empty() => self.refresh(&scope),
            Ok(plan) => {
                log::error!(
                    "the tables are not what they ought to be, though nothing has changed: {} writes mend them. \
                     Please report this",
                    plan.writes.len() - 1
                );
                self.refresh(&scope);
            }
            // There still is no room. That was told when it was found.
            Err(_) => {}
        }
    }

    fn plan(
        &mut self,
        scope: &Scope,
        services: &Services,
        generation: u64,
        beliefs: &Beliefs,
    ) -> Result<Plan, RequestError> {
        let scope = scope.with(&self.reconciler.overdue);
        let plan_from = |ActorParts { layout, observed, .. }: &ActorParts| {
            let expected = Expected { observed, beliefs };
            match &scope {
                Scope::All => layout.plan(layout.pools(services, &expected), generation, Instant::now()),
                Scope::Of(names) => {
                    let delta = layout.pools_of(names, services, &expected);
                    layout.plan_delta(delta, generation, Instant::now())
                }
            }
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
    pub(in crate::agent) fn carry_out(&mut self, plan: Plan, started: Instant) -> Result<(), RequestError> {
        let Plan {
            layout,
            mut writes,
            given_up,
        } = plan;
        let lists = plan::take_lists(&mut writes);
        let written = self.parts.tables.write_lists(&lists);
        written.map_err(|error| RequestError::Dataplane(format!("{error:#}: nothing was changed")))?;
        // What cells have counted belongs to their owners until now.
        self.sample_cells(&given_up);
        // Whoever reads the tables finds nothing there that the layout does not know.
        self.parts.nat_sweeper.publish(&layout);
        plan::apply(&writes, &mut self.parts.tables);
        self.parts.layout = layout;
        self.reconciler.overdue.clear();
        self.last_apply = started.elapsed();
        self.forget_counts(&given_up);
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

    /// Forgets what was counted for backends that have no cell any more.
    fn forget_counts(&mut self, given_up: &[(u32, BackendRef)]) {
        let layout: &Layout = &self.parts.layout;
        for (_, backend_ref) in given_up.iter().filter(|(_, owner)| !layout.has_cell_of(owner)) {
            self.tally.forget(backend_ref);
        }
    }

    /// Notes and logs which backends of the services in `scope` have another state now.
    fn observe_backend_states(&mut self, scope: &Scope) {
        let (services, observed) = (&self.services, &self.parts.observed);
        let now = SystemTime::now();
        let transitions = match scope {
            Scope::All => self.backend_states.observe_all(services, observed, now),
            Scope::Of(names) => self.backend_states.observe(names, services, observed, now),
        };
        for Transition {
            service,
            backend,
            before,
            now,
        } in transitions
        {
            let why = self.services.get(&service).and_then(|service| {
                let backend = service.backend(backend)?;
                self.reason(service, backend, now)
            });
            self.events.tell(&Event::BackendChanged {
                service,
                backend,
                before,
                now,
                why,
            });
        }
    }
}
