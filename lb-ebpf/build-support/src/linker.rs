//! Where bpf-linker is: named by the user, in the build tree, or in `PATH`.
//!
//! What must hold: a linker the user names is never passed over in silence for another one.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The environment variable that names the linker to use.
pub(crate) const LINKER_ENV: &str = "BPF_LINKER";

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
    let named = env::var_os(LINKER_ENV)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    search(named, inside, &env::var_os("PATH").unwrap_or_default())
}

fn search(named: Option<PathBuf>, inside: &Path, path: &OsStr) -> Result<PathBuf, LinkerError> {
    if let Some(named) = named {
        return if is_program(&named) {
            Ok(named)
        } else {
            Err(LinkerError::NotRunnable(named))
        };
    }
    let in_tree = inside
        .ancestors()
        .map(|directory| toolchain_dir(directory).join("bin"));
    in_tree
        .chain(env::split_paths(path))
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
    fn a_named_linker_goes_first_then_the_build_tree_then_path() {
        let scratch = env::temp_dir().join(format!("lb-linker-{}", std::process::id()));
        let target = scratch.join("target");
        let out_dir = target.join("debug/build/lb-userspace-0123/out");
        let (in_tree, in_path) = (toolchain_dir(&target).join("bin"), scratch.join("bin"));
        for directory in [&out_dir, &in_tree, &in_path] {
            fs::create_dir_all(directory).unwrap();
        }
        let search = |named: Option<PathBuf>| search(named, &out_dir, in_path.as_os_str());

        fs::write(in_path.join(LINKER), "").unwrap();
        assert!(
            matches!(search(None), Err(LinkerError::Missing)),
            "a file nobody may run is no linker"
        );
        make_runnable(&in_path.join(LINKER));
        assert_eq!(search(None).unwrap(), in_path.join(LINKER));

        fs::write(in_tree.join(LINKER), "").unwrap();
        make_runnable(&in_tree.join(LINKER));
        assert_eq!(search(None).unwrap(), in_tree.join(LINKER));

        assert_eq!(search(Some(in_path.join(LINKER))).unwrap(), in_path.join(LINKER));
        let absent = scratch.join("absent");
        assert!(
            matches!(search(Some(absent)), Err(LinkerError::NotRunnable(_))),
            "no other one in its stead"
        );
        fs::remove_dir_all(&scratch).unwrap();
    }

    fn make_runnable(file: &Path) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
