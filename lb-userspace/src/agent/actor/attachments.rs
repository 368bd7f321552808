//! The interfaces that the program is to run on: which of them it runs on, and what is done about the others.
//!
//! Invariant: an interface that is named and not served is told (`lb status`, `lb list`, the log) until it is served.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};

use crate::agent::Options;
use crate::agent::actor::{Actor, egress::Review, scope::Scope};
use crate::dataplane::{Attached, Dataplane, Mode};
use crate::netlink::{Carrier, Devices, Interface, InterfaceError};
use lb_api::view::OutageView;

/// The named interfaces.
#[derive(Debug)]
pub(in crate::agent) struct Attachments {
    mode: Mode,
    places: Vec<Attachment>,
    /// Whether something of an earlier agent was left on other interfaces, which may be the missing ones by other names.
    others_left: bool,
}

/// One of them.
#[derive(Debug)]
struct Attachment {
    /// As the operator wrote it.
    name: String,
    /// The interface when it was there last.
    named: Option<Interface>,
    /// Where its packets are seen.
    carrier: Option<Carrier>,
    /// Since when and why nothing is balanced there.
    missing: Option<(SystemTime, String)>,
}

impl Attachment {
    fn miss(&mut self, why: String) {
        if self.missing.as_ref().is_none_or(|(_, before)| *before != why) {
            log::warn!("nothing is balanced that comes by {}: {why}", self.name);
            let since = self
                .missing
                .as_ref()
                .map_or_else(SystemTime::now, |(since, _)| *since);
            self.missing = Some((since, why));
        }
    }

    /// Whether the program runs wherever this one needs it.
    fn is_whole(&self, dataplane: &Dataplane, carrier: &Carrier) -> bool {
        let runs = |interface: &Interface| dataplane.runs_on(interface.index);
        let on_parts = !carrier.slaves.is_empty() && carrier.slaves.iter().all(runs);
        runs(&carrier.interface) || carrier.vlan.as_ref().is_some_and(runs) || on_parts
    }

    fn is_lost(&self, dataplane: &Dataplane) -> bool {
        let carrier = self.carrier.as_ref();
        carrier.is_none_or(|carrier| !carrier.interfaces().any(|part| dataplane.runs_on(part.index)))
    }

    /// The interface as it is now: while the program runs there, whatever its name is; else by name, then by what it was.
    fn find<'d>(&self, devices: &'d Devices, lost: bool) -> Option<&'d Interface> {
        let by_index = || devices.interface(self.named.as_ref()?.index);
        let by_name = || devices.named(&self.name);
        let found = if lost {
            by_name().or_else(by_index)
        } else {
            by_index().or_else(by_name)
        };
        found.or_else(|| devices.like(self.named.as_ref()?))
    }

    fn take(&mut self, carrier: Carrier, devices: &Devices, name: &str) {
        self.named = devices.named(name).cloned();
        self.carrier = Some(carrier);
        self.missing = None;
    }
}

impl Attachments {
    /// What is there of the interfaces that were named.
    ///
    /// # Errors
    /// When one is such that no program sees its packets, or is missing and not to be waited for.
    pub(in crate::agent) fn find(options: &Options, devices: &Devices) -> Result<Self> {
        let mut places = Vec::new();
        for name in &options.interfaces {
            let mut attachment = Attachment {
                name: name.clone(),
                named: None,
                carrier: None,
                missing: None,
            };
            match devices.carrier(name) {
                Ok(carrier) => attachment.take(carrier, devices, name),
                Err(error @ InterfaceError::Unknown { .. }) if options.wait_iface => {
                    attachment.miss(format!("{error}; it is waited for"));
                }
                Err(error @ InterfaceError::Unknown { .. }) => {
                    bail!("{error}. Leave `--wait-iface false` out to wait for it");
                }
                Err(error) => return Err(error.into()),
            }
            places.push(attachment);
        }
        Ok(Self {
            mode: options.mode,
            others_left: places.iter().any(|attachment| attachment.missing.is_some()),
            places,
        })
    }

    /// Where packets are seen: what lies below comes first, as the kernel wants it.
    pub(in crate::agent) fn carriers(&self) -> Vec<Carrier> {
        let mut found: Vec<Carrier> = Vec::new();
        for carrier in self
            .places
            .iter()
            .filter_map(|attachment| attachment.carrier.as_ref())
        {
            if !found.contains(carrier) {
                found.push(carrier.clone());
            }
        }
        found.sort_by_key(|carrier| carrier.vlan.is_some());
        found
    }

    /// The interfaces, by index, that packets are seen on.
    pub(in crate::agent) fn indexes(&self) -> BTreeSet<u32> {
        let carriers = self
            .places
            .iter()
            .filter_map(|attachment| attachment.carrier.as_ref());
        carriers.map(|carrier| carrier.interface.index).collect()
    }

    /// The interface that all packets come by, if there is only one.
    pub(in crate::agent) fn only_interface(&self) -> Option<u32> {
        // Generic mode may run on a VLAN device, which is not what its packets leave by.
        let below = |attachment: &Attachment| {
            let carrier = attachment.carrier.as_ref()?;
            (self.mode == Mode::Native || carrier.vlan.is_none()).then_some(carrier.interface.index)
        };
        let (first, others) = self.places.split_first()?;
        let first = below(first)?;
        others
            .iter()
            .all(|other| below(other) == Some(first))
            .then_some(first)
    }

    /// What is named and not served.
    pub(in crate::agent) fn outages(&self) -> Vec<OutageView> {
        let outage = |attachment: &Attachment| {
            let (since, why) = attachment.missing.as_ref()?;
            Some(OutageView {
                what: format!("interface {}", attachment.name),
                reason: format!("nothing is balanced that comes by it: {why}"),
                since: since
                    .duration_since(UNIX_EPOCH)
                    .map_or(0.0, |since| since.as_secs_f64()),
            })
        };
        self.places.iter().filter_map(outage).collect()
    }

    pub(in crate::agent) fn is_whole(&self) -> bool {
        self.places.iter().all(|attachment| attachment.missing.is_none())
    }
}

impl Actor {
    /// Asks the kernel whether the program is where it was attached.
    pub(in crate::agent) fn look_at_links(&mut self) {
        self.note_lost(|_| true);
        if !self.parts.attachments.is_whole() {
            // The answer is a list of the interfaces, by which it is tried again.
            self.parts.devices_wanted.notify_one();
        }
    }

    fn note_lost(&mut self, is_here: impl Fn(u32) -> bool) {
        let lost = self.parts.dataplane.give_up_lost(is_here);
        if lost.is_empty() {
            return;
        }
        self.parts
            .attached
            .retain(|attached| !lost.contains(&attached.interface.index));
        let (dataplane, places) = (&self.parts.dataplane, &mut self.parts.attachments.places);
        let served = places
            .iter_mut()
            .filter(|attachment| attachment.missing.is_none());
        for attachment in served.filter(|attachment| attachment.is_lost(dataplane)) {
            attachment.miss("the interface is gone, or somebody has detached the program".into());
        }
    }

    /// Brings the attachments in line with the interfaces that there are.
    pub(in crate::agent) fn follow_devices(&mut self, devices: &Devices) {
        self.note_lost(|index| devices.interface(index).is_some());
        for attached in &mut self.parts.attached {
            if let Some(now) = devices.interface(attached.interface.index) {
                attached.interface.clone_from(now);
            }
        }
        let mut changed = false;
        for number in 0..self.parts.attachments.places.len() {
            changed |= self.follow_place(number, devices);
        }
        if changed {
            self.use_attachments(devices);
        }
        if self.parts.attachments.others_left && self.parts.attachments.is_whole() {
            self.parts.attachments.others_left = false;
            if let Err(error) = self.parts.dataplane.leave_others(&self.parts.attached) {
                log::error!("{error:#}");
            }
        }
    }

    /// Attaches where it is missing; whether something has changed.
    fn follow_place(&mut self, number: usize, devices: &Devices) -> bool {
        let Attachments { mode, places, .. } = &mut self.parts.attachments;
        let Some(attachment) = places.get_mut(number) else {
            return false;
        };
        let dataplane = &mut self.parts.dataplane;
        let lost = attachment.is_lost(dataplane);
        let Some(found) = attachment.find(devices, lost) else {
            // One that was never there has been told of, with the names of those that are.
            if lost && (attachment.named.is_some() || attachment.missing.is_none()) {
                attachment.miss(format!(
                    "there is no interface {}; it is waited for",
                    attachment.name
                ));
            }
            return false;
        };
        let name = found.name.clone();
        let carrier = match devices.carrier(&name) {
            Ok(carrier) => carrier,
            Err(why) if lost => {
                attachment.miss(why.to_string());
                return false;
            }
            Err(_) => return false,
        };
        if attachment.missing.is_none() && attachment.is_whole(dataplane, &carrier) {
            attachment.named = devices.named(&name).cloned();
            return false;
        }
        for part in carrier.interfaces() {
            if let Err(error) = dataplane.allow_egress(part.index) {
                log::debug!("{} cannot be redirected to: {error:#}", part.name);
            }
        }
        match dataplane.attach_again(&carrier, *mode) {
            Ok(attached) => {
                let here = if name == attachment.name {
                    name.clone()
                } else {
                    format!("{} (which is called {name} now)", attachment.name)
                };
                log::info!("what comes by {here} is balanced");
                crate::agent::log_attached(&attached);
                attachment.take(carrier, devices, &name);
                note_attached(&mut self.parts.attached, attached);
                true
            }
            Err(why) => {
                attachment.miss(format!("{why:#}"));
                false
            }
        }
    }

    /// Lets everything know where packets come and go now.
    fn use_attachments(&mut self, devices: &Devices) {
        let indexes = self.parts.attachments.indexes();
        self.parts
            .engine
            .set_vrf(devices.common_vrf(indexes.iter().copied()));
        self.parts.observed.only_interface = self.parts.attachments.only_interface();
        if let Err(error) = self.parts.resolver.set_gateway_interfaces(indexes) {
            log::error!("{error}");
        }
        self.review_egress(Review::Passing);
        self.refresh(&Scope::All);
    }
}

/// Puts these in the place of those that are to the same interfaces.
fn note_attached(all: &mut Vec<Attached>, new: Vec<Attached>) {
    let is_new = |one: &Attached| new.iter().any(|new| new.interface.index == one.interface.index);
    all.retain(|one| !is_new(one));
    all.extend(new);
}
