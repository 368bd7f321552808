//! What came out, as a table and as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::guest::{Suite, SuiteResult};

/// All kernels of a run.
#[derive(Deserialize, Serialize)]
pub(super) struct Report {
    pub(super) kernels: Vec<KernelReport>,
}

/// One kernel; what was not run is absent.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct KernelReport {
    /// As `uname -r` shows it.
    pub(super) version: String,
    /// By suite: whether all of it passed.
    #[serde(flatten)]
    suites: BTreeMap<String, bool>,
    /// How many tests passed, by suite.
    passed: BTreeMap<String, u32>,
    /// The tests that failed, and suites that ended otherwise.
    failed: Vec<String>,
    /// Instructions that the verifier walked through, by program.
    instructions: BTreeMap<String, u32>,
}

impl KernelReport {
    pub(super) fn new(version: &str, suites: &[Suite], results: Vec<SuiteResult>) -> Self {
        let mut report = Self {
            version: version.to_owned(),
            suites: BTreeMap::new(),
            passed: BTreeMap::new(),
            failed: Vec::new(),
            instructions: BTreeMap::new(),
        };
        for (suite, result) in suites.iter().zip(results) {
            let is_good = result.is_good();
            report.suites.insert(suite.name.to_owned(), is_good);
            report.passed.insert(suite.name.to_owned(), result.passed);
            if !is_good && result.failed.is_empty() {
                report.failed.push(format!("{} did not end well", suite.name));
            }
            report.failed.extend(result.failed);
            report.instructions.extend(result.instructions);
        }
        report
    }

    /// Takes in what an earlier run of the same kernel tried and this one did not.
    pub(super) fn after(mut self, earlier: Self) -> Self {
        let mut merged = earlier;
        let is_open = |(name, good): (&String, &bool)| !good && !self.suites.contains_key(name);
        if merged.suites.iter().any(is_open) {
            self.failed.append(&mut merged.failed);
        }
        merged.suites.append(&mut self.suites);
        merged.passed.append(&mut self.passed);
        merged.instructions.append(&mut self.instructions);
        Self {
            version: self.version,
            failed: self.failed,
            ..merged
        }
    }

    fn row(&self) -> String {
        let verdict = |suite: &Suite| match self.suites.get(suite.name) {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let verdicts: Vec<&str> = Suite::ALL.iter().map(verdict).collect();
        let counts: Vec<String> = self
            .instructions
            .iter()
            .map(|(program, count)| format!("{program} {count}"))
            .collect();
        format!(
            "| {} | {} | {} | {} |",
            self.version,
            verdicts.join(" | "),
            self.passed.values().sum::<u32>(),
            counts.join(", ")
        )
    }
}

impl Report {
    pub(super) fn is_good(&self) -> bool {
        self.kernels.iter().all(|kernel| kernel.failed.is_empty())
    }

    /// A table in Markdown.
    pub(super) fn table(&self) -> String {
        let names: Vec<&str> = Suite::ALL.iter().map(|suite| suite.name).collect();
        let mut lines = vec![
            format!(
                "| kernel | {} | tests passed | verified instructions |",
                names.join(" | ")
            ),
            format!("|---|{}---|---|", "---|".repeat(names.len())),
        ];
        lines.extend(self.kernels.iter().map(KernelReport::row));
        for kernel in self.kernels.iter().filter(|kernel| !kernel.failed.is_empty()) {
            lines.push(format!(
                "\n{} failed: {}",
                kernel.version,
                kernel.failed.join(", ")
            ));
        }
        lines.join("\n")
    }

    /// In one line.
    pub(super) fn json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}
