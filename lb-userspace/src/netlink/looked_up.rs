//! A route as last looked up, and which of its next hops packets take. A pure function of what the kernel said: the
//! kernel's own pick, unless that is dead and another one lives; and what was chosen stays while it lives.

use std::net::IpAddr;

use super::{neighbour::NeighbourKey, route::Route};

/// What is known of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It can be sent to.
    Alive,
    /// It was asked, and may yet answer.
    Unknown,
    /// It does not answer, or its interface cannot send.
    Dead,
}

/// A way to send, and the neighbour that it goes to.
#[derive(Clone, Debug)]
struct Way {
    route: Route,
    neighbour: NeighbourKey,
}

/// A route as last looked up.
#[derive(Debug)]
pub(super) struct LookedUp {
    /// What the kernel would do.
    pick: Route,
    /// What it could choose between, its pick first; empty if it sends no packets.
    ways: Vec<Way>,
    /// The index in `ways` of the one that packets take.
    chosen: usize,
    /// Whether the choice is final, rather than the pick of the kernel until a neighbour answers.
    decided: bool,
    /// The interface of the last route that forwarded.
    last_interface: Option<u32>,
}

impl LookedUp {
    /// What the kernel said of the route to `address`; `before` is what it had said the last time.
    pub(super) fn new(address: IpAddr, pick: Route, next_hops: Vec<Route>, before: Option<Self>) -> Self {
        let mut ways: Vec<Way> = Vec::new();
        if let Some(neighbour) = pick.neighbour(address) {
            let route = pick.clone();
            ways.push(Way { route, neighbour });
            for route in next_hops {
                let neighbour = route.neighbour(address);
                if let Some(neighbour) = neighbour.filter(|new| ways.iter().all(|way| way.neighbour != *new))
                {
                    ways.push(Way { route, neighbour });
                }
            }
        }
        let in_use = before.as_ref().filter(|before| before.decided);
        let in_use = in_use.and_then(|before| before.ways.get(before.chosen));
        let still = in_use.and_then(|old| ways.iter().position(|way| way.neighbour == old.neighbour));
        let last_interface = match pick {
            Route::Forward { interface_index, .. } => Some(interface_index),
            _ => before.and_then(|before| before.last_interface),
        };
        Self {
            pick,
            ways,
            chosen: still.unwrap_or(0),
            decided: still.is_some(),
            last_interface,
        }
    }

    /// Decides again between the next hops.
    pub(super) fn choose(&mut self, life: impl Fn(&NeighbourKey) -> Life) {
        let lives: Vec<Life> = self.ways.iter().map(|way| life(&way.neighbour)).collect();
        let of = |index: usize| lives.get(index).copied().unwrap_or(Life::Unknown);
        // A neighbour that was heard of is asked again while it is used, which is no reason to leave it.
        if self.decided && of(self.chosen) != Life::Dead {
            return;
        }
        // While the kernel's pick may yet answer, whoever is faster does not count: it would draw all addresses.
        let first = match of(0) {
            Life::Dead => lives.iter().position(|life| *life == Life::Alive),
            Life::Alive | Life::Unknown => None,
        };
        self.chosen = first.unwrap_or(0);
        self.decided = of(self.chosen) == Life::Alive;
    }

    /// The route that packets take.
    pub(super) fn route(&self) -> &Route {
        self.ways.get(self.chosen).map_or(&self.pick, |way| &way.route)
    }

    /// All neighbours that packets may come to go to.
    pub(super) fn neighbours(&self) -> impl Iterator<Item = NeighbourKey> {
        self.ways.iter().map(|way| way.neighbour)
    }

    /// The interface of the last route that forwarded.
    pub(super) const fn last_interface(&self) -> Option<u32> {
        self.last_interface
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Life::{Alive, Dead, Unknown};

    fn over(interface_index: u32) -> Route {
        Route::Forward {
            interface_index,
            gateway: None,
            mtu: None,
        }
    }

    fn looked_up(pick: u32, before: Option<LookedUp>) -> LookedUp {
        let address = IpAddr::from([192, 0, 2, 7]);
        LookedUp::new(address, over(pick), vec![over(1), over(2), over(3)], before)
    }

    fn chosen(known: &mut LookedUp, lives: [Life; 3]) -> u32 {
        known.choose(|key| lives[key.interface_index as usize - 1]);
        match *known.route() {
            Route::Forward { interface_index, .. } => interface_index,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_kernels_pick_is_taken_while_it_may_live() {
        let mut known = looked_up(2, None);
        assert_eq!(known.neighbours().count(), 3, "none is there twice");
        assert_eq!(chosen(&mut known, [Alive, Unknown, Alive]), 2);
        assert_eq!(chosen(&mut known, [Alive, Alive, Alive]), 2);
    }

    #[test]
    fn another_is_taken_when_it_is_dead_and_kept_while_it_lives() {
        let mut known = looked_up(2, None);
        assert_eq!(chosen(&mut known, [Dead, Dead, Dead]), 2);
        assert_eq!(chosen(&mut known, [Dead, Dead, Unknown]), 2);
        assert_eq!(chosen(&mut known, [Dead, Dead, Alive]), 3);
        assert_eq!(chosen(&mut known, [Alive, Alive, Alive]), 3);
        assert_eq!(chosen(&mut known, [Alive, Alive, Unknown]), 3);
        let mut again = looked_up(1, Some(known));
        assert_eq!(chosen(&mut again, [Alive, Alive, Alive]), 3);
        assert_eq!(chosen(&mut again, [Alive, Alive, Dead]), 1);
    }

    #[test]
    fn a_route_that_lost_the_next_hop_goes_back_to_the_kernels_pick() {
        let mut known = looked_up(2, None);
        assert_eq!(chosen(&mut known, [Alive, Dead, Dead]), 1);
        let address = IpAddr::from([192, 0, 2, 7]);
        let mut new = LookedUp::new(address, over(3), Vec::new(), Some(known));
        assert_eq!(chosen(&mut new, [Alive, Alive, Unknown]), 3);
        let gone = LookedUp::new(address, Route::Local, Vec::new(), Some(new));
        assert_eq!((gone.route(), gone.last_interface()), (&Route::Local, Some(3)));
    }
}
