//! The flow hash's seed: random at the first start, then kept in the checkpoints, so that a restart places flows as
//! before.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result};

use crate::config::HashSeed;

/// Where versions without checkpoints kept it.
const FILE: &str = "hash-seed";

/// The seed that the operator set, or the newest checkpoint's, or the one that a version without checkpoints kept in
/// the state directory, or a new one. The next checkpoint keeps it.
///
/// # Errors
/// When the file cannot be read or holds no seed.
pub(super) fn seed(wanted: Option<HashSeed>, kept: Option<HashSeed>, state: &Path) -> Result<u64> {
    if let Some(HashSeed(seed)) = wanted.or(kept) {
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
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(rand::random()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_comes_first_then_the_checkpoint_then_the_old_file() {
        let state = tempfile::tempdir().unwrap();
        let (seven, eight) = (Some(HashSeed(7)), Some(HashSeed(8)));
        assert_ne!(
            seed(None, None, state.path()).unwrap(),
            seed(None, None, state.path()).unwrap()
        );
        fs::write(state.path().join(FILE), "0x0000000000000009\n").unwrap();
        assert_eq!(seed(None, None, state.path()).unwrap(), 9);
        assert_eq!(seed(None, eight, state.path()).unwrap(), 8);
        assert_eq!(seed(seven, eight, state.path()).unwrap(), 7);
        fs::write(state.path().join(FILE), "what?").unwrap();
        assert_eq!(seed(None, eight, state.path()).unwrap(), 8);
        let error = format!("{:#}", seed(None, None, state.path()).unwrap_err());
        assert!(error.contains("remove it"), "{error}");
    }
}
