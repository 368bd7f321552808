//! Links, addresses and routes of one namespace, over rtnetlink.
//!
//! What must hold: the netlink socket is opened inside the namespace it changes.

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use anyhow::{Context, Result, anyhow};
use futures_util::TryStreamExt;
use rtnetlink::{
    Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection,
    packet_route::link::{InfoBridge, LinkMessage},
};

use super::Namespace;

/// A netlink connection into one namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
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

    /// Takes the interface `name` down.
    ///
    /// # Errors
    /// When the interface is missing.
    pub async fn set_down(&self, name: &str) -> Result<()> {
        let link = LinkUnspec::new_with_index(self.index(name).await?).down().build();
        self.change(link)
            .await
            .with_context(|| format!("cannot take {name} down"))
    }

    /// Adds an address with the prefix length of its network to the interface `name`.
    ///
    /// # Errors
    /// When the interface is missing or has the address.
    pub async fn add_address(&self, name: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let index = self.index(name).await?;
        let added = self.handle.address().add(index, address, prefix).execute().await;
        added.with_context(|| format!("cannot add {address}/{prefix} to {name}"))
    }

    /// Adds a route to `destination`/`prefix` through `gateway`.
    ///
    /// # Errors
    /// When the gateway is not on a connected network or the route exists.
    pub async fn add_route_via(&self, destination: IpAddr, prefix: u8, gateway: IpAddr) -> Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| {
                anyhow!("the route to {destination}/{prefix} via {gateway} is not valid: {error}")
            })?;
        let added = self.handle.route().add(route.build()).execute().await;
        added.with_context(|| format!("cannot add a route to {destination}/{prefix} via {gateway}"))
    }

    /// Adds a route to the directly connected network `destination`/`prefix` on the interface `name`.
    ///
    /// # Errors
    /// When the interface is missing or down, or the route exists.
    pub async fn add_route_on(&self, destination: IpAddr, prefix: u8, name: &str) -> Result<()> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination, prefix)
            .map_err(|error| anyhow!("the route to {destination}/{prefix} on {name} is not valid: {error}"))?
            .output_interface(self.index(name).await?);
        let added = self.handle.route().add(route.build()).execute().await;
        added.with_context(|| format!("cannot add a route to {destination}/{prefix} on {name}"))
    }

    /// The names of all interfaces.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub async fn interfaces(&self) -> Result<Vec<String>> {
        use rtnetlink::packet_route::link::LinkAttribute;
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
