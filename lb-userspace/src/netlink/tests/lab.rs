//! Network namespaces for the tests, made from nothing but netlink. Each is gone with its last handle, also after a
//! panic.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use futures_util::StreamExt;
use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder, RouteNextHopBuilder};

use crate::netlink::socket::family;

/// A network namespace of its own, with no interface but `lo`.
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    pub(super) fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces: run them as root (`cargo xtask test` uses sudo)"
        );
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            // Otherwise a new IPv6 address is of no use for a second.
            for scope in ["all", "default"] {
                set_sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0");
            }
            File::open("/proc/thread-self/ns/net").expect("open the network namespace")
        };
        Self {
            file: thread::spawn(make).join().expect("make a network namespace"),
        }
    }

    /// Runs `body` to its end, in this namespace, on a thread and a tokio runtime of its own.
    pub(super) fn run<T: Send>(&self, body: impl AsyncFnOnce(Net) -> T + Send) -> T {
        let enter = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
                tokio::spawn(connection);
                body(Net { handle }).await
            })
        };
        thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// Changes a setting of the calling thread's network namespace.
pub(super) fn set_sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("write {value} to {path}: {error}"));
}

/// Runs `ip` in the calling thread's network namespace, for what netlink has no easy words for.
pub(super) fn ip_command(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("run ip");
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

/// The configuration of the namespace that the calling thread runs in: what `ip` would be used for.
pub(super) struct Net {
    pub(super) handle: Handle,
}

impl Net {
    /// Makes a veth pair: `name` here, `peer_name` in the other namespace. Both are down.
    pub(super) async fn add_veth(&self, name: &str, peer: &Namespace, peer_name: &str) {
        let peer_end = LinkUnspec::new_with_name(peer_name)
            .setns_by_fd(peer.file.as_raw_fd())
            .build();
        let pair = LinkVeth::new(name, peer_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_end)))
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .expect("add a veth pair");
    }

    pub(super) async fn index(&self, name: &str) -> u32 {
        crate::netlink::find_interface(name)
            .await
            .expect("the interface")
            .index
    }

    pub(super) async fn up(&self, name: &str) {
        let message = LinkUnspec::new_with_name(name).up().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .expect("set the interface up");
    }

    pub(super) async fn down(&self, name: &str) {
        let message = LinkUnspec::new_with_name(name).down().build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .expect("set the interface down");
    }

    pub(super) async fn set_mac(&self, name: &str, mac: [u8; 6]) {
        let message = LinkUnspec::new_with_name(name).address(mac.to_vec()).build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .expect("set the MAC address");
    }

    pub(super) async fn add_address(&self, name: &str, address: &str) {
        let network: ipnet::IpNet = address.parse().expect("an address with its prefix length");
        let index = self.index(name).await;
        let request = self
            .handle
            .address()
            .add(index, network.addr(), network.prefix_len());
        request.execute().await.expect("add the address");
    }

    /// Adds a route, or replaces the one to the same destination.
    pub(super) async fn set_route(&self, destination: &str, via: &str, interface: &str, mtu: Option<u32>) {
        let destination: ipnet::IpNet = destination.parse().expect("a prefix");
        let gateway: IpAddr = via.parse().expect("an address");
        let mut message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.addr(), destination.prefix_len())
            .and_then(|builder| builder.gateway(gateway))
            .expect("a route of one family")
            .output_interface(self.index(interface).await)
            .build();
        message
            .attributes
            .extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)])));
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .expect("set the route");
    }

    /// Adds a default route with several equal gateways.
    pub(super) async fn add_multipath_default(&self, hops: &[(&str, &str)]) {
        let first: IpAddr = hops[0].0.parse().expect("an address");
        let mut next_hops = Vec::new();
        for (gateway, interface) in hops {
            let builder = RouteNextHopBuilder::new(family(first)).interface(self.index(interface).await);
            next_hops.push(
                builder
                    .via(gateway.parse().expect("an address"))
                    .expect("one family")
                    .build(),
            );
        }
        let any = if first.is_ipv4() {
            IpAddr::from([0; 4])
        } else {
            IpAddr::from([0; 16])
        };
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(any, 0)
            .expect("a default route");
        let message = builder.multipath(next_hops).build();
        self.handle
            .route()
            .add(message)
            .execute()
            .await
            .expect("add the route");
    }

    /// Makes an entry such as an operator would.
    pub(super) async fn add_permanent_neighbour(&self, interface: &str, address: &str, mac: [u8; 6]) {
        let index = self.index(interface).await;
        let request = self
            .handle
            .neighbours()
            .add(index, address.parse().expect("an address"));
        request
            .link_layer_address(&mac)
            .execute()
            .await
            .expect("add the neighbour");
    }

    /// The entry of the kernel's neighbour table.
    pub(super) async fn neighbour(&self, address: &str) -> Option<NeighbourMessage> {
        let address: IpAddr = address.parse().expect("an address");
        let destination = NeighbourAttribute::Destination(address.into());
        let mut entries = self.handle.neighbours().get().execute();
        while let Some(entry) = entries.next().await {
            let entry = entry.expect("list the neighbours");
            if entry.attributes.contains(&destination) {
                return Some(entry);
            }
        }
        None
    }

    /// Whether the kernel keeps the neighbour fresh by itself.
    pub(super) async fn is_managed(&self, address: &str) -> bool {
        let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
        self.neighbour(address)
            .await
            .is_some_and(|entry| entry.attributes.contains(&managed))
    }

    pub(super) async fn remove_route(&self, destination: &str) {
        let destination: ipnet::IpNet = destination.parse().expect("a prefix");
        let builder = RouteMessageBuilder::<IpAddr>::new();
        let message = builder
            .destination_prefix(destination.addr(), destination.prefix_len())
            .expect("a prefix");
        self.handle
            .route()
            .del(message.build())
            .execute()
            .await
            .expect("remove the route");
    }
}

/// Neighbours are given up after 0.3 s rather than 3, and doubted after 1 s rather than 30.
pub(super) fn hasten_neighbours(interface: &str) {
    for family in ["ipv4", "ipv6"] {
        let neigh = format!("{family}/neigh/{interface}");
        set_sysctl(&format!("{neigh}/retrans_time_ms"), "100");
        set_sysctl(&format!("{neigh}/base_reachable_time_ms"), "1000");
        set_sysctl(&format!("{neigh}/delay_first_probe_time"), "1");
    }
}
