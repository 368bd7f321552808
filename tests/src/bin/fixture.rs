//! `lb-fixture`: writes a pinned dataplane down as text, for `tests/fixtures`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Parser;
use lb_common::abi::ABI_VERSION;
use lb_tests::fixture::{self, Recording};

/// Writes a pinned dataplane down as text.
#[derive(Debug, Parser)]
enum Command {
    /// Makes one for this and records it: services of every kind, traffic, changes under way, then SIGKILL.
    Make {
        /// Where `abi-N.txt`, `abi-N.toml` and `abi-N.json` are written, N being the version of the tables.
        directory: PathBuf,
    },
    /// Prints what is pinned in a directory.
    Record {
        /// The directory.
        directory: PathBuf,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Make { directory } => make(&directory)?,
        Command::Record { directory } => print!("{}", fixture::record(&directory)?),
    }
    Ok(())
}

fn make(directory: &Path) -> Result<()> {
    let Recording {
        dataplane,
        wish,
        told,
    } = fixture::make()?;
    let told = serde_json::to_string_pretty(&told)? + "\n";
    let dataplane = format!(
        "# Pinned by lb {} (tables of layout {ABI_VERSION}) when it was killed in the middle of changes.\n{dataplane}",
        env!("CARGO_PKG_VERSION")
    );
    for (extension, text) in [("txt", dataplane.as_str()), ("toml", wish), ("json", &told)] {
        let path = directory.join(format!("abi-{ABI_VERSION}.{extension}"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
