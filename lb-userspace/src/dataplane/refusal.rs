//! Why a kernel refused a program, in few lines: which kernel this is, which are known to work, what this one lacks.
//!
//! What must hold: what is lacking is found by trying. Distributions give old versions new features, and take others away.

use std::{fmt::Write as _, io};

use aya::{
    EbpfError,
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use nix::sys::utsname::uname;

use super::bpf;

/// Kernels that the tests ran on; docs/kernel-support.md has the table.
const TRIED: &str = "6.1 to 7.3";

/// The kernel's functions that the programs call.
const HELPERS: [(BpfHelper, &str); 6] = [
    (BpfHelper::BPF_FUNC_xdp_adjust_head, "bpf_xdp_adjust_head"),
    (BpfHelper::BPF_FUNC_xdp_adjust_tail, "bpf_xdp_adjust_tail"),
    (BpfHelper::BPF_FUNC_redirect_map, "bpf_redirect_map"),
    (BpfHelper::BPF_FUNC_fib_lookup, "bpf_fib_lookup"),
    (BpfHelper::BPF_FUNC_tail_call, "bpf_tail_call"),
    (BpfHelper::BPF_FUNC_jiffies64, "bpf_jiffies64"),
];

/// The kinds of maps that the programs use.
const MAPS: [(MapType, &str); 6] = [
    (MapType::PerCpuArray, "per-CPU arrays"),
    (MapType::LpmTrie, "LPM tries"),
    (MapType::LruHash, "LRU hash maps"),
    (MapType::DevMapHash, "devmap hash maps"),
    (MapType::ProgramArray, "program arrays"),
    (MapType::RingBuf, "ring buffers"),
];

/// The refusal of the program `name`. The verifier's whole log, of many kilobytes, is for `RUST_LOG=debug`.
pub(crate) fn refused_program(name: &str, error: ProgramError) -> anyhow::Error {
    let (why, log) = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => (io_error.to_string(), verifier_log.to_string()),
        other => {
            return anyhow::Error::new(other).context(format!("the kernel refused the XDP program {name}"));
        }
    };
    log::debug!("the verifier's log of {name}:\n{log}");
    let lacking = lacking();
    let mut text = format!("the kernel refused the XDP program {name}: {why}\n");
    let _ = writeln!(text, "  this kernel: {}", this_kernel());
    let _ = writeln!(text, "  kernels that lb was tried on: {TRIED}");
    if lacking.is_empty() {
        let _ = writeln!(
            text,
            "  what it lacks: nothing that lb knows to try; please report this, with the whole log"
        );
    } else {
        let _ = writeln!(text, "  what it lacks: {}", lacking.join(", "));
    }
    let _ = write!(
        text,
        "  the verifier (all of it: RUST_LOG=debug): {}",
        verdict(&log)
    );
    anyhow::Error::msg(text)
}

/// The refusal of maps, or of the object as a whole.
pub(crate) fn refused_maps(error: EbpfError) -> anyhow::Error {
    let lacking = lacking();
    let what = if lacking.is_empty() {
        String::new()
    } else {
        format!("; this kernel ({}) lacks {}", this_kernel(), lacking.join(", "))
    };
    anyhow::Error::new(error).context(format!(
        "the kernel refused the maps: lb needs root (or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON){what}"
    ))
}

/// The line of a log that says what is wrong: the last one but for statistics.
fn verdict(log: &str) -> &str {
    const STATISTICS: [&str; 4] = ["processed ", "verification time", "stack depth", "peak_states"];
    let is_statistics = |line: &&str| STATISTICS.iter().any(|words| line.starts_with(words));
    let mut said = log
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !is_statistics(line));
    said.next_back().unwrap_or("nothing")
}

/// Such as `Linux 6.1.0-57-amd64 (x86_64)`.
fn this_kernel() -> String {
    match uname() {
        Ok(name) => format!(
            "{} {} ({})",
            name.sysname().to_string_lossy(),
            name.release().to_string_lossy(),
            name.machine().to_string_lossy()
        ),
        Err(_) => "unknown".to_owned(),
    }
}

/// What the programs need and this kernel has not. What cannot be tried is not lacking.
fn lacking() -> Vec<String> {
    if matches!(is_program_supported(ProgramType::Xdp), Ok(false)) {
        return vec![
            "XDP, or the right to load programs (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; root has them)"
                .to_owned(),
        ];
    }
    let mut lacking = Vec::new();
    for (helper, name) in HELPERS {
        if matches!(is_helper_supported(ProgramType::Xdp, helper), Ok(false)) {
            lacking.push(name.to_owned());
        }
    }
    for (map, name) in MAPS {
        if matches!(is_map_supported(map), Ok(false)) {
            lacking.push(name.to_owned());
        }
    }
    if bpf::try_compare_exchange().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
        lacking.push("atomic operations of BPF such as compare-and-exchange (since 5.12)".to_owned());
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_last_line_that_is_no_statistics() {
        let log = "0: (bf) r6 = r1\nR3 invalid mem access 'scalar'\nverification time 128871 usec\nstack depth 192\n\
                   processed 7036 insns (limit 1000000) max_states_per_insn 8\n";
        assert_eq!(verdict(log), "R3 invalid mem access 'scalar'");
        assert_eq!(verdict(""), "nothing");
    }

    #[test]
    fn the_kernel_of_the_tests_lacks_nothing() {
        assert_eq!(lacking(), Vec::<String>::new());
    }

    #[test]
    fn a_refusal_has_five_lines() {
        let refused = refused_program(
            "lb",
            ProgramError::LoadError {
                io_error: io::Error::from_raw_os_error(libc::EACCES),
                verifier_log: aya_obj::VerifierLog::new(
                    "R1 unbounded memory access\nprocessed 7 insns".to_owned(),
                ),
            },
        );
        let text = format!("{refused:#}");
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(
            text.contains("R1 unbounded memory access") && text.contains(TRIED),
            "{text}"
        );
    }
}
