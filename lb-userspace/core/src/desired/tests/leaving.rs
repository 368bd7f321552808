//! What becomes of backends that are removed.

use super::*;

/// The backends of the first service with their states.
fn states(services: &Services) -> Vec<(String, AdminState)> {
    let service = services.iter().next().expect("a service");
    let states = service.backends.iter().map(|b| (b.id().to_string(), b.state));
    states.collect()
}

fn leaving(id: &str) -> (String, AdminState) {
    (id.to_owned(), AdminState::Leaving)
}

fn ready(id: &str) -> (String, AdminState) {
    (id.to_owned(), AdminState::Ready)
}

#[test]
fn what_is_removed_is_leaving_until_its_drain_is_over() {
    let name = || "web".parse::<ServiceName>().expect("a name");
    let id = |id: &str| id.parse::<BackendId>().expect("a backend");
    let web = service(
        "web",
        "10.0.0.1",
        "80",
        Forwarder::Ipip,
        &["10.0.0.5", "10.0.0.6"],
    );
    let services = Services::new(vec![web]).expect("valid");
    let remove = Change::RemoveBackend {
        service: name(),
        backend: id("10.0.0.5"),
        removal: Removal::Drain,
    };
    let gone = services.after(remove.clone()).expect("removed");
    assert_eq!(states(&gone), [leaving("10.0.0.5"), ready("10.0.0.6")]);
    assert_eq!(gone.after(remove).expect("removed again"), gone);

    let deadline = BackendPatch {
        state: Some(AdminState::Drain),
        deadline: Some(Some("5m".parse().expect("a span"))),
        ..BackendPatch::default()
    };
    let sooner = Change::SetBackend {
        service: name(),
        backend: id("10.0.0.5"),
        patch: deadline,
    };
    let sooner = gone.after(sooner).expect("it drains already");
    let backend = &sooner.get(&name()).expect("a service").backends[0];
    assert!(backend.leaves() && backend.deadline.is_some());

    let heavier = Backend {
        weight: 7,
        ..Backend::new(id("10.0.0.5:80"))
    };
    let back = gone
        .after(Change::AddBackend {
            service: name(),
            backend: heavier,
        })
        .expect("added again");
    assert_eq!(states(&back), [ready("10.0.0.5"), ready("10.0.0.6")]);
    assert_eq!(back.get(&name()).expect("a service").backends[0].weight, 7);

    let both = vec![(name(), id("10.0.0.5")), (name(), id("10.0.0.6"))];
    let ended = gone.after(Change::EndDrains(both)).expect("ended");
    assert_eq!(
        states(&ended),
        [ready("10.0.0.6")],
        "a backend that does not drain stays"
    );
}

#[test]
fn what_a_file_no_longer_has_leaves_unless_it_is_in_the_way() {
    use Forwarder::{Ipip, Nat};
    let reloaded = |before: Service, after: Vec<Service>| {
        let before = Services::new(vec![before]).expect("valid");
        let after = Change::ReplaceAll(Services::new(after).expect("valid"), Removal::Drain);
        before.after(after).expect("a file is always taken")
    };
    let web = |forwarder, backends: &[&str]| service("web", "10.0.0.1", "80", forwarder, backends);
    let both = &["10.0.0.5", "10.0.0.6"];
    let kept = reloaded(web(Ipip, both), vec![web(Ipip, &["10.0.0.6"])]);
    assert_eq!(states(&kept), [ready("10.0.0.6"), leaving("10.0.0.5")]);

    let mut idle = web(Ipip, both);
    idle.backends[0].state = AdminState::Maint;
    let cut = [
        (
            reloaded(idle, vec![web(Ipip, &["10.0.0.6"])]),
            "it was in maintenance",
        ),
        (
            reloaded(
                web(Ipip, both),
                vec![service("web", "10.0.0.1", "81", Ipip, &["10.0.0.6"])],
            ),
            "another port is another service",
        ),
        (
            reloaded(
                web(Ipip, both),
                vec![service("web", "10.0.0.1,10.0.0.5", "80", Ipip, &["10.0.0.6"])],
            ),
            "its address is a VIP now",
        ),
        (
            reloaded(
                web(Nat, &["10.0.0.5:81", "10.0.0.6"]),
                vec![
                    web(Nat, &["10.0.0.6"]),
                    service("zoo", "10.0.0.2", "80", Nat, &["10.0.0.5:81"]),
                ],
            ),
            "its answers are another service's now",
        ),
    ];
    for (services, why) in cut {
        assert_eq!(states(&services), [ready("10.0.0.6")], "{why}");
    }
}
