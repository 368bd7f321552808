//! Reading checkpoints without writing anything, for listings.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    files::{Name, names},
    format::{self, Checkpoint, Unusable},
    store::directory,
};

/// A file of the directory, read.
#[derive(Debug)]
pub struct Listed {
    /// Its number.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether it was set aside.
    pub aside: bool,
    /// What it holds, or what is wrong with it.
    pub content: Result<Checkpoint, Unusable>,
}

/// Reads all checkpoints below a state directory, the newest first; changes nothing.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(state_dir: &Path) -> io::Result<Vec<Listed>> {
    let directory = directory(state_dir);
    let listed = names(&directory)?.into_iter().rev().map(|name| {
        let path = directory.join(name.file());
        Listed {
            number: name.number,
            bytes: fs::metadata(&path).map_or(0, |metadata| metadata.len()),
            aside: name.aside,
            content: format::read(&path),
            path,
        }
    });
    Ok(listed.collect())
}

/// Reads the checkpoint of that number, set aside or not; changes nothing.
///
/// # Errors
/// Why it is of no use.
pub fn load(state_dir: &Path, number: u64) -> Result<Checkpoint, Unusable> {
    let directory = directory(state_dir);
    match format::read(&directory.join(Name { number, aside: false }.file())) {
        Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            format::read(&directory.join(Name { number, aside: true }.file()))
        }
        read => read,
    }
}
