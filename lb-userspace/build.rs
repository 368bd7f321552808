//! Builds the load balancer's program for BPF and embeds it: its path is `env!("LB_EBPF_OBJECT")`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_ebpf_build::embed("lb-xdp", "LB_EBPF_OBJECT")
}
