//! Map `NEXT_HOPS`: which next hops the program was told of by the kernel's FIB.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData};
use lb_common::abi::{NextHopKey, map};

use super::Dataplane;

/// A [`NextHopKey`] that aya can read.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct PodKey(NextHopKey);

// SAFETY: `NextHopKey` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodKey {}

impl Dataplane {
    /// Takes up to `limit` of the next hops, each an interface and an address, out of the map. The program notes them again
    /// when it asks for them again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_next_hops(&mut self, limit: usize) -> Result<Vec<(u32, IpAddr)>> {
        let map = self.ebpf.map_mut(map::NEXT_HOPS).context("no map NEXT_HOPS")?;
        let mut map: HashMap<&mut MapData, PodKey, u32> = map.try_into()?;
        let keys: Vec<PodKey> = map.keys().take(limit).collect::<Result<_, _>>()?;
        for key in &keys {
            map.remove(key)?;
        }
        Ok(keys.into_iter().filter_map(|PodKey(key)| next_hop(key)).collect())
    }
}

fn next_hop(key: NextHopKey) -> Option<(u32, IpAddr)> {
    let bytes: [u8; 16] = bytemuck::cast(key.address);
    let [a, b, c, d, ..] = bytes;
    let address = match i32::try_from(key.family).ok()? {
        libc::AF_INET => Ipv4Addr::new(a, b, c, d).into(),
        libc::AF_INET6 => Ipv6Addr::from(bytes).into(),
        _ => return None,
    };
    Some((key.interface, address))
}
