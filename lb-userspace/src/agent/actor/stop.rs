//! How the agent ends: the dataplane goes on without it, unless it was told to take it off the interfaces.
//!
//! Invariant: who asked is answered when the dataplane is out of this agent's hands, so that another may take it.

use anyhow::{Result, anyhow};
use tokio::sync::oneshot;

use crate::agent::{actor::ActorParts, handle::RequestError};
use crate::dataplane::{PinDir, Removed};
use lb_api::view::StopView;

/// Why the agent ends.
#[derive(Debug, Default)]
pub(in crate::agent) struct Ending {
    /// Whether the dataplane is to end, too.
    pub(in crate::agent) detach: bool,
    /// Who wants to know; nobody after a signal.
    pub(in crate::agent) reply: Option<oneshot::Sender<Result<StopView, RequestError>>>,
    /// What could not be helped, if it was that.
    pub(in crate::agent) failed: Option<String>,
}

impl Ending {
    /// Gives the dataplane out of hand, and says how it is left.
    ///
    /// # Errors
    /// When it was to be detached and the kernel refused, or why the agent could not go on.
    pub(in crate::agent) async fn carry_out(self, parts: ActorParts) -> Result<()> {
        let result = let_go(parts, self.detach).await;
        match &result {
            Ok(view) if view.forwarding => log::info!(
                "stopping: the program stays on {} and packets are balanced by the last tables; `lb run` takes over \
                 from here, `lb stop --detach` ends it",
                view.interfaces.join(", ")
            ),
            Ok(view) => log::info!(
                "stopping: packets go to the host again; removed {}",
                view.removed.join(", ")
            ),
            Err(_) => {}
        }
        if let Some(reply) = self.reply {
            let answer = match &result {
                Ok(view) => Ok(view.clone()),
                Err(error) => Err(RequestError::Dataplane(format!("{error:#}"))),
            };
            // A caller that no longer waits for its answer is no error.
            drop(reply.send(answer));
        }
        match self.failed {
            Some(why) => result.and(Err(anyhow!("{why}: start lb again"))),
            None => result.map(drop),
        }
    }
}

async fn let_go(parts: ActorParts, detach: bool) -> Result<StopView> {
    let pin_dir = parts.dataplane.pins().map(|pins| pins.path().to_owned());
    let forwarding = pin_dir.is_some() && !detach;
    if !forwarding {
        // What goes on needs them fresh.
        parts.give_neighbours_back().await;
    }
    let ActorParts {
        dataplane, attached, ..
    } = parts;
    let Removed { removed, left } = if forwarding {
        Removed::default()
    } else {
        dataplane.detach()?
    };
    let interfaces = attached.into_iter().map(|attached| attached.interface.name);
    Ok(StopView {
        pid: Some(std::process::id()),
        forwarding,
        pin_dir,
        interfaces: interfaces.filter(|_| forwarding).collect(),
        removed,
        left,
    })
}

/// Removes a dataplane that no agent holds.
///
/// # Errors
/// When an agent does hold it, or the kernel refuses.
pub fn remove_dataplane(directory: &std::path::Path) -> Result<StopView> {
    let pins = PinDir::lock_if_there(directory)?;
    let Removed { removed, left } = pins
        .as_ref()
        .map(crate::dataplane::remove_all)
        .transpose()?
        .unwrap_or_default();
    Ok(StopView {
        pid: None,
        forwarding: false,
        pin_dir: Some(directory.to_owned()),
        interfaces: Vec::new(),
        removed,
        left,
    })
}
