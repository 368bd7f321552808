//! Cases that went wrong once, and the edges of the tables.

use std::time::Duration;

use super::{steps::World, *};
use crate::desired::{Backend, Forwarder, Service, ServicePort, Services};

pub(super) fn service(name: &str, vip: &str, port: &str, forwarder: Forwarder, backends: &[&str]) -> Service {
    let (name, vip, port) = (name.parse().unwrap(), vip.parse().unwrap(), port.parse().unwrap());
    Service {
        backends: backends
            .iter()
            .map(|b| Backend::new(b.parse().unwrap()))
            .collect(),
        ..Service::new(name, vec![vip], crate::desired::Protocol::Tcp, port, forwarder)
    }
}

pub(super) fn load(services: Vec<Service>) -> Step {
    Step::Change(crate::desired::Change::ReplaceAll(
        Services::new(services).unwrap(),
        crate::desired::Removal::Now,
    ))
}

fn run(steps: Vec<Step>) -> Run {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
    }
    run
}

/// The control line is stored word by word: the look-up for any port was switched on after the keys that need it.
#[test]
fn one_port_becomes_any() {
    let one = service("web", "10.0.0.1", "80", Forwarder::L2dsr, &["10.0.1.1"]);
    let any = Service {
        port: ServicePort::Any,
        ..one.clone()
    };
    run(vec![load(vec![one.clone()]), load(vec![any]), load(vec![one])]);
}

/// Slots changed in place before keys did: packets to the old VIP met the new VIP's checksums and backends.
#[test]
fn vip_and_backends_change_at_once() {
    let five = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5"];
    for forwarder in [Forwarder::L2dsr, Forwarder::Nat] {
        let web = |vip, backends| Service {
            slots: Some(256),
            ..service("web", vip, "80", forwarder, backends)
        };
        run(vec![
            load(vec![web("10.0.0.1", &five)]),
            load(vec![web("10.0.0.1", &five[..1])]),
            Step::Pass(1100),
            load(vec![web("10.0.0.2", &five[1..2])]),
        ]);
    }
}

/// A slot has 15 bits for the owner; room to grow beyond them would be room that no slot can name.
#[test]
fn cells_are_those_that_slots_can_name() {
    const CAPACITY: Capacity = Capacity {
        services: 16,
        targets: 60_000,
        slots: 1 << 18,
        flows: 4096,
        nat_flows: 4096,
    };
    let backends = |range: std::ops::Range<u32>| {
        let backend = |i: u32| Backend::new(format!("10.1.{}.{}", i >> 8, i & 255).parse().unwrap());
        range.map(backend).collect()
    };
    let desired = |range| {
        let service = Service {
            backends: backends(range),
            ..service("web", "10.0.0.1", "80", Forwarder::Ipip, &[])
        };
        Services::new(vec![service]).unwrap()
    };
    let mut memory = InMemory::new(&CAPACITY, SEED);
    let mut layout = Layout::new(CAPACITY, SEED);
    let now = Instant::now();
    // The second desired state finds the cells of 6,000 backends cooling, and room only behind the others.
    for (range, at) in [(0..30_000, 0), (6_000..30_000, 1), (6_000..36_000, 2)] {
        let services = desired(range.clone());
        let at = now + Duration::from_millis(at);
        let desired = || pools(&services, &World::default());
        let plan = layout.plan(desired(), 1, at).unwrap_or_else(|_| {
            layout = layout.sweep_after_wait(&mut memory, TIME, at).layout;
            layout.release_all();
            layout.plan(desired(), 1, at).unwrap()
        });
        apply(&plan.writes, &mut memory);
        layout = plan.layout;
        let pool = layout.pool(&PoolKey {
            service: "web".parse().unwrap(),
            v6_part: false,
        });
        let owned = pool.unwrap().owned();
        assert_eq!(owned.len(), range.len());
        assert_eq!(owned.values().sum::<usize>(), 65_536);
        let most = 65_536_usize.div_ceil(range.len());
        assert!(
            owned.values().all(|n| (1..=most).contains(n)),
            "each has its share"
        );
    }
}

/// What does not fit is refused with the limit to raise, and everything stays as it was.
#[test]
fn refusals_name_their_limit() {
    let small = Capacity {
        services: 2,
        targets: 4,
        slots: 1024,
        flows: 4096,
        nat_flows: 4096,
    };
    let named = |name: &str, vip: u8, backends: &[&str]| {
        service(name, &format!("10.0.0.{vip}"), "80", Forwarder::L2dsr, backends)
    };
    let six = [
        "10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5", "10.0.1.6",
    ];
    let fits = vec![named("a", 1, &six[..1]), named("b", 2, &six[..1])];
    let plan = |layout: &Layout, list: &[Service]| {
        let services = Services::new(list.to_vec()).unwrap();
        layout.plan(pools(&services, &World::default()), 1, Instant::now())
    };
    let layout = plan(&Layout::new(small, SEED), &fits).unwrap().layout;
    let large_table = Service {
        slots: Some(2048),
        ..named("b", 2, &six[..1])
    };
    let too_much = [
        (vec![named("a", 1, &six)], "max_targets"),
        (
            [fits.clone(), vec![named("c", 3, &six[..1])]].concat(),
            "max_services",
        ),
        (vec![fits[0].clone(), large_table], "max_slots"),
    ];
    for (list, limit) in too_much {
        let refusal = plan(&layout, &list).unwrap_err().to_string();
        assert!(refusal.contains(limit), "{refusal}");
    }
    let again = plan(&layout, &fits).unwrap();
    assert!(
        matches!(again.writes[..], [Write::Publish(_)]),
        "nothing has changed"
    );
}

#[test]
fn ranges_that_do_not_fit_the_service_table_are_refused_with_what_to_raise() {
    let mut run = Run::new();
    // Each is made up of as many blocks as a range can be.
    let services = (0..16).map(|i| {
        let vips = (1..=200).map(|host| format!("10.{i}.0.{host}").parse().unwrap());
        let service = service(&format!("s{i}"), "10.0.0.1", "1-65534", Forwarder::L2dsr, &[]);
        Service {
            vips: vips.collect(),
            slots: Some(64),
            ..service
        }
    });
    run.world.services = Services::new(services.collect()).unwrap();
    let error = run.plan().expect_err("thousands of keys too many").to_string();
    assert!(error.contains("a range of ports takes up to 30"), "{error}");
    assert!(error.contains("max_services"), "{error}");
}
