//! Which interfaces an XDP program has to run on to see the packets of the one that was named: VLAN devices and bonds lie
//! on others. Pure functions of what the kernel said.

use std::collections::HashMap;

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::interface::{Interface, InterfaceError, describe};
use super::link::{Link, Lower};

/// What the kernel calls a bond.
const BOND: &str = "bond";
/// Devices that take frames over from their ports, and that native XDP cannot send out of.
const SWITCHES: [&str; 2] = ["bridge", "team"];

/// Where the packets of a named interface are first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// The interface to run on.
    pub interface: Interface,
    /// If that is a bond: the interfaces to run on instead, where the kernel cannot run on the bond. In generic mode that
    /// is always so: the kernel takes tags off before packets reach the bond.
    pub slaves: Vec<Interface>,
    /// The VLAN device that was named, if it lies on that interface. Generic mode runs on it: its packets come to it
    /// without tags, wherever these were taken off.
    pub vlan: Option<Interface>,
    /// Why native mode would lose packets there, though the driver may take the program.
    pub no_native: Option<String>,
    /// What the operator should know about it.
    pub advice: Vec<String>,
}

impl From<Interface> for Carrier {
    fn from(interface: Interface) -> Self {
        Self {
            interface,
            slaves: Vec::new(),
            vlan: None,
            no_native: None,
            advice: Vec::new(),
        }
    }
}

impl Carrier {
    /// What to know where the program runs below the VLAN device that was named.
    #[must_use]
    pub fn advice_below(&self) -> Option<String> {
        let (vlan, on) = (&self.vlan.as_ref()?.name, &self.interface.name);
        Some(format!(
            "{vlan} is a VLAN device: XDP runs on {on} below it, where packets come with their tags. If the network card \
             takes tags off before, they are not seen: switch that off (`ethtool -K {on} rxvlan off`)"
        ))
    }
}

impl Carrier {
    /// Every interface that the program may run on for it.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        [&self.interface]
            .into_iter()
            .chain(&self.vlan)
            .chain(&self.slaves)
    }
}

/// An interface, and what it has to do with others.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) interface: Interface,
    pub(super) link: Link,
    /// The bond or bridge that it is a part of.
    master: Option<u32>,
}

impl Device {
    pub(super) fn from_message(message: &LinkMessage, link: Link) -> Self {
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

    fn is_switch(&self) -> bool {
        SWITCHES.contains(&self.interface.driver.as_str())
    }
}

pub(super) fn carrier(name: &str, devices: &HashMap<u32, Device>) -> Result<Carrier, InterfaceError> {
    let named = devices.values().find(|device| device.interface.name == name);
    let named = named.ok_or_else(|| {
        InterfaceError::unknown(name, devices.values().map(|device| device.interface.name.clone()))
    })?;
    let found = below_vlans(named, devices)?;
    refuse_unseen(found, devices)?;
    let master = |device: &Device| device.master.and_then(|master| devices.get(&master));
    let on = &found.interface.name;
    let mut advice = Vec::new();
    if let Some(bond) = master(found).filter(|master| master.is_bond()) {
        let bond = &bond.interface.name;
        advice.push(format!(
            "{on} is a part of the bond {bond}: what comes by its other parts is not seen; name {bond} to see everything"
        ));
    }
    let vlan = (found.link.index != named.link.index).then(|| named.interface.clone());
    if vlan.is_none()
        && hides_tags(found)
        && let Some(tagged) = vlan_on(found, devices)
    {
        advice.push(format!(
            "{on} is a {}: the kernel takes tags off before XDP runs there, so packets of VLANs are taken for untagged \
             ones; name their devices instead, such as {tagged}",
            found.interface.driver
        ));
    }
    let switch = [named, found]
        .into_iter()
        .find_map(|port| Some((port, master(port).filter(|master| master.is_switch())?)));
    let no_native = switch.map(|(port, switch)| {
        let (port, kind, switch) = (&port.interface.name, &switch.interface.driver, &switch.interface.name);
        format!(
            "{port} is a port of the {kind} {switch}, which native XDP cannot send out of: use `--mode generic`, or take \
             {port} out of {switch} and move the addresses to it"
        )
    });
    let mut slaves: Vec<Interface> = devices
        .values()
        .filter(|device| found.is_bond() && device.master == Some(found.link.index))
        .map(|device| device.interface.clone())
        .collect();
    slaves.sort_by_key(|slave| slave.index);
    Ok(Carrier {
        interface: found.interface.clone(),
        slaves,
        vlan,
        no_native,
        advice,
    })
}

/// Refuses devices whose packets no XDP program on them sees.
fn refuse_unseen(device: &Device, devices: &HashMap<u32, Device>) -> Result<(), InterfaceError> {
    let name = &device.interface.name;
    let why = match device.interface.driver.as_str() {
        "vrf" => {
            let mut parts: Vec<&str> = devices
                .values()
                .filter(|part| part.master == Some(device.link.index))
                .map(|part| part.interface.name.as_str())
                .collect();
            parts.sort_unstable();
            let parts = match parts[..] {
                [] => "it has none yet".to_owned(),
                _ => parts.join(", "),
            };
            format!("{name} is a VRF, where XDP sees no packets: name the interfaces in it instead ({parts})")
        }
        "ipvlan" | "ipvtap" => format!(
            "{name} is an {}, which gets packets to its own addresses alone, not to those of services: name an interface \
             with a MAC address of its own, such as a macvlan",
            device.interface.driver
        ),
        _ => return Ok(()),
    };
    Err(InterfaceError::Unseen(why))
}

/// Whether the kernel has taken a packet's outer tag off when generic XDP runs there: it has been received on another
/// interface first.
fn hides_tags(device: &Device) -> bool {
    device.is_switch() || matches!(device.interface.driver.as_str(), "macvlan" | "macvtap")
}

/// The name of a VLAN device on that device.
fn vlan_on<'d>(device: &Device, devices: &'d HashMap<u32, Device>) -> Option<&'d str> {
    devices
        .values()
        .filter(|upper| upper.link.vlan.is_some() && upper.link.lower == Some(Lower::Here(device.link.index)))
        .map(|upper| upper.interface.name.as_str())
        .min()
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

    /// A bond of two cards with a VLAN device and one on that; a bridge's port; a VLAN device of another namespace; a VRF
    /// and its interface, with a macvlan and an ipvlan.
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
            message(10, "red", vec![kind(InfoKind::Vrf)]),
            message(11, "eth3", vec![LinkAttribute::Controller(10)]),
            message(12, "mac0", vec![kind(InfoKind::MacVlan), LinkAttribute::Link(11)]),
            message(13, "mac0.5", vec![LinkAttribute::Link(12), vlan(5)]),
            message(14, "ip0", vec![kind(InfoKind::IpVlan), LinkAttribute::Link(11)]),
            message(15, "br0.6", vec![LinkAttribute::Link(6), vlan(6)]),
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

    fn refusal(name: &str) -> String {
        carrier(name, &devices()).unwrap_err().to_string()
    }

    #[test]
    fn vlan_devices_are_seen_on_what_they_lie_on() {
        finds("eth2.9", "eth2", &[], &[]);
        finds("bond0.100", "bond0", &["eth0", "eth1"], &[]);
        finds("qinq", "bond0", &["eth0", "eth1"], &[]);
        finds("mac0.5", "mac0", &[], &[]);
        let found = carrier("qinq", &devices()).unwrap();
        assert_eq!(found.vlan.as_ref().unwrap().name, "qinq");
        let below = found.advice_below().unwrap();
        assert!(
            below.contains("qinq is a VLAN device: XDP runs on bond0")
                && below.contains("ethtool -K bond0 rxvlan off"),
            "{below}"
        );
        assert_eq!(carrier("bond0", &devices()).unwrap().advice_below(), None);
        let elsewhere = refusal("moved");
        assert!(elsewhere.contains("another network namespace"), "{elsewhere}");
    }

    #[test]
    fn bonds_have_slaves_and_bridges_have_none() {
        finds("bond0", "bond0", &["eth0", "eth1"], &[]);
        finds("eth1", "eth1", &[], &["name bond0"]);
        finds("br0", "br0", &[], &["such as br0.6"]);
        finds("mac0", "mac0", &[], &["such as mac0.5"]);
        finds("eth2", "eth2", &[], &[]);
        finds("eth3", "eth3", &[], &[]);
        let unknown = refusal("eth7");
        assert!(
            unknown.contains("bond0, bond0.100, br0, br0.6, eth0"),
            "{unknown}"
        );
    }

    #[test]
    fn ports_of_bridges_are_not_for_native_mode() {
        let no_native = |name| carrier(name, &devices()).unwrap().no_native;
        for port in ["eth2", "eth2.9"] {
            let why = no_native(port).unwrap();
            assert!(why.contains("eth2 is a port of the bridge br0"), "{port}: {why}");
        }
        for other in ["eth0", "bond0", "br0", "mac0"] {
            assert_eq!(no_native(other), None, "{other}");
        }
    }

    #[test]
    fn devices_whose_packets_are_not_seen_are_refused() {
        let vrf = refusal("red");
        assert!(vrf.contains("name the interfaces in it instead (eth3)"), "{vrf}");
        let ipvlan = refusal("ip0");
        assert!(ipvlan.contains("such as a macvlan"), "{ipvlan}");
    }
}
