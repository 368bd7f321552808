//! The wire (a namespace with a bridge) and the hosts on it, set up for one forwarder.
//!
//! What must hold: a host that owns a VIP never answers for it on the wire; only the balancer draws a VIP's packets,
//! because the clients route them to it.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{
    BpfFs, Host, Namespace, Netlink, NextHop, Route, find_binary,
    host::{HostNumber, INTERFACE, Network, SECOND_INTERFACE},
    sysctl,
    xdp::{LabProgram, LabPrograms},
};

const BRIDGE: &str = "br0";
/// The wire's end of the balancer's second interface.
const SECOND_PORT: &str = "to-balancer-2";

/// How packets reach the backends, and so what the backends need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Forwarder {
    /// Rewritten MAC addresses: the backend owns the VIP and answers the client directly.
    L2dsr,
    /// IP in IP: the backend strips the outer header, owns the VIP and answers the client directly.
    Ipip,
    /// IP in Generic UDP Encapsulation: the backend strips the outer headers, owns the VIP and answers the client
    /// directly.
    Gue,
    /// IP in UDP alone: the backend strips the outer headers, owns the VIP and answers the client directly.
    Fou,
    /// IP in GRE: the backend strips the outer headers, owns the VIP and answers the client directly.
    Gre,
    /// Rewritten addresses: the backend routes its answers through the balancer.
    Nat,
    /// Both ends rewritten: the backend answers the balancer, whatever its routes.
    Fullnat,
}

impl Forwarder {
    /// The name in configuration and API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L2dsr => "l2dsr",
            Self::Ipip => "ipip",
            Self::Gue => "gue",
            Self::Fou => "fou",
            Self::Gre => "gre",
            Self::Nat => "nat",
            Self::Fullnat => "fullnat",
        }
    }

    /// Whether the backends are sent packets to their own addresses, and answer through the balancer.
    pub const fn translates(self) -> bool {
        matches!(self, Self::Nat | Self::Fullnat)
    }

    /// Whether packets reach the backends through a tunnel.
    pub const fn is_tunnel(self) -> bool {
        matches!(self, Self::Ipip | Self::Gue | Self::Fou | Self::Gre)
    }
}

/// How a client's packets are tagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags {
    /// VLAN 100 (IEEE 802.1Q).
    One,
    /// VLAN 100 within VLAN 200 of a provider (IEEE 802.1ad).
    Two,
}

/// The largest IP packet on each kind of port, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtu {
    /// Clients.
    pub client: u32,
    /// The balancer.
    pub balancer: u32,
    /// Backends.
    pub backend: u32,
}

impl Default for Mtu {
    /// A full-size packet of a client plus the largest outer header fits on the way to a backend.
    fn default() -> Self {
        Self {
            client: 1500,
            balancer: 1600,
            backend: 1600,
        }
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// For which forwarder the backends are set up.
    pub forwarder: Forwarder,
    /// At most 200.
    pub clients: usize,
    /// At most 200.
    pub backends: usize,
    /// Addresses outside of 10.0.0.0/24, 10.1.0.0/24, fd00::/64 and fd01::/64.
    pub vips: Vec<IpAddr>,
    /// Whether the balancer reaches the backends by a second interface, `eth1`; else `eth0` leads to everyone.
    pub two_interfaces: bool,
    /// Packet sizes.
    pub mtu: Mtu,
}

impl LabOptions {
    /// One client, three backends, the VIPs 10.99.0.1 and fd99::1.
    pub fn new(forwarder: Forwarder) -> Self {
        let vips = vec![
            IpAddr::from([10, 99, 0, 1]),
            IpAddr::from([0xfd99, 0, 0, 0, 0, 0, 0, 1]),
        ];
        Self {
            forwarder,
            clients: 1,
            backends: 3,
            vips,
            two_interfaces: false,
            mtu: Mtu::default(),
        }
    }
}

/// The lab; dropping it removes every namespace and link.
#[derive(Debug)]
pub struct Lab {
    /// The bridge's namespace.
    pub wire: Namespace,
    /// The hosts that ask.
    pub clients: Vec<Host>,
    /// The host that `lb` runs on.
    pub balancer: Host,
    /// The hosts that answer.
    pub backends: Vec<Host>,
    options: LabOptions,
    programs: LabPrograms,
    /// What keeps `lb decap` on the backends.
    pins: BpfFs,
    /// What `lb backend-setup` has changed on them.
    state: tempfile::TempDir,
}

impl Lab {
    /// Builds the lab.
    ///
    /// # Errors
    /// When this is not root, or the kernel lacks namespaces, veth, bridge or XDP.
    pub fn new(options: LabOptions) -> Result<Self> {
        let wire = Namespace::new("wire")?;
        wire.set_sysctls(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        wire.netlink(async |netlink| netlink.add_bridge(BRIDGE).await)?;
        let balancer = Host::new(
            "balancer".into(),
            Network::Server,
            HostNumber::BALANCER,
            "to-balancer".into(),
        )?;
        let mut lab = Self {
            wire,
            clients: Vec::new(),
            balancer,
            backends: Vec::new(),
            options,
            programs: LabPrograms::load()?,
            pins: BpfFs::new()?,
            state: tempfile::tempdir().context("cannot make a directory")?,
        };
        lab.set_up_balancer()?;
        for index in 0..lab.options.backends {
            lab.add_backend(index)?;
        }
        for index in 0..lab.options.clients {
            lab.add_client(index)?;
        }
        Ok(lab)
    }

    /// What the lab was built from.
    pub const fn options(&self) -> &LabOptions {
        &self.options
    }

    /// The addresses that a server on `backend` has to listen on: its own, for checks, and those that packets arrive
    /// with, which for `nat` are the same.
    pub fn listen_addresses(&self, backend: &Host, port: u16) -> Vec<SocketAddr> {
        let vips = if self.options.forwarder.translates() {
            &[][..]
        } else {
            &self.options.vips
        };
        let own = [backend.ipv4, backend.ipv6];
        own.iter()
            .chain(vips)
            .map(|&address| SocketAddr::new(address, port))
            .collect()
    }

    /// Attaches an XDP program that passes everything, natively; it stays until the lab is dropped.
    ///
    /// # Errors
    /// When the interface is missing or carries another program.
    pub fn attach_pass(&mut self, namespace: &Namespace, interface: &str) -> Result<()> {
        self.programs.attach(LabProgram::Pass, namespace, interface)
    }

    /// Puts the client of that index into a VLAN; what it is sent may be tagged or not. Its neighbours are outside, so
    /// that only the balancer has to know about tags.
    ///
    /// # Errors
    /// As [`Lab::attach_pass`].
    pub fn tag_client(&mut self, index: usize, tags: Tags) -> Result<()> {
        let client = self.clients.get(index).context("there is no such client")?;
        let program = match tags {
            Tags::One => LabProgram::Tag,
            Tags::Two => LabProgram::Stack,
        };
        self.programs.attach(program, &self.wire, &client.port)?;
        self.programs
            .attach(LabProgram::Untag, &client.namespace, INTERFACE)?;
        // Attaching turned receive merging on.
        self.wire.disable_offloads(&client.port)?;
        client.namespace.disable_offloads(INTERFACE)
    }

    /// Lets all backends count TCP packets over IPv4 and drop them, instead of serving. Not for tunnels, whose
    /// backends have another program there.
    ///
    /// # Errors
    /// As [`Lab::attach_pass`].
    pub fn count_at_backends(&mut self) -> Result<()> {
        let mut backends = self.backends.iter();
        backends.try_for_each(|backend| {
            self.programs
                .attach(LabProgram::Count, &backend.namespace, INTERFACE)
        })
    }

    /// How many packets the backends have counted, together.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn counted(&self) -> Result<u64> {
        self.programs.counted()
    }

    fn set_up_balancer(&mut self) -> Result<()> {
        let (namespace, mac) = (self.balancer.namespace.clone(), self.balancer.mac);
        let (port, mtu) = (self.balancer.port.clone(), self.options.mtu.balancer);
        if self.options.forwarder.translates() {
            namespace.set_sysctls(sysctl::FORWARDING)?;
        }
        self.plug_balancer(INTERFACE, &port, mac, mtu)?;
        let backend_side = if self.options.two_interfaces {
            // Both are on the wire, and only one of them may answer for its address there.
            namespace.set_sysctls(sysctl::ARP_SILENCE)?;
            let [first, _, rest @ ..] = mac;
            let [c, d, e, f] = rest;
            self.plug_balancer(SECOND_INTERFACE, SECOND_PORT, [first, 2, c, d, e, f], mtu)?;
            SECOND_INTERFACE
        } else {
            INTERFACE
        };
        self.address_balancer(backend_side, INTERFACE)
    }

    fn address_balancer(&self, backend_side: &str, client_side: &str) -> Result<()> {
        self.balancer.namespace.netlink(async |netlink| {
            for (network, interface) in [(Network::Server, backend_side), (Network::Client, client_side)] {
                for (address, prefix) in network.addresses(HostNumber::BALANCER) {
                    netlink.add_address(interface, address, prefix).await?;
                }
            }
            Ok(())
        })
    }

    /// Takes the balancer's only interface away, as if the card were pulled.
    ///
    /// # Errors
    /// When there is none.
    pub fn unplug_balancer(&self) -> Result<()> {
        // Both ends of a pair go.
        let port = self.balancer.port.as_str();
        self.wire.netlink(async |netlink| netlink.remove(port).await)
    }

    /// Gives the balancer an interface again, with the addresses of the one before and perhaps another name.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn replug_balancer(&mut self, interface: &str) -> Result<()> {
        let (port, mac) = (self.balancer.port.clone(), self.balancer.mac);
        self.plug_balancer(interface, &port, mac, self.options.mtu.balancer)?;
        self.address_balancer(interface, interface)
    }

    /// Gives the balancer's interface its addresses again, after it was in another namespace.
    ///
    /// # Errors
    /// When it is not there.
    pub fn readdress_balancer(&self) -> Result<()> {
        self.balancer.namespace.netlink(async |netlink| {
            netlink.set_up(INTERFACE).await?;
            netlink.wait_until_up(INTERFACE).await
        })?;
        self.address_balancer(INTERFACE, INTERFACE)
    }

    fn plug_balancer(&mut self, interface: &str, port: &str, mac: [u8; 6], mtu: u32) -> Result<()> {
        self.plug(&self.balancer.namespace, interface, port, mac, mtu)?;
        // What the balancer sends from XDP arrives here; without a program the kernel drops it.
        self.programs.attach(LabProgram::Pass, &self.wire, port)?;
        // Attaching turned receive merging on.
        self.wire.disable_offloads(port)
    }

    fn add_backend(&mut self, index: usize) -> Result<()> {
        let number = HostNumber::backend(index).context("a lab holds at most 200 backends")?;
        let name = format!("backend-{}", index + 1);
        let host = Host::new(name, Network::Server, number, format!("to-backend-{}", index + 1))?;
        self.connect(&host, self.options.mtu.backend)?;
        host.namespace.netlink(async |netlink| {
            for (address, prefix) in Network::Server.addresses(number) {
                netlink.add_address(INTERFACE, address, prefix).await?;
            }
            self.add_routes(netlink, Network::Server, Network::Client).await
        })?;
        // The routes of `nat` are there: of a default route the packet sizes of clients could not be told.
        if !self.options.forwarder.translates() {
            self.set_up(&host)?;
        }
        self.backends.push(host);
        Ok(())
    }

    /// Lets `lb backend-setup` do what the forwarder needs on a backend, as its operator would; again, when the backend
    /// has got another address.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn set_up(&self, host: &Host) -> Result<()> {
        let vips: Vec<String> = self.options.vips.iter().map(ToString::to_string).collect();
        let mut command = Command::new(find_binary("lb", "LB_BIN")?);
        command.args([
            "backend-setup",
            "--apply",
            "--iface",
            INTERFACE,
            "--vip",
            &vips.join(","),
        ]);
        // A service may use several kinds of tunnels, and change from one to another.
        let forwarder = self.options.forwarder;
        command.arg("--forwarder").arg(if forwarder.is_tunnel() {
            "ipip,gue,fou,gre"
        } else {
            forwarder.name()
        });
        command.arg("--pin-dir").arg(self.pins.path().join(&host.name));
        command.arg("--state-dir").arg(self.state.path().join(&host.name));
        let run = || command.output().context("cannot run lb backend-setup");
        let output = host.namespace.run(run)??;
        ensure!(
            output.status.success(),
            "lb backend-setup failed on {}: {}",
            host.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn add_client(&mut self, index: usize) -> Result<()> {
        let number = HostNumber::client(index).context("a lab holds at most 200 clients")?;
        let name = format!("client-{}", index + 1);
        let host = Host::new(name, Network::Client, number, format!("to-client-{}", index + 1))?;
        self.connect(&host, self.options.mtu.client)?;
        host.namespace.netlink(async |netlink| {
            for (address, prefix) in Network::Client.addresses(number) {
                netlink.add_address(INTERFACE, address, prefix).await?;
            }
            for &vip in &self.options.vips {
                let next = NextHop::Via(Network::Client.like(HostNumber::BALANCER, vip));
                let route = Route {
                    destination: vip,
                    prefix: host_prefix(vip),
                    next,
                    mtu: None,
                };
                netlink.add_route(&route).await?;
            }
            self.add_routes(netlink, Network::Client, Network::Server).await
        })?;
        self.clients.push(host);
        Ok(())
    }

    /// Routes from a host of the network `from` to the network `to`: through the balancer for `nat`, else directly.
    async fn add_routes(&self, netlink: &Netlink, from: Network, to: Network) -> Result<()> {
        for (destination, prefix) in to.addresses(HostNumber::NETWORK) {
            let next = match self.options.forwarder {
                Forwarder::Nat => NextHop::Via(from.like(HostNumber::BALANCER, destination)),
                _ => NextHop::On(INTERFACE),
            };
            // A backend's larger packets are for what the balancer sends to it, not for its answers.
            let route = Route {
                destination,
                prefix,
                next,
                mtu: Some(self.options.mtu.client),
            };
            netlink.add_route(&route).await?;
        }
        Ok(())
    }

    /// Plugs a host into the bridge; its interface is up and has no address yet.
    fn connect(&self, host: &Host, mtu: u32) -> Result<()> {
        self.plug(&host.namespace, INTERFACE, &host.port, host.mac, mtu)
    }

    fn plug(&self, namespace: &Namespace, interface: &str, port: &str, mac: [u8; 6], mtu: u32) -> Result<()> {
        let port_mac = [mac[0], mac[1] | 1, mac[2], mac[3], mac[4], mac[5]];
        self.wire.netlink(async |netlink| {
            netlink.add_veth(port, "peer").await?;
            netlink.move_to("peer", namespace, interface).await?;
            netlink.configure(port, port_mac, mtu).await?;
            netlink.set_bridge(port, BRIDGE).await?;
            netlink.set_up(port).await
        })?;
        namespace.netlink(async |netlink| {
            netlink.configure(interface, mac, mtu).await?;
            netlink.set_up(interface).await?;
            netlink.wait_until_up(interface).await
        })?;
        self.wire.disable_offloads(port)?;
        namespace.disable_offloads(interface)?;
        self.wire
            .netlink(async |netlink| netlink.wait_until_forwarding(port).await)
    }
}

/// The prefix length of a single address.
const fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
