//! Arrows between crates: what the manifests say.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// Crates of the product, and which of them each may depend on. The lowest come first.
const ARROWS: [(&str, &[&str]); 6] = [
    ("lb-common", &[]),
    ("lb-ebpf", &["lb-common"]),
    ("lb-check", &[]),
    ("lb-core", &["lb-common", "lb-check"]),
    ("lb-api", &["lb-core", "lb-check"]),
    ("lb-userspace", &["lb-common", "lb-check", "lb-core", "lb-api"]),
];

/// What the crates that only decide may depend on from outside: formats, errors and plain data, nothing that acts.
const PURE: [(&str, &[&str]); 2] = [
    (
        "lb-common",
        &["bitflags", "bytemuck", "network-types", "open-enum"],
    ),
    (
        "lb-core",
        &[
            "bytemuck",
            "foldhash",
            "hex",
            "humantime",
            "imbl",
            "ipnet",
            "proptest",
            "rmp-serde",
            "serde",
            "serde_bytes",
            "serde_json",
            "thiserror",
        ],
    ),
];

fn packages() -> BTreeMap<String, Package> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo knows the workspace");
    metadata
        .packages
        .into_iter()
        .map(|package| (package.name.to_string(), package))
        .collect()
}

/// What `package` is built with, tests aside.
fn normal_dependencies(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

#[test]
fn a_crate_depends_only_on_crates_below_it() {
    let packages = packages();
    for (name, allowed) in ARROWS {
        let ours = normal_dependencies(&packages[name])
            .into_iter()
            .filter(|dependency| packages.contains_key(*dependency));
        for dependency in ours {
            assert!(
                allowed.contains(&dependency),
                "{name} depends on {dependency}: expected only {allowed:?}"
            );
        }
    }
}

#[test]
fn what_only_decides_depends_on_nothing_that_acts() {
    let packages = packages();
    for (name, allowed) in PURE {
        for dependency in normal_dependencies(&packages[name]) {
            assert!(
                allowed.contains(&dependency) || packages.contains_key(dependency),
                "{name} depends on {dependency}: if that is as pure as {name} has to be, add it to PURE"
            );
        }
    }
}

#[test]
fn the_desired_state_names_checks_without_running_them() {
    let packages = packages();
    for name in ["lb-core", "lb-api"] {
        let check = packages[name]
            .dependencies
            .iter()
            .find(|dependency| dependency.name == "lb-check" && dependency.kind == DependencyKind::Normal)
            .expect("it names checks");
        assert!(
            check.features.is_empty(),
            "{name} has checks run: {:?}",
            check.features
        );
    }
}
