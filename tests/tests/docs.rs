//! The documentation, held against the code: links lead somewhere, tables are complete, examples are accepted.
//!
//! What must hold: every check counts what it looked at, so that a document that is not found fails it.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lb_common::abi::{Action, Reason, map};
use lb_core::desired::{Scheduler, Shares};
use lb_lab::find_binary;
use lb_userspace::config::Config;

/// A Markdown file of the project.
struct Document {
    path: PathBuf,
    text: String,
}

/// A fenced block of a document: its language, its text, and its first line's number.
struct Block {
    language: String,
    text: String,
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn document(path: impl AsRef<Path>) -> Document {
    let path = root().join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Document { path, text }
}

/// All documents at the top and in `docs`.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    for directory in ["", "docs", "docs/adr"] {
        let directory = root().join(directory);
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(document(path));
            }
        }
    }
    for expected in ["README.md", "ARCHITECTURE.md", "docs/guide.md"] {
        let path = root().join(expected);
        assert!(
            found.iter().any(|d| d.path == path),
            "{expected} is not among the documents"
        );
    }
    found
}

impl Document {
    /// Fenced blocks, also indented ones.
    fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in self.text.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, &mut open) {
                (Some(language), None) => {
                    open = Some(Block {
                        language: language.trim().to_owned(),
                        text: String::new(),
                        line: number + 2,
                    });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(block)) => {
                    block.text += line.trim_start();
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        assert!(
            open.is_none(),
            "{} ends within a fenced block",
            self.path.display()
        );
        blocks
    }

    /// The lines outside of fenced blocks.
    fn prose(&self) -> String {
        let mut fenced = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                prose += line;
                prose.push('\n');
            }
        }
        prose
    }

    /// What a link to a heading of this document says after `#`.
    fn anchors(&self) -> HashSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect()
    }
}

/// A heading's anchor, made as GitHub makes it.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .replace(' ', "-")
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        .collect()
}

/// The targets of `[text](target)` in `prose`.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut followed = 0;
    for from in &documents {
        let prose = from.prose();
        for link in links(&prose).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let to = match file {
                "" => from.path.clone(),
                file => from.path.parent().unwrap().join(file),
            };
            let to = to
                .canonicalize()
                .unwrap_or_else(|error| panic!("{}: {link}: {error}", from.path.display()));
            if !heading.is_empty() {
                let anchors = document(&to).anchors();
                assert!(
                    anchors.contains(heading),
                    "{}: {link}: no such heading among {anchors:?}",
                    from.path.display()
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 50, "only {followed} links were found");
}

/// The cells of the rows of a table whose first cell is `first`.
fn row<'t>(text: &'t str, first: &str) -> Option<Vec<&'t str>> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").collect::<Vec<_>>())
        .find(|cells| cells.first() == Some(&first))
}

#[test]
fn the_guide_knows_every_reason() {
    let guide = document("docs/guide.md");
    for reason in Reason::ALL {
        let code = reason.number().to_string();
        let cells = row(&guide.text, &code).unwrap_or_else(|| panic!("no row for reason {code}"));
        let action = match reason.action() {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::Send => "tx",
            Action::Hand => "host",
        };
        let name = format!("`{}`", reason.name());
        assert_eq!(cells[1..3], [name.as_str(), action], "the row of reason {code}");
        assert_eq!(cells.len(), 5, "the row of reason {code}");
        assert!(
            cells.iter().all(|cell| !cell.trim().is_empty()),
            "the row of reason {code}"
        );
    }
    let next = Reason::ALL.len().to_string();
    assert_eq!(row(&guide.text, &next), None, "a reason that does not exist");
}

#[test]
fn the_documents_know_every_kind_of_check() {
    let config = document("docs/config.md").text;
    let words = row(&config, "`type`").expect("a row for the kinds");
    let options = document("docs/cli.md").text;
    for kind in lb_check::Kind::ALL {
        assert!(
            words[1].contains(&format!("\"{}\"", kind.word)),
            "docs/config.md lacks {}",
            kind.word
        );
        for key in kind.keys {
            let first = format!("`{}`", key.name);
            assert!(
                row(&config, &first).is_some(),
                "docs/config.md has no row for {first}"
            );
            let option = format!("`--{}`", key.option);
            assert!(options.contains(&option), "docs/cli.md lacks {option}");
        }
    }
}

#[test]
fn the_documents_know_every_scheduler() {
    let guide = document("docs/guide.md").text;
    for &scheduler in Scheduler::ALL {
        let default = if scheduler == Scheduler::default() {
            " (default)"
        } else {
            ""
        };
        let first = format!("`{scheduler}`{default}");
        let cells = row(&guide, &first).unwrap_or_else(|| panic!("the guide has no row for {first}"));
        assert_eq!(cells[1], scheduler.meaning(), "the row of {scheduler}");
        let shares = match scheduler.shares() {
            Shares::Exact => "its share, to within one slot",
            Shares::OnAverage => "its share on average",
        };
        assert!(
            cells[2].starts_with(shares),
            "the row of {scheduler}: {:?}",
            cells[2]
        );
        assert_eq!(cells.len(), 5, "the row of {scheduler}");
    }
    let words: Vec<String> = Scheduler::WORDS
        .iter()
        .map(|word| format!("\"{word}\""))
        .collect();
    let config = document("docs/config.md").text;
    let cells = row(&config, "`scheduler`").unwrap();
    let in_code: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    assert_eq!(
        cells[1..3],
        [in_code.join(", "), format!("`\"{}\"`", Scheduler::default())]
    );
    let (last, others) = words.split_last().unwrap();
    let list = format!("{} or {last}", others.join(", "));
    let example = document("docs/lb.example.toml").text;
    assert!(example.contains(&list), "the example does not say {list}");
}

#[test]
fn the_architecture_knows_every_map() {
    let text = document("ARCHITECTURE.md").text;
    let maps = [
        map::CONTROL,
        map::SERVICES4,
        map::SERVICES6,
        map::SLOTS,
        map::PREVIOUS,
        map::FLOWS,
        map::TRACKING,
        map::TARGETS,
        map::TAGS,
        map::OPTIONS,
        map::SOURCES,
        map::QUIC,
        map::SERVERS,
        map::POOLS,
        map::CELLS,
        map::COUNTS,
        map::REASONS,
        map::ROUTES,
        map::UPPERS,
        map::OWN_MACS,
        map::MACS,
        map::EGRESS,
        map::FRAGMENTS,
        map::ANSWERS,
        map::TRANSLATIONS,
        map::SOURCE_POOLS,
        map::NAT_SOURCES,
        map::SEEN,
        map::DETOURS,
        map::META,
    ];
    for map in maps {
        assert!(row(&text, &format!("`{map}`")).is_some(), "no row for map {map}");
    }
}

#[test]
fn every_toml_block_is_a_configuration() {
    let mut parsed = 0;
    for document in documents() {
        for block in document.blocks().iter().filter(|block| block.language == "toml") {
            if let Err(error) = Config::parse(&block.text, &document.path) {
                panic!(
                    "the block from line {} of {}: {error}",
                    block.line,
                    document.path.display()
                );
            }
            parsed += 1;
        }
    }
    assert!(parsed >= 2, "only {parsed} blocks were found");
}

/// The arguments of a shell command that calls `lb`: words, quotes, and a comment at the end.
fn arguments(command: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut quote = None;
    let mut word: Option<String> = None;
    for c in command.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (' ', None) => arguments.extend(word.take()),
            ('#' | '|' | '>', None) if word.is_none() => break,
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    arguments.extend(word);
    arguments
}

/// What `lb` says to `arguments` when there is no agent: its exit code and its complaint.
fn ask(arguments: &[String]) -> (Option<i32>, String) {
    let nowhere = tempfile::tempdir().unwrap();
    let output = Command::new(find_binary("lb", "LB_BIN").unwrap())
        .args(arguments)
        .env("LB_SOCKET", nowhere.path().join("none.sock"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn every_example_is_a_valid_command() {
    const DONE: i32 = 0;
    const NO_AGENT: i32 = 3;
    let mut tried = 0;
    for document in documents() {
        for block in document.blocks() {
            let prompt = match block.language.as_str() {
                "sh" => "",
                "console" => "$ ",
                _ => continue,
            };
            let commands = block.text.lines().filter_map(|line| line.strip_prefix(prompt));
            for command in commands.filter_map(|line| line.strip_prefix("lb ")) {
                let mut arguments = arguments(command);
                // What needs no agent must not be carried out here; the others fail for the lack of one.
                let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let runs_alone = matches!(
                    words.as_slice(),
                    ["run" | "stop" | "check-config" | "completions" | "decap", ..]
                        | ["checkpoint", "verify", ..]
                        | ["backend-setup", "--vip" | "--undo" | "--config", ..]
                );
                let expected = if runs_alone {
                    arguments.push("--help".into());
                    DONE
                } else {
                    NO_AGENT
                };
                let (code, complaint) = ask(&arguments);
                assert_eq!(
                    code,
                    Some(expected),
                    "{}: lb {command}: {complaint}",
                    document.path.display()
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 15, "only {tried} commands were found");
}

#[test]
fn a_command_that_lb_does_not_know_is_noticed() {
    assert_eq!(
        arguments("explain --hex '02 00'  # a frame"),
        ["explain", "--hex", "02 00"]
    );
    let (code, _) = ask(&arguments("list --frobnicate"));
    assert_eq!(code, Some(2));
    let (code, _) = ask(&arguments("run --frobnicate --help"));
    assert_eq!(code, Some(2));
}

/// An agent that cannot start for a while is to start in the end.
#[test]
fn the_unit_is_restarted_without_a_limit() {
    let guide = document("docs/guide.md");
    let blocks = guide.blocks();
    let unit = blocks.iter().find(|block| block.language == "ini").unwrap();
    let section = |name: &str| -> HashSet<String> {
        let lines = unit.text.lines().skip_while(|line| *line != name).skip(1);
        lines
            .take_while(|line| !line.starts_with('['))
            .map(str::to_owned)
            .collect()
    };
    assert!(
        section("[Unit]").contains("StartLimitIntervalSec=0"),
        "{}",
        unit.text
    );
    assert!(
        section("[Service]").contains("Restart=on-failure"),
        "{}",
        unit.text
    );
    assert!(section("[Service]").contains("RestartSec=1"), "{}", unit.text);
}
