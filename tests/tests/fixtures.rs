//! Every version of the tables has its recording, so that upgrades from it can be tested.
#![expect(
    clippy::unwrap_used,
    reason = "a failure of the test's own steps is a failure of the test"
)]

use std::{fs, path::Path};

use lb_common::abi::{ABI_VERSION, Meta};

/// The first version that says in its maps which one it is, and that has services to take over.
const FIRST_WITH_META: u32 = 2;

#[test]
fn every_version_of_the_tables_is_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for version in 1..=ABI_VERSION {
        let extensions: &[_] = if version < FIRST_WITH_META {
            &["txt"]
        } else {
            &["txt", "toml", "json"]
        };
        for extension in extensions {
            let name = format!("abi-{version}.{extension}");
            assert!(
                directory.join(&name).is_file(),
                "tests/fixtures/{name} is missing: who raises ABI_VERSION records the new version with \
                 `target/debug/lb-fixture make tests/fixtures`; CONTRIBUTING.md says more"
            );
        }
    }
    for version in FIRST_WITH_META..=ABI_VERSION {
        let name = format!("abi-{version}.txt");
        let text = fs::read_to_string(directory.join(&name)).unwrap();
        // Magic number and version have these places in all versions.
        let words = first_entry(&text, "META");
        assert_eq!((words[0], words[1] as u32), (Meta::MAGIC, version), "in {name}");
    }
}

/// The words of a map's first entry.
fn first_entry(text: &str, map: &str) -> Vec<u64> {
    let heading = format!("map maps/{map} ");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&heading));
    let words = lines.nth(1).unwrap().split(' ').skip(1);
    words.map(|word| u64::from_str_radix(word, 16).unwrap()).collect()
}
