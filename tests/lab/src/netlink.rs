//! Links, addresses and routes of one namespace, over rtnetlink.
//!
//! What must hold: the netlink socket is opened inside the namespace it changes.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::{
        address::AddressHeaderFlags,
        link::{
            BridgePortState, InfoBridge, InfoBridgePort, InfoPortData, LinkAttribute, LinkInfo, LinkMessage,
            State,
        },
        neighbour::NeighbourState,
        route::{RouteAttribute, RouteMessage, RouteMetric},
    },
};

use tokio::time::{sleep, timeout};

use super::Namespace;
use crate::patience::patient;

/// How long the kernel may take to notice that a link is up.
const LINK_LIMIT: Duration = Duration::from_secs(5);
const LINK_POLL: Duration = Duration::from_millis(2);

/// A netlink connection into one namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
}

/// A route to add.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// The network.
    pub destination: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Where packets go.
    pub next: NextHop<'a>,
    /// The largest IP packet in bytes, where that is less than the interface takes.
    pub mtu: Option<u32>,
}

/// Where the packets of a route go.
#[derive(Debug, Clone, Copy)]
pub enum NextHop<'a> {
    /// To this router.
    Via(IpAddr),
    /// To the destination itself, over this interface.
    On(&'a str),
}

impl Namespace {
    /// Runs `body` with a netlink connection into this namespace.
    ///
    /// # Errors
    /// When the connection cannot be opened, and whatever `body` returns.
    pub fn netlink<T: Send>(&self, body: impl AsyncFnOnce(&Netlink) -> Result<T> + Send) -> Result<T> {
        self.block_on(async || {
            let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
            tokio::spawn(connection);
            body(&Netlink { handle })
                .await
                .with_context(|| format!("in the namespace {}", self.name()))
        })?
    }
}

impl Netlink {
    /// The index of the interface `name`.
    ///
    /// # Errors
    /// When there is no such interface.
    pub async fn index(&self, name: &str) -> Result<u32> {
        let link = self
            .handle
            .link()
            .get()
            .match_name(name)
            .execute()
            .try_next()
            .await;
        let link = link.with_context(|| format!("cannot look up the interface {name}"))?;
        Ok(link
            .with_context(|| format!("there is no interface {name}"))?
            .header
            .index)
    }

    /// Adds a bridge that is up and forwards multicast like a plain switch.
    ///
    /// # Errors
    /// When the kernel has no bridge driver or the name is taken.
    pub async fn add_bridge(&self, name: &str) -> Result<()> {
        let bridge = LinkBridge::new(name)
            .append_info_data(InfoBridge::MulticastSnooping(false))
            .build();
        let added = self.handle.link().add(bridge).execute().await;
        added.with_context(|| format!("cannot add the bridge {name}; the kernel needs CONFIG_BRIDGE"))
    }

    /// Adds a pair of virtual Ethernet interfaces; both are down.
    ///
    /// # Errors
    /// When the kernel has no veth driver or a name is taken.
    pub async fn add_veth(&self, name: &str, peer: &str) -> Result<()> {
        let added = self
            .handle
            .link()
            .add(LinkVeth::new(name, peer).build())
            .execute()
            .await;
        added
            .with_context(|| format!("cannot add the veth pair {name}, {peer}; the kernel needs CONFIG_VETH"))
    }

    /// Removes the interface `name`.
    ///
    /// # Errors
    /// When the interface is missing, or is one that cannot be removed.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let index = self.index(name).await?;
        let removed = self.handle.link().del(index).execute().await;
        removed.with_context(|| format!("cannot remove {name}"))
    }

    /// Moves the interface `name` into another namespace and calls it `new_name` there.
    ///
    /// # Errors
    /// When the interface is missing or the name is taken there.
    pub async fn move_to(&self, name: &str, namespace: &Namespace, new_name: &str) -> Result<()> {
        let moved = LinkUnspec::new_with_index(self.index(name).await?)
            .name(new_name)
            .setns_by_fd(namespace.as_fd().as_raw_fd())
            .build();
        self.change(moved)
            .await
            .with_context(|| format!("cannot move {name} to the namespace {}", namespace.name()))
    }

    /// Gives the interface `name`, which is down, another name.
    ///
    /// # Errors
    /// When the interface is missing or up, or the name is taken.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<()> {
        let renamed = LinkUnspec::new_with_index(self.index(name).await?).name(new_name.to_owned());
        self.change(renamed.build())
            .await
            .with_context(|| format!("cannot rename {name} to {new_name}"))
    }

    /// Makes the interface `name` a port of `bridge`.
    ///
    /// # Errors
    /// When either is missing.
    pub async fn set_bridge(&self, name: &str, bridge: &str) -> Result<()> {
        let bridge_index = self.index(bridge).await?;
        let port = LinkUnspec::new_with_index(self.index(name).await?)
            .controller(bridge_index)
            .build();
        self.change(port)
            .await
            .with_context(|| format!("cannot make {name} a port of {bridge}"))
    }

    /// Waits until the interface `name` is up for the protocols above it: the kernel notices in the background that both
    /// ends of a veth pair are up, and IPv6 is not ready before.
    ///
    /// # Errors
    /// When it does not happen within a few seconds.
    pub async fn wait_until_up(&self, name: &str) -> Result<()> {
        self.wait_until(name, is_up)
            .await
            .with_context(|| format!("{name} is not up; is its peer?"))
    }

    /// Waits until the bridge forwards what the port `name` receives; it drops packets until then.
    ///
    /// # Errors
    /// When it does not happen within a few seconds.
    pub async fn wait_until_forwarding(&self, name: &str) -> Result<()> {
        self.wait_until(name, is_forwarding)
            .await
            .with_context(|| format!("{name} does not forward; is its peer up?"))
    }

    async fn wait_until(&self, name: &str, condition: fn(&LinkMessage) -> bool) -> Result<()> {
        let index = self.index(name).await?;
        let poll = async {
            loop {
                let link = self
                    .handle
                    .link()
                    .get()
                    .match_index(index)
                    .execute()
                    .try_next()
                    .await?;
                if link.as_ref().is_some_and(condition) {
                    return anyhow::Ok(());
                }
                sleep(LINK_POLL).await;
            }
        };
        timeout(patient(LINK_LIMIT), poll).await?
    }

    /// Sets MAC address and MTU (bytes of IP) of the interface `name`.
    ///
    /// # Errors
    /// When the interface is missing or refuses a value.
    pub async fn configure(&self, name: &str, mac: [u8; 6], mtu: u32) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name).await?)
            .address(mac.to_vec())
            .mtu(mtu)
            .build();
        self.change(link)
            .await
            .with_context(|| format!("cannot set MAC address and MTU {mtu} of {name}"))
    }

    /// Brings the interface `name` up.
    ///
    /// # Errors
    /// When the interface is missing.
    pub async fn set_up(&self, name: &str) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name).await?).up().build();
        self.change(link)
            .await
            .with_context(|| format!("cannot bring {name} up"))
    }

    /// Takes the interface `name` down, as if its cable were pulled: the peer loses its carrier.
    ///
    /// # Errors
    /// When the interface is missing.
    pub async fn set_down(&self, name: &str) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name).await?).down().build();
        self.change(link)
            .await
            .with_context(|| format!("cannot take {name} down"))
    }

    /// Adds an address with the prefix length of its network to the interface `name`. It works at once.
    ///
    /// # Errors
    /// When the interface is missing or has the address.
    pub async fn add_address(&self, name: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(name).await?;
        let mut request = self.handle.address().add(index, address, prefix);
        // Even a detection of duplicates that is turned off makes the address wait for a moment.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request
            .execute()
            .await
            .with_context(|| format!("cannot add {address}/{prefix} to {name}"))
    }

    /// Adds a route.
    ///
    /// # Errors
    /// When its next hop is not on a connected network or its interface not up, or when it exists.
    pub async fn add_route(&self, route: &Route<'_>) -> Result<()> {
        let message = self
            .route_message(route)
            .await
            .with_context(|| format!("{route:?} is not valid"))?;
        self.handle
            .route()
            .add(message)
            .execute()
            .await
            .with_context(|| format!("cannot add {route:?}"))
    }

    /// Adds a neighbour that needs no asking for: `address` has that MAC on `interface`, for good.
    ///
    /// # Errors
    /// When there is no such interface or the neighbour is known already.
    pub async fn add_neighbour(&self, interface: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let index = self.index(interface).await?;
        let request = self.handle.neighbours().add(index, address);
        let request = request.link_layer_address(&mac).state(NeighbourState::Permanent);
        let added = request.execute().await;
        added.with_context(|| format!("cannot add the neighbour {address} on {interface}"))
    }

    async fn route_message(&self, route: &Route<'_>) -> Result<RouteMessage> {
        let mut builder =
            RouteMessageBuilder::<IpAddr>::new().destination_prefix(route.destination, route.prefix)?;
        builder = match route.next {
            NextHop::Via(gateway) => builder.gateway(gateway)?,
            NextHop::On(interface) => builder.output_interface(self.index(interface).await?),
        };
        let mut message = builder.build();
        if let Some(mtu) = route.mtu {
            message
                .attributes
                .push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        }
        Ok(message)
    }

    /// The names of all interfaces.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub async fn interfaces(&self) -> Result<Vec<String>> {
        let links: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .context("cannot list the interfaces")?;
        let name = |attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        };
        Ok(links
            .into_iter()
            .filter_map(|link| link.attributes.into_iter().find_map(name))
            .collect())
    }

    async fn change(&self, link: LinkMessage) -> Result<(), rtnetlink::Error> {
        self.handle.link().set(link).execute().await
    }
}

fn is_up(link: &LinkMessage) -> bool {
    link.attributes.contains(&LinkAttribute::OperState(State::Up))
}

fn is_forwarding(link: &LinkMessage) -> bool {
    let forwarding = InfoBridgePort::State(BridgePortState::Forwarding);
    link.attributes.iter().any(|attribute| {
        let LinkAttribute::LinkInfo(infos) = attribute else {
            return false;
        };
        infos.iter().any(|info| {
            matches!(info, LinkInfo::PortData(InfoPortData::BridgePort(port)) if port.contains(&forwarding))
        })
    })
}
