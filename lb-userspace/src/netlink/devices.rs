//! All interfaces as they are at one time, and how one is found again that was away: by its name, or by its MAC address
//! where it has another name now.
//!
//! Invariant: what is said of interfaces is from one list, so that it fits together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{
    carrier::{Carrier, Device, carrier},
    interface::{Interface, InterfaceError, vrf_of_all},
    link::visit_links,
    monitor::Monitor,
    socket::{Error, Socket},
};

/// How long after a report further ones are awaited: interfaces that come bring many.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How often the interfaces are listed though nothing was reported.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// All interfaces of a network namespace, by index.
#[derive(Debug, Default)]
pub struct Devices(HashMap<u32, Device>);

impl Devices {
    /// Lists the interfaces of the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn list() -> Result<Self, Error> {
        let mut devices = HashMap::new();
        visit_links(&Socket::open()?, |message, link| {
            devices.insert(link.index, Device::from_message(message, link));
        })
        .await?;
        Ok(Self(devices))
    }

    /// The interface of that index.
    pub fn interface(&self, index: u32) -> Option<&Interface> {
        self.0.get(&index).map(|device| &device.interface)
    }

    /// The interface of that name.
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.all().find(|interface| interface.name == name)
    }

    /// The only interface of the same kind and MAC address as one that was there before. (Bridges, bonds and VLAN devices
    /// have the address of what is below them; they are of another kind.)
    pub fn like(&self, before: &Interface) -> Option<&Interface> {
        let mac = before.mac?;
        let mut alike = self
            .all()
            .filter(|interface| interface.mac == Some(mac) && interface.driver == before.driver);
        alike.next().filter(|_| alike.next().is_none())
    }

    /// Where packets of the interface `name` are first seen.
    ///
    /// # Errors
    /// When there is no interface of that name, or no program can see its packets.
    pub fn carrier(&self, name: &str) -> Result<Carrier, InterfaceError> {
        carrier(name, &self.0)
    }

    /// The VRF device that all of these interfaces, by index, belong to, if there is one.
    pub fn common_vrf(&self, indexes: impl IntoIterator<Item = u32>) -> Option<String> {
        let links = self.0.iter().map(|(index, device)| (*index, device.link.clone()));
        vrf_of_all(indexes, &links.collect())
    }

    fn all(&self) -> impl Iterator<Item = &Interface> {
        self.0.values().map(|device| &device.interface)
    }
}

/// Lists the interfaces of the calling thread's network namespace at once, whenever the kernel reports a change of one,
/// and when it is asked to; as long as somebody wants to know.
///
/// # Errors
/// When a netlink socket fails.
pub async fn watch_devices(lists: &watch::Sender<Arc<Devices>>, ask: &Notify) -> Result<(), Error> {
    let mut monitor = Monitor::open(&[MulticastGroup::Link])?;
    while !lists.is_closed() {
        lists.send_replace(Arc::new(Devices::list().await?));
        tokio::select! {
            report = timeout(LOOK_AGAIN, monitor.reports.next()) => if matches!(report, Ok(None)) {
                return Err(Error::Closed);
            },
            () = ask.notified() => {}
        }
        // What is reported from here on is in the next list.
        sleep(DEBOUNCE).await;
        monitor.forget_queued()?;
    }
    Ok(())
}

/// Finds where packets of the interface `name` of the calling thread's network namespace are first seen.
///
/// # Errors
/// When there is no interface of that name, when it lies on one of another network namespace, or the kernel cannot be
/// asked.
pub async fn find_carrier(name: &str) -> Result<Carrier, InterfaceError> {
    Devices::list().await?.carrier(name)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

    use super::{super::link::Link, *};

    fn devices(these: &[(u32, &str, u8, InfoKind)]) -> Devices {
        let device = |(index, name, mac, kind): &(u32, &str, u8, InfoKind)| {
            let mut message = LinkMessage::default();
            message.header.index = *index;
            message.header.link_layer_type = LinkLayerType::Ether;
            message.attributes = vec![
                LinkAttribute::IfName((*name).into()),
                LinkAttribute::Address(vec![2, 0, 0, 0, 0, *mac]),
                LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind.clone())]),
            ];
            let link = Link::from_message(&message).unwrap();
            (*index, Device::from_message(&message, link))
        };
        Devices(these.iter().map(device).collect())
    }

    /// The index of what is taken for `eth0`, which was of kind veth and had the MAC address 7.
    fn found(these: &[(u32, &str, u8, InfoKind)]) -> Option<u32> {
        let before = devices(&[(2, "eth0", 7, InfoKind::Veth)]);
        let before = before.named("eth0").unwrap();
        devices(these).like(before).map(|interface| interface.index)
    }

    #[test]
    fn an_interface_is_found_again_by_its_mac_address() {
        assert_eq!(found(&[(9, "wan0", 7, InfoKind::Veth)]), Some(9));
        assert_eq!(found(&[(9, "wan0", 8, InfoKind::Veth)]), None);
        let below_a_bridge = [(9, "wan0", 7, InfoKind::Veth), (10, "br0", 7, InfoKind::Bridge)];
        assert_eq!(found(&below_a_bridge), Some(9));
        assert_eq!(found(&below_a_bridge[1..]), None);
    }

    #[test]
    fn of_two_that_are_alike_none_is_taken() {
        let twins = [(9, "wan0", 7, InfoKind::Veth), (10, "wan1", 7, InfoKind::Veth)];
        assert_eq!(found(&twins), None);
    }
}
