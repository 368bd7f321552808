//! `lb backend-setup`: what a backend host needs.

use std::{fmt::Write as _, net::IpAddr, num::NonZeroU16, path::PathBuf};

use clap::{ArgGroup, Args};
use serde::Serialize;

use super::{
    output::{Failure, Output},
    words,
};
use crate::backend::decap;
use crate::backend::setup::{
    self, Families, STATE_DIR, ServiceNeed, SetupChange, SetupOptions, SetupPlan, ThisKernel, plan,
};
use crate::config::Config;
use crate::dataplane::Mode;
use crate::netlink;
use lb_api::client::Client;
use lb_core::desired::{Forwarder, Prefix, ServiceName, check_vip};

const EXAMPLES: &str = "\
Without --apply it only prints the commands; run them on the backend, or run this there.
What a service needs comes from the agent (--service), from a configuration file (--config and --service), or is named
(--vip and --forwarder). --apply may be repeated, and --undo restores what was there before the first one.

Examples:
  lb backend-setup --service web --iface eth0
  lb backend-setup --config lb.toml --service web --backend 10.0.0.11 \\
      --iface eth0 --apply
  lb backend-setup --vip 192.0.2.80,2001:db8::80 --forwarder ipip --iface eth0 \\
      --apply
  lb backend-setup --undo";

#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("what").args(["service", "vips", "undo"]).required(true)
)]
pub(super) struct BackendSetupArgs {
    /// The service.
    #[arg(long, value_name = "NAME", requires = "interface")]
    service: Option<ServiceName>,
    /// The configuration file that has the service; without it the agent is asked.
    #[arg(long, value_name = "FILE", requires = "service")]
    config: Option<PathBuf>,
    /// This host's address among the service's backends; without it, what any of them needs.
    #[arg(long, value_name = "ADDRESS", requires = "service")]
    backend: Option<IpAddr>,
    /// The addresses or prefixes that clients use.
    #[arg(long = "vip", value_name = "ADDRESS", value_delimiter = ',', requires_all = ["forwarders", "interface"])]
    vips: Vec<Prefix>,
    /// How packets come.
    #[arg(
        long = "forwarder",
        value_name = "FORWARDER",
        value_delimiter = ',',
        value_parser = words::one_of::<Forwarder>(Forwarder::WORDS),
        conflicts_with = "service"
    )]
    forwarders: Vec<Forwarder>,
    /// The UDP port of tunnels, where it is not the usual one.
    #[arg(long, value_name = "PORT", conflicts_with = "service")]
    tunnel_port: Option<NonZeroU16>,
    /// The interface toward the balancer.
    #[arg(long = "iface", value_name = "IFACE", value_parser = netlink::interface_name)]
    interface: Option<String>,
    /// For nat: the balancer's address in this host's network, one of each family.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    via: Vec<IpAddr>,
    /// Let the interface carry packets of so many bytes, for tunnels.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    mtu: Option<u32>,
    /// End tunnels by `lb decap`, also where the kernel has tunnel devices.
    #[arg(long)]
    decap: bool,
    /// How `lb decap` attaches to the interface.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Where `lb decap` is pinned.
    #[arg(long, value_name = "DIR", default_value = decap::PIN_DIR)]
    pin_dir: PathBuf,
    /// Do it, and write down what was there before.
    #[arg(long)]
    apply: bool,
    /// Undo everything that --apply has done on this host.
    #[arg(long, conflicts_with = "apply")]
    undo: bool,
    /// Where that is written down.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    state_dir: PathBuf,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct View<'a> {
    /// The commands, in order.
    commands: Vec<String>,
    /// The plan that the commands carry out, as data.
    #[serde(flatten)]
    plan: &'a SetupPlan,
    /// What --apply has changed; absent without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<&'a [SetupChange]>,
}

impl BackendSetupArgs {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        super::log_to_stderr("warn");
        if self.undo {
            let undone = setup::undo(&self.state_dir).await.map_err(refused)?;
            return Output::either(json, &undone, || undone_text(&undone));
        }
        let need = self.need(client).await?;
        let plan = plan(&need, &self.options().await, &ThisKernel).map_err(Failure::BadInput)?;
        let changed = if self.apply {
            netlink::find_interface(self.interface.as_deref().unwrap_or_default())
                .await
                .map_err(|error| Failure::BadInput(error.to_string()))?;
            let changed = setup::apply(&plan.steps, &self.state_dir).await;
            Some(changed.map_err(refused)?)
        } else {
            None
        };
        let view = View {
            commands: plan.steps.iter().map(ToString::to_string).collect(),
            plan: &plan,
            changed: changed.as_deref(),
        };
        Output::either(json, &view, || text(&plan, changed.as_deref()))
    }

    async fn need(&self, client: &Client) -> Result<ServiceNeed, Failure> {
        let Some(name) = &self.service else {
            for vip in &self.vips {
                check_vip(*vip)
                    .map_err(|invalid| Failure::BadInput(format!("--vip: {}", invalid.message)))?;
            }
            return Ok(ServiceNeed {
                vips: self.vips.clone(),
                forwarders: self.forwarders.clone(),
                tunnel_port: self.tunnel_port,
                outer: Families::BOTH,
            });
        };
        let missing = |place: String| Failure::Refused(format!("there is no service {name} {place}"));
        let need = match &self.config {
            Some(path) => {
                let config = Config::load(path).map_err(|error| Failure::BadInput(error.to_string()))?;
                let service = config.services.get(name);
                ServiceNeed::of_service(
                    service.ok_or_else(|| missing(format!("in {}", path.display())))?,
                    self.backend,
                )
            }
            None => {
                let view = client.services().await?;
                let service = view.services.iter().find(|service| service.name == name.as_str());
                ServiceNeed::of_view(
                    service.ok_or_else(|| missing("here: `lb list` shows the services".into()))?,
                    self.backend,
                )
            }
        };
        need.map_err(Failure::Refused)
    }

    async fn options(&self) -> SetupOptions {
        let interface = self.interface.clone().unwrap_or_default();
        // What is only printed may be for another host, which has the interface.
        let vrf = netlink::vrf_of(&interface).await.ok().flatten();
        SetupOptions {
            interface,
            vrf,
            via: self.via.clone(),
            mtu: self.mtu,
            decap: self.decap,
            mode: self.mode,
            pin_dir: self.pin_dir.clone(),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn refused(error: anyhow::Error) -> Failure {
    Failure::Refused(format!("{error:#}"))
}

/// A script; what was done is marked when something was.
fn text(plan: &SetupPlan, changed: Option<&[SetupChange]>) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let done = |change: &&SetupChange| change.step == *step || change.step.is_same_decap(step);
        let _ = match changed.map(|changed| changed.iter().find(done)) {
            None => writeln!(text, "{step}"),
            // With the tunnels of other services, if it is about tunnels.
            Some(Some(change)) => writeln!(text, "done       {}", change.step),
            Some(None) => writeln!(text, "as it was  {step}"),
        };
    }
    for note in &plan.notes {
        let _ = writeln!(text, "# {note}");
    }
    text
}

fn undone_text(undone: &[SetupChange]) -> String {
    if undone.is_empty() {
        return "there is nothing to undo".into();
    }
    let line = |change: &SetupChange| format!("undone     {}\n", change.step);
    undone.iter().map(line).collect()
}
