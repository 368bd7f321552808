//! What is shown of a file, and files that cannot be read.

use super::*;

#[test]
fn points_at_the_place() {
    let shown = refusal(&with("weight = 70000")).to_string();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(lines[1..], ["10 | weight = 70000", "   |          ^^^^^"]);
}

#[test]
fn shows_little_of_a_long_line() {
    let shown = refusal(&format!("x = \"{}\"", "\u{1b}é".repeat(50_000))).to_string();
    assert!(shown.len() < 1_000 && !shown.contains('\u{1b}'), "{shown}");
}

#[test]
fn refuses_what_is_no_readable_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let message = |name: &str| Config::load(&path(name)).expect_err("refused").to_string();
    assert!(message("none.toml").contains("no such file"));
    assert!(message(".").contains("a directory"));
    std::fs::write(path("bytes.toml"), b"# one\n# two\xff\n").expect("written");
    assert!(message("bytes.toml").contains("line 2 has bytes that are no UTF-8"));
    let huge = File::create(path("huge.toml")).expect("created");
    huge.set_len(Config::MAX_BYTES + 1).expect("grown");
    assert!(message("huge.toml").contains("more than 64 MiB"));
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    assert!(message("pipe").contains("no regular file"));
}

#[test]
fn keys_that_everybody_can_read_are_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lb.toml");
    let key = "key = \"8f95f09245765f80256934e50c66207f\"";
    let with_key = format!(
        "{}quic = {{ configs = [{{ id = 0, server_id_length = 4, nonce_length = 8, {key} }}] }}\n",
        SERVICE.replace("tcp", "udp")
    );
    for (text, mode, told) in [
        (with_key.as_str(), 0o644, true),
        (&with_key, 0o640, false),
        (SERVICE, 0o644, false),
    ] {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        let warning = Config::load_file(&path).expect("good").warning(&path);
        assert_eq!(
            warning.is_some_and(|warning| warning.contains("chmod o-r")),
            told,
            "{mode:o}"
        );
    }
}

#[test]
fn an_empty_file_means_the_defaults() {
    assert_eq!(Config::parse("", Path::new("lb.toml")), Ok(Config::default()));
}
