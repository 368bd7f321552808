//! The flow hash's seed: random at the first start, then kept, so that a restart places flows as before.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

use anyhow::{Context, Result};

const FILE: &str = "hash-seed";

/// The seed that the operator set, or the one kept in the state directory, or a new one, which is kept from now on.
///
/// # Errors
/// When the state directory cannot be used, or the file in it holds no seed.
pub(super) fn seed(wanted: Option<u64>, state: &Path) -> Result<u64> {
    if let Some(seed) = wanted {
        return Ok(seed);
    }
    let path = state.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let digits = text.trim().trim_start_matches("0x");
            u64::from_str_radix(digits, 16).with_context(|| {
                format!(
                    "{} holds no seed (0x and 16 hexadecimal digits): remove it to have a new one made",
                    path.display()
                )
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let seed = rand::random();
            keep(&path, state, seed).with_context(|| {
                format!(
                    "cannot keep the hash seed in {}: choose another --state-dir",
                    path.display()
                )
            })?;
            Ok(seed)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the file beside its place and moves it there, so that it is never found half written.
fn keep(path: &Path, state: &Path, seed: u64) -> Result<()> {
    fs::create_dir_all(state)?;
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    writeln!(file, "{seed:#018x}")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(state)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let first = seed(None, state.path()).unwrap();
        assert_eq!(seed(None, state.path()).unwrap(), first);
        assert_eq!(seed(Some(7), state.path()).unwrap(), 7);
        fs::write(state.path().join(FILE), "what?").unwrap();
        let error = format!("{:#}", seed(None, state.path()).unwrap_err());
        assert!(error.contains("remove it"), "{error}");
    }
}
