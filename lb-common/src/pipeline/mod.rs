//! The packet's way: parse → match the service → pick the backend → rewrite.
//!
//! Nearly all packets take the `direct` way, which knows only what is common and costs little. All others take the
//! [`mod@detour`], which begins anew with the frame and knows everything.
//!
//! Generic over the packet and the tables, so that the kernel and the tests run the same code. Invariant: every way
//! out has a [`Reason`], and a packet whose reason does not send it leaves unchanged.

pub mod detour;
mod direct;
mod early;
mod echo;
mod family;
mod link;
mod outcome;
mod packet;
mod parse;
mod reverse_nat;
mod rewrite;
mod select;
mod services;
mod tables;
pub mod wrap;

use crate::abi::Reason;

pub use direct::direct;
pub use link::accepts;
pub use outcome::Outcome;
pub use packet::{Packet, Wrap};
pub use services::{look_up4, look_up6};
pub use tables::{
    FlowTables, Host, InsertOutcome, NatTables, QuicTables, Route, RouteQuery, ServiceTables, Tables,
};

use detour::{Scratch, StepByStep, detour};

/// Takes a packet all the way, by the detour if it must, and says why it left as it did; `outcome` says more. For hosts:
/// in the kernel the detour is a program of its own.
pub fn process<P: Packet, T: Tables>(packet: &mut P, tables: &T, outcome: &mut Outcome) -> Reason {
    if let Some(reason) = direct(packet, tables, outcome) {
        return reason;
    }
    let mut scratch = Scratch::NOTHING;
    let reason = detour(&mut StepByStep { packet, tables }, &mut scratch);
    *outcome = scratch.outcome;
    reason
}
