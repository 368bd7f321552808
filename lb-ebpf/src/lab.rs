//! XDP programs that the tests and benchmarks run beside the load balancer.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Passes every packet to the kernel.
#[xdp]
fn lab_pass(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The licence the kernel is told; it decides which helpers a program may call.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// On the host there is nothing to run: the crate is compiled there only to be checked.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
