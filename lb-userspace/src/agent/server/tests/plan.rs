//! Writes that are planned: what is said about them, and that nothing comes of it.

use serde_json::{Value, json};

use super::actor::Lab;
use lb_api::{
    client::ClientError,
    plan::{Fate, PlanView, ServiceChange},
};
use lb_core::desired::Change;

/// A served agent with one service of four equal backends and 64 slots, and one of a UDP port.
async fn lab() -> Lab {
    let lab = Lab::start();
    for service in [
        json!({"name": "web", "vips": ["10.0.0.1"], "protocol": "tcp", "port": 80, "forwarder": "ipip", "slots": 64,
            "backend": [{"address": "10.1.0.1", "zone": "a"}, {"address": "10.1.0.2"}, {"address": "10.1.0.3"},
                {"address": "10.1.0.4"}]}),
        json!({"name": "dns", "vips": ["10.0.0.1"], "protocol": "udp", "port": 53, "forwarder": "ipip", "slots": 64,
            "backend": [{"address": "10.1.0.1"}, {"address": "10.1.0.2"}]}),
    ] {
        let add = serde_json::from_value(json!({"add_service": service})).expect("a write");
        lab.client.write(&add, None).await.expect("added");
    }
    lab
}

async fn plan(lab: &Lab, write: Value) -> PlanView {
    let request: Change = serde_json::from_value(write.clone()).expect("a write");
    let before = lab.client.services().await.expect("the services");
    let plan = lab.client.plan(&request, None).await;
    let after = lab.client.services().await.expect("the services");
    assert_eq!(before, after, "{write} was made");
    plan.unwrap_or_else(|error| panic!("{write}: {error}"))
}

#[tokio::test]
async fn a_removal_moves_the_slots_of_one_and_cuts_flows_only_when_told_to() {
    let lab = lab().await;
    for (now, fate, moved, cut) in [(false, Fate::Drains, 100, 0), (true, Fate::Cut, 0, 100)] {
        let write = json!({"remove_backend": {"service": "web", "backend": "10.1.0.3", "now": now}});
        let PlanView { generation, services } = plan(&lab, write).await;
        let [web] = &services[..] else {
            panic!("{services:?}")
        };
        assert_eq!((generation, web.change), (2, ServiceChange::Changed));
        assert_eq!(
            (web.slots_before, web.slots, web.moved, web.fewest),
            (64, 64, 16, 16)
        );
        assert_eq!((web.moved_percent, web.fewest_percent), (25.0, 25.0));
        assert_eq!(
            (web.flows, web.flows_moved, web.flows_cut),
            (Some(400), Some(moved), Some(cut))
        );
        let gone = web.backends.iter().find(|b| b.address.to_string() == "10.1.0.3");
        let gone = gone.expect("the backend");
        assert_eq!((gone.fate, gone.slots_before, gone.slots), (fate, 16, 0));
        let stay = web.backends.iter().filter(|b| b.fate == Fate::Stays);
        assert!(stay.clone().count() == 3 && stay.clone().all(|b| b.flows_moved == Some(0) && b.slots >= 21));
    }
}

#[tokio::test]
async fn a_new_backend_is_taken_to_be_well_and_takes_its_share() {
    let lab = lab().await;
    let write = json!({"add_backend": {"service": "web", "backend": {"address": "10.1.0.5", "weight": 4}}});
    let plan = plan(&lab, write).await;
    let web = &plan.services[0];
    assert_eq!((web.moved, web.fewest), (32, 32));
    assert_eq!((web.flows_moved, web.flows_cut), (Some(200), Some(0)));
    let new = web.backends.last().expect("the new backend");
    assert_eq!(
        (new.fate, new.slots_before, new.slots, new.flows),
        (Fate::Joins, 0, 32, Some(0))
    );
}

#[tokio::test]
async fn every_write_can_be_planned() {
    let lab = lab().await;
    let file = lab.directory.path().join("lb.toml");
    let text = "[[service]]\nname = \"web\"\nvips = [\"10.0.0.1\"]\nprotocol = \"tcp\"\nport = 80\n\
        forwarder = \"ipip\"\nslots = 64\nbackend = [{ address = \"10.1.0.1\" }]\n";
    std::fs::write(file, text).expect("written");
    let third = json!({"name": "new", "vips": ["10.0.0.2"], "protocol": "tcp", "port": 80, "forwarder": "ipip",
        "backend": [{"address": "10.1.0.1"}]});
    // The write, and for each service: name, slots that move, flows that move, flows that are cut.
    let rows = [
        (json!({"add_service": third}), vec![("new", 0, Some(0), Some(0))]),
        (
            json!({"set_service": {"service": "web", "patch": {"slots": 128}}}),
            vec![("web", 0, Some(0), Some(0))],
        ),
        (
            json!({"set_service": {"service": "web", "patch": {"affinity": "client-ip"}}}),
            vec![("web", 0, Some(0), Some(300))],
        ),
        (
            json!({"remove_service": {"service": "web"}}),
            vec![("web", 0, Some(0), Some(400))],
        ),
        (
            json!({"set_backend": {"service": "web", "backend": "10.1.0.1", "patch": {"state": "maint"}}}),
            vec![("web", 16, Some(0), Some(100))],
        ),
        (
            json!({"set_backend": {"service": "web", "backend": "10.1.0.1", "patch": {"weight": 0}}}),
            vec![("web", 16, Some(100), Some(0))],
        ),
        (
            json!({"set_backend": {"service": "web", "backend": "10.1.0.1", "patch": {"weight": 1}}}),
            vec![],
        ),
        (
            json!({"drain": {"host": "10.1.0.1", "deadline": "5m"}}),
            vec![("dns", 32, None, None), ("web", 16, Some(100), Some(0))],
        ),
        (
            json!({"drain": {"zone": "a"}}),
            vec![("web", 16, Some(100), Some(0))],
        ),
        (json!({"ready": {"zone": "a"}}), vec![]),
        (
            json!({"reload": {}}),
            vec![("dns", 0, None, None), ("web", 48, Some(300), Some(0))],
        ),
        (
            json!({"reload": {"now": true}}),
            vec![("dns", 0, None, None), ("web", 48, Some(0), Some(300))],
        ),
    ];
    for (write, expected) in rows {
        let plan = plan(&lab, write.clone()).await;
        let said: Vec<_> = plan
            .services
            .iter()
            .map(|s| (s.name.as_str(), s.moved, s.flows_moved, s.flows_cut))
            .collect();
        assert_eq!(said, expected, "{write}");
    }
}

#[tokio::test]
async fn without_tracking_flows_in_slots_that_move_are_cut() {
    let lab = lab().await;
    let never = json!({"set_service": {"service": "web", "patch": {"tracking": "never"}}});
    let never = serde_json::from_value(never).expect("a write");
    lab.client.write(&never, None).await.expect("set");
    let write = json!({"add_backend": {"service": "web", "backend": {"address": "10.1.0.5", "weight": 4}}});
    let plan = plan(&lab, write).await;
    let web = &plan.services[0];
    assert_eq!((web.flows_moved, web.flows_cut), (Some(0), Some(200)));
}

#[tokio::test]
async fn a_plan_is_refused_like_the_write() {
    let lab = lab().await;
    let refused = async |write: Value, expected: Option<u64>| {
        let request = serde_json::from_value(write).expect("a write");
        lab.client.plan(&request, expected).await.expect_err("refused")
    };
    let weight = json!({"set_backend": {"service": "web", "backend": "10.1.0.1", "patch": {"weight": 2}}});
    let error = refused(weight, Some(1)).await;
    assert!(matches!(error, ClientError::Conflict(_)), "{error:?}");
    for (write, expected) in [
        (json!({"remove_service": {"service": "none"}}), "not_found"),
        (json!({"ready": {"zone": "a", "deadline": "5m"}}), "invalid"),
        (json!({"reload": {}}), "config"),
        (
            json!({"add_service": {"name": "web", "vips": ["10.0.0.9"], "protocol": "tcp", "port": 80,
                "forwarder": "ipip"}}),
            "exists",
        ),
        (
            json!({"set_service": {"service": "web", "patch": {"slots": 65}}}),
            "invalid",
        ),
    ] {
        let error = refused(write.clone(), None).await;
        assert!(
            matches!(error, ClientError::Refused { ref code, .. } if code == expected),
            "{write}: {error:?}"
        );
    }
}
