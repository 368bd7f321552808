//! Builds the bench's wrapper for BPF and embeds it: its path is `env!("LB_BENCH_OBJECT")`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_ebpf_build::embed("bench-xdp", "LB_BENCH_OBJECT")
}
