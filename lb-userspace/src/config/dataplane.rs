//! The `[dataplane]` table: how the maps are sized, what the program is told when it is loaded, and how ways are kept.
//!
//! Invariant: none of it changes while the agent runs; a new value takes effect at the next start.

use std::{fmt, net::IpAddr, num::NonZeroU16, ops::RangeInclusive, str::FromStr, time::Duration};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use lb_core::desired::{Invalid, Key, MacAddress, PortRange, Span, check_unicast};

/// Sizes and constants of the dataplane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataplaneConfig {
    /// Seed of the flow hash; balancers that are to agree need the same. Absent: random at the first start, then kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_seed: Option<HashSeed>,
    /// Most services.
    pub max_services: u32,
    /// Most targets; one is one backend of one service.
    pub max_targets: u32,
    /// Most slots, over the tables of all services.
    pub max_slots: u32,
    /// Flows that the flow table has room for at least: it has a power of two of entries.
    pub max_flows: u32,
    /// The outer source of a packet in a tunnel to an IPv4 backend varies with the flow within this prefix.
    #[serde(deserialize_with = "prefix")]
    pub tunnel_source_v4: Ipv4Net,
    /// The outer source of a packet in a tunnel to an IPv6 backend varies with the flow within this prefix.
    #[serde(deserialize_with = "prefix")]
    pub tunnel_source_v6: Ipv6Net,
    /// The balancer's own addresses, of either family, that `fullnat` backends are reached from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fullnat_addresses: Vec<IpAddr>,
    /// The ports that `fullnat` backends are reached from; no program on this host may use them at these addresses.
    pub fullnat_ports: PortRange,
    /// Most flows to `fullnat` backends.
    pub max_nat_flows: u32,
    /// Most answers of the balancer's own (ICMP errors and RSTs) a second, on all CPUs together; 0: none.
    pub icmp_rate: u32,
    /// How long packets go on by the last way to a backend when none is known.
    pub next_hop_grace: Span,
    /// MACs, beside those of the interfaces, that frames to this host bear, such as those of virtual routers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_macs: Vec<MacAddress>,
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            hash_seed: None,
            max_services: 4_096,
            max_targets: 16_384,
            max_slots: 8_388_608,
            max_flows: 1 << 20,
            tunnel_source_v4: Ipv4Net::new_assert([172, 16, 0, 0].into(), 16),
            tunnel_source_v6: Ipv6Net::new_assert([0x100, 0, 0, 0, 0, 0, 0, 0].into(), 64),
            fullnat_addresses: Vec::new(),
            fullnat_ports: Self::FULLNAT_PORTS,
            max_nat_flows: 1 << 18,
            icmp_rate: 1_000,
            next_hop_grace: Self::NEXT_HOP_GRACE,
            accept_macs: Vec::new(),
        }
    }
}

impl DataplaneConfig {
    /// What `max_services` may be: services are known by numbers of 16 bits, and `nat` takes two, one for each family.
    pub const SERVICES: RangeInclusive<u32> = 1..=32_000;
    /// What `max_targets` may be.
    pub const TARGETS: RangeInclusive<u32> = 1..=1_048_576;
    /// What `max_slots` may be: from one largest table to 512 MiB of them.
    pub const SLOTS: RangeInclusive<u32> = 65_536..=268_435_456;

    /// What `max_flows` may be: up to 1 GiB.
    pub const FLOWS: RangeInclusive<u32> = 1_024..=67_108_864;

    /// Most addresses that `fullnat` backends are reached from.
    pub const MAX_FULLNAT_ADDRESSES: usize = 256;

    /// Most MACs in `accept_macs`: as many as VRRP has virtual routers on a link, in both families.
    pub const MAX_ACCEPTED_MACS: usize = 512;

    /// What `max_nat_flows` may be.
    pub const NAT_FLOWS: RangeInclusive<u32> = 1_024..=16_777_216;

    /// What `icmp_rate` may be.
    pub const ICMP_RATE: RangeInclusive<u32> = 0..=1_000_000;

    /// What `next_hop_grace` may be at most.
    pub const MAX_NEXT_HOP_GRACE: Duration = Duration::from_secs(60);

    /// The kernel asks a neighbour for three seconds before it gives up, and a cable may be out for two before that.
    const NEXT_HOP_GRACE: Span = Span::of_seconds(5);

    /// Ports that nobody has by default: above the well-known ones, and below those that Linux takes for the host's own
    /// connections (`net.ipv4.ip_local_port_range`).
    const FULLNAT_PORTS: PortRange = {
        const FIRST: NonZeroU16 = NonZeroU16::new(1_024).unwrap();
        const LAST: NonZeroU16 = NonZeroU16::new(32_767).unwrap();
        PortRange::new(FIRST, LAST).unwrap()
    };

    /// Checks every rule of this table.
    ///
    /// # Errors
    /// The first rule that is broken, with its key.
    pub fn validate(&self) -> Result<(), Invalid> {
        let Self {
            hash_seed: _,
            max_services,
            max_targets,
            max_slots,
            max_flows,
            tunnel_source_v4,
            tunnel_source_v6,
            fullnat_addresses,
            fullnat_ports: _,
            max_nat_flows,
            icmp_rate,
            next_hop_grace,
            accept_macs,
        } = self;
        within("max_services", *max_services, &Self::SERVICES)?;
        within("max_targets", *max_targets, &Self::TARGETS)?;
        within("max_slots", *max_slots, &Self::SLOTS)?;
        within("max_flows", *max_flows, &Self::FLOWS)?;
        within("max_nat_flows", *max_nat_flows, &Self::NAT_FLOWS)?;
        within("icmp_rate", *icmp_rate, &Self::ICMP_RATE)?;
        addresses("fullnat_addresses", fullnat_addresses)?;
        if next_hop_grace.get() > Self::MAX_NEXT_HOP_GRACE {
            let wrong =
                format!("{next_hop_grace}: expected a time from one second to one minute, such as \"5s\"");
            return Err(Invalid::new(wrong).at(Key::Name("next_hop_grace")));
        }
        macs("accept_macs", accept_macs)?;
        outer_source("tunnel_source_v4", (*tunnel_source_v4).into(), 8)?;
        outer_source("tunnel_source_v6", (*tunnel_source_v6).into(), 32)
    }
}

pub(super) fn within(key: &'static str, value: u32, range: &RangeInclusive<u32>) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    let (min, max) = (range.start(), range.end());
    Err(Invalid::new(format!("{value}: expected a whole number from {min} to {max}")).at(Key::Name(key)))
}

fn addresses(key: &'static str, given: &[IpAddr]) -> Result<(), Invalid> {
    let most = DataplaneConfig::MAX_FULLNAT_ADDRESSES;
    if given.len() > most {
        let message = format!("{} addresses, at most {most}", given.len());
        return Err(Invalid::new(message).at(Key::Name(key)));
    }
    for (i, address) in given.iter().enumerate() {
        let here = |e: Invalid| e.at(Key::Index(i)).at(Key::Name(key));
        check_unicast(*address).map_err(here)?;
        if given[..i].contains(address) {
            return Err(here(Invalid::new(format!("{address} is listed twice"))));
        }
    }
    Ok(())
}

fn macs(key: &'static str, given: &[MacAddress]) -> Result<(), Invalid> {
    let most = DataplaneConfig::MAX_ACCEPTED_MACS;
    if given.len() > most {
        let message = format!("{} MACs, at most {most}", given.len());
        return Err(Invalid::new(message).at(Key::Name(key)));
    }
    for (i, mac) in given.iter().enumerate() {
        let wrong = if !mac.is_unicast() {
            format!("{mac} is no host's: expected a unicast MAC, such as 00:00:5e:00:01:0a")
        } else if given[..i].contains(mac) {
            format!("{mac} is listed twice")
        } else {
            continue;
        };
        return Err(Invalid::new(wrong).at(Key::Index(i)).at(Key::Name(key)));
    }
    Ok(())
}

fn outer_source(key: &'static str, given: IpNet, widest: u8) -> Result<(), Invalid> {
    let wrong = if given.prefix_len() < widest {
        format!("{given} is too wide: expected /{widest} or narrower")
    } else if given != given.trunc() {
        format!(
            "{given} has address bits beyond its prefix: did you mean {}?",
            given.trunc()
        )
    } else if given.network().is_multicast() {
        format!("{given} is multicast: expected unicast source addresses")
    } else {
        return Ok(());
    };
    Err(Invalid::new(wrong).at(Key::Name(key)))
}

fn prefix<'de, N: FromStr, D: Deserializer<'de>>(deserializer: D) -> Result<N, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "expected a prefix of the key's family, such as 172.16.0.0/16 or 100::/64";
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("{text:?}: {expected}")))
}

/// The seed of the flow hash: 64 bits, written as `0x` and up to 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashSeed(pub u64);

const SEED_EXPECTED: &str = "expected \"0x\" and 1 to 16 hexadecimal digits";

impl HashSeed {
    /// As it is typed on the command line, where `0x` may be left out.
    ///
    /// # Errors
    /// What was expected.
    pub fn typed(text: &str) -> Result<Self, Invalid> {
        text.parse()
            .or_else(|error| format!("0x{text}").parse().map_err(|_| error))
    }
}

impl FromStr for HashSeed {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        digits
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("{text:?}: {SEED_EXPECTED}")))
    }
}

impl fmt::Display for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl Serialize for HashSeed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HashSeed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = HashSeed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string of \"0x\" and 1 to 16 hexadecimal digits, or a whole number from 0")
            }

            fn visit_u64<E>(self, seed: u64) -> Result<HashSeed, E> {
                Ok(HashSeed(seed))
            }

            fn visit_i64<E: serde::de::Error>(self, seed: i64) -> Result<HashSeed, E> {
                let negative = |_| E::custom(format!("{seed}: expected a whole number from 0"));
                u64::try_from(seed).map(HashSeed).map_err(negative)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HashSeed, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
