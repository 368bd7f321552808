//! Which interfaces an XDP program has to run on to see the packets of the one that was named: VLAN devices and bonds lie
//! on others. Pure functions of what the kernel said.

use std::collections::HashMap;

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::{
    interface::{Interface, InterfaceError, Link, Lower, describe, visit_links},
    socket::Socket,
};

/// What the kernel calls a bond.
const BOND: &str = "bond";

/// Where the packets of a named interface are first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The interface to run on.
    pub interface: Interface,
    /// If that is a bond: the interfaces to run on instead, where the kernel cannot run on the bond.
    pub slaves: Vec<Interface>,
    /// What the operator should know about it.
    pub advice: Vec<String>,
}

impl From<Interface> for Carrier {
    fn from(interface: Interface) -> Self {
        Self {
            interface,
            slaves: Vec::new(),
            advice: Vec::new(),
        }
    }
}

/// An interface, and what it has to do with others.
struct Device {
    interface: Interface,
    link: Link,
    /// The bond or bridge that it is a part of.
    master: Option<u32>,
}

impl Device {
    fn from_message(message: &LinkMessage, link: Link) -> Self {
        let master = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) if *index != 0 => Some(*index),
            _ => None,
        });
        Self {
            interface: describe(message, link.clone()),
            link,
            master,
        }
    }

    fn is_bond(&self) -> bool {
        self.interface.driver == BOND
    }
}

/// Finds where packets of the interface `name` of the calling thread's network namespace are first seen.
///
/// # Errors
/// When there is no interface of that name, when it lies on one of another network namespace, or the kernel cannot be
/// asked.
pub async fn find_carrier(name: &str) -> Result<Carrier, InterfaceError> {
    let mut devices = HashMap::new();
    visit_links(&Socket::open()?, |message, link| {
        devices.insert(link.index, Device::from_message(message, link));
    })
    .await?;
    carrier(name, &devices)
}

fn carrier(name: &str, devices: &HashMap<u32, Device>) -> Result<Carrier, InterfaceError> {
    let named = devices.values().find(|device| device.interface.name == name);
    let named = named.ok_or_else(|| {
        InterfaceError::unknown(name, devices.values().map(|device| device.interface.name.clone()))
    })?;
    let found = below_vlans(named, devices)?;
    let mut advice = Vec::new();
    let on = &found.interface.name;
    if found.link.index != named.link.index {
        advice.push(format!(
            "{name} is a VLAN device: XDP runs on {on} below it, where packets come with their tags. If the network card \
             takes tags off before, they are not seen: switch that off (`ethtool -K {on} rxvlan off`)"
        ));
    }
    let bond = found
        .master
        .and_then(|master| devices.get(&master))
        .filter(|master| master.is_bond());
    if let Some(bond) = bond {
        let bond = &bond.interface.name;
        advice.push(format!(
            "{on} is a part of the bond {bond}: what comes by its other parts is not seen; name {bond} to see everything"
        ));
    }
    let mut slaves: Vec<Interface> = devices
        .values()
        .filter(|device| found.is_bond() && device.master == Some(found.link.index))
        .map(|device| device.interface.clone())
        .collect();
    slaves.sort_by_key(|slave| slave.index);
    Ok(Carrier {
        interface: found.interface.clone(),
        slaves,
        advice,
    })
}

/// The interface below all VLAN devices.
fn below_vlans<'d>(
    named: &'d Device,
    devices: &'d HashMap<u32, Device>,
) -> Result<&'d Device, InterfaceError> {
    let mut at = named;
    // Each is on one that was there before it, so there are no rings; and no more steps than devices.
    for _ in 0..devices.len() {
        if at.link.vlan.is_none() {
            break;
        }
        let below = match at.link.lower {
            Some(Lower::Here(index)) => devices.get(&index),
            Some(Lower::Elsewhere) | None => None,
        };
        at = below.ok_or_else(|| InterfaceError::Elsewhere {
            name: at.interface.name.clone(),
        })?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVlan, LinkInfo, LinkLayerType};

    use super::*;

    fn message(index: u32, name: &str, more: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Mtu(1500)];
        message.attributes.extend(more);
        message
    }

    fn kind(kind: InfoKind) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])
    }

    fn vlan(id: u16) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id)])),
        ])
    }

    /// A bond of two cards with a VLAN device and one on that; a bridge's port; a VLAN device of another namespace.
    fn devices() -> HashMap<u32, Device> {
        let messages = [
            message(1, "eth0", vec![LinkAttribute::Controller(3)]),
            message(2, "eth1", vec![LinkAttribute::Controller(3)]),
            message(3, "bond0", vec![kind(InfoKind::Bond)]),
            message(4, "bond0.100", vec![LinkAttribute::Link(3), vlan(100)]),
            message(5, "qinq", vec![LinkAttribute::Link(4), vlan(7)]),
            message(6, "br0", vec![kind(InfoKind::Bridge)]),
            message(7, "eth2", vec![LinkAttribute::Controller(6)]),
            message(
                8,
                "moved",
                vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(1), vlan(5)],
            ),
            message(9, "eth2.9", vec![vlan(9), LinkAttribute::Link(7)]),
        ];
        let device = |message: &LinkMessage| {
            let link = Link::from_message(message).unwrap();
            (link.index, Device::from_message(message, link))
        };
        messages.iter().map(device).collect()
    }

    /// The name of the interface, those of its slaves, and what the advice must speak of.
    fn finds(name: &str, interface: &str, slaves: &[&str], speaks_of: &[&str]) {
        let carrier = carrier(name, &devices()).unwrap();
        assert_eq!(carrier.interface.name, interface, "{name}");
        let found: Vec<&str> = carrier.slaves.iter().map(|slave| slave.name.as_str()).collect();
        assert_eq!(found, slaves, "{name}");
        assert_eq!(
            carrier.advice.len(),
            speaks_of.len(),
            "{name}: {:?}",
            carrier.advice
        );
        for (advice, word) in carrier.advice.iter().zip(speaks_of) {
            assert!(advice.contains(word), "{name}: {advice}");
        }
    }

    #[test]
    fn vlan_devices_are_seen_on_what_they_lie_on() {
        finds("eth2.9", "eth2", &[], &["ethtool -K eth2 rxvlan off"]);
        finds(
            "bond0.100",
            "bond0",
            &["eth0", "eth1"],
            &["ethtool -K bond0 rxvlan off"],
        );
        finds(
            "qinq",
            "bond0",
            &["eth0", "eth1"],
            &["qinq is a VLAN device: XDP runs on bond0"],
        );
        let elsewhere = carrier("moved", &devices()).unwrap_err().to_string();
        assert!(elsewhere.contains("another network namespace"), "{elsewhere}");
    }

    #[test]
    fn bonds_have_slaves_and_bridges_have_none() {
        finds("bond0", "bond0", &["eth0", "eth1"], &[]);
        finds("eth1", "eth1", &[], &["name bond0"]);
        finds("br0", "br0", &[], &[]);
        finds("eth2", "eth2", &[], &[]);
        let unknown = carrier("eth7", &devices()).unwrap_err().to_string();
        assert!(unknown.contains("bond0, bond0.100, br0, eth0"), "{unknown}");
    }
}
