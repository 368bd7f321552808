//! Whether the ports that `fullnat` flows come from will do.
//!
//! Invariant: an operator hears of it before flows are refused, once; and packets are told to refuse flows only while
//! hardly a port is left.

use std::{collections::BTreeSet, net::IpAddr};

use crate::agent::actor::Actor;
use lb_api::view::SourceView;

/// How many of a hundred ports of an address may be in use toward a backend until the operator is told.
const CROWDED: u64 = 80;
/// When that is over: less, so that a number about there is told once.
const CALM: u64 = 70;
/// From when on a flow that finds no port is refused, not left to try again elsewhere.
const EXHAUSTED: u64 = 99;

/// What was noticed last.
#[derive(Debug, Default)]
pub(in crate::agent) struct Ports {
    crowded: BTreeSet<IpAddr>,
    /// Of IPv4 and IPv6.
    exhausted: [bool; 2],
}

/// Something to tell the operator, or packets.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Crowded(String),
    Calm(IpAddr),
    /// The pool of that family (whether IPv6), and whether it is exhausted.
    Exhausted(bool, bool),
}

/// Whether at least so many of a hundred ports are in use.
const fn reaches(source: &SourceView, percent: u64) -> bool {
    source.total > 0 && source.used * 100 >= source.total * percent
}

/// What to say of an address that is nearly used up.
pub(in crate::agent) fn warning(source: &SourceView) -> Option<String> {
    let SourceView {
        address, used, total, ..
    } = source;
    reaches(source, CROWDED).then(|| {
        format!(
            "{used} of {total} ports of {address} are in use toward a fullnat backend; when none is left, new flows to it \
             are refused: add to `fullnat_addresses`, or widen `fullnat_ports`"
        )
    })
}

impl Ports {
    fn observe(&mut self, sources: &[SourceView]) -> Vec<Event> {
        let mut events = Vec::new();
        for source in sources {
            let address = source.address;
            match warning(source) {
                Some(text) if self.crowded.insert(address) => events.push(Event::Crowded(text)),
                None if !reaches(source, CALM) && self.crowded.remove(&address) => {
                    events.push(Event::Calm(address));
                }
                _ => {}
            }
        }
        for v6 in [false, true] {
            let mut family = sources
                .iter()
                .filter(|source| source.address.is_ipv6() == v6 && source.total > 0)
                .peekable();
            let is = family.peek().is_some() && family.all(|source| reaches(source, EXHAUSTED));
            if is != self.exhausted[usize::from(v6)] {
                self.exhausted[usize::from(v6)] = is;
                events.push(Event::Exhausted(v6, is));
            }
        }
        events
    }
}

impl Actor {
    /// Tells whom it concerns how many ports are left.
    pub(in crate::agent) fn watch_ports(&mut self) {
        let sources = self.sources();
        for event in self.ports.observe(&sources) {
            match event {
                Event::Crowded(text) => log::warn!("{text}"),
                Event::Calm(address) => log::info!("ports of {address} are free again for fullnat backends"),
                Event::Exhausted(v6, is) => {
                    if let Err(error) = self.parts.dataplane.set_exhausted(v6, is) {
                        log::error!("packets are not told how many ports are left for fullnat: {error:#}");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_at_80_percent_and_packets_at_99() {
        let address = IpAddr::from([10, 0, 0, 2]);
        let other = IpAddr::from([10, 0, 0, 3]);
        let source = |address, used| SourceView {
            address,
            flows: used,
            used,
            total: 1000,
        };
        let mut ports = Ports::default();
        let mut observe = |used| ports.observe(&[source(address, used), source(other, 995)]);
        let first = observe(799);
        assert!(
            matches!(&first[..], [Event::Crowded(text)] if text.contains("995 of 1000 ports of 10.0.0.3"))
        );
        assert!(
            matches!(&observe(800)[..], [Event::Crowded(text)] if text.contains("800 of 1000 ports of 10.0.0.2"))
        );
        assert_eq!(observe(799), []);
        assert_eq!(observe(985), [], "one of two addresses has ports");
        assert_eq!(observe(990), [Event::Exhausted(false, true)]);
        assert_eq!(observe(989), [Event::Exhausted(false, false)]);
        assert_eq!(observe(700), []);
        assert_eq!(observe(699), [Event::Calm(address)]);
        assert!(matches!(&observe(801)[..], [Event::Crowded(_)]));
    }
}
