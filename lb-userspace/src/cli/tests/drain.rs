//! Drains from the command line, and what waits for them.

use serde_json::json;

use super::{WEB, lb, lb_json, parse};
use crate::agent::server::tests::actor::Lab;
use crate::cli::output::Failure;

const DNS: &str =
    "service add dns --vip 192.0.2.53 --protocol udp --port 53 --forwarder l2dsr --idle 1s --backend";

/// The backends of a service with their states, as `lb list` has them.
async fn states(lab: &Lab, service: &str) -> Vec<(String, String, bool)> {
    let list = lb_json(lab, &format!("list {service}")).await;
    let backends = list["services"][0]["backends"]
        .as_array()
        .expect("a list")
        .clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    backends
        .iter()
        .map(|b| {
            (
                text(&b["address"]),
                text(&b["state"]),
                b["drain"]["leaving"] == json!(true),
            )
        })
        .collect()
}

fn state(address: &str, state: &str, leaving: bool) -> (String, String, bool) {
    (address.into(), state.into(), leaving)
}

#[test]
fn drains_are_asked_for_by_host_or_zone() {
    for line in [
        "drain",
        "drain host",
        "drain 10.0.0.5:80",
        "drain 10.0.0.5 --zone x",
        "drain --zone -x",
        "drain 10.0.0.5 --deadline 5",
        "drain 10.0.0.5 --deadline 25h",
        "ready",
        "ready 10.0.0.5 --deadline 5m",
        "backend set web 10.0.0.5 --zone x --no-zone",
        "service set web --idle soon",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[tokio::test]
async fn a_host_and_a_zone_drain_in_all_services_at_once() {
    let lab = Lab::start();
    lb(&lab, &format!("{WEB} --backend 10.0.0.5,10.0.0.6"))
        .await
        .expect("added");
    lb(&lab, &format!("{DNS} 10.0.0.5,10.0.0.7"))
        .await
        .expect("added");
    lb(&lab, "backend set dns 10.0.0.7 --zone rack-2")
        .await
        .expect("set");
    lb(&lab, "backend set web 10.0.0.6 --zone rack-2")
        .await
        .expect("set");

    let done = lb_json(&lab, "drain 10.0.0.5 --deadline 1h").await;
    assert_eq!(done["generation"], 5, "one change");
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "drain", false));
    assert_eq!(states(&lab, "dns").await[0], state("10.0.0.5", "drain", false));
    lb(&lab, "ready 10.0.0.5 --service web").await.expect("ready");
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "checking", false));
    assert_eq!(states(&lab, "dns").await[0], state("10.0.0.5", "drain", false));

    lb(&lab, "drain --zone rack-2 --if-generation 6")
        .await
        .expect("drained");
    assert_eq!(states(&lab, "web").await[1], state("10.0.0.6", "drain", false));
    assert_eq!(states(&lab, "dns").await[1], state("10.0.0.7", "drain", false));
    lb(&lab, "ready --zone rack-2").await.expect("ready");
    assert_eq!(states(&lab, "dns").await[1], state("10.0.0.7", "checking", false));

    for (line, expected) in [
        ("drain 10.0.0.9", "no backend has the address 10.0.0.9"),
        ("drain --zone none", "no backend has the zone none"),
        ("drain 10.0.0.5 --service none", "there is no service none"),
    ] {
        let failure = lb(&lab, line).await.expect_err(line);
        assert!(
            matches!(&failure, Failure::Refused(m) if m.contains(expected)),
            "{failure:?}"
        );
    }
    let late = lb(&lab, "drain 10.0.0.5 --if-generation 1")
        .await
        .expect_err("late");
    assert!(matches!(late, Failure::Conflict(_)), "{late:?}");
}

#[tokio::test]
async fn what_is_removed_leaves_and_may_come_back() {
    let lab = Lab::start();
    lb(
        &lab,
        &format!("{WEB} --idle 1m --backend 10.0.0.5,10.0.0.6,10.0.0.7"),
    )
    .await
    .expect("added");
    lb(&lab, "backend remove web 10.0.0.5").await.expect("removed");
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "drain", true));
    let text = lb(&lab, "list").await.expect("a text");
    assert!(text.contains("leaving, silent for 0s, over in "), "{text}");
    lb(&lab, "backend add web 10.0.0.5 --weight 3 --zone x")
        .await
        .expect("added again");
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "checking", false));
    lb(&lab, "backend remove web 10.0.0.5").await.expect("removed");
    lb(&lab, "backend ready web 10.0.0.5")
        .await
        .expect("stays after all");
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "checking", false));
    lb(&lab, "backend remove web 10.0.0.5 --now").await.expect("cut");
    lb(&lab, "backend maint web 10.0.0.6").await.expect("out");
    lb(&lab, "backend remove web 10.0.0.6").await.expect("removed");
    assert_eq!(states(&lab, "web").await, [state("10.0.0.7", "checking", false)]);

    let file = |backends: &str| {
        let head = "[[service]]\nname = \"web\"\nvips = [\"192.0.2.80\"]\nprotocol = \"tcp\"\nport = 80\n";
        let text = format!("{head}forwarder = \"ipip\"\nidle = \"1m\"\nwindow = \"1m\"\n{backends}");
        std::fs::write(lab.directory.path().join("lb.toml"), text).expect("written");
    };
    file("[[service.backend]]\naddress = \"10.0.0.8\"");
    lb(&lab, "reload").await.expect("reloaded");
    let both = [
        state("10.0.0.8", "checking", false),
        state("10.0.0.7", "drain", true),
    ];
    assert_eq!(states(&lab, "web").await, both);
    lb(&lab, "reload").await.expect("reloaded");
    assert_eq!(states(&lab, "web").await, both, "it goes on leaving");
    lb(&lab, "reload --now").await.expect("reloaded");
    assert_eq!(states(&lab, "web").await, [state("10.0.0.8", "checking", false)]);
    file("[[service.backend]]\naddress = \"10.0.0.8\"\nstate = \"leaving\"");
    let refused = lb(&lab, "reload").await.expect_err("no word of a file");
    assert!(
        matches!(&refused, Failure::BadInput(m) if m.contains("lb.toml:11:9: service[0].backend[0].state")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn waiting_ends_with_the_drain() {
    let lab = Lab::start();
    lb(&lab, &format!("{WEB} --idle 1s --backend 10.0.0.5,10.0.0.6"))
        .await
        .expect("added");
    let text = lb(&lab, "backend drain web 10.0.0.5:80 --wait")
        .await
        .expect("drained");
    assert_eq!(
        text,
        "web 10.0.0.5 is drained: it has been silent for the idle time\n"
    );
    assert_eq!(states(&lab, "web").await[0], state("10.0.0.5", "maint", false));
    let text = lb(&lab, "drain 10.0.0.5 --wait").await.expect("nothing to do");
    assert!(text.starts_with("nothing drains"), "{text}");
    let line = lb(&lab, "drain 10.0.0.6 --wait --json").await.expect("drained");
    assert_eq!(line.lines().count(), 1, "{line}");
    let report: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(
        (&report["outcome"], &report["backends"]),
        (
            &json!("drained"),
            &json!([{"service": "web", "backend": "10.0.0.6", "end": "silent", "flows": null}])
        )
    );
}

#[tokio::test]
async fn waiting_tells_the_deadline_and_a_change_of_mind() {
    let lab = Lab::start();
    lb(&lab, &format!("{WEB} --backend 10.0.0.5,10.0.0.6"))
        .await
        .expect("added");
    let ended = lb(&lab, "backend drain web 10.0.0.5 --deadline 1s --wait").await;
    let Err(Failure::Ended {
        code: 5,
        output,
        message,
    }) = ended
    else {
        panic!("{ended:?}")
    };
    assert_eq!(message, "the deadline ended the drain of 1 of 1 backends");
    assert!(output.into_string().ends_with("its deadline has passed\n"));

    let cancel = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        lb(&lab, "backend ready web 10.0.0.6").await.expect("ready");
    };
    let (ended, ()) = tokio::join!(lb(&lab, "backend drain web 10.0.0.6 --wait --json"), cancel);
    let Err(Failure::Ended { code: 1, output, .. }) = ended else {
        panic!("{ended:?}")
    };
    assert!(output.into_string().contains("\"outcome\":\"cancelled\""));
}
