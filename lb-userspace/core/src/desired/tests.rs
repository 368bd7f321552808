//! The rules of the desired state, one by one and as properties.

mod leaving;
mod unusual;

use proptest::{collection::vec, option, prelude::*};

use super::{arbitrary, *};

fn service(name: &str, vip: &str, port: &str, forwarder: Forwarder, backends: &[&str]) -> Service {
    let vips = vip.split(',').map(|vip| vip.parse().expect("a VIP")).collect();
    let name = name.parse().expect("a name");
    Service {
        backends: backends
            .iter()
            .map(|id| Backend::new(id.parse().expect("a backend")))
            .collect(),
        ..Service::new(
            name,
            vips,
            Protocol::Tcp,
            port.parse().expect("a port"),
            forwarder,
        )
    }
}

/// Why the list is refused; `None` when it is fine.
fn refusal(list: Vec<Service>) -> Option<String> {
    Services::new(list).err().map(|e| e.to_string())
}

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "web-1.eu_west", "0", &"x".repeat(63)] {
        assert!(good.parse::<ServiceName>().is_ok(), "{good}");
    }
    for bad in ["", "-a", ".a", "a b", "ä", "a/b", &"x".repeat(64)] {
        assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
    }
}

#[test]
fn backend_ids_are_addresses_with_or_without_port() {
    for (text, shown) in [
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.5:80", "10.0.0.5:80"),
        ("2001:DB8::5", "2001:db8::5"),
        ("[2001:db8::5]:80", "[2001:db8::5]:80"),
    ] {
        assert_eq!(text.parse::<BackendId>().expect(text).to_string(), shown);
    }
    for bad in [
        "",
        "host",
        "10.0.0.5:0",
        "10.0.0.5:65536",
        "[2001:db8::5%2]:80",
        "[2001:db8::5]",
        "10.0.0.5:",
    ] {
        assert!(bad.parse::<BackendId>().is_err(), "{bad}");
    }
}

#[test]
fn rules_of_one_service() {
    use Forwarder::{Ipip, L2dsr, Nat};
    let rows = [
        (
            service("a", "127.0.0.1", "80", Ipip, &[]),
            "service[0].vips[0]: 127.0.0.1: expected a routable",
        ),
        (service("a", "ff02::1", "80", Ipip, &[]), "unicast"),
        (service("a", "::ffff:10.0.0.1", "80", Ipip, &[]), "unicast"),
        (
            service("a", "10.0.0.1,10.0.0.1", "80", Ipip, &[]),
            "service[0].vips[1]: 10.0.0.1 is listed twice",
        ),
        (
            service("a", "10.0.0.1,10.0.0.2", "80", Nat, &[]),
            "one VIP of each family",
        ),
        (
            service("a", "10.0.0.1", "80", Nat, &["2001:db8::5"]),
            "needs a VIP of the same family",
        ),
        (
            service("a", "10.0.0.1", "80", Ipip, &["10.0.0.5:81"]),
            "only the forwarders nat and fullnat translate ports",
        ),
        (
            service("a", "10.0.0.1", "any", Nat, &["10.0.0.5:81"]),
            "only the forwarders nat and fullnat translate ports",
        ),
        (
            service("a", "10.0.0.1", "80", L2dsr, &["10.0.0.1"]),
            "is a VIP of this service",
        ),
        (
            service("a", "10.0.0.1", "80", L2dsr, &["10.0.0.5", "10.0.0.5:80"]),
            "backend 10.0.0.5: address: 10.0.0.5 is",
        ),
    ];
    for (service, expected) in rows {
        let found = refusal(vec![service]).expect(expected);
        assert!(found.contains(expected), "{found:?} does not say {expected:?}");
    }
    assert_eq!(
        refusal(vec![service(
            "a",
            "10.0.0.1,2001:db8::1",
            "80",
            Nat,
            &["10.0.0.5:81"]
        )]),
        None
    );
    assert_eq!(
        refusal(vec![service("a", "10.0.0.1", "80", Ipip, &["2001:db8::5"])]),
        None
    );
}

#[test]
fn rules_between_services() {
    use Forwarder::{Ipip, Nat};
    let web = |forwarder, backends: &[&str]| service("web", "10.0.0.1", "80", forwarder, backends);
    let any = |forwarder, vip, backends: &[&str]| service("any", vip, "any", forwarder, backends);
    assert_eq!(
        refusal(vec![web(Ipip, &[]), any(Ipip, "10.0.0.1", &[])]),
        None,
        "one port goes before any port"
    );
    let twice = refusal(vec![
        web(Ipip, &[]),
        service("b", "10.0.0.2,10.0.0.1", "80", Ipip, &[]),
    ]);
    assert!(
        twice
            .expect("refused")
            .starts_with("service[1].vips[1]: services b and web both claim")
    );

    // Answers from 10.0.0.5 port 80: which VIP do they get?
    let host = &["10.0.0.5"];
    let unclear = |list| refusal(list).is_some_and(|e| e.contains("which VIP to restore"));
    assert!(unclear(vec![
        web(Nat, host),
        service("b", "10.0.0.2", "80", Nat, host)
    ]));
    assert!(unclear(vec![web(Nat, host), any(Nat, "10.0.0.2", host)]));
    assert!(unclear(vec![any(Nat, "10.0.0.2", host), web(Nat, host)]));
    assert!(unclear(vec![
        any(Nat, "10.0.0.1", host),
        web(Nat, &["10.0.0.5:81"])
    ]));
    assert_eq!(
        refusal(vec![web(Nat, host), any(Nat, "10.0.0.1", host)]),
        None,
        "both restore 10.0.0.1 port 80"
    );
    assert_eq!(
        refusal(vec![
            web(Nat, host),
            service("b", "10.0.0.2", "80", Nat, &["10.0.0.5:81"])
        ]),
        None
    );
    assert_eq!(
        refusal(vec![web(Nat, host), service("b", "10.0.0.2", "80", Ipip, host)]),
        None
    );
}

#[test]
fn a_change_names_what_it_misses() {
    let web = service("web", "10.0.0.1", "80", Forwarder::Ipip, &["10.0.0.5"]);
    let services = Services::new(vec![web.clone()]).expect("valid");
    let name = |name: &str| name.parse::<ServiceName>().expect("a name");
    let id = |id: &str| id.parse::<BackendId>().expect("a backend");
    let refused = |change| services.after(change).expect_err("refused");
    assert_eq!(
        refused(Change::AddService(web)),
        ChangeError::ServiceExists(name("web"))
    );
    assert_eq!(
        refused(Change::RemoveService { service: name("b") }),
        ChangeError::NoService(name("b"))
    );
    let again = Backend::new(id("10.0.0.5:80"));
    let exists = refused(Change::AddBackend {
        service: name("web"),
        backend: again,
    });
    assert!(
        matches!(exists, ChangeError::BackendExists(..)),
        "the service's port names the same backend"
    );
    let none = refused(Change::RemoveBackend {
        service: name("web"),
        backend: id("10.0.0.6"),
        removal: Removal::Now,
    });
    assert_eq!(none, ChangeError::NoBackend(name("web"), id("10.0.0.6")));
    let gone = services
        .after(Change::RemoveBackend {
            service: name("web"),
            backend: id("10.0.0.5:80"),
            removal: Removal::Now,
        })
        .expect("removed");
    assert!(gone.get(&name("web")).expect("still there").backends.is_empty());
}

#[test]
fn the_idle_time_is_never_less_than_the_window() {
    let seconds = |text: &str| text.parse::<Span>().expect("a span").get();
    let mut web = service("web", "10.0.0.1", "80", Forwarder::Ipip, &[]);
    web.window = Some("1h".parse().expect("a span"));
    assert_eq!(web.idle_in_use(), seconds("1h"));
    web.window = None;
    web.idle = Some("5s".parse().expect("a span"));
    assert_eq!(web.window_in_use(), seconds("5s"));
    web.drain_deadline = Some("1s".parse().expect("a span"));
    assert_eq!(refusal(vec![web.clone()]), None, "a deadline may cut");
    web.window = Some("6s".parse().expect("a span"));
    let refused = refusal(vec![web]).expect("refused");
    assert!(refused.starts_with("service[0].idle: 5s is less"), "{refused}");
}

#[test]
fn a_patch_tells_null_from_absent() {
    let patch = |json: &str| serde_json::from_str::<ServicePatch>(json).expect("a patch");
    let mut web = service("web", "10.0.0.1", "80", Forwarder::Ipip, &[]);
    web.slots = Some(64);
    patch("{\"affinity\": \"client-ip\"}").apply(&mut web);
    assert_eq!((web.affinity, web.slots), (Affinity::ClientIp, Some(64)));
    patch("{\"slots\": null, \"affinity\": null}").apply(&mut web);
    assert_eq!((web.affinity, web.slots), (Affinity::default(), None));
    assert!(serde_json::from_str::<ServicePatch>("{\"vips\": null}").is_err());
    let sent = ServicePatch {
        slots: Some(None),
        ..ServicePatch::default()
    };
    assert_eq!(patch(&serde_json::to_string(&sent).expect("JSON")), sent);
}

fn any_change() -> impl Strategy<Value = Change> {
    use arbitrary::{all_services, any_backend, any_service, name};
    let id = || any_backend().prop_map(|b| b.id());
    prop_oneof![
        4 => any_service().prop_map(Change::AddService),
        1 => name().prop_map(|service| Change::RemoveService { service }),
        2 => (name(), any_service()).prop_map(|(service, s)| {
            let patch = ServicePatch {
                vips: Some(s.vips),
                forwarder: Some(s.forwarder),
                quic: Some(s.quic),
                fragments: Some(s.fragments),
                ..ServicePatch::default()
            };
            Change::SetService { service, patch }
        }),
        4 => (name(), any_backend()).prop_map(|(service, backend)| Change::AddBackend { service, backend }),
        2 => (name(), id(), backend_patch())
            .prop_map(|(service, backend, patch)| Change::SetBackend { service, backend, patch }),
        2 => (name(), id(), removal())
            .prop_map(|(service, backend, removal)| Change::RemoveBackend { service, backend, removal }),
        1 => (selection(), option::of(Just("1m".parse().expect("a span"))))
            .prop_map(|(selection, deadline)| Change::Drain(Selection { deadline, ..selection })),
        1 => selection().prop_map(Change::Ready),
        1 => vec((name(), id()), 0..4).prop_map(Change::EndDrains),
        2 => (all_services(), removal()).prop_map(|(services, how)| Change::ReplaceAll(services, how)),
    ]
}

fn backend_patch() -> impl Strategy<Value = BackendPatch> {
    arbitrary::any_backend().prop_map(|backend| BackendPatch {
        weight: Some(backend.weight),
        state: Some(backend.state),
        deadline: backend.deadline.map(Some),
        zone: Some(backend.zone),
        forwarder: Some(backend.forwarder),
        vlan: Some(backend.vlan),
        server_id: Some(backend.server_id),
    })
}

fn removal() -> impl Strategy<Value = Removal> {
    any::<bool>().prop_map(Removal::from)
}

fn selection() -> impl Strategy<Value = Selection> {
    let whom = prop_oneof![
        arbitrary::address(1).prop_map(Selection::of_host),
        arbitrary::zone().prop_map(Selection::of_zone)
    ];
    (whom, option::of(arbitrary::name())).prop_map(|(whom, service)| Selection { service, ..whom })
}

fn list(services: &Services) -> Vec<Service> {
    services.iter().map(|service| Service::clone(service)).collect()
}

proptest! {
    /// Changes check only what they touch; the result must hold against a check of everything.
    #[test]
    fn every_change_leads_from_valid_to_valid(changes in vec(any_change(), 0..40)) {
        let mut services = Services::default();
        for change in changes {
            if let Ok(next) = services.after(change) {
                prop_assert_eq!(Services::new(list(&next)), Ok(next.clone()));
                services = next;
            }
        }
    }

    /// A file that lists services is accepted exactly when they can be added one after the other.
    #[test]
    fn a_list_is_valid_when_each_addition_is(all in vec(arbitrary::any_service(), 0..6)) {
        let add = |services: Services, service: &Service| services.after(Change::AddService(service.clone()));
        let one_by_one = all.iter().try_fold(Services::default(), add).ok();
        prop_assert_eq!(Services::new(all).ok(), one_by_one);
    }

    #[test]
    fn services_survive_json(services in arbitrary::all_services()) {
        let json = serde_json::to_string(&list(&services)).expect("JSON");
        prop_assert_eq!(Services::new(serde_json::from_str(&json).expect("the same shape")), Ok(services));
    }

    #[test]
    fn backend_ids_survive_text(backend in arbitrary::backend()) {
        prop_assert_eq!(backend.id().to_string().parse::<BackendId>(), Ok(backend.id()));
    }

    #[test]
    fn any_text_is_a_backend_or_an_error(text in "\\PC{0,40}") {
        let _ = text.parse::<BackendId>();
        let _ = text.parse::<ServiceName>();
        let _ = text.parse::<ServicePort>();
    }
}
