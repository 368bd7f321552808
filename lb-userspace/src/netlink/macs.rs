//! MACs that frames to this host bear, by the interface that they come in by: its own, and those of what lies on it or what
//! it is a part of. Pure functions of what the kernel said.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lb_core::observed::InterfaceMacs;

use super::link::{Link, Lower};

/// MACs of all Ethernet interfaces, by the interface's index.
pub type Macs = Arc<BTreeMap<u32, InterfaceMacs>>;

/// MACs of all Ethernet interfaces among `links`.
pub(super) fn macs(links: &HashMap<u32, Link>) -> Macs {
    let mut above: HashMap<u32, Vec<&Link>> = HashMap::new();
    let mut parts: HashMap<u32, Vec<&Link>> = HashMap::new();
    for link in links.values() {
        if let Some(Lower::Here(lower)) = link.lower
            && !link.is_pair
        {
            above.entry(lower).or_default().push(link);
        }
        // A VRF takes no frames.
        if let Some(master) = link.master.and_then(|master| links.get(&master))
            && !master.is_vrf
        {
            above.entry(link.index).or_default().push(master);
            parts.entry(master.index).or_default().push(link);
        }
    }
    let of = |link: &Link| {
        let own = link.mac?;
        let mut seen = BTreeSet::from([link.index]);
        let mut others: BTreeSet<_> = parts
            .get(&link.index)
            .into_iter()
            .flatten()
            .filter_map(|part| part.mac)
            .collect();
        let mut next = vec![link.index];
        while let Some(index) = next.pop() {
            for upper in above.get(&index).into_iter().flatten() {
                if seen.insert(upper.index) {
                    others.extend(upper.mac);
                    next.push(upper.index);
                }
            }
        }
        others.remove(&own);
        let master = link.master;
        Some((link.index, InterfaceMacs { own, others, master }))
    };
    Arc::new(links.values().filter_map(of).collect())
}

/// MACs of `interfaces` and of their parts: where the kernel runs a bond's program, packets come in by the part.
pub(crate) fn macs_at(macs: &Macs, interfaces: &BTreeSet<u32>) -> BTreeMap<u32, InterfaceMacs> {
    let is_there = |(index, macs): &(&u32, &InterfaceMacs)| {
        interfaces.contains(*index) || macs.master.is_some_and(|master| interfaces.contains(&master))
    };
    let there = macs.iter().filter(is_there);
    there.map(|(index, macs)| (*index, macs.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, mac: u8) -> Link {
        Link {
            index,
            name: format!("eth{index}"),
            mac: Some([2, 0, 0, 0, 0, mac]),
            mtu: 1500,
            up: true,
            carrier: true,
            lower: None,
            vlan: None,
            master: None,
            is_vrf: false,
            is_pair: false,
        }
    }

    fn on(lower: u32, link: Link) -> Link {
        let lower = Some(Lower::Here(lower));
        Link { lower, ..link }
    }

    fn part_of(master: u32, link: Link) -> Link {
        let master = Some(master);
        Link { master, ..link }
    }

    /// The last bytes of the MACs of each interface, its own first.
    fn found(links: impl IntoIterator<Item = Link>) -> Vec<(u32, Vec<u8>)> {
        let links = links.into_iter().map(|link| (link.index, link)).collect();
        let last = |(index, macs): (&u32, &InterfaceMacs)| {
            let all = [&macs.own].into_iter().chain(&macs.others);
            (*index, all.map(|mac| mac[5]).collect())
        };
        macs(&links).iter().map(last).collect()
    }

    #[test]
    fn what_lies_on_an_interface_is_reached_by_it() {
        let found = found([
            link(1, 1),
            on(1, link(2, 1)),
            on(1, link(3, 3)),
            on(2, link(4, 4)),
            link(5, 5),
        ]);
        let expected = [
            (1, vec![1, 3, 4]),
            (2, vec![1, 4]),
            (3, vec![3]),
            (4, vec![4]),
            (5, vec![5]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn parts_of_a_bond_are_reached_by_its_mac_and_it_by_theirs() {
        let found = found([
            part_of(3, link(1, 1)),
            part_of(3, link(2, 2)),
            link(3, 3),
            on(3, link(4, 4)),
        ]);
        let expected = [
            (1, vec![1, 3, 4]),
            (2, vec![2, 3, 4]),
            (3, vec![3, 1, 2, 4]),
            (4, vec![4]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_other_end_of_a_pair_another_namespace_and_a_vrf_are_somebody_else() {
        let pair = |link| Link {
            is_pair: true,
            ..link
        };
        let elsewhere = Link {
            lower: Some(Lower::Elsewhere),
            ..link(3, 3)
        };
        let vrf = Link {
            is_vrf: true,
            ..link(4, 4)
        };
        let found = found([
            part_of(4, pair(on(2, link(1, 1)))),
            pair(on(1, link(2, 2))),
            elsewhere,
            vrf,
        ]);
        assert_eq!(found, [(1, vec![1]), (2, vec![2]), (3, vec![3]), (4, vec![4])]);
    }

    #[test]
    fn a_loop_of_devices_ends() {
        let found = found([on(2, link(1, 1)), on(1, link(2, 2))]);
        assert_eq!(found, [(1, vec![1, 2]), (2, vec![2, 1])]);
    }

    #[test]
    fn a_bond_s_parts_go_with_it() {
        let links = [part_of(3, link(1, 1)), link(2, 2), link(3, 3)];
        let macs = macs(&links.into_iter().map(|link| (link.index, link)).collect());
        let there = macs_at(&macs, &BTreeSet::from([3]));
        assert_eq!(there.into_keys().collect::<Vec<_>>(), [1, 3]);
    }
}
