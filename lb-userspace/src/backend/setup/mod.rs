//! `lb backend-setup`: what a backend host needs for a service's forwarder, in steps that can be printed, done and undone.
//!
//! Invariant: every change is written down, with what was there before, before the next one is made; undoing restores
//! exactly that.

mod done;
mod host;
mod need;
mod plan;
mod planner;
mod route_message;
mod step;
#[cfg(test)]
mod tests;
mod tunnels;

pub use done::{Done, SetupChange, Undo};
pub use host::ThisKernel;
pub use need::{Families, ServiceNeed};
pub use plan::{Kernel, SetupOptions, SetupPlan};
pub use planner::plan;
pub use step::SetupStep;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use host::HostNetwork;

/// Where what was changed is written down unless told otherwise.
pub const STATE_DIR: &str = "/run/lb";

/// Takes the steps that are not taken yet; what it has changed.
///
/// # Errors
/// When a step fails; those before it stay, and can be undone.
pub async fn apply(steps: &[SetupStep], state_dir: &Path) -> Result<Vec<SetupChange>> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this changes the host's network: run it as root"
    );
    let mut done = Done::load(state_dir)?;
    let host = HostNetwork::open()?;
    let mut changed = Vec::new();
    for step in steps {
        if step.is_command() && done.has(step) {
            continue;
        }
        let before = done.decap(step);
        let step = before.map_or_else(|| step.clone(), |before| step.clone().widened(before));
        let cannot = || {
            let rest = if changed.is_empty() {
                ""
            } else {
                "; what was done before that stays, and `lb backend-setup --undo` takes it back"
            };
            format!("cannot `{step}`{rest}")
        };
        let undo = host.take(&step, before).await.with_context(cannot)?;
        if let Some(undo) = undo {
            let change = SetupChange { step, undo };
            changed.push(change.clone());
            done.add(change)?;
        }
    }
    Ok(changed)
}

/// Undoes everything that was ever done there, the last first; what that was.
///
/// # Errors
/// When something cannot be undone; that and what was done before it stay written down.
pub async fn undo(state_dir: &Path) -> Result<Vec<SetupChange>> {
    let mut done = Done::load(state_dir)?;
    let host = HostNetwork::open()?;
    let mut undone = Vec::new();
    while let Some(change) = done.last().cloned() {
        host.undo(&change)
            .await
            .with_context(|| format!("cannot undo `{}`", change.step))?;
        done.remove_last()?;
        undone.push(change);
    }
    Ok(undone)
}
