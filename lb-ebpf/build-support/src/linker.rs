//! Where bpf-linker is: named by the user, in the build tree, or in `PATH`.
//!
//! What must hold: a linker the user names is never passed over in silence for another one.

use std::env;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The environment variable that names the linker to use.
pub const LINKER_ENV: &str = "BPF_LINKER";

const LINKER: &str = "bpf-linker";

/// There is no bpf-linker to use.
#[derive(Debug)]
pub enum LinkerError {
    /// `BPF_LINKER` names a file that is not there or cannot be run.
    NotRunnable(PathBuf),
    /// None was found anywhere.
    Missing,
}

impl fmt::Display for LinkerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunnable(path) => {
                write!(f, "{LINKER_ENV} names {}, which is not a program", path.display())
            }
            Self::Missing => write!(
                f,
                "no bpf-linker, neither in the build tree nor in PATH ({LINKER_ENV} is unset)"
            ),
        }
    }
}

impl std::error::Error for LinkerError {}

/// Where the build tree at `target` keeps the linker that `cargo xtask setup` installs (a `cargo install --root`).
#[must_use]
pub fn toolchain_dir(target: &Path) -> PathBuf {
    target.join("bpf-toolchain")
}

/// Finds bpf-linker: what `BPF_LINKER` names, else the one in the build tree around `inside`, else the one in `PATH`.
///
/// `inside` is the target directory or any directory below it, such as a build script's `OUT_DIR`.
///
/// # Errors
///
/// When there is none, or when `BPF_LINKER` names something that is not a program.
pub fn find_linker(inside: &Path) -> Result<PathBuf, LinkerError> {
    if let Some(named) = env::var_os(LINKER_ENV).filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(LinkerError::NotRunnable(named))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let in_tree = inside
        .ancestors()
        .map(|directory| toolchain_dir(directory).join("bin"));
    in_tree
        .chain(env::split_paths(&path))
        .map(|directory| directory.join(LINKER))
        .find(|candidate| is_program(candidate))
        .ok_or(LinkerError::Missing)
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_linker_is_found_from_anywhere_below_the_target_directory() {
        let target = env::temp_dir().join(format!("lb-linker-{}", std::process::id()));
        let out_dir = target.join("debug/build/lb-userspace-0123/out");
        let linker = toolchain_dir(&target).join("bin/bpf-linker");
        fs::create_dir_all(&out_dir).unwrap();
        fs::create_dir_all(linker.parent().unwrap()).unwrap();
        fs::write(&linker, "").unwrap();
        assert!(!is_program(&linker), "a file nobody may run is no linker");
        fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).unwrap();
        if env::var_os(LINKER_ENV).is_none() {
            assert_eq!(find_linker(&out_dir).unwrap(), linker);
        }
        fs::remove_dir_all(&target).unwrap();
    }
}
