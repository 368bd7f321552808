//! `lb decap`: takes tunnels' outer headers off on a backend host.

use std::{fmt::Write as _, net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use ipnet::IpNet;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    output::{Failure, Output},
    words,
};
use crate::backend::decap::{self, Decap, DecapProgram, DecapRules, DecapView, PIN_DIR};
use crate::dataplane::{Mode, PinDir};
use crate::netlink::{Interface, find_carrier, interface_name};
use lb_core::desired::Forwarder;

/// How often to look for new addresses of this host.
const LOOK: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
On a backend backend_ref kernel has no tunnel devices, this takes the outer headers off that the forwarders ipip, gue, fou
and gre put on; the host's stack gets the packets inside. It needs no agent.
It ends with Ctrl-C or SIGTERM, detaches and prints its counters; with --keep it ends at once and the program stays.

Examples:
  lb decap --iface eth0
  lb decap --iface eth0 --tunnel gue --gue-port 6080 --from 172.16.0.0/16 --keep
  lb decap status
  lb decap stop";

#[derive(Args, Debug)]
#[command(
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(super) struct DecapArgs {
    #[command(subcommand)]
    verb: Option<DecapVerb>,
    /// The interfaces that the tunnels' packets arrive on.
    #[arg(
        long = "iface",
        required = true,
        value_delimiter = ',',
        value_name = "IFACE",
        value_parser = interface_name
    )]
    interfaces: Vec<String>,
    /// How to attach to the interfaces.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// The kinds of tunnels to take off: ipip, gue, fou, gre.
    #[arg(
        long = "tunnel",
        value_delimiter = ',',
        value_name = "KIND",
        default_value = "ipip,gue,fou,gre",
        value_parser = words::one_of::<Forwarder>(&["ipip", "gue", "fou", "gre"])
    )]
    tunnels: Vec<Forwarder>,
    /// UDP ports of gue, at most four.
    #[arg(
        long = "gue-port",
        value_delimiter = ',',
        value_name = "PORT",
        default_value = "6080"
    )]
    gue_ports: Vec<u16>,
    /// UDP ports of fou, at most four.
    #[arg(
        long = "fou-port",
        value_delimiter = ',',
        value_name = "PORT",
        default_value = "5555"
    )]
    fou_ports: Vec<u16>,
    /// Take off only what is sent to these addresses; else to any address of this host.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS")]
    to: Vec<IpAddr>,
    /// Take off only what these addresses or prefixes send, and drop other tunnels' packets.
    #[arg(long, value_delimiter = ',', value_name = "PREFIX", value_parser = words::prefix)]
    from: Vec<IpNet>,
    /// End at once and leave the program on the interfaces, until `lb decap stop` or the next boot. This host's addresses
    /// are those that it has now.
    #[arg(long)]
    keep: bool,
    /// Where --keep pins what it leaves.
    #[arg(long, value_name = "DIR", default_value = PIN_DIR)]
    pin_dir: PathBuf,
}

#[derive(Subcommand, Debug)]
enum DecapVerb {
    /// Show what is attached in this network namespace, and its counters.
    Status,
    /// Take the program off all interfaces that it was kept on.
    Stop {
        /// Where it was pinned.
        #[arg(long, value_name = "DIR", default_value = PIN_DIR)]
        pin_dir: PathBuf,
    },
}

impl DecapArgs {
    pub(super) async fn execute(self, json: bool) -> Result<Output, Failure> {
        match &self.verb {
            Some(DecapVerb::Status) => {
                let view = decap::status().await.map_err(refused)?;
                Output::either(json, &view, || text(&view))
            }
            Some(DecapVerb::Stop { pin_dir }) => {
                let removed = decap::detach(pin_dir).map_err(refused)?;
                Output::either(json, &removed, || match removed.as_slice() {
                    [] => format!("there is nothing of lb decap in {}", pin_dir.display()),
                    some => format!("removed {}", some.join(", ")),
                })
            }
            None => self.attach(json).await,
        }
    }

    async fn attach(self, json: bool) -> Result<Output, Failure> {
        super::log_to_stderr("info");
        let rules = DecapRules {
            tunnels: self.tunnels.clone(),
            gue_ports: self.gue_ports.clone(),
            fou_ports: self.fou_ports.clone(),
            from: self.from.clone(),
        };
        let mut interfaces = Vec::new();
        for name in &self.interfaces {
            let found = find_carrier(name).await;
            let carrier = found.map_err(|error| refused(error.into()))?;
            let advice = carrier.advice.iter().cloned().chain(carrier.advice_below());
            advice.for_each(|advice| log::warn!("{advice}"));
            interfaces.push(carrier.interface);
        }
        let mut decap = Decap::load(&rules).map_err(refused)?;
        if self.to.is_empty() {
            decap.follow_own_addresses().await.map_err(refused)?;
        } else {
            decap
                .set_ends(self.to.iter().copied().collect())
                .map_err(refused)?;
        }
        if self.keep {
            self.keep(&decap, &interfaces).map_err(refused)?;
            let view = decap::status().await.map_err(refused)?;
            return Output::either(json, &view, || {
                format!(
                    "attached to {}, and stays: `lb decap stop` takes it off",
                    self.interfaces.join(", ")
                )
            });
        }
        self.run(decap, &interfaces, json).await.map_err(refused)
    }

    fn keep(&self, decap: &Decap, interfaces: &[Interface]) -> anyhow::Result<()> {
        let pins = PinDir::lock(&self.pin_dir)?;
        for interface in interfaces {
            warn(decap.keep(&pins, interface, self.mode)?);
        }
        Ok(())
    }

    /// Until a signal ends it.
    async fn run(&self, mut decap: Decap, interfaces: &[Interface], json: bool) -> anyhow::Result<Output> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        for interface in interfaces {
            warn(decap.attach(interface, self.mode)?);
            log::info!("attached to {}", interface.name);
        }
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = look.tick(), if self.to.is_empty() => decap.follow_own_addresses().await?,
            }
        }
        let counts = decap.counts()?;
        let id = decap.program()?.info()?.id();
        let view = DecapView {
            programs: vec![DecapProgram::new(id, self.interfaces.clone(), &counts)],
        };
        Output::either(json, &view, || text(&view)).map_err(|_| anyhow::anyhow!("the counters are no JSON"))
    }
}

fn warn(slow: Option<String>) {
    if let Some(slow) = slow {
        log::warn!("{slow}");
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn refused(error: anyhow::Error) -> Failure {
    Failure::Refused(format!("{error:#}"))
}

fn text(view: &DecapView) -> String {
    if view.programs.is_empty() {
        return "lb decap is attached to no interface here: `lb decap --iface IFACE` attaches it".into();
    }
    let mut text = String::new();
    for program in &view.programs {
        let _ = writeln!(
            text,
            "{}: program {}, {} packets decapsulated",
            program.interfaces.join(", "),
            program.program_id,
            program.decapsulated
        );
        for count in &program.counts {
            let _ = writeln!(
                text,
                "  {:<14}{:>12}  {}",
                count.reason, count.packets, count.meaning
            );
        }
    }
    text
}
