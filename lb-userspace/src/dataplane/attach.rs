//! Attaching the program to interfaces, without treading on anybody's toes.

use std::{collections::BTreeMap, fs, os::fd::AsFd};

use anyhow::{Context, Result, anyhow};
use aya::util::nr_cpus;

use super::{
    Dataplane,
    bpf::{LinkInfo, XdpLink},
    hook::{Hooked, Mode, advice, hook, slow},
    object,
    persist::DataplaneSource,
    pins::make_directory,
    remove::{name_of, remove_all},
};
use crate::netlink::{Carrier, Interface, Queues, XdpMode, merging};
use lb_api::view::AttachMode;

/// The program on an interface.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The interface as it was found.
    pub interface: Interface,
    /// How the program is attached.
    pub mode: AttachMode,
    /// The kernel's id of the link.
    pub link_id: u32,
    /// Whether an earlier agent attached it.
    pub kept: bool,
    /// What the operator should know about this attachment.
    pub warnings: Vec<String>,
}

impl Attached {
    /// What the operator should know as things are now: packets that are merged before generic XDP sees them are too large.
    pub fn advice(&self) -> Option<String> {
        if self.mode != AttachMode::Generic {
            return None;
        }
        let cards = merging(&self.interface.name);
        let list = cards.join(", ");
        (!cards.is_empty()).then(|| {
            format!(
                "{} is in generic mode, and {list} merges packets: large ones are dropped as too big until that is switched \
                 off (`ethtool -K DEVICE gro off lro off`)",
                self.interface.name
            )
        })
    }
}

/// A link to an interface.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) link: XdpLink,
    pub(super) interface: u32,
    /// Whether it is pinned already, perhaps by an earlier agent.
    pub(super) kept: bool,
}

impl Link {
    /// Index of its interface.
    pub(super) const fn interface(&self) -> u32 {
        self.interface
    }

    /// Takes the program off the interface.
    pub(super) fn detach(self) -> Result<()> {
        self.link
            .detach()
            .with_context(|| format!("cannot detach the program from {}", name_of(self.interface)))
    }
}

impl Dataplane {
    /// Runs the program on these interfaces and no others: attaches it where it is new, replaces the program of an
    /// earlier agent where that is there, and takes it off other interfaces. From here on a dataplane with pins goes
    /// on without this process.
    ///
    /// # Errors
    /// When one of the interfaces has another program (the message says whose), or its driver cannot; then all of
    /// them are as before.
    pub fn attach(
        &mut self,
        carriers: impl IntoIterator<Item: Into<Carrier>>,
        mode: Mode,
    ) -> Result<Vec<Attached>> {
        let attached = self.attach_beside(carriers, mode)?;
        self.leave_others(&attached)?;
        Ok(attached)
    }

    /// Attaches to the interfaces, and leaves an earlier agent's program on other interfaces where it is.
    ///
    /// # Errors
    /// As [`Dataplane::attach`].
    pub fn attach_beside(
        &mut self,
        carriers: impl IntoIterator<Item: Into<Carrier>>,
        mode: Mode,
    ) -> Result<Vec<Attached>> {
        let mut earlier = self.earlier_links()?;
        let mut attached = Vec::new();
        for carrier in carriers {
            for (link, one) in self.attach_carrier(&carrier.into(), mode, &mut earlier)? {
                self.links.push(link);
                attached.push(one);
            }
        }
        let others = earlier.into_iter().map(|(interface, link)| Link {
            link,
            interface,
            kept: true,
        });
        self.links.extend(others);
        if let Err(error) = self.persist() {
            self.take_back();
            return Err(error);
        }
        self.run_on_links()?;
        Ok(attached)
    }

    /// The pinned links by interface; those of interfaces that are gone are removed.
    fn earlier_links(&self) -> Result<BTreeMap<u32, XdpLink>> {
        let mut links = BTreeMap::new();
        let Some(pins) = &self.pins else {
            return Ok(links);
        };
        for (path, link) in pins.pinned_links()? {
            let interface = link.info()?.interface;
            if path == pins.link(interface) {
                links.insert(interface, link);
            } else {
                log::info!("{} was to an interface that is gone: removed", path.display());
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(links)
    }

    /// Attaches to an interface, or to the parts of a bond, or to the VLAN device that was named; to nothing where
    /// another VLAN device has led to the same interface.
    pub(super) fn attach_carrier(
        &self,
        carrier: &Carrier,
        mode: Mode,
        earlier: &mut BTreeMap<u32, XdpLink>,
    ) -> Result<Vec<(Link, Attached)>> {
        let runs = |interface: &Interface| self.links.iter().any(|link| link.interface == interface.index);
        let mut warnings = carrier.advice.clone();
        let mut attached = match &carrier.vlan {
            // The kernel refuses programs below one that an earlier agent left, so that one stays where it is.
            Some(vlan)
                if earlier.contains_key(&vlan.index)
                    || mode == Mode::Generic && !earlier.contains_key(&carrier.interface.index) =>
            {
                vec![self.attach_or_keep(vlan.clone(), mode, earlier)?]
            }
            Some(_) if runs(&carrier.interface) || carrier.slaves.iter().any(runs) => return Ok(Vec::new()),
            vlan => match (self.attach_below(carrier, mode, earlier), vlan) {
                (Err(why), Some(vlan)) if mode == Mode::Auto && carrier.interface.xdp.is_empty() => {
                    warnings.push(slow(&carrier.interface, &why, &vlan.name));
                    vec![self.attach_or_keep(vlan.clone(), Mode::Generic, earlier)?]
                }
                (attached, _) => {
                    warnings.extend(carrier.advice_below());
                    attached?
                }
            },
        };
        if let Some((_, first)) = attached.first_mut() {
            first.warnings.extend(warnings);
        }
        Ok(attached)
    }

    /// Attaches where packets are first seen. Of a VLAN device, [`Mode::Auto`] says no more than that native mode comes
    /// first.
    fn attach_below(
        &self,
        carrier: &Carrier,
        mode: Mode,
        earlier: &mut BTreeMap<u32, XdpLink>,
    ) -> Result<Vec<(Link, Attached)>> {
        let interface = carrier.interface.clone();
        let bond = !carrier.slaves.is_empty();
        let stays = earlier.contains_key(&interface.index);
        if let (Some(why), false, Mode::Native | Mode::Auto) = (&carrier.no_native, stays, mode) {
            let why = anyhow!("cannot attach to {}: {why}", interface.name);
            if mode == Mode::Native || carrier.vlan.is_some() {
                return Err(why);
            }
            let warning = slow(&interface, &why, &interface.name);
            let (link, mut attached) = self.attach_or_keep(interface, Mode::Generic, earlier)?;
            attached.warnings.insert(0, warning);
            return Ok(vec![(link, attached)]);
        }
        let why = if bond && mode == Mode::Generic && !stays {
            anyhow!("the kernel takes tags off before generic XDP runs there")
        } else {
            let natively = mode == Mode::Auto && (bond || carrier.vlan.is_some());
            let mode = if natively { Mode::Native } else { mode };
            match self.attach_or_keep(interface, mode, earlier) {
                Ok(one) => return Ok(vec![one]),
                Err(why) if !bond => return Err(why),
                Err(why) => why,
            }
        };
        let names: Vec<&str> = carrier.slaves.iter().map(|slave| slave.name.as_str()).collect();
        let warning = format!(
            "the program cannot run on the bond {} ({why:#}), so it runs on its parts {}",
            carrier.interface.name,
            names.join(", ")
        );
        let parts = carrier.slaves.iter().cloned();
        let mut parts: Vec<_> = parts
            .map(|slave| self.attach_or_keep(slave, mode, earlier))
            .collect::<Result<_>>()?;
        if let Some((_, first)) = parts.first_mut() {
            first.warnings.push(warning);
        }
        Ok(parts)
    }

    /// Attaches to the interface, or keeps the link of an earlier agent to it.
    fn attach_or_keep(
        &self,
        interface: Interface,
        mode: Mode,
        earlier: &mut BTreeMap<u32, XdpLink>,
    ) -> Result<(Link, Attached)> {
        match earlier.remove(&interface.index) {
            Some(link) => keep(link, interface, mode),
            None => self.attach_one(interface, mode),
        }
    }

    fn attach_one(&self, interface: Interface, mode: Mode) -> Result<(Link, Attached)> {
        let program = self.program()?.fd()?;
        // A program in the driver changes how many queues are in use.
        let queues = Queues::of(&interface.name);
        let Hooked { link, mode, slow } = hook(program.as_fd(), &interface, mode)?;
        let attached = Attached {
            link_id: link.info()?.id,
            mode,
            kept: false,
            warnings: slow
                .into_iter()
                .chain(advice(&interface, mode))
                .chain(locked(&interface, mode, queues))
                .collect(),
            interface,
        };
        let link = Link {
            link,
            interface: attached.interface.index,
            kept: false,
        };
        Ok((link, attached))
    }

    /// Pins the new links.
    pub(super) fn pin_links(&self) -> Result<()> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        make_directory(&pins.links())?;
        for link in self.links.iter().filter(|link| !link.kept) {
            let path = pins.link(link.interface);
            link.link
                .pin(&path)
                .with_context(|| format!("cannot pin {}", path.display()))?;
        }
        Ok(())
    }

    /// Lets these programs run where others run by our links. The one for detours is first: both versions know the same
    /// tables, and the other way round a new `lb` would send packets to an old one that does not know them.
    pub(super) fn run_on_links(&mut self) -> Result<()> {
        object::install_detour(&mut self.ebpf)?;
        let (id, program) = (self.program_id()?, self.program()?.fd()?);
        for link in &self.links {
            if link.link.info()?.program != id {
                link.link
                    .replace(program.as_fd())
                    .with_context(|| format!("cannot replace the program on {}", name_of(link.interface)))?;
            }
        }
        Ok(())
    }

    /// Takes the program off all interfaces but these.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave_others(&mut self, wanted: &[Attached]) -> Result<()> {
        let is_wanted = |link: &Link| wanted.iter().any(|one| one.interface.index == link.interface);
        let (wanted, others): (Vec<Link>, Vec<Link>) =
            std::mem::take(&mut self.links).into_iter().partition(is_wanted);
        self.links = wanted;
        for link in others {
            let interface = link.interface;
            let name = name_of(interface);
            self.forbid_egress(interface)?;
            link.detach()?;
            self.unpin(interface)?;
            log::warn!("detached from {name}: an earlier agent served it, --iface does not name it any more");
        }
        Ok(())
    }

    /// After a failure: what is new goes with this process, so its pins have to go, too.
    fn take_back(&self) {
        let Some(pins) = &self.pins else { return };
        if self.origin == DataplaneSource::New {
            if let Err(error) = remove_all(pins) {
                log::error!("something stays in {}: {error:#}", pins.path().display());
            }
            return;
        }
        for link in self.links.iter().filter(|link| !link.kept) {
            if let Err(error) = self.unpin(link.interface) {
                log::error!("{error:#}");
            }
        }
    }
}

/// That `virtio_net` has too few queues for XDP, which it does not refuse.
fn locked(interface: &Interface, mode: AttachMode, queues: Option<Queues>) -> Option<String> {
    let name = &interface.name;
    let Queues { used, most } =
        queues.filter(|_| mode == AttachMode::Native && interface.driver == "virtio_net")?;
    let cpus = u32::try_from(nr_cpus().ok()?).ok()?;
    queues?.too_few_for(cpus).then(|| {
        format!(
            "{name} has {most} pairs of queues, {used} of them in use: virtio_net sends from XDP in a slower locked mode \
             unless each of {cpus} CPUs finds one besides those. Use fewer (`ethtool -L {name} combined NUMBER`) or give \
             the machine more, and start again after `lb stop --detach`"
        )
    })
}

/// The link of an earlier agent to that interface.
fn keep(link: XdpLink, interface: Interface, mode: Mode) -> Result<(Link, Attached)> {
    let LinkInfo { id, program, .. } = link.info()?;
    let present = interface
        .xdp
        .iter()
        .find(|present| present.program_id == program)
        .with_context(|| {
            format!(
                "the link pinned for {} does not run there: remove it with `lb stop --detach`",
                interface.name
            )
        })?;
    let runs = match present.mode {
        XdpMode::Native | XdpMode::Offloaded => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    };
    let other = match (mode, runs) {
        (Mode::Native, AttachMode::Generic) | (Mode::Generic, AttachMode::Native) => Some(format!(
            "{} stays in {runs} mode, as it was attached by an earlier agent: `lb stop --detach` and start again to \
             change that",
            interface.name
        )),
        _ => None,
    };
    let attached = Attached {
        link_id: id,
        mode: runs,
        kept: true,
        warnings: other.into_iter().chain(advice(&interface, runs)).collect(),
        interface,
    };
    let link = Link {
        link,
        interface: attached.interface.index,
        kept: true,
    };
    Ok((link, attached))
}

impl Dataplane {
    /// The kernel's id of the program.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn program_id(&self) -> Result<u32> {
        Ok(self
            .program()?
            .info()
            .context("cannot ask the kernel about the program")?
            .id())
    }
}
