//! Attachments that were lost while the agent runs, and that are made again.
//!
//! Invariant: a link that is given up runs nothing, so that the program is on each interface by one link or by none.

use std::{collections::BTreeMap, fs, io, mem};

use anyhow::{Context, Result};

use super::{
    Dataplane, Mode,
    attach::{Attached, Link},
    bpf::XdpLink,
    remove::name_of,
};
use crate::netlink::Carrier;

impl Dataplane {
    /// Whether the program is on that interface, as far as is known.
    pub fn runs_on(&self, interface: u32) -> bool {
        self.links.iter().any(|link| link.interface == interface)
    }

    /// Gives up links that run nothing here any more: their interface is gone, or somebody has detached them; `is_here`
    /// tells which interfaces are in this network namespace. Where somebody has put another program in the place of ours,
    /// that is undone. The interfaces, by index, that nothing runs on any more.
    pub fn give_up_lost(&mut self, is_here: impl Fn(u32) -> bool) -> Vec<u32> {
        let program = self.program_id().ok();
        let (mut lost, mut replaced) = (Vec::new(), false);
        for link in mem::take(&mut self.links) {
            let interface = link.interface;
            match link.link.info() {
                Ok(info) if info.interface != interface || !is_here(interface) => {
                    lost.push(interface);
                    let given_up = self.give_up(link);
                    if let Err(error) = given_up {
                        log::error!("{error:#}");
                    }
                    continue;
                }
                Ok(info) => replaced |= program.is_some_and(|program| program != info.program),
                Err(error) => log::debug!("cannot ask about the link to {}: {error}", name_of(interface)),
            }
            self.links.push(link);
        }
        if replaced {
            log::warn!("somebody has replaced the program of lb on an interface: it is put back");
            if let Err(error) = self.run_on_links() {
                log::error!("{error:#}");
            }
        }
        lost
    }

    /// An interface that has gone to another network namespace took the program along.
    fn give_up(&self, link: Link) -> Result<()> {
        let interface = link.interface;
        link.detach().and(self.unpin(interface))
    }

    /// Removes the pin of the link to that interface, if there is one.
    pub(super) fn unpin(&self, interface: u32) -> Result<()> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let path = pins.link(interface);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Attaches where packets of a named interface are seen, beside what is attached. What of it is there already stays.
    ///
    /// # Errors
    /// As [`Dataplane::attach`]; everything is as before then.
    pub fn attach_again(&mut self, carrier: &Carrier, mode: Mode) -> Result<Vec<Attached>> {
        let is_part = |link: &Link| carrier.interfaces().any(|part| part.index == link.interface);
        let (parts, others): (Vec<Link>, Vec<Link>) =
            mem::take(&mut self.links).into_iter().partition(is_part);
        self.links = others;
        let there = parts.iter().map(|link| (link.interface, link.link.clone()));
        let mut there: BTreeMap<u32, XdpLink> = there.collect();
        let made = self
            .attach_carrier(carrier, mode, &mut there)
            .and_then(|made| self.pin_new(&made).map(|()| made));
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                self.links.extend(parts);
                return Err(error);
            }
        };
        // What was there and is not needed for this one may be needed for another.
        let rest = parts
            .into_iter()
            .filter(|link| there.contains_key(&link.interface));
        self.links.extend(rest);
        let (links, attached): (Vec<Link>, Vec<Attached>) = made.into_iter().unzip();
        self.links.extend(links);
        Ok(attached)
    }

    fn pin_new(&self, made: &[(Link, Attached)]) -> Result<()> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let new = || made.iter().map(|(link, _)| link).filter(|link| !link.kept);
        let pin = |link: &Link| {
            // One of the same index may have been there.
            self.unpin(link.interface)?;
            let path = pins.link(link.interface);
            let pinned = link.link.pin(&path);
            pinned.with_context(|| format!("cannot pin {}", path.display()))
        };
        let pinned = new().try_for_each(pin);
        if pinned.is_err() {
            // A pin would keep the program there.
            new().for_each(|link| drop(self.unpin(link.interface)));
        }
        pinned
    }
}
