//! The flow hash: which slot a flow falls into.

/// Mixes one word under a seed. Bits 48 to 63 of the result are the best and choose the slot.
///
/// The first shift matters: without it flows that differ only in low address bits fall unevenly (0.49 against 0.013
/// of relative bias over the slots).
#[inline(always)]
pub const fn mix(word: u64, seed: u64) -> u64 {
    let x = word ^ (word >> 32) ^ seed;
    let x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Mixes two address words and the ports.
#[inline(always)]
pub const fn mix_wide(address: [u64; 2], ports: u32, seed: u64) -> u64 {
    let high = (address[0] ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (address[1] ^ (ports as u64) << 32 ^ ports as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mix(high ^ (high >> 32) ^ low ^ (low >> 29), seed)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{iter::Iterator, vec};

    use super::*;

    const SLOTS: usize = 16_384;
    const FLOWS: u32 = 1 << 20;

    /// How unevenly hashes fall into slots, beyond what chance does to a perfect hash: the excess of the counts'
    /// variance over a Poisson distribution's, as a standard deviation relative to the mean.
    fn bias(hashes: impl Iterator<Item = u64>) -> f64 {
        let mut counts = vec![0_u32; SLOTS];
        for hash in hashes {
            counts[(hash >> 48) as usize % SLOTS] += 1;
        }
        let mean = f64::from(FLOWS) / SLOTS as f64;
        let variance = counts.iter().map(|n| (f64::from(*n) - mean).powi(2)).sum::<f64>() / SLOTS as f64;
        (variance - mean).max(0.0).sqrt() / mean
    }

    /// The address and the port of the i-th flow.
    type Flow = fn(u32) -> (u32, u16);

    /// Flows as clients make them: sequential addresses, sequential ports, and both.
    fn flows() -> [(&'static str, Flow); 4] {
        [
            ("addresses", |i| (0x0a00_0000 + i, 40_000)),
            ("ports, then addresses", |i| (0x0a00_0000 + (i >> 16), i as u16)),
            ("even ports, then addresses", |i| {
                (0x0a00_0000 + (i >> 15), (i as u16) << 1)
            }),
            ("networks", |i| (i << 12, 40_000)),
        ]
    }

    /// As the wire has them.
    fn ports(source: u16) -> u32 {
        u32::from(source.to_be()) | u32::from(443_u16.to_be()) << 16
    }

    #[test]
    fn sequential_ipv4_flows_fall_evenly() {
        for (name, flow) in flows() {
            let word = |i| {
                let (address, port) = flow(i);
                u64::from(address.to_be()) << 32 | u64::from(ports(port))
            };
            let bias = bias((0..FLOWS).map(|i| mix(word(i), 0x5eed)));
            assert!(bias < 0.02, "{name}: {bias}");
        }
    }

    #[test]
    fn sequential_ipv6_flows_fall_evenly() {
        let network = 0x2001_0db8_0000_0000_u64.to_be();
        for (name, flow) in flows() {
            let hash = |i| {
                let (address, port) = flow(i);
                mix_wide([network, u64::from(address).to_be()], ports(port), 0x5eed)
            };
            let bias = bias((0..FLOWS).map(hash));
            assert!(bias < 0.02, "{name}: {bias}");
        }
    }

    #[test]
    fn sequential_ipv6_networks_fall_evenly() {
        let hash = |i: u32| {
            let network = (0x2001_0db8_0000_0000 | u64::from(i)).to_be();
            mix_wide([network, 1_u64.to_be()], ports(40_000), 0x5eed)
        };
        let bias = bias((0..FLOWS).map(hash));
        assert!(bias < 0.02, "{bias}");
    }

    #[test]
    fn the_seed_reshuffles() {
        let moved = (0..10_000_u64)
            .filter(|word| mix(*word, 1) >> 48 != mix(*word, 2) >> 48)
            .count();
        assert!(moved > 9_900, "{moved}");
    }
}
