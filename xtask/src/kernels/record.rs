//! The last run of each series of kernels: kept in the project, and shown in its documents.
//!
//! What must hold: the table in the documents is that of the kept runs.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::archive::numbers;
use super::report::{KernelReport, Report};

/// What precedes the table in the document, and what follows it.
const BEGIN: &str = "<!-- cargo xtask kernels --record writes this table -->\n";
const END: &str = "\n<!-- end of the table -->";

/// Where runs are kept and shown.
pub(super) struct Record {
    runs: PathBuf,
    document: PathBuf,
}

impl Record {
    /// The record of the project below `root`.
    pub(super) fn of(root: &Path) -> Self {
        Self {
            runs: root.join("tests/kernels.json"),
            document: root.join("docs/kernel-support.md"),
        }
    }

    /// Keeps a run in the place of an earlier one of the same series, and writes the table. Suites that this run did not try
    /// stay as they were, if it is the same kernel.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is not as it was left.
    pub(super) fn keep(&self, new: &KernelReport) -> Result<()> {
        let mut kept = self.read()?;
        let (earlier, others): (Vec<_>, Vec<_>) = kept
            .kernels
            .into_iter()
            .partition(|kernel| series(&kernel.version) == series(&new.version));
        let same = earlier.into_iter().find(|kernel| kernel.version == new.version);
        kept.kernels = others;
        kept.kernels.push(match same {
            Some(earlier) => new.clone().after(earlier),
            None => new.clone(),
        });
        kept.kernels.sort_by(|a, b| by_age(&a.version, &b.version));
        fs::write(&self.runs, serde_json::to_string_pretty(&kept)? + "\n")
            .with_context(|| format!("cannot write {}", self.runs.display()))?;
        let (before, _, after) = self.document()?;
        fs::write(
            &self.document,
            format!("{before}{BEGIN}{}{END}{after}", kept.table()),
        )
        .with_context(|| format!("cannot write {}", self.document.display()))
    }

    fn read(&self) -> Result<Report> {
        let runs =
            fs::read_to_string(&self.runs).with_context(|| format!("cannot read {}", self.runs.display()))?;
        serde_json::from_str(&runs).with_context(|| format!("{} is damaged", self.runs.display()))
    }

    /// What stands before the table, the table, and what stands behind it.
    fn document(&self) -> Result<(String, String, String)> {
        let text = fs::read_to_string(&self.document)
            .with_context(|| format!("cannot read {}", self.document.display()))?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
            let (table, after) = rest.split_once(END)?;
            Some((before.to_owned(), table.to_owned(), after.to_owned()))
        });
        parts.with_context(|| {
            format!(
                "{} has no place for the table of kernels",
                self.document.display()
            )
        })
    }
}

/// Such as `[6, 12]` of `6.12.118+deb13-amd64`.
fn series(version: &str) -> Vec<u32> {
    numbers(version).into_iter().take(2).collect()
}

fn by_age(one: &str, other: &str) -> Ordering {
    numbers(one).cmp(&numbers(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        Record::of(root.expect("the crate lies in the project"))
    }

    #[test]
    fn the_document_shows_the_runs_that_were_kept() {
        let record = record();
        let (kept, (_, shown, _)) = (record.read().unwrap(), record.document().unwrap());
        assert_eq!(shown, kept.table(), "run cargo xtask kernels --record");
        assert!(kept.is_good(), "what is supported was tried, and held");
    }

    #[test]
    fn a_suite_that_is_run_again_takes_the_place_of_what_it_was() {
        let report = |json: serde_json::Value| -> KernelReport { serde_json::from_value(json).unwrap() };
        let first = report(
            serde_json::json!({"version": "6.1", "loads": true, "devices": false,
            "passed": {"loads": 2, "devices": 24}, "failed": ["a"], "instructions": {"lb": 5}}),
        );
        let again = report(
            serde_json::json!({"version": "6.1", "devices": true, "passed": {"devices": 25},
            "failed": [], "instructions": {}}),
        );
        let merged = serde_json::to_value(again.after(first.clone())).unwrap();
        assert_eq!(
            merged,
            serde_json::json!({"version": "6.1", "loads": true, "devices": true,
            "passed": {"loads": 2, "devices": 25}, "failed": [], "instructions": {"lb": 5}})
        );
        let other = report(
            serde_json::json!({"version": "6.1", "loads": true, "passed": {"loads": 2},
            "failed": [], "instructions": {}}),
        );
        assert!(serde_json::to_value(other.after(first)).unwrap()["failed"] == serde_json::json!(["a"]));
    }

    #[test]
    fn a_run_takes_the_place_of_the_one_of_its_series() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record {
            runs: directory.path().join("runs"),
            document: directory.path().join("document"),
        };
        fs::write(&record.document, format!("before\n{BEGIN}old{END}\nafter\n")).unwrap();
        let report = |versions: &[&str]| -> Report {
            let kernel = |version: &&str| {
                serde_json::json!({
                    "version": version, "loads": true, "passed": {"loads": 1}, "failed": [], "instructions": {},
                })
            };
            let kernels: Vec<_> = versions.iter().map(kernel).collect();
            serde_json::from_value(serde_json::json!({ "kernels": kernels })).unwrap()
        };
        fs::write(&record.runs, report(&["6.1.0-50-amd64", "6.12.1", "7.3"]).json()).unwrap();
        for kernel in &report(&["6.1.0-57-amd64", "6.18.2"]).kernels {
            record.keep(kernel).unwrap();
        }
        let kept = record.read().unwrap();
        let versions: Vec<&str> = kept
            .kernels
            .iter()
            .map(|kernel| kernel.version.as_str())
            .collect();
        assert_eq!(versions, ["6.1.0-57-amd64", "6.12.1", "6.18.2", "7.3"]);
        let (before, table, after) = record.document().unwrap();
        assert_eq!((before.as_str(), after.as_str()), ("before\n", "\nafter\n"));
        assert_eq!(table, kept.table());
    }
}
