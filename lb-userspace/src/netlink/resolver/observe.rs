//! What the resolver makes of the kernel's reports.

use futures_util::{FutureExt, StreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteMessage;

use super::Resolver;
use crate::netlink::link::Link;
use crate::netlink::monitor::Report;
use crate::netlink::route;
use crate::netlink::socket::Error;

impl Resolver {
    pub(super) fn distrust_everything(&mut self) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
        self.todo.links = true;
        self.todo.addresses = true;
        self.distrust_routes();
        self.neighbours.distrust_all();
    }

    pub(super) fn distrust_routes(&mut self) {
        self.todo.routes.extend(self.routes.keys());
        self.todo.gateways = true;
    }

    /// Reads the reports that have arrived, and the latest desired state, and tells of MACs that have changed.
    pub(super) fn observe_queued(&mut self) -> Result<(), Error> {
        if self.wanted.has_changed().unwrap_or(false) {
            self.take_wanted();
        }
        while let Some(event) = self.monitor.reports.next().now_or_never() {
            self.observe(event.ok_or(Error::Closed)?);
        }
        // Frames to a new MAC come right after; those of a burst are told at once.
        if std::mem::take(&mut self.macs_changed) {
            self.publish_macs();
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, event: NetlinkMessage<Report>) {
        self.changes
            .send_modify(|changes| *changes = changes.wrapping_add(1));
        match event.payload {
            NetlinkPayload::InnerMessage(Report::Change(change)) => self.observe_change(&change),
            NetlinkPayload::InnerMessage(Report::NextHops) => self.distrust_routes(),
            // Reports were lost, because they came faster than they were read.
            NetlinkPayload::Overrun(_) => self.distrust_everything(),
            _ => {}
        }
    }

    fn observe_change(&mut self, change: &RouteNetlinkMessage) {
        match change {
            RouteNetlinkMessage::NewNeighbour(message) => {
                self.todo.decide |= self.neighbours.observe(message, false);
            }
            RouteNetlinkMessage::DelNeighbour(message) => {
                self.todo.decide |= self.neighbours.observe(message, true);
            }
            RouteNetlinkMessage::NewLink(message) => self.observe_link(message, false),
            RouteNetlinkMessage::DelLink(message) => self.observe_link(message, true),
            RouteNetlinkMessage::NewRoute(message) => {
                self.observe_route(message);
                self.note_gateways(message);
            }
            RouteNetlinkMessage::DelRoute(message) => self.observe_route(message),
            // Routes that name a deleted address as their source vanish without a report.
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
                self.todo.addresses = true;
                self.distrust_routes();
            }
            RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => self.distrust_routes(),
            _ => {}
        }
    }

    fn observe_link(&mut self, message: &LinkMessage, deleted: bool) {
        let Some(link) = Link::from_message(message) else {
            return;
        };
        let index = link.index;
        let new = (!deleted).then_some(link);
        let old = match new.clone() {
            Some(link) => self.links.insert(index, link),
            None => self.links.remove(&index),
        };
        if old != new {
            // The routes over an interface that goes down vanish without a report.
            self.distrust_routes();
            self.neighbours.distrust_interface(index);
            self.todo.decide = true;
            self.macs_changed = true;
        }
    }

    fn observe_route(&mut self, message: &RouteMessage) {
        let Some(destination) = route::destination(message) else {
            return;
        };
        self.todo.gateways |= destination.prefix_len() == 0;
        let affected = self
            .routes
            .keys()
            .filter(|address| destination.contains(*address));
        self.todo.routes.extend(affected);
    }

    /// Adds the gateways of a new route to the others at once; whether one is needed no longer is seen when all are
    /// listed.
    fn note_gateways(&mut self, route: &RouteMessage) {
        let before = self.gateways.len();
        if before >= route::MAX_GATEWAYS {
            return;
        }
        for interface in self.with_vlans(self.wanted.borrow().gateway_interfaces.clone()) {
            route::collect_gateways(route, interface, &mut self.gateways);
        }
        self.todo.decide |= self.gateways.len() > before;
    }
}
