//! One thing to do on a backend. It shows as the command that does it.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{dataplane::Mode, model::Forwarder};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
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
    /// Own an address on `lo`.
    Address {
        /// The address.
        address: IpAddr,
    },
    /// Own all addresses of a prefix: a route of type `local`.
    LocalRoute {
        /// The prefix.
        prefix: IpNet,
    },
    /// Send what is for nobody else through a router.
    DefaultRoute {
        /// The router's address.
        via: IpAddr,
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
        /// The kinds of tunnels.
        tunnels: Vec<Forwarder>,
        /// The UDP port of `gue` and `fou`, where it is not the usual one.
        port: Option<u16>,
        /// Where it is pinned.
        pin_dir: std::path::PathBuf,
    },
}

impl Step {
    /// A command that is run as it stands.
    pub(super) fn command(words: &str, undo: &str) -> Self {
        let split = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self::Command {
            command: split(words),
            undo: split(undo),
        }
    }

    /// Whether what it changes cannot be seen before; it is taken once.
    pub(super) const fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { key, value, .. } => write!(f, "sysctl -w {key}={value}"),
            Self::LooseReversePath { interface } => {
                write!(f, "sysctl -w net/ipv4/conf/{interface}/rp_filter=2")
            }
            Self::Address { address } => write!(f, "ip address replace {} dev lo", IpNet::from(*address)),
            Self::LocalRoute { prefix } => {
                let family = if prefix.addr().is_ipv6() { "-6 " } else { "" };
                write!(f, "ip {family}route replace local {prefix} dev lo")
            }
            Self::DefaultRoute { via } => {
                let family = if via.is_ipv6() { "-6 " } else { "" };
                write!(f, "ip {family}route replace default via {via}")
            }
            Self::Mtu { interface, mtu } => write!(f, "ip link set {interface} mtu {mtu}"),
            Self::Command { command, .. } => f.write_str(&command.join(" ")),
            Self::Decap {
                interface,
                mode,
                tunnels,
                port,
                pin_dir,
            } => {
                let kinds: Vec<String> = tunnels.iter().map(ToString::to_string).collect();
                write!(f, "lb decap --iface {interface} --tunnel {}", kinds.join(","))?;
                for tunnel in tunnels
                    .iter()
                    .filter(|tunnel| tunnel.default_tunnel_port().is_some())
                {
                    if let Some(port) = port {
                        write!(f, " --{tunnel}-port {port}")?;
                    }
                }
                match mode {
                    Mode::Native => {}
                    Mode::Generic => f.write_str(" --mode generic")?,
                    Mode::Auto => f.write_str(" --mode auto")?,
                }
                f.write_str(" --keep")?;
                if pin_dir.as_os_str() != crate::decap::PIN_DIR {
                    write!(f, " --pin-dir {}", pin_dir.display())?;
                }
                Ok(())
            }
        }
    }
}
