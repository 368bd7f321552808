//! What the demo shows: sentences, and below them a table that is redrawn in place on a terminal and written as one
//! line a second elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

const TERMINAL_PERIOD: Duration = Duration::from_millis(250);
const PLAIN_PERIOD: Duration = Duration::from_secs(1);
/// Clears from the cursor to the end of the screen (ECMA-48 ED).
const CLEAR_BELOW: &str = "\x1b[J";

/// What the table says at one moment.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) phase: &'static str,
    pub(super) rows: Vec<Row>,
    /// Requests so far.
    pub(super) requests: usize,
    /// Failed requests so far.
    pub(super) failed: usize,
}

/// One backend.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) state: String,
    /// Its part of the answers of the last second, 0 to 1.
    pub(super) share: f64,
    /// Its answers in the last second.
    pub(super) per_second: usize,
}

/// The standard output.
#[derive(Debug)]
pub(super) struct Screen {
    start: Instant,
    terminal: bool,
    shown: Option<Instant>,
    /// Lines of the table that stand above the cursor.
    table_lines: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            terminal: io::stdout().is_terminal(),
            shown: None,
            table_lines: 0,
        }
    }

    /// Writes a sentence above the table.
    pub(super) fn say(&mut self, sentence: &str) -> Result<()> {
        let text = format!(
            "{}[{:5.1} s] {sentence}\n",
            self.erase_table(),
            self.start.elapsed().as_secs_f64()
        );
        write(&text)
    }

    /// Whether it is time to show the table again.
    pub(super) fn is_due(&self) -> bool {
        let period = if self.terminal {
            TERMINAL_PERIOD
        } else {
            PLAIN_PERIOD
        };
        self.shown.is_none_or(|shown| shown.elapsed() >= period)
    }

    pub(super) fn show(&mut self, table: &Table) -> Result<()> {
        self.shown = Some(Instant::now());
        if !self.terminal {
            return write(&format!(
                "[{:5.1} s] {}\n",
                self.start.elapsed().as_secs_f64(),
                line(table)
            ));
        }
        let text = format!("{}{}", self.erase_table(), lines(table));
        self.table_lines = text.lines().count();
        write(&text)
    }

    /// Leaves the last table standing.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.table_lines = 0;
        io::stdout().flush().context("cannot write to standard output")
    }

    /// The control sequence that removes the table from a terminal.
    fn erase_table(&mut self) -> String {
        match std::mem::take(&mut self.table_lines) {
            0 => String::new(),
            lines => format!("\x1b[{lines}F{CLEAR_BELOW}"),
        }
    }
}

fn lines(table: &Table) -> String {
    let mut text = format!(
        "\n{:<12} {:<12} {:<11} {:>7} {:>11}\n",
        "BACKEND", "ADDRESS", "STATE", "SHARE", "REQUESTS/S"
    );
    for row in &table.rows {
        let share = row.share * 100.0;
        text += &format!(
            "{:<12} {:<12} {:<11} {share:>6.1}% {:>11}\n",
            row.name,
            row.address.to_string(),
            row.state,
            row.per_second
        );
    }
    text + &format!(
        "{}: {} requests, {} failed\n",
        table.phase, table.requests, table.failed
    )
}

fn line(table: &Table) -> String {
    let backends = table.rows.iter().map(|row| {
        format!(
            "{} {} {:.0}% {}/s",
            row.name,
            row.state,
            row.share * 100.0,
            row.per_second
        )
    });
    let backends: Vec<String> = backends.collect();
    format!(
        "{}: {}; {} requests, {} failed",
        table.phase,
        backends.join(", "),
        table.requests,
        table.failed
    )
}

/// Unlike `print!`, an output that is closed is an error, not a panic.
fn write(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .context("cannot write to standard output")
}
