//! Ways that are unknown for a moment. A neighbour that is asked anew, a carrier that comes back, a route that a daemon
//! withdraws and gives back: the host would send again in a moment, and so do packets that go on by the last way.
//!
//! Invariant: the last way is kept until the kernel's own probes have failed or the grace is over, and no longer. The
//! clock is a parameter.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::next_hop::{FoundRoute, Resolution};

/// What only some ways are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteNeed {
    /// The address has to be on the link: packets keep their destination, which a gateway would send elsewhere.
    OnLink,
    /// The address has to be this host's own.
    Own,
}

impl RouteNeed {
    fn suits(self, way: &Resolution) -> bool {
        match (self, way) {
            (Self::OnLink, Resolution::Resolved(hop)) => hop.gateway.is_none(),
            (Self::Own, way) => *way == Resolution::Own,
            _ => false,
        }
    }
}

/// A way that was good.
#[derive(Debug)]
struct Last {
    way: Resolution,
    /// Since when there is none.
    lost: Option<Instant>,
}

impl Last {
    /// Whether packets to `address` go to that neighbour.
    fn goes_to(&self, address: IpAddr, neighbour: IpAddr) -> bool {
        let hop = self.way.next_hop();
        hop.is_some_and(|hop| hop.gateway.unwrap_or(address) == neighbour)
    }
}

/// The last ways.
#[derive(Debug)]
pub(super) struct Kept {
    grace: Duration,
    last: HashMap<IpAddr, Last>,
}

impl Kept {
    /// Ways that are lost are kept for `grace`.
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            last: HashMap::new(),
        }
    }

    /// Forgets what is not asked for any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&IpAddr) -> bool) {
        self.last.retain(|address, _| is_wanted(address));
    }

    /// The way that packets to `address` take now. Where they take the last one, `ends` becomes the end of the grace if
    /// that is earlier.
    pub(super) fn confirm(
        &mut self,
        (address, needs): (IpAddr, &BTreeMap<IpAddr, RouteNeed>),
        found: FoundRoute,
        now: Instant,
        ends: &mut Option<Instant>,
    ) -> Resolution {
        let need = needs.get(&address);
        match &found {
            FoundRoute::Way(way) if need.is_none_or(|need| need.suits(way)) => {
                let way = way.clone();
                self.last.insert(address, Last { way, lost: None });
                return found.into();
            }
            FoundRoute::Way(_) | FoundRoute::None { .. } => {}
        }
        let silent = match &found {
            FoundRoute::None { silent, .. } => *silent,
            FoundRoute::Way(_) => None,
        };
        let last = self.last.get_mut(&address);
        let Some(last) = last.filter(|last| silent.is_none_or(|silent| !last.goes_to(address, silent)))
        else {
            self.last.remove(&address);
            return found.into();
        };
        let end = *last.lost.get_or_insert_with(|| {
            log::debug!(
                "{address}: {found:?}; packets go on by the last way for {:?}",
                self.grace
            );
            now
        }) + self.grace;
        if now >= end {
            self.last.remove(&address);
            return found.into();
        }
        *ends = Some(ends.map_or(end, |ends| ends.min(end)));
        last.way.clone()
    }
}

#[cfg(test)]
mod tests {
    use lb_common::abi::TagsEntry;

    use super::{super::next_hop::NextHop, *};

    const GRACE: Duration = Duration::from_secs(5);

    fn hop(last: u8, gateway: Option<&str>) -> Resolution {
        Resolution::Resolved(NextHop {
            interface_index: 2,
            tags: TagsEntry::NONE,
            destination_mac: [2, 0, 0, 0, 0, last],
            source_mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            gateway: gateway.map(|text| text.parse().expect("an address")),
        })
    }

    fn none(silent: Option<[u8; 4]>) -> FoundRoute {
        FoundRoute::None {
            reason: "gone".to_owned(),
            silent: silent.map(IpAddr::from),
        }
    }

    fn unresolved() -> Resolution {
        none(None).into()
    }

    /// What becomes of an address, step by step: after how many milliseconds what is found, and what is to come of it.
    fn runs(need: Option<RouteNeed>, steps: &[(u64, FoundRoute, Resolution)]) {
        let address = IpAddr::from([10, 0, 0, 11]);
        let needs = need.map(|need| (address, need)).into_iter().collect();
        let (mut kept, start) = (Kept::new(GRACE), Instant::now());
        for (step, (after, found, expected)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*after);
            let mut ends = None;
            let confirmed = kept.confirm((address, &needs), found.clone(), now, &mut ends);
            assert_eq!(confirmed, *expected, "step {step}");
            let keeps = Resolution::from(found.clone()) != confirmed;
            assert_eq!(ends.is_some_and(|ends| ends > now), keeps, "step {step}");
        }
    }

    #[test]
    fn a_way_that_is_unknown_for_a_moment_is_kept_until_the_grace_is_over() {
        let (a, b) = (hop(1, None), hop(2, None));
        runs(
            None,
            &[
                (0, none(None), unresolved()),
                (10, FoundRoute::Way(a.clone()), a.clone()),
                (20, none(None), a.clone()),
                (2_000, none(None), a.clone()),
                (2_100, FoundRoute::Way(a.clone()), a.clone()),
                (2_200, none(None), a.clone()),
                (7_199, none(None), a.clone()),
                (7_200, none(None), unresolved()),
                (7_300, none(None), unresolved()),
                (7_400, FoundRoute::Way(b.clone()), b.clone()),
                (7_500, none(None), b),
            ],
        );
    }

    #[test]
    fn a_way_to_somebody_silent_is_not_kept() {
        let (a, b) = (hop(1, None), hop(2, Some("10.0.0.254")));
        let (itself, gateway) = ([10, 0, 0, 11], [10, 0, 0, 254]);
        for (way, silent, other) in [(a, itself, gateway), (b, gateway, itself)] {
            runs(
                None,
                &[
                    (0, FoundRoute::Way(way.clone()), way.clone()),
                    (10, none(None), way.clone()),
                    (20, none(Some(other)), way),
                    (30, none(Some(silent)), unresolved()),
                    (40, none(None), unresolved()),
                ],
            );
        }
    }

    #[test]
    fn another_way_is_taken_at_once_if_it_is_of_any_use() {
        let (direct, around) = (hop(1, None), hop(2, Some("10.0.0.254")));
        runs(
            None,
            &[
                (0, FoundRoute::Way(direct.clone()), direct.clone()),
                (10, FoundRoute::Way(around.clone()), around.clone()),
            ],
        );
        runs(
            Some(RouteNeed::OnLink),
            &[
                (0, FoundRoute::Way(around.clone()), around.clone()),
                (10, FoundRoute::Way(direct.clone()), direct.clone()),
                (20, FoundRoute::Way(around.clone()), direct),
                (5_020, FoundRoute::Way(around.clone()), around.clone()),
            ],
        );
        runs(
            Some(RouteNeed::Own),
            &[
                (0, FoundRoute::Way(Resolution::Own), Resolution::Own),
                (10, FoundRoute::Way(around.clone()), Resolution::Own),
                (20, none(None), Resolution::Own),
                (30, FoundRoute::Way(Resolution::Own), Resolution::Own),
                (40, FoundRoute::Way(around.clone()), Resolution::Own),
                (5_040, FoundRoute::Way(around.clone()), around),
            ],
        );
    }
}
