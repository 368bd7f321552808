//! Builds the helper programs of lab and bench for BPF and embeds them: their paths are `env!("LB_LAB_OBJECT")` and
//! `env!("LB_BENCH_OBJECT")`.

use std::process::ExitCode;

fn main() -> ExitCode {
    for (program, variable) in [("lab-xdp", "LB_LAB_OBJECT"), ("bench-xdp", "LB_BENCH_OBJECT")] {
        let code = lb_ebpf_build::embed(program, variable);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}
