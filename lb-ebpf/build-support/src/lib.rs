//! Finds a toolchain that can build eBPF, and builds `lb-ebpf` with it.
//!
//! Used by the build scripts of the crates that embed an eBPF object ([`embed`]) and by `cargo xtask setup`, which
//! reports and installs what is missing. What must hold: nothing is believed by its name; a toolchain counts only
//! when the files it needs are really there.

mod compile;
mod linker;
mod script;
mod toolchain;

pub use linker::{LinkerError, find_linker, toolchain_dir};
pub use script::embed;
pub use toolchain::{Core, MINIMUM_RUST, Toolchain, ToolchainError, find_toolchain, is_recent};
