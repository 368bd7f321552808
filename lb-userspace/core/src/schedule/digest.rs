//! Well-mixed bits of a backend's name. What must hold: they are the same on every machine and in every release, or
//! balancers of different releases would disagree about slot tables.

use std::net::IpAddr;

use crate::desired::BackendId;

/// 64 bits of a backend's name, others for each purpose.
pub(super) fn digest(id: BackendId, purpose: u64) -> u64 {
    let mut fnv = Fnv(0xcbf2_9ce4_8422_2325 ^ purpose);
    match id.address {
        IpAddr::V4(v4) => fnv.write(&v4.to_ipv6_mapped().octets()),
        IpAddr::V6(v6) => fnv.write(&v6.octets()),
    }
    fnv.write(&id.port.map_or(0, u16::from).to_be_bytes());
    lb_common::hash::mix(fnv.0, purpose)
}

/// FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
struct Fnv(u64);

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
