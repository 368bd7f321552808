//! Devices that not every kernel has. A test that needs one is ignored, and runs in a guest whose kernel has it.

mod vrf;
