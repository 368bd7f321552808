//! The agent's local HTTP and JSON interface on a unix socket.

pub mod view;
