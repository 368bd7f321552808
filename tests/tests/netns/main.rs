//! The real `lb`, native XDP on veth, and real sockets: what operators are promised, seen from outside.
//!
//! These tests need root (network namespaces, XDP); they fail without it. Each has a lab of its own; the lab's hosts
//! are namespaces of this process, so nothing outlives it.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

mod attach;
mod backend_setup;
mod checkpoints;
mod decap;
mod descriptors;
mod devices;
mod drain;
mod egress;
mod explain;
mod failure;
mod forwarders;
mod fullnat;
mod host_traffic;
mod hub;
mod interfaces;
mod lifecycle;
mod mixed;
mod neighbours;
mod outage;
mod own_source;
mod packets;
mod persistence;
mod plan;
mod quic;
mod resolution;
mod supervision;
mod support;
mod udp_check;
mod unbroken;
mod weights;
mod writers;
