//! Builds the lab's helper program for BPF and embeds it: its path is `env!("LB_LAB_OBJECT")`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_ebpf_build::embed("lab-xdp", "LB_LAB_OBJECT")
}
