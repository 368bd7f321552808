//! `lb decap` on a backend host: the XDP program that takes a tunnel's outer headers off, where the kernel has no tunnel
//! devices.
//!
//! Invariant: nothing here decides about packets (`lb_common::decap` does), and nothing here speaks to an agent.

mod status;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsFd,
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, LpmTrie, MapData, lpm_trie::Key},
    programs::Xdp,
};
use ipnet::IpNet;
use lb_common::decap::{Address, GRE_BIT, IPIP_BIT, PROGRAM, Ports, global, map};

pub use status::{DecapCount, DecapProgram, DecapView, status};

use crate::dataplane::{Mode, PinDir, XdpLink, hook, make_directory, refused_maps, refused_program};
use crate::netlink::{self, Interface};
use lb_core::desired::Forwarder;

/// The object with the program and its maps, as the build made it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_DECAP_OBJECT"));

/// Where links are pinned unless told otherwise.
pub const PIN_DIR: &str = "/sys/fs/bpf/lb-decap";

/// Which packets are decapsulated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecapRules {
    /// The kinds of tunnels: `ipip`, `gue`, `fou`, `gre`.
    pub tunnels: Vec<Forwarder>,
    /// UDP ports of `gue`, at most [`Ports::MAX`].
    pub gue_ports: Vec<u16>,
    /// UDP ports of `fou`, at most [`Ports::MAX`].
    pub fou_ports: Vec<u16>,
    /// Where tunnels begin; anywhere if there is none.
    pub from: Vec<IpNet>,
}

impl DecapRules {
    fn ports(&self, tunnel: Forwarder, ports: &[u16]) -> Result<u64> {
        if !self.tunnels.contains(&tunnel) {
            return Ok(0);
        }
        let Ports(word) = Ports::of(ports)
            .with_context(|| format!("{tunnel} can have {} ports, not {}", Ports::MAX, ports.len()))?;
        Ok(word)
    }

    fn protocols(&self) -> u32 {
        let bit = |tunnel: Forwarder, bit: u32| if self.tunnels.contains(&tunnel) { bit } else { 0 };
        bit(Forwarder::Ipip, IPIP_BIT) | bit(Forwarder::Gre, GRE_BIT)
    }
}

/// An [`Address`] that aya can write.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PodAddress(Address);

// SAFETY: four plain integers without padding.
unsafe impl aya::Pod for PodAddress {}

impl From<IpAddr> for PodAddress {
    fn from(address: IpAddr) -> Self {
        Self(Address::from(mapped(address).octets()))
    }
}

/// An address of either family as IPv6 maps it.
fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The program, loaded.
#[derive(Debug)]
pub struct Decap {
    ebpf: Ebpf,
    ends: BTreeSet<IpAddr>,
    links: Vec<XdpLink>,
}

impl Decap {
    /// Loads the program. It takes nothing off before [`Decap::set_ends`] has said where tunnels end.
    ///
    /// # Errors
    /// When there are too many ports, or the kernel refuses.
    pub fn load(rules: &DecapRules) -> Result<Self> {
        let both = [Forwarder::Gue, Forwarder::Fou];
        let shared = rules.gue_ports.iter().find(|port| rules.fou_ports.contains(port));
        if let Some(port) = shared.filter(|_| both.iter().all(|tunnel| rules.tunnels.contains(tunnel))) {
            bail!("UDP port {port} cannot be that of gue and that of fou: give one of them another");
        }
        let gue = rules.ports(Forwarder::Gue, &rules.gue_ports)?;
        let fou = rules.ports(Forwarder::Fou, &rules.fou_ports)?;
        let (protocols, filtered) = (rules.protocols(), u32::from(!rules.from.is_empty()));
        let mut ebpf = EbpfLoader::new()
            .override_global(global::GUE_PORTS, &gue, true)
            .override_global(global::FOU_PORTS, &fou, true)
            .override_global(global::PROTOCOLS, &protocols, true)
            .override_global(global::FILTERED, &filtered, true)
            .load(OBJECT)
            .map_err(refused_maps)?;
        program(&mut ebpf)?
            .load()
            .map_err(|error| refused_program(PROGRAM, error))?;
        let mut decap = Self {
            ebpf,
            ends: BTreeSet::new(),
            links: Vec::new(),
        };
        decap.set_sources(&rules.from)?;
        Ok(decap)
    }

    fn set_sources(&mut self, sources: &[IpNet]) -> Result<()> {
        let trie = self.ebpf.map_mut(map::SOURCES).context("no map SOURCES")?;
        let mut trie: LpmTrie<&mut MapData, PodAddress, u8> = trie.try_into()?;
        for source in sources {
            let before = if source.addr().is_ipv4() {
                Address::MAPPED
            } else {
                0
            };
            let key = Key::new(before + u32::from(source.prefix_len()), source.network().into());
            trie.insert(&key, 1, 0)
                .with_context(|| format!("cannot allow {source}"))?;
        }
        Ok(())
    }

    /// Lets tunnels end at these addresses and no others.
    ///
    /// # Errors
    /// When the kernel refuses, as it does beyond 4,096.
    pub fn set_ends(&mut self, ends: BTreeSet<IpAddr>) -> Result<()> {
        let ours = self.ebpf.map_mut(map::OURS).context("no map OURS")?;
        let mut ours: HashMap<&mut MapData, PodAddress, u8> = ours.try_into()?;
        for &end in ends.difference(&self.ends) {
            ours.insert(PodAddress::from(end), 1, 0)
                .with_context(|| format!("cannot let tunnels end at {end}"))?;
        }
        for &end in self.ends.difference(&ends) {
            ours.remove(&PodAddress::from(end))
                .with_context(|| format!("cannot forget {end}"))?;
        }
        self.ends = ends;
        Ok(())
    }

    /// Lets tunnels end at this host's own addresses, as they are now.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn follow_own_addresses(&mut self) -> Result<()> {
        let own = netlink::own_addresses()
            .await
            .context("cannot ask for this host's addresses")?;
        self.set_ends(own.into_iter().filter(|address| !address.is_loopback()).collect())
    }

    /// The program.
    ///
    /// # Errors
    /// Never in practice: the object holds it.
    pub fn program(&self) -> Result<&Xdp> {
        let program = self
            .ebpf
            .program(PROGRAM)
            .ok_or_else(|| anyhow!("the object holds no program {PROGRAM}"))?;
        Ok(program.try_into()?)
    }

    /// Attaches the program to the interface until this is dropped; why it is slower than it could be.
    ///
    /// # Errors
    /// When it has another program, or its driver cannot.
    pub fn attach(&mut self, interface: &Interface, mode: Mode) -> Result<Option<String>> {
        let hooked = hook(self.program()?.fd()?.as_fd(), interface, mode)?;
        self.links.push(hooked.link);
        Ok(hooked.slow)
    }

    /// Attaches the program to the interface for good: until [`detach`], or the machine's end. Where that was done before,
    /// this program takes the place of the former.
    ///
    /// # Errors
    /// As [`Decap::attach`], and when the link cannot be pinned.
    pub fn keep(&self, pins: &PinDir, interface: &Interface, mode: Mode) -> Result<Option<String>> {
        let program = self.program()?.fd()?;
        for (path, link) in pins.pinned_links()? {
            match link.info()?.interface {
                0 => fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?,
                index if index == interface.index => {
                    link.replace(program.as_fd())
                        .with_context(|| format!("cannot replace the program on {}", interface.name))?;
                    return Ok(None);
                }
                _ => {}
            }
        }
        let hooked = hook(program.as_fd(), interface, mode)?;
        make_directory(&pins.links())?;
        let path = pins.link(interface.index);
        hooked
            .link
            .pin(&path)
            .with_context(|| format!("cannot pin {}", path.display()))?;
        Ok(hooked.slow)
    }

    /// How many packets became what, by [`lb_common::decap::Reason`].
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn counts(&self) -> Result<Vec<u64>> {
        let counts = self.ebpf.map(map::COUNTS).context("no map of counters")?;
        status::sums(counts)
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| anyhow!("the object holds no program {PROGRAM}"))?;
    Ok(program.try_into()?)
}

/// Takes the program off all interfaces that it was kept on; what was removed, in words.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(pin_dir: &Path) -> Result<Vec<String>> {
    let Some(pins) = PinDir::lock_if_there(pin_dir)? else {
        return Ok(Vec::new());
    };
    Ok(crate::dataplane::remove_all(&pins)?.removed)
}
