//! How a part of the direct way says that a packet goes no further on it.

use crate::abi::Reason;

/// Why a packet leaves the direct way early: the reason why it leaves the pipeline, or [`DETOUR`].
pub(super) type LeaveEarly = Option<Reason>;

/// The packet takes the detour.
pub(super) const DETOUR: LeaveEarly = None;
