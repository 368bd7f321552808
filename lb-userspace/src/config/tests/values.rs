//! Values of the right type that cannot be meant.

use super::*;

#[test]
fn odd_values_are_refused_with_what_was_expected() {
    let service = |from: &str, to: &str| SERVICE.replace(from, to);
    assert_refused(vec![
        (
            service("10.0.0.1", "10.0.0.1/24"),
            4,
            "service[0].vips[0]",
            "did you mean 10.0.0.0/24, or 10.0.0.1 alone?",
        ),
        (
            service("80", "\"90-80\""),
            6,
            "service[0].port",
            "a range such as",
        ),
        (
            service("80", "\"80\""),
            6,
            "service[0].port",
            "leave the quotes out",
        ),
        (
            service("\"ipip\"", "\"gru\""),
            7,
            "service[0].forwarder",
            "did you mean `gre`?",
        ),
        (
            with("forwarder = \"l2dsrr\""),
            10,
            "service[0].backend[0].forwarder",
            "did you mean `l2dsr`?",
        ),
        (
            format!("{SERVICE}tunnel_port = 0"),
            8,
            "service[0].tunnel_port",
            "from 1 to 65535",
        ),
        (
            format!("{SERVICE}mss_clamp = 100"),
            8,
            "service[0].mss_clamp",
            "from 536 to 65495",
        ),
        (
            format!("{SERVICE}mss_clamp = \"auto\""),
            8,
            "service[0].mss_clamp",
            "expected true, false",
        ),
        (
            format!("{SERVICE}fragments = \"hash3\""),
            8,
            "service[0].fragments",
            "tcp",
        ),
        (
            format!("{SERVICE}ttl_expired = \"pass\""),
            8,
            "service[0].ttl_expired",
            "`answer`",
        ),
        (
            format!("{SERVICE}source = {{ allow = [\"10.0.0.0/8\", \"10.0.0.1/8\"] }}"),
            8,
            "service[0].source.allow[1]",
            "did you mean 10.0.0.0/8",
        ),
        (
            format!("{SERVICE}source = {{ allow = [] }}"),
            8,
            "service[0].source.allow",
            "expected at least one",
        ),
        (
            format!("{SERVICE}source = {{ alow = [] }}"),
            8,
            "service[0].source.alow",
            "did you mean `allow`?",
        ),
        (
            format!("{SERVICE}quic = {{ configs = [] }}"),
            8,
            "service[0].quic",
            "runs over udp",
        ),
        (
            service("tcp", "udp")
                + "quic = { configs = [{ id = 9, server_id_length = 3, nonce_length = 8 }] }",
            8,
            "service[0].quic.configs[0].id",
            "from 0 to 6",
        ),
        (
            service("tcp", "udp")
                + "quic = { configs = [{ id = 1, server_id_length = 3, nonce_length = 8, key = \"8f\" }] }",
            8,
            "service[0].quic.configs[0].key",
            "32 hexadecimal digits",
        ),
        (with("vlan = 4095"), 10, "service[0].backend[0].vlan", "1 to 4094"),
        (
            with("vlan = [1, 2, 3]"),
            10,
            "service[0].backend[0].vlan",
            "the outer one first",
        ),
        (
            with("server_id = \"0x1\""),
            10,
            "service[0].backend[0].server_id",
            "hexadecimal digits",
        ),
    ]);
}

#[test]
fn times_are_refused_out_of_their_bounds() {
    assert_refused(vec![
        (
            format!("{SERVICE}window = \"2m\"\nidle = \"1m\""),
            9,
            "service[0].idle",
            "1m is less than the window of 2m",
        ),
        (
            format!("{SERVICE}idle = \"900\""),
            8,
            "service[0].idle",
            "expected a time from 1s to 1day",
        ),
        (
            format!("{SERVICE}drain_deadline = \"2days\""),
            8,
            "service[0].drain_deadline",
            "to 1day",
        ),
        (
            format!("{SERVICE}tracking = \"allways\""),
            8,
            "service[0].tracking",
            "did you mean `always`?",
        ),
    ]);
}

#[test]
fn checks_are_refused_where_they_are_wrong() {
    assert_refused(vec![
        (format!("{SERVICE}check = 3"), 8, "service[0].check", "expected"),
        (
            with_check("path = \"/\""),
            9,
            "service[0].check",
            "missing key `type`",
        ),
        (
            with_check("type = \"htp\""),
            10,
            "service[0].check.type",
            "did you mean `http`?",
        ),
        (
            with_check("type = \"tcp\"\nrise = 0"),
            11,
            "service[0].check.rise",
            "from 1 to 255",
        ),
        (
            with_check("type = \"tcp\"\ninterval = 2"),
            11,
            "service[0].check.interval",
            "a time from 10ms to 1h with its unit",
        ),
        (
            with_check("type = \"tcp\"\npath = \"/\""),
            10,
            "service[0].check.type",
            "`path`: only applies to type = \"http\"",
        ),
        (
            with_check("type = \"tcp\"").replace("80", "\"any\""),
            9,
            "service[0].check.port",
            "has none to check",
        ),
    ]);
}
