//! Devices that not every kernel has, and devices that lie on others. A test that needs one is ignored, and runs in a guest
//! whose kernel has it (`cargo xtask kernels`).

mod stacking;
mod vrf;
