//! `lb stop`: the end of the agent, and with --detach of the dataplane.

use std::{path::PathBuf, time::Duration};

use super::output::{Failure, Output};
use crate::agent;
use crate::dataplane;
use lb_api::{
    client::{Client, ClientError},
    view::StopView,
};

const EXAMPLES: &str = "\
Without --detach packets are balanced on by the last tables; `lb run` takes over from there.
With --detach packets go to the host again. If no agent answers, the pins in --pin-dir are removed all the same,
also those of another version of lb.

Examples:
  lb stop
  lb stop --detach";

/// How often to look whether the agent is gone.
const POLL: Duration = Duration::from_millis(20);
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StopArgs {
    /// Take the program off the interfaces and remove the dataplane.
    #[arg(long)]
    detach: bool,
    /// Where the dataplane is pinned, if no agent answers that knows it.
    #[arg(long, value_name = "DIR", default_value = dataplane::PIN_DIR)]
    pin_dir: PathBuf,
}

impl StopArgs {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let view = match client.stop(self.detach).await {
            Ok(view) => {
                wait_until_gone(client).await?;
                view
            }
            Err(ClientError::NoAgent(_)) if self.detach => agent::remove_dataplane(&self.pin_dir)
                .map_err(|error| Failure::Refused(format!("{error:#}")))?,
            Err(error) => return Err(error.into()),
        };
        Output::either(json, &view, || text(&view))
    }
}

/// The agent answers when it has let go of the dataplane; its socket goes after that.
async fn wait_until_gone(client: &Client) -> Result<(), Failure> {
    let gone = async {
        while client.answers().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.map_err(|_| {
        Failure::Refused(format!(
            "the agent has let go of the dataplane, but has not ended within {} s: look at its log",
            PATIENCE.as_secs()
        ))
    })
}

fn text(view: &StopView) -> String {
    let StopView {
        pid,
        forwarding,
        pin_dir,
        interfaces,
        removed,
        left,
    } = view;
    let directory = pin_dir
        .as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(pid) = pid {
        lines.push(format!("the agent (process {pid}) has ended"));
    }
    if *forwarding {
        lines.push(format!(
            "the dataplane in {directory} goes on: packets that arrive on {} are balanced by the last tables; `lb stop \
             --detach` ends that",
            interfaces.join(", ")
        ));
    } else if removed.is_empty() {
        lines.push(format!("nothing of lb is pinned in {directory}"));
    } else {
        lines.extend(removed.iter().map(|what| format!("removed {what}")));
        lines.push("packets go to the host again".to_owned());
    }
    lines.extend(left.iter().map(|path| format!("left alone, not of lb: {path}")));
    lines.join("\n")
}
