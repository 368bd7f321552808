//! The neighbours (ARP, NDP) that packets leave through. The kernel resolves them and keeps them fresh; this asks it
//! to, and remembers the outcome. An entry that an operator or a routing daemon maintains is never written to. Those of lb are
//! marked as learned outside of the kernel, which neither counts nor collects them then (`gc_thresh3`): there may be more
//! backends on a link than a host talks to in other trades.

mod requests;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;

use super::socket::{Error, Socket, family};
pub(super) use requests::revalidate;
use requests::{keep_fresh, release};

/// Marks the entries that lb asked the kernel to manage (`ip neigh` shows it as `proto 108`), so that a restarted
/// agent knows which ones it may hand back.
const OUR_PROTOCOL: RouteProtocol = RouteProtocol::Other(b'l');

/// A neighbour: an address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NeighbourKey {
    pub(super) interface_index: u32,
    pub(super) address: IpAddr,
}

impl NeighbourKey {
    fn message(self) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(self.address);
        message.header.ifindex = self.interface_index;
        message
            .attributes
            .push(NeighbourAttribute::Destination(self.address.into()));
        message
    }
}

/// An entry of the kernel's neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    mac: Option<[u8; 6]>,
    state: NeighbourState,
    /// Maintained by somebody else: permanent, without ARP, or learned by a routing daemon.
    foreign: bool,
    /// The kernel keeps it fresh by itself (Linux 5.16 and later).
    managed: bool,
    /// lb asked for it.
    ours: bool,
    /// The kernel neither counts nor collects it.
    uncounted: bool,
}

impl Neighbour {
    /// Reads an entry; `None` for those of other families (bridge forwarding entries) and proxy entries.
    fn from_message(message: &NeighbourMessage) -> Option<(NeighbourKey, Self)> {
        let header = &message.header;
        let mut address = None;
        let mut neighbour = Self {
            mac: None,
            state: header.state,
            foreign: matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp),
            managed: false,
            ours: false,
            uncounted: false,
        };
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
                NeighbourAttribute::LinkLayerAddress(mac) => neighbour.mac = mac.as_slice().try_into().ok(),
                NeighbourAttribute::ExtFlags(flags) => {
                    neighbour.managed = flags.contains(NeighbourExtFlags::Managed);
                }
                NeighbourAttribute::Protocol(protocol) => neighbour.ours = *protocol == OUR_PROTOCOL,
                _ => {}
            }
        }
        if header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        neighbour.uncounted = header.flags.contains(NeighbourFlags::ExtLearned);
        neighbour.foreign |= neighbour.uncounted && !neighbour.ours;
        Some((
            NeighbourKey {
                interface_index: header.ifindex,
                address: address?,
            },
            neighbour,
        ))
    }

    /// Whether the kernel would ask for it before it sent something there or soon after, and nobody else keeps it.
    fn is_in_doubt(&self) -> bool {
        let idle = matches!(
            self.state,
            NeighbourState::None | NeighbourState::Stale | NeighbourState::Failed
        );
        idle && !self.foreign && !self.managed
    }

    /// The MAC address to send to, while the kernel itself would.
    fn usable_mac(&self) -> Option<[u8; 6]> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp => self.mac,
            _ => None,
        }
    }
}

/// What is known about a neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Reachability {
    /// Frames for it go to this MAC address.
    Known([u8; 6]),
    /// The kernel has asked and waits for the answer.
    #[default]
    Pending,
    /// It did not answer.
    Failed,
    /// The kernel would not ask.
    Refused(String),
}

#[derive(Debug, Default)]
struct Tracked {
    reachability: Reachability,
    /// The kernel has asked since it was last heard of. Otherwise a failure is not the neighbour's: somebody wrote to the
    /// entry, or removed it.
    asked: bool,
    /// The kernel keeps the entry fresh, or somebody else does.
    maintained: bool,
    /// The kernel manages it because lb asked for that.
    ours: bool,
}

impl Tracked {
    /// Takes over what the kernel reports; tells whether it changes where packets go.
    fn update(&mut self, neighbour: Option<&Neighbour>) -> bool {
        let reachability = match neighbour {
            Some(neighbour) => match (neighbour.usable_mac(), neighbour.state) {
                (Some(mac), _) => Reachability::Known(mac),
                (None, NeighbourState::Failed) if self.asked || neighbour.foreign => Reachability::Failed,
                (None, _) => self.unanswered(),
            },
            // Removed, it is to be asked for as if nothing had been known.
            None => Reachability::Pending,
        };
        self.asked = match neighbour.map(|neighbour| neighbour.state) {
            Some(NeighbourState::Probe | NeighbourState::Incomplete) => true,
            Some(NeighbourState::Failed) => self.asked,
            _ => false,
        };
        self.maintained = neighbour.is_some_and(|neighbour| neighbour.managed || neighbour.foreign);
        self.ours = neighbour.is_some_and(|neighbour| neighbour.ours && !neighbour.foreign);
        let changed = self.reachability != reachability;
        self.reachability = reachability;
        changed
    }

    /// The kernel tries again every few seconds: until an answer comes, a failure stands.
    fn unanswered(&self) -> Reachability {
        match self.reachability {
            Reachability::Failed => Reachability::Failed,
            _ => Reachability::Pending,
        }
    }
}

/// The neighbours that are in use, and what is known about each.
#[derive(Debug, Default)]
pub(super) struct NeighbourTable {
    tracked: HashMap<NeighbourKey, Tracked>,
    /// Neighbours that the kernel is to be asked about, and to keep fresh.
    stale: HashSet<NeighbourKey>,
    /// Neighbours no longer in use, which the kernel need not keep fresh any more.
    released: Vec<NeighbourKey>,
}

impl NeighbourTable {
    /// What is known about a neighbour.
    pub(super) fn reachability(&self, key: &NeighbourKey) -> &Reachability {
        self.tracked
            .get(key)
            .map_or(&Reachability::Pending, |tracked| &tracked.reachability)
    }

    /// Whether that neighbour is kept fresh.
    pub(super) fn is_tracked(&self, key: &NeighbourKey) -> bool {
        self.tracked.contains_key(key)
    }

    /// Whether [`Self::refresh`] has something to do.
    pub(super) fn needs_refresh(&self) -> bool {
        !self.stale.is_empty() || !self.released.is_empty()
    }

    /// Sets which neighbours are in use.
    pub(super) fn track(&mut self, used: &HashSet<NeighbourKey>) {
        let released = &mut self.released;
        self.tracked.retain(|key, tracked| {
            let keep = used.contains(key);
            if !keep && tracked.ours {
                released.push(*key);
            }
            keep
        });
        self.stale.retain(|key| used.contains(key));
        for key in used {
            self.tracked.entry(*key).or_insert_with(|| {
                self.stale.insert(*key);
                Tracked::default()
            });
        }
    }

    /// Takes in the kernel's report of a change; tells whether it changes where packets go.
    pub(super) fn observe(&mut self, message: &NeighbourMessage, deleted: bool) -> bool {
        let Some((key, neighbour)) = Neighbour::from_message(message) else {
            return false;
        };
        let Some(tracked) = self.tracked.get_mut(&key) else {
            return false;
        };
        let changed = tracked.update((!deleted).then_some(&neighbour));
        // A neighbour that stopped answering may have a new MAC address: ask at once rather than at the kernel's next
        // turn. One that was deleted, or that nobody has asked for, is wanted back.
        let failed = neighbour.state == NeighbourState::Failed && (changed || !tracked.asked);
        if deleted || failed {
            self.stale.insert(key);
        }
        changed
    }

    /// Marks the neighbours on an interface to be asked about again.
    pub(super) fn distrust_interface(&mut self, index: u32) {
        self.stale
            .extend(self.tracked.keys().filter(|key| key.interface_index == index));
    }

    /// Marks all neighbours to be asked about again.
    pub(super) fn distrust_all(&mut self) {
        self.stale.extend(self.tracked.keys());
    }

    /// Marks those that nobody keeps fresh, because the kernel is too old to do it by itself.
    pub(super) fn distrust_unmaintained(&mut self) {
        let unmaintained = self.tracked.iter().filter(|(_, tracked)| !tracked.maintained);
        self.stale.extend(unmaintained.map(|(key, _)| key));
    }

    /// Asks the kernel about the neighbours in doubt, has it keep them fresh, and hands back those no longer in use.
    ///
    /// # Errors
    /// When the socket is closed.
    pub(super) async fn refresh(&mut self, socket: &Socket) -> Result<(), Error> {
        for key in std::mem::take(&mut self.released) {
            if !self.tracked.contains_key(&key) {
                release(socket, key).await?;
            }
        }
        for key in std::mem::take(&mut self.stale) {
            let outcome = keep_fresh(socket, key).await;
            let Some(tracked) = self.tracked.get_mut(&key) else {
                continue;
            };
            match outcome {
                Ok(neighbour) => {
                    tracked.update(neighbour.as_ref());
                    tracked.asked |= !matches!(tracked.reachability, Reachability::Known(_));
                }
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => tracked.reachability = Reachability::Refused(error.to_string()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn entry(state: NeighbourState, mac: Option<[u8; 6]>) -> Neighbour {
        Neighbour {
            mac,
            state,
            foreign: false,
            managed: true,
            ours: true,
            uncounted: true,
        }
    }

    /// What is known after these reports, `None` for a removal.
    fn after(reports: &[Option<NeighbourState>]) -> Reachability {
        let mut tracked = Tracked::default();
        tracked.update(Some(&entry(NeighbourState::Reachable, Some(MAC))));
        for report in reports {
            let mac = (*report == Some(NeighbourState::Probe)).then_some(MAC);
            tracked.update(report.map(|state| entry(state, mac)).as_ref());
        }
        tracked.reachability
    }

    #[test]
    fn only_a_neighbour_that_was_asked_for_has_failed() {
        use NeighbourState::{Failed, Incomplete, Probe};
        // The kernel has asked and has had no answer.
        assert_eq!(after(&[Some(Probe), Some(Failed)]), Reachability::Failed);
        assert_eq!(after(&[Some(Incomplete), Some(Failed)]), Reachability::Failed);
        // Somebody wrote to the entry, or removed it.
        assert_eq!(after(&[Some(Failed)]), Reachability::Pending);
        assert_eq!(after(&[None]), Reachability::Pending);
        assert_eq!(after(&[Some(Failed), None]), Reachability::Pending);
        assert_eq!(after(&[Some(Probe), Some(Failed), None]), Reachability::Pending);
        assert_eq!(after(&[Some(Probe), None, Some(Failed)]), Reachability::Pending);
    }

    #[test]
    fn a_failure_stands_while_it_is_asked_again() {
        use NeighbourState::{Failed, Incomplete, Probe};
        let again = [Some(Probe), Some(Failed), Some(Incomplete)];
        assert_eq!(after(&again), Reachability::Failed);
    }
}
