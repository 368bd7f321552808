//! The MACs that frames to this host bear, as the program reads them.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::abi::{Mac, MacKey, OwnMacs};

use crate::desired::MacAddress;
use crate::observed::InterfaceMacs;

/// The MACs that the program accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacTable {
    /// The MACs that the program reads without a look-up.
    pub own: OwnMacs,
    /// All MACs, by interface.
    pub entries: BTreeSet<MacKey>,
}

impl Default for MacTable {
    /// A table that knows nothing, so that nothing is refused.
    fn default() -> Self {
        Self {
            own: OwnMacs::UNKNOWN,
            entries: BTreeSet::new(),
        }
    }
}

impl MacTable {
    /// The MACs of these interfaces. At each of them, frames may bear the `named` MACs as well.
    pub fn new(interfaces: &BTreeMap<u32, InterfaceMacs>, named: &[MacAddress]) -> Self {
        let mut table = Self::default();
        for (index, macs) in interfaces {
            let all = [macs.own].into_iter().chain(macs.others.iter().copied());
            let all = all.chain(named.iter().map(|mac| mac.octets()));
            table
                .entries
                .extend(all.map(|mac| MacKey::new(*index, Mac::new(mac))));
            table.entries.insert(MacKey::known(*index));
            let place = &mut table.own.own[OwnMacs::place(*index) as usize];
            if place.interface == 0 {
                *place = MacKey::new(*index, Mac::new(macs.own));
            }
        }
        if !interfaces.is_empty() {
            table.own.common = common(interfaces, named, &table.entries);
        }
        table
    }

    /// Removes what is known of an interface, so that nothing is refused there.
    pub fn forget(&mut self, interface: u32) {
        self.entries.remove(&MacKey::known(interface));
    }
}

/// MACs that are right at all of these interfaces: the interfaces' own first, then those that are named, then others.
fn common(
    interfaces: &BTreeMap<u32, InterfaceMacs>,
    named: &[MacAddress],
    entries: &BTreeSet<MacKey>,
) -> [Mac; OwnMacs::COMMON] {
    let own = interfaces.values().map(|macs| macs.own);
    let named = named.iter().map(|mac| mac.octets());
    let others = interfaces.values().flat_map(|macs| macs.others.iter().copied());
    let is_everywhere = |mac: Mac| {
        let mut indexes = interfaces.keys();
        indexes.all(|index| entries.contains(&MacKey::new(*index, mac)))
    };
    let mut found = [Mac::NONE; OwnMacs::COMMON];
    let mut count = 0;
    for mac in own.chain(named).chain(others).map(Mac::new) {
        if count < found.len() && !found.contains(&mac) && is_everywhere(mac) {
            found[count] = mac;
            count += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use lb_common::{abi::Mac, pipeline::Host as _};

    use super::*;
    use crate::plan::{Capacity, InMemory};

    fn interface(own: u8, others: &[u8]) -> InterfaceMacs {
        InterfaceMacs {
            own: mac(own),
            others: others.iter().copied().map(mac).collect(),
            master: None,
        }
    }

    fn mac(last: u8) -> [u8; 6] {
        [2, 0, 0, 0, 0, last]
    }

    fn memory(interfaces: &[(u32, InterfaceMacs)], named: &[MacAddress]) -> InMemory {
        let capacity = Capacity {
            services: 1,
            targets: 1,
            slots: 65_536,
            flows: 1024,
            nat_flows: 1024,
        };
        let mut memory = InMemory::new(&capacity, 0);
        memory.macs = MacTable::new(&interfaces.iter().cloned().collect(), named);
        memory
    }

    /// Which of the MACs that end in 1 to 9 are accepted at an interface.
    fn accepted(memory: &mut InMemory, interface: u32) -> Vec<u8> {
        memory.ingress = interface;
        let accepts = |last: &u8| {
            let mac = Mac::new(mac(*last));
            mac == memory.common_mac(0) || memory.accepts(mac, false)
        };
        (1..10).filter(accepts).collect()
    }

    #[test]
    fn each_interface_has_its_own() {
        // 18 has the place of 2.
        let mut memory = memory(
            &[
                (2, interface(1, &[])),
                (3, interface(2, &[3, 4])),
                (18, interface(5, &[1])),
            ],
            &[],
        );
        assert_eq!(memory.macs.own.common, [Mac::NONE; OwnMacs::COMMON]);
        assert_eq!(accepted(&mut memory, 2), [1]);
        assert_eq!(accepted(&mut memory, 3), [2, 3, 4]);
        assert_eq!(accepted(&mut memory, 18), [1, 5]);
    }

    #[test]
    fn what_is_named_is_accepted_everywhere() {
        let named = ["02:00:00:00:00:09".parse().unwrap()];
        let mut memory = memory(&[(2, interface(1, &[])), (3, interface(2, &[]))], &named);
        assert_eq!(accepted(&mut memory, 2), [1, 9]);
        assert_eq!(accepted(&mut memory, 3), [2, 9]);
    }

    #[test]
    fn interfaces_with_one_mac_need_no_look_up() {
        let named = ["02:00:00:00:00:09".parse().unwrap()];
        let memory = memory(&[(2, interface(1, &[4])), (3, interface(2, &[1, 4]))], &named);
        let common = [1, 9, 4].map(|last| Mac::new(mac(last)));
        assert_eq!(memory.macs.own.common[..3], common);
        assert_eq!(memory.macs.own.common[3], Mac::NONE);
    }

    #[test]
    fn what_is_not_known_is_not_refused() {
        let all: Vec<u8> = (1..10).collect();
        assert_eq!(accepted(&mut memory(&[], &[]), 2), all);
        let mut memory = memory(&[(2, interface(1, &[])), (3, interface(2, &[]))], &[]);
        assert_eq!(accepted(&mut memory, 4), all);
        memory.macs.forget(3);
        assert_eq!(accepted(&mut memory, 3), all);
        assert_eq!(accepted(&mut memory, 2), [1]);
    }

    #[test]
    fn frames_for_groups_are_for_groups() {
        let mut memory = memory(&[(2, interface(1, &[]))], &[]);
        memory.ingress = 2;
        for group in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            assert!(memory.accepts(Mac::new(group), true));
            assert!(!memory.accepts(Mac::new(group), false));
        }
    }
}
