//! The rules about prefixes, ranges, forwarders of single backends, and what becomes of unusual packets.

use super::{super::*, refusal, service};

/// A service from JSON; what is not given is usual.
fn with(parts: &serde_json::Value) -> Service {
    let mut json = serde_json::json!({"name": "a", "vips": ["192.0.2.1"], "protocol": "udp", "port": 80,
        "forwarder": "ipip"});
    for (key, value) in parts.as_object().expect("a table") {
        json[key] = value.clone();
    }
    serde_json::from_value(json).expect("a service")
}

fn check(parts: &serde_json::Value, expected: &str) {
    let shown = parts.to_string();
    let found = refusal(vec![with(parts)]).unwrap_or_default();
    assert!(
        found.contains(expected),
        "{shown}: {found:?} does not say {expected:?}"
    );
    assert_eq!(found.is_empty(), expected.is_empty(), "{shown}: {found}");
}

#[test]
fn vips_are_addresses_or_prefixes() {
    for (vip, expected) in [
        ("198.51.100.0/24", ""),
        ("198.0.0.0/8", ""),
        ("2001::/16", ""),
        ("198.0.0.0/7", "vips[0]: 198.0.0.0/7 is too wide: expected /8"),
        ("2000::/15", "expected /16"),
        ("127.0.0.0/24", "unicast"),
        ("224.0.0.0/8", "unicast"),
        ("255.0.0.0/8", "unicast"),
        ("::fffe:0:0/95", "unicast"),
    ] {
        check(&serde_json::json!({"vips": [vip]}), expected);
    }
    let backend = serde_json::json!([{"address": "198.51.100.7"}]);
    check(
        &serde_json::json!({"vips": ["198.51.100.0/24"], "backend": backend}),
        "backend 198.51.100.7: address: 198.51.100.7 is a VIP",
    );
}

#[test]
fn translation_has_its_limits() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    for (text, expected) in [
        (
            r#"{"forwarder": "nat", "vips": ["198.51.100.0/24"]}"#,
            "vips[0]: the nat forwarder takes no prefixes",
        ),
        (
            r#"{"forwarder": "nat", "port": "80-90"}"#,
            "port: the nat forwarder takes one port or any, no range",
        ),
        (r#"{"forwarder": "nat", "port": "any"}"#, ""),
        (
            r#"{"forwarder": "fullnat", "vips": ["198.51.100.0/24"], "port": "80-90"}"#,
            "",
        ),
        (
            r#"{"forwarder": "fullnat", "protocol": "sctp"}"#,
            "forwarder: fullnat translates ports",
        ),
        (
            r#"{"forwarder": "nat", "protocol": "sctp", "backend": [{"address": "10.0.0.5"}]}"#,
            "",
        ),
        (
            r#"{"forwarder": "nat", "protocol": "sctp", "backend": [{"address": "10.0.0.5", "port": 81}]}"#,
            "backend 10.0.0.5:81: port: the checksum of sctp",
        ),
        (
            r#"{"forwarder": "fullnat", "backend": [{"address": "10.0.0.5", "port": 81}]}"#,
            "",
        ),
        (
            r#"{"forwarder": "fullnat", "port": "80-90", "backend": [{"address": "10.0.0.5", "port": 81}]}"#,
            "backend 10.0.0.5:81: port: only the forwarders nat and fullnat",
        ),
        (
            r#"{"forwarder": "fullnat", "backend": [{"address": "2001:db8::5"}]}"#,
            "backend 2001:db8::5: address: 2001:db8::5: the fullnat forwarder needs a VIP of the same family",
        ),
        // One backend's own way.
        (
            r#"{"backend": [{"address": "10.0.0.5", "port": 81, "forwarder": "nat"}]}"#,
            "",
        ),
        (
            r#"{"vips": ["192.0.2.1", "192.0.2.2"], "backend": [{"address": "10.0.0.5", "forwarder": "nat"}]}"#,
            "backend 10.0.0.5: forwarder: the nat forwarder takes one VIP",
        ),
        (
            r#"{"forwarder": "nat", "backend": [{"address": "10.0.0.5", "port": 81, "forwarder": "gue"}]}"#,
            "backend 10.0.0.5:81: port: only",
        ),
        (
            r#"{"backend": [{"address": "10.0.0.5", "vlan": 5, "forwarder": "local"}]}"#,
            "backend 10.0.0.5: vlan: packets to a backend that is this host",
        ),
    ] {
        check(&json(text), expected);
    }
}

#[test]
fn not_every_protocol_can_do_everything() {
    for (parts, expected) in [
        (
            serde_json::json!({"protocol": "tcp", "fragments": "hash3"}),
            "fragments: tcp",
        ),
        (serde_json::json!({"fragments": "hash3"}), ""),
        (
            serde_json::json!({"fragments": "hash3", "forwarder": "fullnat"}),
            "fragments: fullnat knows flows by their ports",
        ),
        (serde_json::json!({"mss_clamp": true}), "mss_clamp: only tcp"),
        (serde_json::json!({"protocol": "tcp", "mss_clamp": 1360}), ""),
        (
            serde_json::json!({"protocol": "sctp", "quic": {"configs": []}}),
            "quic: QUIC runs over udp",
        ),
        (
            serde_json::json!({"quic": {"configs": []}}),
            "quic.configs: expected at least one",
        ),
        (
            serde_json::json!({"source": {"allow": ["10.0.0.0/8"], "deny": ["10.0.0.0/8"]}}),
            "source.deny[0]: 10.0.0.0/8 is listed twice",
        ),
    ] {
        check(&parts, expected);
    }
}

#[test]
fn quic_backends_have_names_of_their_own() {
    let quic = serde_json::json!({"configs": [{"id": 0, "server_id_length": 2, "nonce_length": 8}]});
    for (backends, expected) in [
        (
            r#"[{"address": "10.0.0.5", "server_id": "0005"}, {"address": "10.0.0.6", "server_id": "0006"}]"#,
            "",
        ),
        (
            r#"[{"address": "10.0.0.5"}]"#,
            "backend 10.0.0.5: server_id: missing",
        ),
        (
            r#"[{"address": "10.0.0.5", "server_id": "05"}]"#,
            "backend 10.0.0.5: server_id: 05 has 1 bytes: expected 2",
        ),
        (
            r#"[{"address": "10.0.0.5", "server_id": "0005"}, {"address": "10.0.0.6", "server_id": "0005"}]"#,
            "backend 10.0.0.6: server_id: 0005 names 10.0.0.5 already",
        ),
    ] {
        let backends: serde_json::Value = serde_json::from_str(backends).expect("JSON");
        check(&serde_json::json!({"quic": quic, "backend": backends}), expected);
    }
    // Who leaves has handed its name on.
    let one = |address: &str| serde_json::json!({"address": address, "server_id": "0005"});
    let before = with(&serde_json::json!({"quic": quic, "backend": [one("10.0.0.5")]}));
    let after = with(&serde_json::json!({"quic": quic, "backend": [one("10.0.0.6")]}));
    let new = |service| Services::new(vec![service]).expect("valid");
    let services = new(before)
        .after(Change::ReplaceAll(new(after), Removal::Drain))
        .expect("changed");
    let backends = &services
        .get(&"a".parse().expect("a name"))
        .expect("it is there")
        .backends;
    let states: Vec<_> = backends.iter().map(|backend| backend.state).collect();
    assert_eq!(states, [AdminState::Ready, AdminState::Leaving]);
}

#[test]
fn the_narrower_range_goes_first() {
    let ports = |name: &str, port: &str| service(name, "192.0.2.1", port, Forwarder::Ipip, &[]);
    let refused = |first: &str, second: &str| refusal(vec![ports("a", first), ports("b", second)]);
    for (first, second) in [
        ("80", "70-90"),
        ("any", "70-90"),
        ("70-90", "75-85"),
        ("70-90", "70-85"),
        ("70-90", "1-65535"),
        ("70-90", "91-95"),
        ("80", "80-81"),
    ] {
        assert_eq!(refused(first, second), None, "{first} {second}");
        assert_eq!(refused(second, first), None, "{second} {first}");
    }
    for (first, second, expected) in [
        (
            "70-90",
            "70-90",
            "services b and a both claim 192.0.2.1 tcp port 70-90",
        ),
        ("70-90", "80-100", "one must lie within the other"),
        ("70-90", "90-91", "one must lie within the other"),
        ("80", "80-80", "both claim 192.0.2.1 tcp port 80"),
    ] {
        for (first, second) in [(first, second), (second, first)] {
            let found = refused(first, second).expect("refused");
            assert!(
                found.starts_with("service[1].vips[0]: services b and a"),
                "{found}"
            );
            let half = expected.split("a both").last().expect("a part");
            assert!(found.contains(half.trim()), "{found:?} does not say {expected:?}");
        }
    }
    assert_eq!(ports("a", "80-80").port.exact().map(u16::from), Some(80));
}

#[test]
fn prefixes_do_not_stand_in_each_others_way() {
    let at = |name: &str, vip: &str| service(name, vip, "80", Forwarder::Ipip, &[]);
    assert_eq!(
        refusal(vec![
            at("a", "192.0.2.0/24"),
            at("b", "192.0.2.1"),
            at("c", "192.0.2.0/25")
        ]),
        None
    );
    let twice = refusal(vec![at("a", "192.0.2.0/24"), at("b", "192.0.2.0/24")]).expect("refused");
    assert!(twice.contains("both claim 192.0.2.0/24 tcp port 80"), "{twice}");

    let lengths = |lengths: &[u8]| {
        let at = |length: &u8| at(&format!("s{length}"), &format!("198.0.0.0/{length}"));
        lengths.iter().map(at).collect::<Vec<_>>()
    };
    let mut list = lengths(&[8, 12, 16, 20]);
    list.push(at("host", "198.0.0.0"));
    list.push(at("six", "2001:db8::/32"));
    let services = Services::new(list.clone()).expect("four lengths of one family");
    let fifth = at("fifth", "198.0.0.0/24");
    let added = services
        .after(Change::AddService(fifth.clone()))
        .expect_err("refused");
    assert!(
        added.to_string().contains("at most 4 different lengths"),
        "{added}"
    );
    list.push(fifth);
    let found = refusal(list).expect("refused");
    assert!(
        found.starts_with("service[6].vips[0]: 198.0.0.0/24: prefixes"),
        "{found}"
    );
}

#[test]
fn only_one_service_has_fragments_without_ports() {
    let udp = |name: &str, vip: &str, port: &str, fragments| Service {
        protocol: Protocol::Udp,
        fragments,
        ..service(name, vip, port, Forwarder::Ipip, &[])
    };
    let first = udp("a", "192.0.2.1", "53", Fragments::Hash3);
    let alone = |second| refusal(vec![first.clone(), second]);
    assert_eq!(alone(udp("b", "192.0.2.1", "80", Fragments::Follow)), None);
    assert_eq!(alone(udp("b", "192.0.2.2", "80", Fragments::Hash3)), None);
    let found = alone(udp("b", "192.0.2.1", "80", Fragments::Hash3)).expect("refused");
    assert!(
        found.contains("services b and a both claim the fragments to 192.0.2.1 udp"),
        "{found}"
    );
}

#[test]
fn old_services_have_the_usual_behaviour() {
    let old = with(&serde_json::json!({"backend": [{"address": "10.0.0.5"}]}));
    let new = Service {
        protocol: Protocol::Udp,
        ..service("a", "192.0.2.1", "80", Forwarder::Ipip, &["10.0.0.5"])
    };
    assert_eq!(old, new);
    assert_eq!(old.backends[0].forwarder_in_use(&old), Forwarder::Ipip);
}

#[test]
fn tunnels_end_at_the_usual_port_unless_told_otherwise() {
    let mut gue = service("a", "192.0.2.1", "80", Forwarder::Gue, &[]);
    let ports = |service: &Service| {
        [Forwarder::Gue, Forwarder::Fou, Forwarder::Gre]
            .map(|forwarder| service.tunnel_port_in_use(forwarder))
    };
    assert_eq!(ports(&gue), [Some(6080), Some(5555), None]);
    gue.tunnel_port = std::num::NonZeroU16::new(7000);
    assert_eq!(ports(&gue), [Some(7000), Some(7000), None]);
}
