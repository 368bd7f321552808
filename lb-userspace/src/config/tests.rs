//! What a bad file is answered with, and that a good one survives the round trip.

use proptest::prelude::*;

use super::*;
use lb_core::desired::arbitrary;

const SERVICE: &str = r#"
[[service]]
name = "web"
vips = ["10.0.0.1"]
protocol = "tcp"
port = 80
forwarder = "ipip"
"#;
const BACKEND: &str = "[[service.backend]]\naddress = \"10.0.0.5\"\n";

/// A file with one service, one backend and some further lines.
fn with(lines: &str) -> String {
    format!("{SERVICE}{BACKEND}{lines}\n")
}

/// A file with one service and its check.
fn with_check(lines: &str) -> String {
    format!("{SERVICE}\n[service.check]\n{lines}\n")
}

/// The error's place and text, from a file that must be refused.
fn refusal(text: &str) -> ConfigError {
    Config::parse(text, Path::new("lb.toml")).expect_err("the file must be refused")
}

/// (what the file holds, line of the error, key, a part of the message)
fn bad_files() -> Vec<(String, usize, &'static str, &'static str)> {
    let service = |from: &str, to: &str| SERVICE.replace(from, to);
    vec![
        // Syntax.
        ("[[service]\n".into(), 1, "", "expected `]`"),
        ("a = \n".into(), 1, "a", "expected"),
        (
            format!("{BACKEND}address = \"10.0.0.6\"\n"),
            3,
            "address",
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
        // Unknown keys and words.
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
        // Types.
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
            "expected a time from one second",
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
        ("[[service]]\n".into(), 1, "service[0].name", "missing key `name`"),
        (
            service("port = 80\n", ""),
            2,
            "service[0].port",
            "missing key `port`",
        ),
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
        // Unusual packets.
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
        // Times.
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
            "expected a time from one second to one day",
        ),
        (
            format!("{SERVICE}drain_deadline = \"2days\""),
            8,
            "service[0].drain_deadline",
            "to one day",
        ),
        (
            format!("{SERVICE}tracking = \"allways\""),
            8,
            "service[0].tracking",
            "did you mean `always`?",
        ),
        // Checks.
        (format!("{SERVICE}check = 3"), 8, "service[0].check", "expected"),
        (
            with_check("path = \"/\""),
            9,
            "service[0].check.type",
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
            "a duration with its unit",
        ),
        (
            with_check("type = \"tcp\"\npath = \"/\""),
            11,
            "service[0].check.path",
            "type = \"http\"",
        ),
        (
            with_check("type = \"tcp\"").replace("80", "\"any\""),
            9,
            "service[0].check.port",
            "has none to check",
        ),
        // Rules.
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
    ]
}

#[test]
fn names_line_key_and_expectation() {
    for (text, line, key, message) in bad_files() {
        let error = refusal(&text);
        let shown = error.to_string();
        let place = error.place.as_ref().expect("the place is known");
        assert_eq!((place.line, place.key.as_str()), (line, key), "{shown}");
        assert!(error.message.contains(message), "{message:?} is not in:\n{shown}");
        assert!(
            shown.starts_with(&format!("lb.toml:{line}:{}: ", place.column)),
            "{shown}"
        );
    }
}

#[test]
fn points_at_the_place() {
    let shown = refusal(&with("weight = 70000")).to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[1..], ["10 | weight = 70000", "   |          ^^^^^"]);
}

#[test]
fn shows_little_of_a_long_line() {
    let shown = refusal(&format!("x = \"{}\"", "\u{1b}é".repeat(50_000))).to_string();
    assert!(shown.len() < 1_000 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn refuses_what_is_no_readable_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let message = |name: &str| Config::load(&path(name)).expect_err("refused").to_string();
    assert!(message("none.toml").contains("no such file"));
    assert!(message(".").contains("a directory"));
    std::fs::write(path("bytes.toml"), b"# one\n# two\xff\n").expect("written");
    assert!(message("bytes.toml").contains("line 2 has bytes that are no UTF-8"));
    let huge = File::create(path("huge.toml")).expect("created");
    huge.set_len(Config::MAX_BYTES + 1).expect("grown");
    assert!(message("huge.toml").contains("more than 64 MiB"));
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(message("pipe").contains("no regular file"));
}

#[test]
fn keys_that_everybody_can_read_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.toml");
    let key = "key = \"8f95f09245765f80256934e50c66207f\"";
    let with_key = format!(
        "{}quic = {{ configs = [{{ id = 0, server_id_length = 4, nonce_length = 8, {key} }}] }}\n",
        SERVICE.replace("tcp", "udp")
    );
    for (text, mode, told) in [
        (with_key.as_str(), 0o644, true),
        (&with_key, 0o640, false),
        (SERVICE, 0o644, false),
    ] {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let warning = Config::load_file(&path).expect("good").warning(&path);
        assert_eq!(
            warning.is_some_and(|warning| warning.contains("chmod o-r")),
            told,
            "{mode:o}"
        );
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(Config::parse("", Path::new("lb.toml")), Ok(Config::default()));
}

/// The keys that the table takes, as the parser itself lists them.
fn known_keys(table: &str) -> Vec<String> {
    let unknown = refusal(&format!("{table}\nzzz = 1\n")).message;
    let keys: Vec<_> = unknown.split('`').skip(3).step_by(2).map(String::from).collect();
    assert!(!keys.is_empty(), "{unknown}");
    keys
}

const TABLES: [&str; 5] = [
    "[dataplane]",
    "[checkpoint]",
    "[[service]]",
    "[[service.backend]]",
    "[service.check]",
];

fn table_in_service(table: &str) -> Vec<String> {
    match table {
        "[[service.backend]]" | "[service.check]" => known_keys(&format!("[[service]]\n{table}")),
        _ => known_keys(table),
    }
}

const EXAMPLE: &str = include_str!("../../../docs/lb.example.toml");

/// The example with every key in force.
fn uncommented() -> String {
    EXAMPLE.lines().map(in_force).collect::<Vec<_>>().join("\n")
}

/// A commented key without its mark; prose has a blank behind the mark.
fn in_force(line: &str) -> &str {
    line.strip_prefix('#')
        .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        .unwrap_or(line)
}

#[test]
fn the_example_is_good_with_and_without_its_comments() {
    let example = Config::parse(EXAMPLE, Path::new("lb.example.toml")).expect("a good example");
    assert_eq!(
        (example.services.len(), &example.dataplane),
        (5, &DataplaneConfig::default())
    );
    let all = Config::parse(&uncommented(), Path::new("lb.example.toml")).expect("good with every key");
    assert_eq!(
        DataplaneConfig {
            hash_seed: None,
            fullnat_addresses: Vec::new(),
            accept_macs: Vec::new(),
            ..all.dataplane
        },
        DataplaneConfig::default(),
        "the defaults are shown"
    );
}

#[test]
fn example_and_reference_name_every_key() {
    let reference = include_str!("../../../docs/config.md");
    let example = uncommented();
    for table in TABLES {
        let (_, section) = reference.split_once(&format!("## `{table}`")).expect(table);
        let section = section.split("\n## ").next().expect("a section");
        for key in table_in_service(table) {
            assert!(
                section.contains(&format!("| `{key}` |")),
                "{table} {key} is not in docs/config.md"
            );
            let is_table = key == "backend" || key == "check";
            let shown = is_table || example.contains(&format!("\n{key} = "));
            assert!(shown, "{table} {key} is not in docs/lb.example.toml");
        }
    }
}

proptest! {
    #[test]
    fn survives_the_round_trip(services in arbitrary::all_services(), dataplane in dataplane()) {
        let checkpoint = CheckpointConfig { keep: 2, every: "90s".parse().unwrap() };
        let config = Config { services, dataplane, checkpoint };
        let text = config.to_toml().expect("every value has a form in TOML");
        prop_assert_eq!(Config::parse(&text, Path::new("lb.toml")), Ok(config));
    }

    #[test]
    fn any_text_gets_an_answer(text in "\\PC{0,200}") {
        let _ = Config::parse(&text, Path::new("lb.toml")).map_err(|error| error.to_string());
    }

    #[test]
    fn any_damage_gets_an_answer(cut in 0usize..200, insert in "[\\PC\\n]{0,5}", skip in 0usize..5) {
        let good = with("weight = 5");
        let damaged: String =
            good.chars().take(cut).chain(insert.chars()).chain(good.chars().skip(cut + skip)).collect();
        if let Err(error) = Config::parse(&damaged, Path::new("lb.toml")) {
            let line = error.place.as_ref().expect("the place is known").line;
            prop_assert!(line <= damaged.lines().count() + 1, "{}", error);
        }
    }
}

fn dataplane() -> impl Strategy<Value = DataplaneConfig> {
    (
        proptest::option::of(any::<u64>().prop_map(HashSeed)),
        DataplaneConfig::SERVICES,
        DataplaneConfig::TARGETS,
        DataplaneConfig::SLOTS,
        10..=26_u32,
        (any::<[u8; 3]>(), 8u8..=24),
        (any::<[u16; 4]>(), 32u8..=64),
        pool(),
    )
        .prop_map(
            |(hash_seed, max_services, max_targets, max_slots, flow_bits, (v4, len4), (v6, len6), pool)| {
                DataplaneConfig {
                    hash_seed,
                    // The services that the round trip is tried with must fit.
                    max_services: max_services.max(1_000),
                    max_targets: max_targets.max(1_000),
                    max_slots,
                    max_flows: ((1 << flow_bits) - 1).max(1_024),
                    tunnel_source_v4: ipnet::Ipv4Net::new_assert([v4[0] % 223, v4[1], v4[2], 0].into(), len4)
                        .trunc(),
                    tunnel_source_v6: ipnet::Ipv6Net::new_assert(
                        [v6[0] & 0xfeff, v6[1], v6[2], v6[3], 0, 0, 0, 0].into(),
                        len6,
                    )
                    .trunc(),
                    ..pool
                }
            },
        )
}

/// What `fullnat` and answers need; the services that the round trip is tried with have backends of both families.
fn pool() -> impl Strategy<Value = DataplaneConfig> {
    let grace = (1u64..=60)
        .prop_map(|seconds| lb_core::desired::Span::nearest(std::time::Duration::from_secs(seconds)));
    (
        DataplaneConfig::NAT_FLOWS,
        DataplaneConfig::ICMP_RATE,
        1u16..1000,
        1000u16..,
        grace,
    )
        .prop_map(
            |(max_nat_flows, icmp_rate, first, last, next_hop_grace)| DataplaneConfig {
                fullnat_addresses: vec!["203.0.113.1".parse().unwrap(), "3fff:9::1".parse().unwrap()],
                fullnat_ports: format!("{first}-{last}").parse().unwrap(),
                max_nat_flows,
                icmp_rate,
                next_hop_grace,
                accept_macs: vec!["00:00:5e:00:01:0a".parse().unwrap()],
                ..DataplaneConfig::default()
            },
        )
}
