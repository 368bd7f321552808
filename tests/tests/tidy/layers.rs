//! Arrows between the modules of a crate: what `use` lines and paths say.

use std::collections::BTreeSet;

use crate::imports::{Crate, circles};

/// The modules of each crate, the lowest layer first. A module imports from layers before its own only.
const LAYERS: [(&str, &[&[&str]]); 3] = [
    (
        "lb-common",
        &[
            &["verifier", "hash"],
            &["net"],
            &["abi"],
            &["flow", "quic", "decap"],
            &["pipeline"],
        ],
    ),
    (
        "lb-userspace/core",
        &[&["desired"], &["observed", "schedule"], &["plan"]],
    ),
    (
        "lb-userspace",
        &[
            &["worded"],
            &["objects", "supervise"],
            &["config", "netlink"],
            &["dataplane", "health", "checkpoint"],
            &["agent", "backend"],
            &["cli"],
        ],
    ),
];

/// Crates in which no files import one another in a circle.
const WITHOUT_CIRCLES: [&str; 6] = [
    "lb-common",
    "lb-ebpf",
    "lb-userspace/check",
    "lb-userspace/core",
    "lb-userspace/api",
    "lb-userspace",
];

#[test]
fn a_module_imports_only_from_layers_below() {
    for (path, layers) in LAYERS {
        let layer = |module: &str| layers.iter().position(|layer| layer.contains(&module));
        let mut met = BTreeSet::new();
        for (from, to) in Crate::read(path).imports() {
            let (from_module, to_module) = (from.top(), to.top());
            if from_module == to_module || from_module.is_empty() || to_module.is_empty() {
                continue;
            }
            met.extend([from_module.to_owned(), to_module.to_owned()]);
            let (Some(above), Some(below)) = (layer(from_module), layer(to_module)) else {
                panic!("{path}: {from_module} or {to_module} has no layer: give it one in LAYERS");
            };
            assert!(
                below < above,
                "{path}: {from} imports {to}, which is not in a layer below its own"
            );
        }
        let declared: BTreeSet<String> = layers.concat().into_iter().map(str::to_owned).collect();
        let unknown: Vec<_> = declared.difference(&met).collect();
        assert!(
            unknown.is_empty(),
            "{path}: {unknown:?} have a layer, and no imports: are they gone?"
        );
    }
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let mut found = Vec::new();
    for path in WITHOUT_CIRCLES {
        for circle in circles(&Crate::read(path)) {
            found.push(format!("{path}: {}", circle.join(" -> ")));
        }
    }
    assert!(found.is_empty(), "imports run in circles:\n{}", found.join("\n"));
}
