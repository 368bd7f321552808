//! What may be typed, and what comes of it with an agent behind a real socket.

mod definition;
mod drain;
mod plan;
mod text;

use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

use super::{output::Failure, *};
use crate::agent::server::tests::actor::Lab;

const WEB: &str = "service add web --vip 192.0.2.80 --protocol tcp --port 80 --forwarder ipip";

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("lb").chain(line.split_whitespace()))
}

/// What the line prints.
async fn lb(lab: &Lab, line: &str) -> Result<String, Failure> {
    let cli = parse(&format!("--socket {} {line}", lab.socket().display())).expect(line);
    execute(cli).await.map(Output::into_string)
}

async fn lb_json(lab: &Lab, line: &str) -> Value {
    let text = lb(lab, &format!("{line} --json")).await.expect(line);
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn bad_input_ends_before_the_agent_is_asked() {
    let lab = Lab::start();
    for (line, expected) in [
        (
            WEB.replace("192.0.2.80", "127.0.0.1"),
            "vips[0]: 127.0.0.1: expected a routable",
        ),
        (format!("{WEB} --slots 100"), "power of two"),
        (
            format!("{WEB} --window 2m --idle 1m"),
            "idle: 1m is less than the window of 2m",
        ),
        (format!("{WEB} --check http --check-path x"), "starts with \"/\""),
        (
            format!("{WEB} --check ping --check-path /"),
            "only applies to type = \"http\"",
        ),
        ("service set web".into(), "nothing is to be changed"),
        ("explain icmp 198.51.100.7:1 192.0.2.80".into(), "has no ports"),
        (
            "explain udp 198.51.100.7 192.0.2.80:80 --flags S".into(),
            "only a tcp packet",
        ),
        (
            "explain tcp 198.51.100.7 192.0.2.80:80 --connection-id 00".into(),
            "only a udp packet",
        ),
        ("explain tcp 198.51.100.7 192.0.2.80".into(), "a port as well"),
        ("explain tcp 198.51.100.7 [2001:db8::80]:80".into(), "same family"),
        ("explain --hex 0".into(), "odd"),
        ("run --iface eth0 --iface eth0".into(), "twice"),
        ("run --iface eth0 --json".into(), "no JSON"),
    ] {
        let failure = lb(&lab, &line).await.expect_err(&line);
        let Failure::BadInput(message) = failure else {
            panic!("{line}: {failure:?}")
        };
        assert!(message.contains(expected), "{line}: {message}");
    }
    assert_eq!(lab.client.status().await.expect("served").generation, 0);
}

#[tokio::test]
async fn verbs_reach_the_agent() {
    let lab = Lab::start();
    let check = "--check http --check-path /ok --check-status 200,204 --check-body fine --check-host web.example \
                 --check-port 8080 --check-interval 1s --check-fast-interval 200ms --check-timeout 300ms \
                 --check-rise 4 --check-fall 5";
    let add = format!("{WEB} --affinity client-ip --slots 1024 --backend 10.0.0.5@3,2001:db8::6 {check}");
    let done = lb(&lab, &add).await.expect("added");
    assert!(done.starts_with("done: generation 1, applied in "), "{done}");
    let written = lb_json(&lab, "backend add web 10.0.0.7 --weight 9").await;
    assert_eq!(written["generation"], 2);
    lb(&lab, "backend set web 10.0.0.7:80 --weight 10")
        .await
        .expect("set");
    lb(&lab, "backend drain web 2001:db8::6").await.expect("drained");
    lb(&lab, "backend maint web 10.0.0.5").await.expect("out");
    lb(&lab, "backend ready web 10.0.0.5 --if-generation 5")
        .await
        .expect("in again");
    lb(
        &lab,
        "service set web --on-empty pass --tracking always --window 3m --idle auto --drain-deadline 2h",
    )
    .await
    .expect("set");

    let list = lb_json(&lab, "ls web").await;
    let service = &list["services"][0];
    assert_eq!(
        (&list["generation"], &service["slots"], &service["affinity"]),
        (&json!(7), &json!(1024), &json!("client-ip"))
    );
    assert_eq!(
        (&service["vips"], &service["port"]),
        (&json!(["192.0.2.80"]), &json!(80))
    );
    assert_eq!(
        (
            &service["tracking"],
            &service["window"],
            &service["idle"],
            &service["drain_deadline"]
        ),
        (&json!("always"), &json!("3m"), &json!("15m"), &json!("2h"))
    );
    let expected = json!({"type": "http", "port": 8080, "path": "/ok", "status": "200,204", "body": "fine",
        "host": "web.example", "interval": "1s", "fast_interval": "200ms", "timeout": "300ms", "rise": 4, "fall": 5});
    assert_eq!(service["check"], expected);
    let weights: Vec<_> = service["backends"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|b| &b["weight"])
        .collect();
    assert_eq!(weights, [&json!(3), &json!(1), &json!(10)]);

    assert!(
        lb(&lab, "status")
            .await
            .expect("a text")
            .contains("generation    7, applied in")
    );
    assert!(lb(&lab, "stats").await.expect("a text").contains("web"));
    lb(&lab, "backend remove web 10.0.0.5 --now")
        .await
        .expect("removed");
    lb(&lab, "service remove web").await.expect("removed");
    assert_eq!(lb_json(&lab, "status").await["services"], 0);
}

#[tokio::test]
async fn unusual_packets_have_their_options() {
    let lab = Lab::start();
    let key = lab.directory.path().join("key");
    let add = "service add games --vip 198.51.100.0/24,2001:db8::80 --protocol udp --port 30000-32767 --forwarder gue \
               --tunnel-port 7000 --ttl-expired drop --fragments hash3 --on-empty reject --unserved drop --allow 203.0.113.0/24 \
               --deny 203.0.113.7,2001:db8:bad::/48 --quic 0:3:8,1:3:8:@";
    let add = format!("{add}{}", key.display());
    let refusal = async || match lb(&lab, &add).await {
        Err(Failure::BadInput(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(refusal().await.contains("No such file"));
    std::fs::write(&key, "8f95").expect("written");
    assert!(refusal().await.contains("expected 32 hexadecimal digits"));
    std::fs::write(&key, "8f95f09245765f80256934e50c66207f\n").expect("written");
    lb(&lab, &add).await.expect("added");
    lb(
        &lab,
        "backend add games 10.0.0.5 --forwarder l2dsr --vlan 200.100 --server-id 0a0005",
    )
    .await
    .expect("added");
    let list = lb_json(&lab, "list games").await;
    let service = &list["services"][0];
    for (key, expected) in [
        ("vips", json!(["198.51.100.0/24", "2001:db8::80"])),
        ("port", json!("30000-32767")),
        ("tunnel_port", json!(7000)),
        ("ttl_expired", json!("drop")),
        ("fragments", json!("hash3")),
        ("on_empty", json!("reject")),
        ("unserved", json!("drop")),
        ("mss_clamp", json!(false)),
        (
            "source",
            json!({"allow": ["203.0.113.0/24"], "deny": ["203.0.113.7", "2001:db8:bad::/48"]}),
        ),
    ] {
        assert_eq!(service[key], expected, "{key}");
    }
    let encrypted: Vec<_> = [0, 1].map(|i| &service["quic"]["configs"][i]["encrypted"]).into();
    assert_eq!(encrypted, [&json!(false), &json!(true)]);
    let shown = list.to_string();
    assert!(!shown.contains("8f95f092"), "the key is shown: {shown}");
    let backend = &service["backends"][0];
    assert_eq!(
        (&backend["forwarder"], &backend["vlan"], &backend["server_id"]),
        (&json!("l2dsr"), &json!([200, 100]), &json!("0a0005"))
    );
    let text = lb(&lab, "list games").await.expect("a text");
    let flags = "UDP  198.51.100.0/24:30000-32767 consistent gue games on_empty=reject unserved=drop tunnel_port=7000 \
                 ttl_expired=drop fragments=hash3 allow=1 deny=2 quic=2\n";
    assert!(text.contains(flags), "{text}");
    assert!(text.contains("[2001:db8::80]:30000-32767"), "{text}");
    assert!(text.contains("  Vlan\n") && text.contains("  200.100"), "{text}");

    lb(
        &lab,
        "service set games --no-source --no-quic --tunnel-port auto --fragments follow",
    )
    .await
    .expect("set");
    lb(
        &lab,
        "backend set games 10.0.0.5 --no-forwarder --no-vlan --no-server-id",
    )
    .await
    .expect("set");
    let list = lb_json(&lab, "list games").await;
    let service = &list["services"][0];
    for key in ["source", "quic", "tunnel_port"] {
        assert_eq!(service[key], json!(null), "{key}");
    }
    for key in ["forwarder", "vlan", "server_id"] {
        assert_eq!(service["backends"][0][key], json!(null), "{key}");
    }
}

#[tokio::test]
async fn failures_have_their_exit_codes() {
    let lab = Lab::start();
    lb(&lab, WEB).await.expect("added");
    let refused = lb(&lab, WEB).await.expect_err("it is there already");
    assert!(
        matches!(&refused, Failure::Refused(message) if message.contains("lb service set web")),
        "{refused:?}"
    );
    let late = lb(&lab, "service remove web --if-generation 0")
        .await
        .expect_err("the generation has moved");
    assert!(matches!(late, Failure::Conflict(_)), "{late:?}");
    std::fs::write(lab.directory.path().join("lb.toml"), "nonsense").expect("written");
    let bad = lb(&lab, "reload").await.expect_err("the file is bad");
    assert!(
        matches!(&bad, Failure::BadInput(message) if message.contains("lb.toml:1:")),
        "{bad:?}"
    );
    let absent = lb(&lab, "list none").await.expect_err("there is no such service");
    assert!(matches!(absent, Failure::Refused(_)), "{absent:?}");
    let iface = lb(&lab, "explain icmp 198.51.100.7 192.0.2.80 --iface eth9")
        .await
        .expect_err("not served");
    assert!(matches!(iface, Failure::Refused(_)), "{iface:?}");
    let wrong = lb(&lab, "backend add web 192.0.2.80")
        .await
        .expect_err("that is the VIP");
    assert!(
        matches!(&wrong, Failure::BadInput(message) if message.contains("backend 192.0.2.80: address: ")),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn explain_decodes_what_goes_in_and_out() {
    let lab = Lab::start();
    let text = lb(
        &lab,
        "explain tcp 198.51.100.7:1234 192.0.2.80:80 --flags SA --size 60",
    )
    .await
    .expect("a text");
    for expected in [
        "action    pass",
        "reason    no-service (1)",
        "IPv4 198.51.100.7 > 192.0.2.80, TCP, TTL 64, 60 bytes",
        "TCP 1234 > 80, flags SA, 20 bytes of payload",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let view = lb_json(&lab, "explain udp 2001:db8::7 [2001:db8::80]:53").await;
    for key in ["action", "reason", "service", "backend", "slot", "out_hex"] {
        assert!(view.get(key).is_some(), "{key}");
    }
    let again = lb_json(
        &lab,
        &format!("explain --hex {}", view["in_hex"].as_str().expect("hex")),
    )
    .await;
    assert_eq!(again["in_hex"], view["in_hex"]);
}

#[tokio::test]
async fn check_config_needs_no_agent() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.toml");
    let check = |text: &str, json: &str| {
        std::fs::write(&path, text).expect("written");
        let cli = parse(&format!("check-config {} {json}", path.display())).expect("parsed");
        async move { execute(cli).await }
    };
    let good = check("", "").await.expect("good").into_string();
    assert!(
        good.ends_with("lb.toml: good; services: 0, backends: 0\n"),
        "{good}"
    );
    let bad = check("[dataplane]\nmax_services = 0", "").await.expect_err("bad");
    assert!(
        matches!(&bad, Failure::BadInput(m) if m.contains("lb.toml:2:16: dataplane.max_services: 0")),
        "{bad:?}"
    );
    let Err(Failure::Shown(shown)) = check("[dataplane]\nmax_services = 0", "--json").await else {
        panic!("good")
    };
    let shown: Value = serde_json::from_str(&shown.into_string()).expect("JSON");
    assert_eq!(
        (&shown["valid"], &shown["error"]["line"]),
        (&json!(false), &json!(2))
    );
}
