//! The agent of lb and its command line: everything that runs in user space.

pub mod agent;
pub mod backend;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod health;
pub mod netlink;
mod objects;
pub mod supervise;
mod worded;
