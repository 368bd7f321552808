//! The binary itself: exit codes, and output that nobody reads to the end.

use std::process::{Command, Output, Stdio};

fn lb(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(arguments)
        .env_remove("LB_SOCKET")
        .output()
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("good.toml"), "").expect("written");
    for (arguments, code) in [
        (vec!["--version"], 0),
        (vec!["--help"], 0),
        (vec!["check-config", &path("good.toml")], 0),
        (vec!["check-config", &path("none.toml")], 2),
        (vec!["frobnicate"], 2),
        (vec!["list", "--socket", &path("none.sock")], 3),
    ] {
        let output = lb(&arguments).expect("lb starts");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_ne!(
            output.stdout.is_empty(),
            output.stderr.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    for arguments in [["completions", "bash"], ["--help", "list"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lb"))
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lb starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("lb ends");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{arguments:?}: {output:?}"
        );
    }
}
