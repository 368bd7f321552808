//! The end of a dataplane: off the interfaces first, then its pins.
//!
//! Invariant: only what lb pins by its names is removed, whichever version of lb it was; the rest is named and stays.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use nix::net::if_::if_indextoname;

use super::{
    bpf::XdpLink,
    pins::{PinDir, entries},
};

/// What lb 0.1 pinned beside one another, for tools to look at; nothing was attached by it.
const OF_LAYOUT_1: [&str; 12] = [
    "AYA_LOGS",
    "COUNTS",
    "EGRESS",
    "REASONS",
    "ROUTES",
    "SERVICES4",
    "SERVICES6",
    "SLOTS",
    "TARGETS",
    "data-control",
    "prog-lb",
    "rodata",
];

/// What became of a directory of pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// What was detached and removed, in words.
    pub removed: Vec<String>,
    /// What is not of lb, and stays.
    pub left: Vec<String>,
}

/// Takes the program off every interface and removes every pin of lb.
///
/// # Errors
/// When the kernel refuses; what was not removed yet can be removed by another attempt.
pub fn remove_all(pins: &PinDir) -> Result<Removed> {
    let mut removed = Vec::new();
    for path in entries(&pins.links())? {
        let what = match XdpLink::open(&path) {
            Ok(link) => format!("the program on {}", detach(&link)?),
            Err(_) => path.display().to_string(),
        };
        remove(&path)?;
        removed.push(what);
    }
    for path in [pins.program(), pins.program_to_be()] {
        if path.exists() {
            remove(&path)?;
            removed.push(path.display().to_string());
        }
    }
    for directory in [pins.maps(), pins.maps_to_be()] {
        let count = remove_directory(&directory)?;
        if count > 0 {
            removed.push(format!("{count} maps in {}", directory.display()));
        }
    }
    remove_directory(&pins.links())?;
    removed.extend(remove_layout_1(pins)?);
    let left = entries(pins.path())?;
    Ok(Removed {
        removed,
        left: left.iter().map(|path| path.display().to_string()).collect(),
    })
}

/// Removes what lb 0.1 left when it was killed; what that was.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn remove_layout_1(pins: &PinDir) -> Result<Option<String>> {
    let mut count = 0;
    for path in OF_LAYOUT_1.map(|name| pins.path().join(name)) {
        if path.is_file() {
            remove(&path)?;
            count += 1;
        }
    }
    Ok((count > 0).then(|| {
        format!(
            "{count} pins of lb 0.1 in {}, which nothing was attached by",
            pins.path().display()
        )
    }))
}

/// Removes a directory of pins with what is in it; how many pins that were.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn remove_directory(directory: &Path) -> Result<usize> {
    let pins = entries(directory)?;
    for pin in &pins {
        remove(pin)?;
    }
    if directory.exists() {
        fs::remove_dir(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(pins.len())
}

/// Takes the program off an interface at once, whoever else holds the link; the interface's name.
fn detach(link: &XdpLink) -> Result<String> {
    let name = name_of(link.info()?.interface);
    link.detach()
        .with_context(|| format!("cannot detach the program from {name}"))?;
    Ok(name)
}

/// An interface in words.
pub(crate) fn name_of(interface: u32) -> String {
    if interface == 0 {
        return "an interface that is gone".to_owned();
    }
    if_indextoname(interface).map_or_else(
        |_| format!("the interface {interface}"),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}
