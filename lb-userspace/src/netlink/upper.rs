//! Interfaces as frames meet them: a VLAN device is a real interface and a tag, and each interface has addresses that
//! speak for it. Pure functions of what the kernel said.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use lb_common::abi::TagsEntry;
use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};

use super::{
    link::{Link, Lower},
    socket::{Error, Socket},
};

/// What the dataplane must know of an interface to send out of it, and in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The interface that carries its frames: itself, or what a VLAN device lies on.
    pub interface: u32,
    /// The tags that its frames carry there.
    pub tags: TagsEntry,
    /// Its own addresses, those first that last: not temporary, not deprecated, the first of their network.
    pub addresses: Vec<IpAddr>,
}

/// The addresses of all interfaces that others can reach and that packets can be sent from, by index.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// As the kernel lists them.
    pub(super) all: HashMap<u32, Vec<IpAddr>>,
    /// In another order: addresses that last come before those that do not.
    pub(super) ranked: HashMap<u32, Vec<IpAddr>>,
}

/// All interfaces, by index.
pub type Uppers = Arc<BTreeMap<u32, Upper>>;

/// Where frames over an interface go in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Egress {
    pub(super) interface: u32,
    pub(super) tags: TagsEntry,
}

/// Goes down from a VLAN device to the interface that it lies on.
///
/// # Errors
/// Why frames cannot be made for it, in an operator's words.
pub(super) fn egress(link: &Link, links: &HashMap<u32, Link>) -> Result<Egress, String> {
    // A device's own tag is behind those of the devices that it lies on.
    let mut tags = Vec::new();
    let mut at = link;
    while let Some(vlan) = at.vlan {
        tags.push(vlan);
        at = match at.lower {
            Some(Lower::Here(lower)) => links.get(&lower),
            Some(Lower::Elsewhere) | None => None,
        }
        .ok_or_else(|| {
            format!(
                "VLAN device {} lies on an interface that is not in this network namespace",
                at.name
            )
        })?;
        if tags.len() > 2 {
            return Err(format!("{} has more than two VLAN tags", link.name));
        }
    }
    let tags = match tags[..] {
        [] => TagsEntry::NONE,
        [one] => TagsEntry([0, one.as_tag()]),
        [inner, outer, ..] => TagsEntry([outer.as_tag(), inner.as_tag()]),
    };
    Ok(Egress {
        interface: at.index,
        tags,
    })
}

/// What the dataplane is told of `links`; interfaces that it cannot use are left out.
pub(super) fn uppers(links: &HashMap<u32, Link>, addresses: &HashMap<u32, Vec<IpAddr>>) -> Uppers {
    let upper = |link: &Link| {
        let Egress { interface, tags } = egress(link, links).ok()?;
        let upper = Upper {
            interface,
            tags,
            addresses: addresses.get(&link.index).cloned().unwrap_or_default(),
        };
        link.mac.is_some().then_some((link.index, upper))
    };
    Arc::new(links.values().filter_map(upper).collect())
}

/// The addresses of all interfaces that others can reach.
pub(super) async fn list_addresses(socket: &Socket) -> Result<Addresses, Error> {
    let mut addresses = Addresses::default();
    let mut passing: Vec<(u32, IpAddr)> = Vec::new();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    socket
        .dump(question, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                note(&message, &mut addresses, &mut passing);
            }
        })
        .await?;
    Ok(addresses.with(passing))
}

impl Addresses {
    /// With these behind all others.
    fn with(mut self, passing: Vec<(u32, IpAddr)>) -> Self {
        for (index, address) in passing {
            self.ranked.entry(index).or_default().push(address);
        }
        self
    }
}

fn note(message: &AddressMessage, addresses: &mut Addresses, passing: &mut Vec<(u32, IpAddr)>) {
    let Some((address, flags)) = global(message) else {
        return;
    };
    if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
        return;
    }
    let index = message.header.index;
    addresses.all.entry(index).or_default().push(address);
    // A secondary IPv6 address is a temporary one (RFC 8981).
    if flags.intersects(AddressFlags::Secondary | AddressFlags::Deprecated) {
        passing.push((index, address));
    } else {
        addresses.ranked.entry(index).or_default().push(address);
    }
}

/// The address that a message is about, if others can reach it, and what it is like.
fn global(message: &AddressMessage) -> Option<(IpAddr, AddressFlags)> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut address, mut flags) = (None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            // On links between two hosts, the other attribute is the other host's address.
            AddressAttribute::Local(local) => address = Some(*local),
            AddressAttribute::Address(prefix) => address = address.or(Some(*prefix)),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    Some((address?, flags))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable, Parseable};
    use rtnetlink::packet_route::{
        AddressFamily,
        link::{
            InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol,
        },
    };

    use super::*;

    fn ethernet(index: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.attributes = vec![
            LinkAttribute::IfName(format!("eth{index}")),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
            LinkAttribute::Mtu(1500),
        ];
        message
    }

    fn vlan(index: u32, lower: u32, id: u16, protocol: VlanProtocol) -> LinkMessage {
        let mut message = ethernet(index);
        let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(id)]);
        message.attributes.extend([
            LinkAttribute::Link(lower),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]),
        ]);
        message
    }

    /// As they come from the kernel: through bytes.
    fn links(messages: &[LinkMessage]) -> HashMap<u32, Link> {
        let link = |message: &LinkMessage| {
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            let message = parsed(&bytes);
            let link = Link::from_message(&message).expect("about the interface");
            (link.index, link)
        };
        messages.iter().map(link).collect()
    }

    fn parsed(bytes: &[u8]) -> LinkMessage {
        LinkMessage::parse(bytes).expect("a link message")
    }

    fn found(links: &HashMap<u32, Link>, index: u32) -> Result<(u32, Vec<u8>), String> {
        let Egress { interface, tags } = egress(&links[&index], links)?;
        let wire = bytemuck::bytes_of(&tags);
        Ok((interface, wire[wire.len() - usize::from(tags.bytes())..].to_vec()))
    }

    #[test]
    fn a_vlan_device_is_its_lowest_interface_and_its_tags() {
        use VlanProtocol::{Ieee8021Ad, Ieee8021Q};
        let links = links(&[
            ethernet(2),
            vlan(3, 2, 100, Ieee8021Q),
            vlan(4, 2, 200, Ieee8021Ad),
            vlan(5, 4, 4094, Ieee8021Q),
            vlan(6, 5, 7, Ieee8021Q),
            vlan(7, 99, 8, Ieee8021Q),
        ]);
        assert_eq!(found(&links, 2), Ok((2, vec![])));
        assert_eq!(found(&links, 3), Ok((2, vec![0x81, 0, 0, 100])));
        assert_eq!(found(&links, 4), Ok((2, vec![0x88, 0xa8, 0, 200])));
        let two = vec![0x88, 0xa8, 0, 200, 0x81, 0, 0x0f, 0xfe];
        assert_eq!(found(&links, 5), Ok((2, two)));
        assert_eq!(
            found(&links, 6),
            Err("eth6 has more than two VLAN tags".to_owned())
        );
        assert!(found(&links, 7).is_err_and(|error| error.contains("not in this network namespace")));
    }

    #[test]
    fn what_lies_below_in_another_namespace_is_not_taken_for_what_has_its_number_here() {
        let mut message = vlan(3, 2, 100, VlanProtocol::Ieee8021Q);
        message.attributes.push(LinkAttribute::LinkNetNsId(0));
        let links = links(&[ethernet(2), message]);
        assert!(found(&links, 3).is_err());
        assert_eq!(uppers(&links, &HashMap::new()).keys().collect::<Vec<_>>(), [&2]);
    }

    #[test]
    fn a_loop_of_devices_ends() {
        let q = VlanProtocol::Ieee8021Q;
        let links = links(&[vlan(2, 3, 1, q), vlan(3, 2, 2, q)]);
        assert!(found(&links, 2).is_err());
    }

    #[test]
    fn an_interface_speaks_by_its_first_lasting_address() {
        let message = |index, address: &str, scope, flags| {
            let address: IpAddr = address.parse().expect("an address");
            let mut message = AddressMessage::default();
            message.header.index = index;
            message.header.scope = scope;
            message.header.family = if address.is_ipv4() {
                AddressFamily::Inet
            } else {
                AddressFamily::Inet6
            };
            message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Flags(flags)];
            message
        };
        let (global, none) = (AddressScope::Universe, AddressFlags::empty());
        let mut to_a_peer = message(3, "10.0.1.2", global, none);
        let local = "10.0.1.1".parse().expect("an address");
        to_a_peer.attributes.push(AddressAttribute::Local(local));
        let (mut addresses, mut passing) = (Addresses::default(), Vec::new());
        for message in [
            message(2, "fe80::1", AddressScope::Link, none),
            message(2, "2001:db8::a", global, AddressFlags::Secondary),
            message(2, "2001:db8::b", global, AddressFlags::Tentative),
            message(2, "2001:db8::c", global, AddressFlags::Permanent),
            message(2, "2001:db8::d", global, AddressFlags::Permanent),
            message(2, "10.0.0.1", global, AddressFlags::Permanent),
            message(2, "10.0.0.2", global, AddressFlags::Secondary),
            to_a_peer,
        ] {
            note(&message, &mut addresses, &mut passing);
        }
        let addresses = addresses.with(passing);
        let own = |index: u32| {
            let ranked = addresses.ranked[&index].iter();
            ranked.map(ToString::to_string).collect::<Vec<_>>()
        };
        let lasting = ["2001:db8::c", "2001:db8::d", "10.0.0.1"];
        let passing = ["2001:db8::a", "10.0.0.2"];
        assert_eq!(own(2), [&lasting[..], &passing[..]].concat());
        assert_eq!(own(3), ["10.0.1.1"]);
        assert_eq!(addresses.all[&2].len(), 5, "also those that come second");
    }
}
