//! Network interfaces as the kernel describes them: address, MTU, state, driver and attached XDP programs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkMessage, LinkXdp};

use super::link::{Link, list_links, visit_links};
use super::socket::{Error, Socket};

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index of it, never 0.
    pub index: u32,
    /// Its name, as in `ip link`.
    pub name: String,
    /// Its MAC address; `None` when it is not an Ethernet interface.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet it sends, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up and has a carrier.
    pub up: bool,
    /// The driver's name (`veth`, `virtio_net`, `mlx5_core` …), or `unknown`.
    pub driver: String,
    /// The XDP programs on it; empty when there are none.
    pub xdp: Vec<AttachedXdp>,
}

/// An XDP program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// How it is attached.
    pub mode: XdpMode,
    /// The kernel's id of the program, as in `bpftool prog`.
    pub program_id: u32,
}

/// Where on the receive path an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel allocates a packet buffer.
    Native,
    /// In the network stack, on every kind of interface, slower.
    Generic,
    /// On the network card.
    Offloaded,
}

/// Why an interface cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of that name.
    #[error("there is no interface {name:?} here; there are: {}", existing.join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names of all interfaces of this network namespace.
        existing: Vec<String>,
    },
    /// Its lower interface is in another network namespace.
    #[error(
        "{name} is a VLAN device on an interface of another network namespace: its packets are seen there alone, so run lb \
         there, on that interface"
    )]
    Elsewhere {
        /// The VLAN device.
        name: String,
    },
    /// No XDP program on it sees its packets; the words say what to name instead.
    #[error("{0}")]
    Unseen(String),
    /// The kernel could not be asked.
    #[error("cannot list the network interfaces: {0}")]
    Netlink(#[from] Error),
}

/// Describes the interface `name` of the calling thread's network namespace.
///
/// # Errors
/// When there is no interface of that name (the error lists those that exist), or the kernel cannot be asked.
pub async fn find_interface(name: &str) -> Result<Interface, InterfaceError> {
    let mut found = None;
    let mut existing = Vec::new();
    let socket = Socket::open()?;
    visit_links(&socket, |message, link| {
        if link.name == name {
            found = Some(describe(message, link));
        } else {
            existing.push(link.name);
        }
    })
    .await?;
    found.ok_or_else(|| InterfaceError::unknown(name, existing))
}

impl InterfaceError {
    pub(super) fn unknown(name: &str, existing: impl IntoIterator<Item = String>) -> Self {
        let mut existing: Vec<String> = existing.into_iter().collect();
        existing.sort();
        Self::Unknown {
            name: name.to_owned(),
            existing,
        }
    }
}

/// Describes every interface of the calling thread's network namespace.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn interfaces() -> Result<Vec<Interface>, InterfaceError> {
    let mut all = Vec::new();
    let socket = Socket::open()?;
    visit_links(&socket, |message, link| all.push(describe(message, link))).await?;
    Ok(all)
}

/// Devices that may lie between an interface and its VRF: a bond, a bridge.
const MAX_MASTERS: usize = 8;

/// The VRF that an interface belongs to.
pub(super) fn vrf(link: &Link, links: &HashMap<u32, Link>) -> Option<u32> {
    let mut at = link;
    for _ in 0..MAX_MASTERS {
        at = links.get(&at.master?)?;
        if at.is_vrf {
            return Some(at.index);
        }
    }
    None
}

/// The VRF device that the interface `name` belongs to.
///
/// # Errors
/// As [`find_interface`].
pub async fn vrf_of(name: &str) -> Result<Option<String>, InterfaceError> {
    let links = list_links(&Socket::open()?).await?;
    let Some(link) = links.values().find(|link| link.name == name) else {
        return Err(InterfaceError::unknown(
            name,
            links.into_values().map(|link| link.name),
        ));
    };
    Ok(name_of_vrf(link, &links))
}

/// The VRF device that all of these interfaces, by index, belong to, if there is one.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn common_vrf(indexes: impl IntoIterator<Item = u32>) -> Result<Option<String>, InterfaceError> {
    let links = list_links(&Socket::open()?).await?;
    Ok(vrf_of_all(indexes, &links))
}

pub(super) fn vrf_of_all(
    indexes: impl IntoIterator<Item = u32>,
    links: &HashMap<u32, Link>,
) -> Option<String> {
    let vrf = |index| links.get(&index).and_then(|link| name_of_vrf(link, links));
    let mut vrfs = indexes.into_iter().map(vrf);
    let first = vrfs.next().flatten();
    first.filter(|first| vrfs.all(|vrf| vrf.as_ref() == Some(first)))
}

fn name_of_vrf(link: &Link, links: &HashMap<u32, Link>) -> Option<String> {
    let vrf = links.get(&vrf(link, links)?)?;
    Some(vrf.name.clone())
}

pub(super) fn describe(message: &LinkMessage, link: Link) -> Interface {
    Interface {
        index: link.index,
        mac: link.mac,
        mtu: link.mtu,
        up: link.up && link.carrier,
        driver: driver(message, &link.name).unwrap_or_else(|| "unknown".to_owned()),
        xdp: attached_xdp(message),
        name: link.name,
    }
}

/// Virtual interfaces carry their kind in the message, hardware has a device with a driver behind it.
fn driver(message: &LinkMessage, name: &str) -> Option<String> {
    let mut device = PathBuf::from("/sys/class/net").join(name).join("device");
    let (mut bus, mut parent) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        return Some(kind.to_string());
                    }
                }
            }
            LinkAttribute::ParentDevBusName(name) => bus = Some(name),
            LinkAttribute::ParentDevName(name) => parent = Some(name),
            _ => {}
        }
    }
    // Since Linux 5.14 the kernel names the device. Older ones leave /sys/class/net, which shows the network namespace
    // that /sys was mounted in rather than ours.
    if let (Some(bus), Some(parent)) = (bus, parent) {
        device = Path::new("/sys/bus").join(bus).join("devices").join(parent);
    }
    let driver = device.join("driver").read_link().ok()?;
    Some(driver.file_name()?.to_str()?.to_owned())
}

fn attached_xdp(message: &LinkMessage) -> Vec<AttachedXdp> {
    let properties = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(properties) => Some(properties),
        _ => None,
    });
    properties
        .flatten()
        .filter_map(|property| match *property {
            LinkXdp::DrvProgId(program_id) => Some(AttachedXdp {
                mode: XdpMode::Native,
                program_id,
            }),
            LinkXdp::SkbProgId(program_id) => Some(AttachedXdp {
                mode: XdpMode::Generic,
                program_id,
            }),
            LinkXdp::HwProgId(program_id) => Some(AttachedXdp {
                mode: XdpMode::Offloaded,
                program_id,
            }),
            _ => None,
        })
        .collect()
}

/// `name`, if a Linux interface may be called so.
///
/// # Errors
/// That it may not.
pub fn interface_name(name: &str) -> Result<String, String> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    if (1..libc::IFNAMSIZ).contains(&name.len()) && name.chars().all(plain) && name != "." && name != ".." {
        return Ok(name.to_owned());
    }
    Err("this is no name of an interface: `ip link` lists them".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_which_xdp_program_is_attached_and_how() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Xdp(vec![
            LinkXdp::ProgId(7),
            LinkXdp::DrvProgId(7),
            LinkXdp::SkbProgId(9),
        ]));
        assert_eq!(
            attached_xdp(&message),
            [
                AttachedXdp {
                    mode: XdpMode::Native,
                    program_id: 7
                },
                AttachedXdp {
                    mode: XdpMode::Generic,
                    program_id: 9
                },
            ]
        );
        assert!(attached_xdp(&LinkMessage::default()).is_empty());
    }
}
