//! Tables in plain memory as packets read them, on the host.

mod flows;
mod host;
mod nat;
mod quic;
mod services;

use super::InMemory;
