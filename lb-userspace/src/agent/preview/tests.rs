//! What the world looks like to a plan.

use std::time::Instant;

use super::*;
use lb_api::plan::Fate;
use lb_core::desired::{Change, Removal};
use lb_core::plan::Capacity;

fn services(backends: &[(u8, &str)]) -> Services {
    let backends: Vec<_> = backends
        .iter()
        .map(|(host, state)| serde_json::json!({"address": format!("10.1.0.{host}"), "state": state}))
        .collect();
    let web = serde_json::json!({"name": "web", "vips": ["10.0.0.1"], "protocol": "tcp", "port": 80,
        "forwarder": "ipip", "slots": 64, "backend": backends});
    Services::new(vec![serde_json::from_value(web).unwrap()]).unwrap()
}

/// Backends 1 and 2 are up, 3 is down, 4 has not answered yet; the ways to all of them are known.
struct Seen(TunnelSources);

impl Observed for Seen {
    fn availability(&self, _: &Service, backend: &Backend) -> Availability {
        match backend.address.to_string().as_str() {
            "10.1.0.1" | "10.1.0.2" => Availability::Up,
            "10.1.0.3" => Availability::Down,
            _ => Availability::Checking,
        }
    }

    fn next_hop(&self, address: IpAddr) -> Option<NextHop> {
        let known = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"].contains(&address.to_string().as_str());
        known.then_some(SOME_WAY)
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }

    fn tunnel_sources(&self) -> &TunnelSources {
        &self.0
    }

    fn only_interface(&self) -> Option<u32> {
        None
    }
}

fn seen() -> Seen {
    Seen(TunnelSources {
        v4: "172.16.0.0/16".parse().unwrap(),
        v6: "100::/64".parse().unwrap(),
    })
}

const CAPACITY: Capacity = Capacity {
    services: 16,
    targets: 100,
    slots: 4096,
    flows: 4096,
    nat_flows: 4096,
};

fn plans(present: &Services, next: &Services) -> Vec<ServicePlan> {
    let (observed, empty) = (seen(), Layout::new(CAPACITY, 1));
    let plan = empty
        .plan(empty.pools(present, &observed), 1, Instant::now())
        .unwrap();
    preview(&plan.layout, present, next, &observed, |_| 10).unwrap()
}

/// Each backend's fate and slots, before and after.
fn fates(present: &Services, next: &Services) -> Vec<(String, Fate, u32, u32)> {
    let backends = plans(present, next).into_iter().flat_map(|plan| plan.backends);
    backends
        .map(|b| (b.address.to_string(), b.fate, b.slots_before, b.slots))
        .collect()
}

fn row(host: u8, fate: Fate, before: u32, after: u32) -> (String, Fate, u32, u32) {
    (format!("10.1.0.{host}"), fate, before, after)
}

#[test]
fn only_what_nobody_has_asked_about_is_taken_to_be_well() {
    let present = services(&[(1, "ready"), (3, "ready"), (4, "ready")]);
    // 3 is known to be down, and 4 has been asked: a new backend does not make them answer.
    let next = services(&[(1, "ready"), (3, "ready"), (4, "ready"), (9, "ready")]);
    let expected = [
        row(1, Fate::Stays, 64, 32),
        row(3, Fate::Stays, 0, 0),
        row(4, Fate::Stays, 0, 0),
        row(9, Fate::Joins, 0, 32),
    ];
    assert_eq!(fates(&present, &next), expected);
}

#[test]
fn a_backend_back_from_maintenance_is_taken_to_be_well() {
    let present = services(&[(1, "ready"), (4, "maint")]);
    let next = services(&[(1, "ready"), (4, "ready")]);
    let expected = [row(1, Fate::Stays, 64, 32), row(4, Fate::Joins, 0, 32)];
    assert_eq!(fates(&present, &next), expected);
}

#[test]
fn a_backend_that_is_down_has_nothing_to_lose() {
    let present = services(&[(1, "ready"), (2, "ready"), (3, "ready")]);
    let service = "web".parse().unwrap();
    let removal = |host: &str, removal| Change::RemoveBackend {
        service: "web".parse().unwrap(),
        backend: host.parse().unwrap(),
        removal,
    };
    let next = present.after(removal("10.1.0.3", Removal::Now)).unwrap();
    let fate = |next: &Services, host: u8| {
        let id = format!("10.1.0.{host}");
        fates(&present, next).into_iter().find(|row| row.0 == id).unwrap()
    };
    assert_eq!(fate(&next, 3), row(3, Fate::Stays, 0, 0));
    let next = present.after(removal("10.1.0.2", Removal::Now)).unwrap();
    assert_eq!(fate(&next, 2), row(2, Fate::Cut, 32, 0));
    let next = present.after(removal("10.1.0.2", Removal::Drain)).unwrap();
    assert_eq!(fate(&next, 2), row(2, Fate::Drains, 32, 0));
    let next = present.after(Change::RemoveService { service }).unwrap();
    assert_eq!(fate(&next, 1), row(1, Fate::Cut, 32, 0));
}

#[test]
fn slots_of_nobody_do_not_move() {
    let present = services(&[(3, "ready"), (2, "maint")]);
    let next = services(&[(3, "ready")]);
    assert_eq!(
        fates(&present, &next),
        [row(3, Fate::Stays, 0, 0), row(2, Fate::Stays, 0, 0)]
    );
    let plans = plans(&present, &next);
    assert_eq!((plans[0].moved, plans[0].fewest), (0, 0));
}

#[test]
fn what_has_no_room_is_refused() {
    let present = services(&[(1, "ready")]);
    let all: Vec<(u8, &str)> = (1..=200).map(|host| (host, "ready")).collect();
    let layout = Layout::new(CAPACITY, 1);
    assert!(preview(&layout, &present, &services(&all), &seen(), |_| 0).is_err());
}
