//! How the agent brings drains to their end.

use std::time::Instant;

use crate::agent::{actor::Actor, drains::DrainOutcome, events::Event};
use lb_api::view::DrainsView;
use lb_core::desired::{Backend, Change, Services};
use lb_core::plan::{Availability, BackendRef, Observed};

impl Actor {
    /// Takes in what has been counted, and ends the drains that are over, all in one change.
    pub(in crate::agent) fn end_drains(&mut self) {
        if self.drains.is_empty() {
            return;
        }
        let now = Instant::now();
        let tally = &self.tally;
        let packets = |backend_ref: &BackendRef| {
            let total = tally.of(backend_ref).total;
            total.packets + total.returned_packets
        };
        self.drains.observe_packets(packets, now);
        let over = self.drains.outcomes(|backend_ref| self.is_down(backend_ref), now);
        if over.is_empty() {
            return;
        }
        let names = over
            .iter()
            .map(|over| (over.backend_ref.service.clone(), over.backend_ref.backend));
        let before = self.services.clone();
        match self.change(Change::EndDrains(names.collect()), None) {
            Ok(applied) => {
                for over in &over {
                    self.events.tell(&event(over, &before));
                }
                self.drains.remember(over, &before, applied.generation);
            }
            Err(error) => log::error!("drains that are over go on: {error}"),
        }
    }

    fn is_down(&self, backend_ref: &BackendRef) -> bool {
        let service = self.services.get(&backend_ref.service);
        service.is_some_and(|service| {
            let backend = service.backend(backend_ref.backend);
            backend.is_some_and(|backend| {
                self.parts.observed.availability(service, backend) == Availability::Down
            })
        })
    }

    pub(in crate::agent) fn drains_view(&self) -> DrainsView {
        self.drains.all(&self.services, self.generation, Instant::now())
    }
}

/// The event that a drain is over which was part of the desired state `before`.
fn event(over: &DrainOutcome, before: &Services) -> Event {
    let DrainOutcome {
        backend_ref,
        end,
        flows,
    } = over;
    let BackendRef { service, backend } = backend_ref;
    let declared = before.get(service).and_then(|service| service.backend(*backend));
    Event::DrainEnded {
        service: service.clone(),
        backend: *backend,
        end: *end,
        flows: *flows,
        has_left: declared.is_some_and(Backend::leaves),
    }
}

/// What to do about a lack of room that leaving backends have a part in.
pub(in crate::agent) fn with_advice(refusal: String, services: &Services) -> String {
    let backends = services.iter().flat_map(|service| &service.backends);
    match backends.filter(|backend| backend.leaves()).count() {
        0 => refusal,
        leaving => format!(
            "{refusal}; backends that are leaving ({leaving}) need their room until they have drained: wait for \
             `lb list` to show less of them, or cut them with --now"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::desired::{Removal, Service};

    #[test]
    fn a_lack_of_room_names_who_is_leaving() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "name": "web", "vips": ["192.0.2.80"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
            "backend": [{"address": "10.0.0.5"}]
        }))
        .expect("a service");
        let services = Services::new(vec![service]).expect("valid");
        assert_eq!(with_advice("no room".into(), &services), "no room");
        let remove = Change::RemoveBackend {
            service: "web".parse().expect("a name"),
            backend: "10.0.0.5".parse().expect("a backend"),
            removal: Removal::Drain,
        };
        let services = services.after(remove).expect("removed");
        let advice = with_advice("no room".into(), &services);
        assert!(
            advice.starts_with("no room; backends that are leaving (1) need"),
            "{advice}"
        );
    }
}
