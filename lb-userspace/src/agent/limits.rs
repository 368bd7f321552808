//! How many files the agent may have open: each check under way holds one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Enough for as many checks as run at once, and for everything else.
const OPEN_FILES: u64 = 65_536;

/// Raises the limit as far as this process may. Shells and service managers set it to 1,024 for programs that number
/// their files by bits of a set, which this one is not.
pub(super) fn raise_open_files() {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(errno) => return log::warn!("cannot ask how many files may be open: {errno}"),
    };
    if soft >= OPEN_FILES {
        return;
    }
    // The hard limit takes CAP_SYS_RESOURCE.
    let whole = hard < OPEN_FILES && setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES).is_ok();
    if whole {
        return;
    }
    let most = hard.min(OPEN_FILES);
    if let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, most, hard) {
        log::warn!("no more than {soft} files may be open, {most} cannot be had: {errno}");
    }
}

/// The limit in force.
pub(super) fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}
