//! Map `UPPERS`: interfaces as frames meet them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use aya::maps::{HashMap, MapData};
use lb_common::abi::{DeviceEntry, MAX_UPPERS, map};

use super::Dataplane;
use crate::netlink;
use lb_core::desired::Prefix;

/// An [`DeviceEntry`] that aya can write.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct PodUpper(DeviceEntry);

// SAFETY: `Upper` is bytemuck::Pod: plain integers without padding.
unsafe impl aya::Pod for PodUpper {}

impl Dataplane {
    /// Tells the program of these interfaces, and of no others. It is to speak in the name of no VIP of `vips`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_uppers(&mut self, uppers: &netlink::Uppers, vips: &[Prefix]) -> Result<()> {
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
            map.insert(index, PodUpper(entry(upper, vips)), 0)
                .with_context(|| format!("interface {index} does not fit: {MAX_UPPERS} do"))?;
        }
        Ok(())
    }
}

fn entry(upper: &netlink::Upper, vips: &[Prefix]) -> DeviceEntry {
    let is_vip = |address: IpAddr| vips.iter().any(|vip| vip.contains(address));
    let mut own = upper.addresses.iter().filter(|address| !is_vip(**address));
    let v4 = own.clone().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = own.find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    DeviceEntry {
        interface: upper.interface,
        v4: u32::from_ne_bytes(v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets()),
        tags: upper.tags,
        v6: bytemuck::cast(v6.unwrap_or(Ipv6Addr::UNSPECIFIED).octets()),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::TagsEntry;

    use super::*;

    #[test]
    fn an_interface_speaks_by_its_first_address_that_is_no_vip() {
        let upper = netlink::Upper {
            interface: 2,
            tags: TagsEntry::NONE,
            addresses: ["2001:db8::80", "10.0.0.80", "2001:db8::1", "10.0.0.1"]
                .map(|address| address.parse().expect("an address"))
                .to_vec(),
        };
        let vips = |texts: &[&str]| -> Vec<Prefix> {
            texts.iter().map(|vip| vip.parse().expect("a prefix")).collect()
        };
        let speaks = |texts: &[&str]| {
            let DeviceEntry { v4, v6, .. } = entry(&upper, &vips(texts));
            let v6: [u8; 16] = bytemuck::cast(v6);
            let addresses = [IpAddr::from(v4.to_ne_bytes()), IpAddr::from(v6)];
            addresses.map(|address| address.to_string())
        };
        assert_eq!(
            speaks(&["2001:db8::80", "10.0.0.64/26"]),
            ["10.0.0.1", "2001:db8::1"]
        );
        assert_eq!(speaks(&["198.51.100.1"]), ["10.0.0.80", "2001:db8::80"]);
        assert_eq!(speaks(&["10.0.0.0/24"]), ["0.0.0.0", "2001:db8::80"]);
    }
}
