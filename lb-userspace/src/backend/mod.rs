//! What `lb` does on a backend's host: sets it up to receive what a forwarder sends ([`setup`]), and unwraps tunnels by
//! XDP ([`decap`]).

pub mod decap;
pub mod setup;
