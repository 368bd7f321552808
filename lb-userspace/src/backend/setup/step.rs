//! One thing to do on a backend. It shows as the command that does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dataplane::Mode;
use lb_core::desired::Forwarder;

/// The device that has the host's own addresses.
pub(super) const LOOPBACK: &str = "lo";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum SetupStep {
    /// Set a kernel setting.
    Sysctl {
        /// Below `/proc/sys`, with slashes: an interface's name may have dots.
        key: String,
        /// What it is to be.
        value: String,
        /// Other values that do as well.
        fine: Vec<String>,
    },
    /// Accept packets whose source is reached over another interface, where the kernel is set to drop them.
    LooseReversePath {
        /// The interface that they arrive on.
        interface: String,
    },
    /// Own an address on `lo`, or on a VRF device.
    Address {
        /// The address.
        address: IpAddr,
        /// The VRF device it is for; without it, the host's own network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vrf: Option<String>,
    },
    /// Own all addresses of a prefix: a route of type `local`.
    LocalRoute {
        /// The prefix.
        prefix: IpNet,
        /// The VRF device it is for; without it, the host's own network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vrf: Option<String>,
    },
    /// Send what is for nobody else through a router.
    DefaultRoute {
        /// The router's address.
        via: IpAddr,
        /// The VRF device it is for; without it, the host's own network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vrf: Option<String>,
    },
    /// Let an interface carry larger packets.
    Mtu {
        /// The interface.
        interface: String,
        /// Bytes of IP.
        mtu: u32,
    },
    /// Run a command.
    Command {
        /// The command with its arguments.
        command: Vec<String>,
        /// What undoes it; empty if nothing need.
        undo: Vec<String>,
    },
    /// Take tunnels' outer headers off in XDP.
    Decap {
        /// The interface that the tunnels' packets arrive on.
        interface: String,
        /// How to attach to it.
        mode: Mode,
        /// The kinds of tunnels, each with its UDP ports; `ipip` and `gre` have none.
        tunnels: BTreeMap<Forwarder, BTreeSet<u16>>,
        /// Where it is pinned.
        pin_dir: PathBuf,
    },
}

impl SetupStep {
    /// A command that is run as it stands.
    pub(super) fn command(words: &str, undo: &str) -> Self {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self::Command {
            command: split(words),
            undo: split(undo),
        }
    }

    /// Whether both are about the same `lb decap`: an interface has one, whatever the number of services.
    pub fn is_same_decap(&self, other: &Self) -> bool {
        let place = |step: &Self| match step {
            Self::Decap {
                interface, pin_dir, ..
            } => Some((interface.clone(), pin_dir.clone())),
            _ => None,
        };
        place(self).is_some() && place(self) == place(other)
    }

    /// Such that it ends the tunnels of `before` as well, an earlier step about the same `lb decap`.
    pub(super) fn widened(mut self, before: &Self) -> Self {
        if let (Self::Decap { tunnels, .. }, Self::Decap { tunnels: more, .. }) = (&mut self, before) {
            for (tunnel, ports) in more {
                tunnels.entry(*tunnel).or_default().extend(ports);
            }
        }
        self
    }

    /// Whether what it changes cannot be seen before; it is taken once.
    pub(super) const fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }
}

/// As arguments take several values.
fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    words.join(",")
}

fn in_vrf(f: &mut fmt::Formatter<'_>, vrf: Option<&str>) -> fmt::Result {
    vrf.map_or(Ok(()), |vrf| write!(f, " vrf {vrf}"))
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { key, value, .. } => write!(f, "sysctl -w {key}={value}"),
            Self::LooseReversePath { interface } => {
                write!(f, "sysctl -w net/ipv4/conf/{interface}/rp_filter=2")
            }
            Self::Address { address, vrf } => {
                let device = vrf.as_deref().unwrap_or(LOOPBACK);
                write!(f, "ip address replace {} dev {device}", IpNet::from(*address))
            }
            Self::LocalRoute { prefix, vrf } => {
                let family = if prefix.addr().is_ipv6() { "-6 " } else { "" };
                let device = vrf.as_deref().unwrap_or(LOOPBACK);
                write!(f, "ip {family}route replace local {prefix} dev {device}")?;
                in_vrf(f, vrf.as_deref())
            }
            Self::DefaultRoute { via, vrf } => {
                let family = if via.is_ipv6() { "-6 " } else { "" };
                write!(f, "ip {family}route replace default via {via}")?;
                in_vrf(f, vrf.as_deref())
            }
            Self::Mtu { interface, mtu } => write!(f, "ip link set {interface} mtu {mtu}"),
            Self::Command { command, .. } => f.write_str(&command.join(" ")),
            Self::Decap {
                interface,
                mode,
                tunnels,
                pin_dir,
            } => {
                write!(
                    f,
                    "lb decap --iface {interface} --tunnel {}",
                    list(tunnels.keys())
                )?;
                for (tunnel, ports) in tunnels {
                    if !ports.iter().copied().eq(tunnel.default_tunnel_port()) {
                        write!(f, " --{tunnel}-port {}", list(ports))?;
                    }
                }
                match mode {
                    Mode::Native => {}
                    Mode::Generic => f.write_str(" --mode generic")?,
                    Mode::Auto => f.write_str(" --mode auto")?,
                }
                f.write_str(" --keep")?;
                if pin_dir.as_os_str() != crate::backend::decap::PIN_DIR {
                    write!(f, " --pin-dir {}", pin_dir.display())?;
                }
                Ok(())
            }
        }
    }
}
