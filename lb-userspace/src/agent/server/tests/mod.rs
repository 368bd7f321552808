//! The API over real unix sockets.

pub(crate) mod actor;
mod http;
mod plan;
mod socket;
mod write;
mod writers;
