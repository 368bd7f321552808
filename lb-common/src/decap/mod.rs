//! Takes the outer headers of a tunnel off: what a backend's kernel does that has tunnel devices.
//!
//! Invariant: a packet that is not both a tunnel's and for this host is left as it came; so is one that is dropped.

mod ecn;
mod inner;
mod outer;
mod reason;
mod rules;
mod tunnel;

use crate::net::{Bytes, store16, store32, store64};

pub use reason::Reason;
pub use rules::{Address, GRE_BIT, IPIP_BIT, Ports, Rules};

use inner::Inner;
use outer::{Link, OuterPacket};

/// Names of the program's maps.
pub mod map {
    /// [`super::Address`]es that tunnels end at, each with a `u8` that means nothing.
    pub const OURS: &str = "OURS";
    /// Prefixes of [`super::Address`]es that tunnels may begin at.
    pub const SOURCES: &str = "SOURCES";
    /// Per CPU one `u64` a [`super::Reason`].
    pub const COUNTS: &str = "DECAP_COUNTS";
}

/// Names of the program's globals, set when it is loaded.
pub mod global {
    /// `u64`: [`super::Ports`] of GUE.
    pub const GUE_PORTS: &str = "GUE_PORTS";
    /// `u64`: [`super::Ports`] of FOU.
    pub const FOU_PORTS: &str = "FOU_PORTS";
    /// `u32`: [`super::IPIP_BIT`] and [`super::GRE_BIT`].
    pub const PROTOCOLS: &str = "PROTOCOLS";
    /// `u32`: 1 if tunnels may begin at the prefixes of [`super::map::SOURCES`] only.
    pub const FILTERED: &str = "FILTERED";
}

/// Name of the XDP program.
pub const PROGRAM: &str = "lb_decap";

/// Takes the outer headers off a packet that came through a tunnel to this host. VLAN tags stay.
#[inline(always)]
pub fn decap<B: Bytes, R: Rules>(frame: &mut B, rules: &R) -> Reason {
    match try_decap(frame, rules) {
        Ok(reason) | Err(reason) => reason,
    }
}

#[inline(always)]
fn try_decap<B: Bytes, R: Rules>(frame: &mut B, rules: &R) -> Result<Reason, Reason> {
    let link = Link::read(frame).ok_or(Reason::NotTunnel)?;
    let outer = OuterPacket::read(frame, &link).ok_or(Reason::NotTunnel)?;
    let tunnel = tunnel::recognise(frame, rules, &outer).ok_or(Reason::NotTunnel)?;
    if !rules.is_ours(&outer.destination) {
        return Err(Reason::NotOurs);
    }
    if !rules.allows(&outer.source) {
        return Err(Reason::Denied);
    }
    let end = outer.check(frame)?;
    let content = tunnel.content(frame, &outer, end)?;
    let inner = Inner::read(frame, &content)?;
    inner.take_over_congestion(frame, outer.tos)?;
    link.move_to(frame, &inner)?;
    Ok(tunnel.reason())
}

impl Link {
    /// Makes the frame begin with this header in front of the inner packet.
    #[inline(always)]
    fn move_to<B: Bytes>(&self, frame: &mut B, inner: &Inner) -> Result<(), Reason> {
        let front = self.network;
        if !frame.grow(front as i32 - inner.at as i32) {
            return Err(Reason::BadInner);
        }
        // Shorter than before, and the inner header was there: these can only be there, too.
        self.write(frame, inner).ok_or(Reason::BadInner)
    }

    #[inline(always)]
    fn write<B: Bytes>(&self, frame: &mut B, inner: &Inner) -> Option<()> {
        let macs: &mut [u8; 12] = frame.view_mut(0)?;
        store64(macs, 0, self.macs_head);
        store32(macs, 8, self.macs_tail);
        for (i, tag) in self.tags.into_iter().enumerate() {
            if tag != 0 {
                let place: &mut [u8; 4] = frame.view_mut(12 + 4 * i)?;
                store32(place, 0, tag);
            }
        }
        let ether_type: &mut [u8; 2] = frame.view_mut(self.network - 2)?;
        store16(ether_type, 0, inner.ether_type());
        Some(())
    }
}
