//! The lab: namespaces, links and traffic in which the real `lb` binary is shown and tested; and packets for tests.
//!
//! What must hold here: nothing outlives the process. Namespaces are held by file descriptors only, children are
//! killed by the kernel when their parent dies, and the host's own network namespace is never changed.

pub mod bench;
pub mod demo;
pub mod fixture;
pub mod fuzz;
pub mod lab;
pub mod packets;
pub mod patience;
pub mod process;
pub mod sim;
pub mod traffic;
