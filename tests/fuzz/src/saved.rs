//! Packets that were judged differently, kept as text and tried again by the tests.
//!
//! ```text
//! # a remark: what each said
//! frame 020000...
//! ```
//!
//! The frames of a row are sent one after the other, in a fresh state.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use lb_world::World;

use super::{
    compare::{Disagreement, Judges},
    flaw::Broken,
    machine::Did,
    model::Expected,
};

/// Where rows are kept, in the repository.
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rows-saved");

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    (0..text.len())
        .step_by(2)
        .map(|i| {
            let pair = text.get(i..i + 2).context("half a byte")?;
            Ok(u8::from_str_radix(pair, 16)?)
        })
        .collect()
}

/// A row as text.
pub(super) fn text(frames: &[Vec<u8>], found: &Disagreement) -> String {
    let mut text = format!("# {}\n", found.message);
    let did = |who: &str, did: &Did| {
        let Did {
            reason,
            backend,
            redirected,
            frame,
        } = did;
        format!(
            "# {who}: {reason:?} {backend:?} redirected={redirected} {}\n",
            hex(frame)
        )
    };
    text += &found
        .kernel
        .as_ref()
        .map_or_else(|| "# kernel: failed\n".to_owned(), |kernel| did("kernel", kernel));
    text += &did("host", &found.host);
    let Expected {
        reason,
        backend,
        redirected,
        frame,
        loose: _,
        fault: _,
        is_noted: _,
    } = &found.model;
    _ = writeln!(
        text,
        "# model: {reason:?} {backend:?} redirected={redirected} {}",
        hex(frame)
    );
    text + &frames_as_text(frames)
}

/// The frames of a row as text.
pub(super) fn frames_as_text(frames: &[Vec<u8>]) -> String {
    let lines = frames.iter().map(|frame| format!("frame {}\n", hex(frame)));
    lines.collect()
}

/// Keeps a row in `directory`, under the name of what it says.
///
/// # Errors
/// When it cannot be written.
pub(super) fn keep(directory: &Path, text: &str, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{name}.txt"));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The frames of a row.
///
/// # Errors
/// When the text is no row.
pub(super) fn frames(text: &str) -> Result<Vec<Vec<u8>>> {
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once(' ') {
            Some(("frame", hex)) => bytes(hex).with_context(|| format!("in {line:?}")),
            _ => bail!("{line:?} is no frame"),
        })
        .collect()
}

/// Tries every row of `directory` again; what is wrong with each, by file. To be called inside
/// [`super::machine::Kernel::within`].
///
/// # Errors
/// When a row cannot be read or the program not be loaded.
pub(super) fn replay(directory: &Path, world: &World) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    for path in paths {
        let mut judges = Judges::new(world, Broken::NOTHING)?;
        for frame in frames(&fs::read_to_string(&path)?)? {
            if let Err(found) = judges.judge(&frame, true) {
                wrong.push(format!("{}: {}", path.display(), found.message));
            }
        }
    }
    Ok(wrong)
}
