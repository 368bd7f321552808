//! What a bad file is answered with, and that a good one survives the round trip.

mod documentation;
mod files;
mod round_trip;
mod rules;
mod shape;
mod values;

use super::*;

const SERVICE: &str = r#"
[[service]]
name = "web"
vips = ["10.0.0.1"]
protocol = "tcp"
port = 80
forwarder = "ipip"
"#;
const BACKEND: &str = "[[service.backend]]\naddress = \"10.0.0.5\"\n";

/// A file with one service, one backend and some further lines.
fn with(lines: &str) -> String {
    format!("{SERVICE}{BACKEND}{lines}\n")
}

/// A file with one service and its check.
fn with_check(lines: &str) -> String {
    format!("{SERVICE}\n[service.check]\n{lines}\n")
}

/// The error's place and text, from a file that must be refused.
fn refusal(text: &str) -> ConfigError {
    Config::parse(text, Path::new("lb.toml")).expect_err("the file must be refused")
}

/// What a file holds, the line of the error, its key, and a part of the message.
type BadFile = (String, usize, &'static str, &'static str);

/// Asserts that each file is refused with place, key and message.
fn assert_refused(files: Vec<BadFile>) {
    let mut wrong = Vec::new();
    for (text, line, key, message) in files {
        let error = refusal(&text);
        let shown = error.to_string();
        let place = error.place.as_ref().expect("the place is known");
        let start = format!("lb.toml:{line}:{}: {key}", place.column);
        if place.key != key || !error.message.contains(message) || !shown.starts_with(&start) {
            wrong.push(format!(
                "expected line {line}, key {key:?} and {message:?}:\n{shown}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
