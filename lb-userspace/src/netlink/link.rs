//! Interfaces as the resolver must know them, and how the kernel is asked for them.

use std::collections::HashMap;

use lb_common::abi::TagsEntry;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::*;

use super::socket::{Error, Socket};

/// What the resolver must know of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// `None` when it is not an Ethernet interface.
    pub(super) mac: Option<[u8; 6]>,
    /// Bytes.
    pub(super) mtu: u32,
    /// Administratively up.
    pub(super) up: bool,
    pub(super) carrier: bool,
    /// The lower interface of a virtual interface.
    pub(super) lower: Option<Lower>,
    /// The tag of a VLAN device.
    pub(super) vlan: Option<VlanTag>,
    /// What it is a part of: a bond, a bridge, a VRF.
    pub(super) master: Option<u32>,
    pub(super) is_vrf: bool,
    /// Whether it is one end of a pair, such as a veth: what it is said to lie on is the other end.
    pub(super) is_pair: bool,
}

/// The lower interface of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lower {
    /// The one of that index.
    Here(u32),
    /// One of another network namespace, where the index means something else.
    Elsewhere,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VlanTag {
    pub(super) id: u16,
    /// EtherType, host order.
    protocol: u16,
}

impl VlanTag {
    /// The tag of a VLAN device; `None` of other devices.
    fn of(infos: &[LinkInfo]) -> Option<Self> {
        let data = infos.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
            _ => None,
        })?;
        let id = data.iter().find_map(|attribute| match attribute {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        })?;
        // 802.1ad came later: kernels that know only 802.1Q do not say so.
        let protocol = data.iter().find_map(|attribute| match attribute {
            InfoVlan::Protocol(protocol) => Some(u16::from(*protocol)),
            _ => None,
        });
        Some(Self {
            id,
            protocol: protocol.unwrap_or(u16::from(VlanProtocol::Ieee8021Q)),
        })
    }

    /// As a word of [`TagsEntry`].
    pub(super) const fn as_tag(self) -> u32 {
        TagsEntry::tag(self.protocol.to_be(), self.id)
    }
}

impl Link {
    /// Reads a link message; `None` for a message about something else than the interface itself, such as its being a
    /// bridge's port.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        // 0 is AF_UNSPEC: the message is about the interface, not about one protocol's view of it.
        if u8::from(message.header.interface_family) != 0 {
            return None;
        }
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            lower: None,
            vlan: None,
            master: None,
            is_vrf: false,
            is_pair: false,
        };
        let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(address) if ethernet => link.mac = address.as_slice().try_into().ok(),
                // The index of an interface elsewhere comes with the number of its namespace.
                LinkAttribute::Link(index) => link.lower = link.lower.or(Some(Lower::Here(*index))),
                LinkAttribute::LinkNetNsId(_) => link.lower = Some(Lower::Elsewhere),
                LinkAttribute::LinkInfo(infos) => {
                    link.vlan = VlanTag::of(infos);
                    link.is_vrf = infos.contains(&LinkInfo::Kind(InfoKind::Vrf));
                    link.is_pair = infos.iter().any(is_pair);
                }
                LinkAttribute::Controller(index) if *index != 0 => link.master = Some(*index),
                _ => {}
            }
        }
        Some(link)
    }

    /// Whether the kernel resolves neighbours on it.
    pub(super) fn can_resolve(&self) -> bool {
        self.up && self.carrier && self.mac.is_some()
    }
}

/// Whether it says that the device is one of two that are tied together.
fn is_pair(info: &LinkInfo) -> bool {
    const PAIRS: [&str; 2] = ["veth", "netkit"];
    matches!(info, LinkInfo::Kind(kind) if PAIRS.contains(&kind.to_string().as_str()))
}

/// All interfaces, by index.
pub(super) async fn list_links(socket: &Socket) -> Result<HashMap<u32, Link>, Error> {
    let mut links = HashMap::new();
    visit_links(socket, |_, link| {
        links.insert(link.index, link);
    })
    .await?;
    Ok(links)
}

/// Hands every interface to `visit`.
pub(super) async fn visit_links(
    socket: &Socket,
    mut visit: impl FnMut(&LinkMessage, Link),
) -> Result<(), Error> {
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    socket
        .dump(question, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer
                && let Some(link) = Link::from_message(&message)
            {
                visit(&message, link);
            }
        })
        .await
}
