//! Which interfaces the program may send out of. The kernel drops what it is told to send elsewhere, and tells nobody.
//!
//! Invariant: a backend behind an interface that is known to be closed to XDP has no way: see [`ObservedState::closed`].

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::agent::{
    actor::{Actor, scope::Scope},
    observed::ObservedState,
};
use crate::dataplane::name_of;
use crate::netlink::{self, Resolution};
use lb_api::view::AttachMode;

/// How often in a row an interface that XDP could send out of has to be found closed: drivers close it for a moment when
/// they change their queues.
const CLOSED: u8 = 3;

/// What was done about interfaces so far.
#[derive(Debug, Default)]
pub(in crate::agent) struct Egress {
    /// Interfaces that the program was told of.
    open: HashSet<u32>,
    /// How often in a row those were found closed.
    doubts: HashMap<u32, u8>,
}

/// How an interface that is found closed is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Review {
    /// It is closed.
    Thorough,
    /// It is doubted once more.
    InTurn,
    /// It stays as it was.
    Passing,
}

impl Actor {
    /// Sees to it that the program may send to where the ways lead; whether that has changed.
    pub(in crate::agent) fn review_egress(&mut self, review: Review) -> bool {
        let wanted = wanted(&self.parts.observed);
        let mut closed = HashMap::new();
        for &interface in &wanted {
            if let Err(why) = self.open_egress(interface, &wanted, review) {
                self.egress.open.remove(&interface);
                closed.insert(interface, why);
            }
        }
        let changed = self.parts.observed.closed != closed;
        self.parts.observed.closed = closed;
        changed
    }

    fn open_egress(&mut self, interface: u32, wanted: &BTreeSet<u32>, review: Review) -> Result<(), String> {
        let was_open = self.egress.open.contains(&interface);
        let redirects = |index: u32, mode| index != interface && mode == AttachMode::Native;
        let mut attached = self.parts.attached.iter();
        if attached.any(|attached| redirects(attached.interface.index, attached.mode)) {
            match netlink::takes_redirects(interface) {
                Some(false) => {
                    let doubts = self.egress.doubts.entry(interface).or_default();
                    *doubts = doubts.saturating_add(u8::from(review == Review::InTurn));
                    if !was_open || review == Review::Thorough || *doubts >= CLOSED {
                        return Err(format!(
                            "native XDP cannot send out of {}, its driver does not take what is redirected there \
                             (ndo_xdp_xmit; a veth does while its peer has an XDP program): give its peer one, name it with \
                             --iface, or run with `--mode generic`",
                            name_of(interface)
                        ));
                    }
                }
                Some(true) | None => drop(self.egress.doubts.remove(&interface)),
            }
        }
        // The kernel forgets an interface that goes, and its number may be another one's next time.
        if was_open && review == Review::Passing {
            return Ok(());
        }
        let dataplane = &mut self.parts.dataplane;
        let mut allowed = dataplane.allow_egress(interface);
        if allowed.is_err() {
            allowed = dataplane
                .forbid_other_egress(wanted)
                .and_then(|()| dataplane.allow_egress(interface));
        }
        allowed.map_err(|error| {
            format!(
                "XDP can send out of 64 interfaces at most, and {} is one more: {error:#}",
                name_of(interface)
            )
        })?;
        self.egress.open.insert(interface);
        Ok(())
    }

    /// What is done once a second: closed interfaces are tried again.
    pub(in crate::agent) fn review_egress_in_turn(&mut self) {
        if self.review_egress(Review::InTurn) {
            self.refresh(&Scope::All);
        }
    }
}

/// The interfaces that packets are redirected to.
fn wanted(observed: &ObservedState) -> BTreeSet<u32> {
    let hops = observed.hops.values().filter_map(Resolution::next_hop);
    hops.map(|hop| hop.interface_index)
        .filter(|interface| observed.only_interface != Some(*interface))
        .collect()
}
