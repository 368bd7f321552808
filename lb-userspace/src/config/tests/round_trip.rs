//! Any configuration survives the round trip, and any text gets an answer.

use proptest::prelude::*;

use super::*;
use lb_core::desired::arbitrary;

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
