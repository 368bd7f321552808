//! Map `UPPERS`: interfaces as frames meet them.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData};
use lb_common::abi::{MAX_UPPERS, Upper, map};

use super::Dataplane;
use crate::netlink;

/// An [`Upper`] that aya can write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct PodUpper(Upper);

// SAFETY: `Upper` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodUpper {}

impl Dataplane {
    /// Tells the program of these interfaces, and of no others.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_uppers(&mut self, uppers: &netlink::Uppers) -> Result<()> {
        let map = self.ebpf.map_mut(map::UPPERS).context("no map UPPERS")?;
        let mut map: HashMap<&mut MapData, u32, PodUpper> = map.try_into()?;
        let gone = |index: &u32| !uppers.contains_key(index);
        for index in map
            .keys()
            .filter_map(Result::ok)
            .filter(gone)
            .collect::<Vec<u32>>()
        {
            map.remove(&index)?;
        }
        for (index, upper) in uppers.iter() {
            map.insert(index, PodUpper(entry(upper)), 0)
                .with_context(|| format!("interface {index} does not fit: {MAX_UPPERS} do"))?;
        }
        Ok(())
    }
}

fn entry(upper: &netlink::Upper) -> Upper {
    let netlink::OwnAddresses { v4, v6 } = upper.addresses;
    let v4 = v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets();
    let v6 = v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets();
    Upper {
        interface: upper.interface,
        v4: u32::from_ne_bytes(v4),
        tags: upper.tags,
        v6: bytemuck::cast(v6),
    }
}
