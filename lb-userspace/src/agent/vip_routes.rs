//! Where this host's own routes lead its VIPs. What is for a VIP and for no service is left to the host: if that sends it
//! back to the router that it came from, it goes round until its TTL is over.
//!
//! Invariant: the actor never waits for the kernel's answers; it reads the last ones.

use std::{net::IpAddr, time::Duration};

use tokio::sync::watch;

use crate::netlink::{LeadsOut, leading_out};
use lb_core::desired::Prefix;

/// Routes are looked up again so long after a change, so that many changes are one.
const GATHERED: Duration = Duration::from_secs(1);

/// Follows the routes of the VIPs.
pub(super) struct VipRoutes {
    vips: watch::Sender<Vec<IpAddr>>,
    leading_out: watch::Receiver<Vec<LeadsOut>>,
}

impl VipRoutes {
    /// `changes` are those of the host's routes; `vrf` is the index of the VRF device that packets come by.
    pub(super) fn spawn(changes: watch::Receiver<u64>, vrf: Option<u32>) -> Self {
        let (vips, wanted) = watch::channel(Vec::new());
        let (found, leading_out) = watch::channel(Vec::new());
        tokio::spawn(follow(wanted, changes, vrf, found));
        Self { vips, leading_out }
    }

    /// These are the VIPs now; of a prefix, its first address stands for all.
    pub(super) fn set_vips(&self, vips: &[Prefix]) {
        self.vips
            .send_replace(vips.iter().map(|vip| vip.address()).collect());
    }

    /// The VIPs that lead out, as last looked up.
    pub(super) fn leading_out(&self) -> Vec<LeadsOut> {
        self.leading_out.borrow().clone()
    }
}

async fn follow(
    mut vips: watch::Receiver<Vec<IpAddr>>,
    mut changes: watch::Receiver<u64>,
    vrf: Option<u32>,
    found: watch::Sender<Vec<LeadsOut>>,
) {
    loop {
        let asked = vips.borrow_and_update().clone();
        changes.borrow_and_update();
        match leading_out(&asked, vrf).await {
            Ok(lead_out) => drop(found.send_replace(lead_out)),
            Err(error) => log::warn!("cannot look up the routes of the VIPs: {error}"),
        }
        let changed = async {
            tokio::select! {
                vips = vips.changed() => vips.is_ok(),
                changes = changes.changed() => changes.is_ok(),
            }
        };
        if !changed.await {
            return;
        }
        tokio::time::sleep(GATHERED).await;
    }
}
