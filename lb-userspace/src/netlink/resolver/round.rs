//! One round of the resolver: it asks the kernel what is to be asked, decides, and publishes.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::{ROUTES_PER_ROUND, Resolver};
use crate::netlink::link::{Link, list_links};
use crate::netlink::looked_up::{Life, LookedUp};
use crate::netlink::macs::macs;
use crate::netlink::neighbour::{NeighbourKey, Reachability};
use crate::netlink::next_hop::resolve;
use crate::netlink::route;
use crate::netlink::socket::Error;
use crate::netlink::upper::{egress, list_addresses, uppers};
use crate::netlink::view::{View, views};

impl Resolver {
    /// Asks the kernel what is in doubt, within bounds, and publishes the outcome.
    pub(super) async fn round(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.todo.links) {
            match list_links(&self.socket).await {
                Ok(links) => self.links = links,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => log::warn!("cannot list the network interfaces: {error}"),
            }
            self.publish_macs();
        }
        if std::mem::take(&mut self.todo.addresses) {
            match list_addresses(&self.socket).await {
                Ok(addresses) => self.addresses = addresses,
                Err(Error::Closed) => return Err(Error::Closed),
                Err(error) => log::warn!("cannot list the interfaces' addresses: {error}"),
            }
        }
        let views = self.views();
        for _ in 0..ROUTES_PER_ROUND {
            let Some(address) = self.todo.routes.pop_first() else {
                break;
            };
            self.look_up(address, &views).await?;
        }
        if std::mem::take(&mut self.todo.gateways) {
            let interfaces = self.with_vlans(self.wanted.borrow().gateway_interfaces.clone());
            self.gateways = route::gateways(&self.socket, &interfaces).await?;
        }
        self.track_neighbours();
        self.neighbours.refresh(&self.socket).await?;
        self.todo.decide = false;
        self.choose();
        self.publish();
        Ok(())
    }

    /// From where routes are looked up: the interfaces that the balancer runs on, then the VLAN devices on them.
    fn views(&self) -> Vec<View> {
        let given = self.wanted.borrow().gateway_interfaces.clone();
        let vlans = self.with_vlans(given.clone());
        let interfaces: Vec<u32> = given.iter().chain(vlans.difference(&given)).copied().collect();
        views(&interfaces, &self.links, &self.addresses)
    }

    /// Adds to the interfaces the VLAN devices that lie on them.
    pub(super) fn with_vlans(&self, mut interfaces: BTreeSet<u32>) -> BTreeSet<u32> {
        let on_them = |link: &&Link| {
            egress(link, &self.links).is_ok_and(|egress| interfaces.contains(&egress.interface))
        };
        let vlans: Vec<u32> = self
            .links
            .values()
            .filter(on_them)
            .map(|link| link.index)
            .collect();
        interfaces.extend(vlans);
        interfaces
    }

    async fn look_up(&mut self, address: IpAddr, views: &[View]) -> Result<(), Error> {
        let (route, next_hops) = route::look_up(&self.socket, address, views).await?;
        let known = self.routes.remove(&address);
        self.routes
            .insert(address, LookedUp::new(address, route, next_hops, known));
        Ok(())
    }

    fn track_neighbours(&mut self) {
        let mut used = self.gateways.clone();
        used.extend(self.routes.values().flat_map(LookedUp::neighbours));
        // The kernel resolves nothing over an interface that cannot send, or that has no MAC addresses.
        used.retain(|key| {
            self.links
                .get(&key.interface_index)
                .is_some_and(Link::can_resolve)
        });
        self.neighbours.track(&used);
    }

    fn choose(&mut self) {
        let (links, neighbours) = (&self.links, &self.neighbours);
        let life = |key: &NeighbourKey| {
            if !links.get(&key.interface_index).is_some_and(Link::can_resolve) {
                return Life::Dead;
            }
            match neighbours.reachability(key) {
                Reachability::Known(_) => Life::Alive,
                Reachability::Pending => Life::Unknown,
                Reachability::Failed | Reachability::Refused(_) => Life::Dead,
            }
        };
        for known in self.routes.values_mut() {
            known.choose(life);
        }
    }

    pub(super) fn publish_macs(&self) {
        let macs = macs(&self.links);
        self.macs.send_if_modified(|published| {
            let changed = *published != macs;
            if changed {
                *published = macs;
            }
            changed
        });
    }

    fn publish(&mut self) {
        let uppers = uppers(&self.links, &self.addresses.ranked);
        self.uppers.send_if_modified(|published| {
            let changed = *published != uppers;
            if changed {
                *published = uppers;
            }
            changed
        });
        let (links, neighbours) = (&self.links, &self.neighbours);
        let (kept, wanted, now) = (&mut self.kept, self.wanted.borrow(), Instant::now());
        let mut ends = None;
        let decide = |(address, known): (&IpAddr, &LookedUp)| {
            let found = resolve(*address, known.route(), known.last_interface(), links, neighbours);
            let way = kept.confirm((*address, &wanted.needs), found, now, &mut ends);
            (*address, way)
        };
        let snapshot: HashMap<_, _> = self.routes.iter().map(decide).collect();
        self.grace_ends = ends;
        self.snapshots.send_if_modified(|published| {
            let changed = **published != snapshot;
            if changed {
                *published = Arc::new(snapshot);
            }
            changed
        });
    }
}
