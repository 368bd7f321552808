//! How long tests wait for what happens in the background.
//!
//! What must hold: a limit ends a test that would hang, and decides nothing else. So a slow machine may have longer ones.

use std::{env, sync::LazyLock, time::Duration};

/// The environment variable that says by how much this machine is slower than the limits were chosen for.
pub const PATIENCE: &str = "LB_TEST_PATIENCE";

/// `limit`, as long as this machine needs: an emulated processor takes ten times the time.
///
/// # Panics
/// When the environment variable [`PATIENCE`] is set to something else than a whole number from 1.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    static FACTOR: LazyLock<u32> = LazyLock::new(|| match env::var(PATIENCE) {
        Ok(factor) => match factor.parse() {
            Ok(factor @ 1..) => factor,
            _ => panic!("{PATIENCE} is {factor:?}, not a whole number from 1"),
        },
        Err(_) => 1,
    });
    limit * *FACTOR
}
