//! Files that are no TOML, or do not have the shape of a configuration.

use super::*;

#[test]
fn syntax_is_refused_where_it_is_wrong() {
    let service = |from: &str, to: &str| SERVICE.replace(from, to);
    assert_refused(vec![
        ("[[service]\n".into(), 1, "", "expected `]`"),
        ("a = \n".into(), 1, "a", "expected"),
        (
            format!("{BACKEND}address = \"10.0.0.6\"\n"),
            3,
            "",
            "duplicate key",
        ),
        (format!("x = {}", "[".repeat(100_000)), 1, "", "recurse"),
        (format!("x = {}", "{a=".repeat(100_000)), 1, "", "recurse"),
        // Words without quotes.
        (
            service("\"ipip\"", "nat"),
            7,
            "service[0].forwarder",
            "nat needs quotes: write \"nat\"",
        ),
        (
            service("\"10.0.0.1\"", "10.0.0.1"),
            4,
            "service[0].vips[0]",
            "write \"10.0.0.1\"",
        ),
        (
            service("\"10.0.0.1\"", "\"10.0.0.1\", 2001:db8::1"),
            4,
            "service[0].vips[1]",
            "write \"2001:db8::1\"",
        ),
        (
            format!("{SERVICE}[[service.backend]]\naddress = fd00::5\n"),
            9,
            "service[0].backend[0].address",
            "write \"fd00::5\"",
        ),
        (
            with_check("type = tcp\ninterval = 2s"),
            10,
            "service[0].check.type",
            "write \"tcp\"",
        ),
        (
            with_check("type = \"tcp\"\ninterval = 2s # often"),
            11,
            "service[0].check.interval",
            "write \"2s\"",
        ),
        // Lists are no tables.
        (
            format!("{SERVICE}check = [\"tcp\"]"),
            8,
            "service[0].check",
            "in braces, not a list",
        ),
        (
            format!("{SERVICE}backend = [[\"10.0.0.5\"]]"),
            8,
            "service[0].backend[0]",
            "in braces, not a list",
        ),
        (
            format!("{SERVICE}source = [[\"10.0.0.0/8\"]]"),
            8,
            "service[0].source",
            "in braces, not a list",
        ),
    ]);
}

#[test]
fn unknown_keys_and_words_are_refused_with_the_nearest() {
    assert_refused(vec![
        ("services = 3\n".into(), 1, "services", "did you mean `service`?"),
        (
            "[dataplane]\nmax_servces = 3\n".into(),
            2,
            "dataplane.max_servces",
            "did you mean `max_services`?",
        ),
        (
            format!("{SERVICE}schedular = \"consistent\""),
            8,
            "service[0].schedular",
            "did you mean `scheduler`?",
        ),
        (
            format!("{SERVICE}affinity = \"client_ip\""),
            8,
            "service[0].affinity",
            "did you mean `client-ip`?",
        ),
        (
            with("wieght = 4"),
            10,
            "service[0].backend[0].wieght",
            "did you mean `weight`?",
        ),
        (
            with("state = \"up\""),
            10,
            "service[0].backend[0].state",
            "`ready`, `drain`, `maint`",
        ),
    ]);
}

#[test]
fn values_of_another_type_are_refused_with_what_was_expected() {
    let service = |from: &str, to: &str| SERVICE.replace(from, to);
    assert_refused(vec![
        (
            format!("{SERVICE}affinity = 3"),
            8,
            "service[0].affinity",
            "\"client-ip\", in quotes",
        ),
        (
            format!("{SERVICE}scheduler = 3"),
            8,
            "service[0].scheduler",
            "\"hash-ring\", in quotes",
        ),
        (
            with("").replace("0.5", "0.500"),
            9,
            "service[0].backend[0].address",
            "expected an IP address such as 192.0.2.1",
        ),
        (
            "[dataplane]\nmax_services = \"x\"".into(),
            2,
            "dataplane.max_services",
            "expected a whole number from 0",
        ),
        (
            "[checkpoint]\nkeep = 1".into(),
            2,
            "checkpoint.keep",
            "expected a whole number from 2 to 1000",
        ),
        (
            "[checkpoint]\nevery = \"100ms\"".into(),
            2,
            "checkpoint.every",
            "expected a time from 1s to 1day",
        ),
        (
            "[dataplane]\nhash_seed = -1".into(),
            2,
            "dataplane.hash_seed",
            "expected a whole number from 0",
        ),
        (
            "[dataplane]\nhash_seed = \"12\"".into(),
            2,
            "dataplane.hash_seed",
            "\"0x\" and 1 to 16",
        ),
        (
            "[dataplane]\nhash_seed = true".into(),
            2,
            "dataplane.hash_seed",
            "\"0x\" and 1 to 16",
        ),
        (
            "[dataplane]\ntunnel_source_v4 = \"::/64\"".into(),
            2,
            "dataplane.tunnel_source_v4",
            "172.16.0.0/16",
        ),
        (
            "[dataplane]\ntunnel_source_v6 = 5".into(),
            2,
            "dataplane.tunnel_source_v6",
            "expected a string",
        ),
        ("[service]\nname = 3\n".into(), 1, "service", "[[service]]"),
        ("[[service]]\n".into(), 1, "service[0]", "missing key `name`"),
        (service("port = 80\n", ""), 2, "service[0]", "missing key `port`"),
        (service("80", "70000"), 6, "service[0].port", "1 to 65535"),
        (service("80", "0"), 6, "service[0].port", "1 to 65535"),
        (service("80", "-1"), 6, "service[0].port", "1 to 65535"),
        (service("80", "\"http\""), 6, "service[0].port", "\"any\""),
        (
            service("10.0.0.1", "10.0.0.256"),
            4,
            "service[0].vips[0]",
            "is no IP address and no prefix",
        ),
        (
            service("[\"10.0.0.1\"]", "\"10.0.0.1\""),
            4,
            "service[0].vips",
            "in brackets",
        ),
        (service("web", "we b"), 3, "service[0].name", "a-z A-Z 0-9"),
        (
            with("weight = 70000"),
            10,
            "service[0].backend[0].weight",
            "from 0 to 65535",
        ),
        (
            with("weight = 1.5"),
            10,
            "service[0].backend[0].weight",
            "from 0 to 65535",
        ),
        (
            with("port = 0"),
            10,
            "service[0].backend[0].port",
            "from 1 to 65535",
        ),
        (
            with("state = \"leaving\""),
            10,
            "service[0].backend[0].state",
            "what a removal makes of a backend",
        ),
        (
            with("zone = \"rack 2\""),
            10,
            "service[0].backend[0].zone",
            "is no zone: expected 1 to 63",
        ),
        (
            with("deadline = \"10m\""),
            10,
            "service[0].backend[0].deadline",
            "expected the state \"drain\"",
        ),
    ]);
}
