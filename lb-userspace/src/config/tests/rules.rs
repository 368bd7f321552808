//! Rules between the keys of a file.

use super::*;

#[test]
fn rules_are_held_where_they_are_broken() {
    let service = |from: &str, to: &str| SERVICE.replace(from, to);
    assert_refused(vec![
        (
            "[dataplane]\nfullnat_ports = \"9-5\"".into(),
            2,
            "dataplane.fullnat_ports",
            "the lower one first",
        ),
        (
            "[dataplane]\nfullnat_addresses = [\"10.0.0.9\", \"::1\"]".into(),
            2,
            "dataplane.fullnat_addresses[1]",
            "routable unicast",
        ),
        (
            "[dataplane]\nmax_nat_flows = 1".into(),
            2,
            "dataplane.max_nat_flows",
            "from 1024 to 16777216",
        ),
        (
            "[dataplane]\naccept_macs = [\"00:00:5e:00:01\"]".into(),
            2,
            "dataplane.accept_macs",
            "is no MAC: expected six pairs",
        ),
        (
            "[dataplane]\naccept_macs = [\"02:00:00:00:00:01\", \"ff:ff:ff:ff:ff:ff\"]".into(),
            2,
            "dataplane.accept_macs[1]",
            "is no host's: expected a unicast MAC",
        ),
        (
            "[dataplane]\naccept_macs = [\"02:00:00:00:00:0a\", \"02:00:00:00:00:0A\"]".into(),
            2,
            "dataplane.accept_macs[1]",
            "02:00:00:00:00:0a is listed twice",
        ),
        (
            "[dataplane]\nicmp_rate = 1000001".into(),
            2,
            "dataplane.icmp_rate",
            "from 0 to 1000000",
        ),
        (
            "[dataplane]\nnext_hop_grace = \"2m\"".into(),
            2,
            "dataplane.next_hop_grace",
            "from one second to one minute",
        ),
        (
            with("forwarder = \"fullnat\""),
            9,
            "service[0].backend[0].address",
            "expected one in `fullnat_addresses`",
        ),
        (
            format!("{SERVICE}[dataplane]\nfullnat_addresses = [\"10.0.0.1\"]"),
            4,
            "service[0].vips[0]",
            "10.0.0.1 is in `fullnat_addresses`",
        ),
        (
            format!(
                "{}[dataplane]\nfullnat_addresses = [\"10.0.0.5\"]",
                with("forwarder = \"fullnat\"")
            ),
            9,
            "service[0].backend[0].address",
            "10.0.0.5 is in `fullnat_addresses`",
        ),
        (
            "[dataplane]\nmax_services = 0".into(),
            2,
            "dataplane.max_services",
            "from 1 to 32000",
        ),
        (
            "[dataplane]\nmax_targets = 9000000".into(),
            2,
            "dataplane.max_targets",
            "from 1 to 1048576",
        ),
        (
            "[dataplane]\nmax_slots = 1".into(),
            2,
            "dataplane.max_slots",
            "from 65536",
        ),
        (
            "[dataplane]\ntunnel_source_v4 = \"10.1.0.0/8\"".into(),
            2,
            "dataplane.tunnel_source_v4",
            "did you mean 10.0.0.0/8?",
        ),
        (
            "[dataplane]\ntunnel_source_v6 = \"::/0\"".into(),
            2,
            "dataplane.tunnel_source_v6",
            "too wide",
        ),
        (
            format!(
                "{}\n[dataplane]\nmax_targets = 1",
                with(&BACKEND.replace(".5", ".6"))
            ),
            15,
            "dataplane.max_targets",
            "has 2 backends",
        ),
        (
            service("\"10.0.0.1\"", ""),
            4,
            "service[0].vips",
            "expected 1 to 256",
        ),
        (
            service("10.0.0.1", "127.0.0.1"),
            4,
            "service[0].vips[0]",
            "unicast",
        ),
        (
            format!("{SERVICE}{SERVICE}"),
            10,
            "service[1].name",
            "names an earlier service",
        ),
        (
            format!("{SERVICE}{}", service("web", "web2")),
            11,
            "service[1].vips[0]",
            "both claim 10.0.0.1",
        ),
        (
            format!("{SERVICE}slots = 100"),
            8,
            "service[0].slots",
            "power of two",
        ),
        (
            with("port = 8080"),
            10,
            "service[0].backend[0].port",
            "only the forwarders nat and fullnat",
        ),
        (with(BACKEND), 11, "service[0].backend[1].address", "listed twice"),
        (
            with("").replace("0.5", "0.1"),
            9,
            "service[0].backend[0].address",
            "is a VIP",
        ),
    ]);
}
