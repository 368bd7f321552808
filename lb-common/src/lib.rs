//! What the XDP program and the agent share: table layouts, packet parsing and the forwarding pipeline.
//!
//! Invariant: everything here is pure. No I/O, no clock, no allocation, no aya; the same code is built for the BPF
//! target and for the host, and packet cases run on both.
#![no_std]

// Words are loaded in native order and picked apart by shifts.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "lb runs on little-endian machines only"
);

pub mod abi;
pub mod decap;
pub mod flow;
pub mod hash;
pub mod net;
pub mod pipeline;
pub mod quic;
pub mod verifier;
