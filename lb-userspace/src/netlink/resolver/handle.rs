//! The resolver's other end: what it is to resolve, and what it has found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::netlink::kept::RouteNeed;
use crate::netlink::macs::Macs;
use crate::netlink::next_hop::Resolution;
use crate::netlink::upper::Uppers;

/// For each address that is asked for, whether and where packets can be sent. An address that was added a moment ago
/// may still be missing.
pub type NextHops = Arc<HashMap<IpAddr, Resolution>>;

/// The resolver has ended, because its sockets failed; the log says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the next-hop resolver has stopped; see the log, and restart lb")]
pub struct ResolverStopped;

#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) needs: BTreeMap<IpAddr, RouteNeed>,
    pub(super) gateway_interfaces: BTreeSet<u32>,
}

/// Tells the resolver what to resolve. The resolver ends when its handle is dropped, and leaves the neighbours that it
/// had the kernel keep fresh as they are: a dataplane may outlive it. Setting no addresses first hands them back.
#[derive(Debug)]
pub struct ResolverHandle {
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) used: mpsc::Sender<Vec<(u32, IpAddr)>>,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) uppers: watch::Receiver<Uppers>,
    pub(super) macs: watch::Receiver<Macs>,
    pub(super) snapshots: watch::Receiver<NextHops>,
}

impl ResolverHandle {
    /// Waits until the neighbours of addresses are given back, after none is asked for any more.
    pub async fn given_back(&self) {
        let _ = self
            .snapshots
            .clone()
            .wait_for(|snapshot| snapshot.is_empty())
            .await;
    }

    /// Replaces the set of addresses to resolve.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_addresses(&self, addresses: BTreeSet<IpAddr>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.addresses, addresses)
    }

    /// Replaces what addresses need of their ways. Where the only way is another one, the last that was good is kept for as
    /// long as one that is unknown.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_needs(&self, needs: BTreeMap<IpAddr, RouteNeed>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.needs, needs)
    }

    /// Replaces the set of interfaces (by index) that the balancer runs on. Routes are looked up in their VRFs, if need
    /// be from their addresses, and the kernel is to keep the gateways of routes over them, of both families, resolved: packets
    /// that the dataplane routes with `bpf_fib_lookup` leave through them.
    ///
    /// # Errors
    /// When the resolver has ended.
    pub fn set_gateway_interfaces(&self, interfaces: BTreeSet<u32>) -> Result<(), ResolverStopped> {
        self.update(|wanted| &mut wanted.gateway_interfaces, interfaces)
    }

    /// Has the kernel make sure of the neighbours that packets were sent to past its stack, each by interface and address.
    /// While the resolver is at work on others they are left out: packets will name them again.
    pub fn revalidate(&self, neighbours: Vec<(u32, IpAddr)>) {
        if let Err(error) = self.used.try_send(neighbours) {
            log::debug!("neighbours in use are not looked after this time: {error}");
        }
    }

    /// Counts the kernel's reports of changes to interfaces, neighbours, addresses, routes, rules and next-hop objects, whether or not
    /// they move a next hop that was asked for.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// What the dataplane must know of all interfaces: every change of it is published whole.
    pub fn uppers(&self) -> watch::Receiver<Uppers> {
        self.uppers.clone()
    }

    /// The MACs that frames to this host bear. They are told at once: what bears a new one is not for this host until then.
    pub fn macs(&self) -> watch::Receiver<Macs> {
        self.macs.clone()
    }

    fn update<T: PartialEq>(
        &self,
        field: impl FnOnce(&mut Wanted) -> &mut T,
        value: T,
    ) -> Result<(), ResolverStopped> {
        self.wanted.send_if_modified(|wanted| {
            let field = field(wanted);
            let changed = *field != value;
            *field = value;
            changed
        });
        if self.wanted.is_closed() {
            Err(ResolverStopped)
        } else {
            Ok(())
        }
    }
}
