//! Builds the programs of load balancer and backends for BPF and embeds them: their paths are `env!("LB_EBPF_OBJECT")`
//! and `env!("LB_DECAP_OBJECT")`.

use std::process::ExitCode;

fn main() -> ExitCode {
    for (program, variable) in [("lb-xdp", "LB_EBPF_OBJECT"), ("decap-xdp", "LB_DECAP_OBJECT")] {
        let code = lb_ebpf_build::embed(program, variable);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}
