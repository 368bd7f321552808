//! `lb-fixture`: writes a pinned dataplane down as text, for `tests/fixtures`.

use std::{net::SocketAddr, path::PathBuf, thread, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use lb_tests::{
    fixture,
    lab::{Agent, Forwarder, Lab, LabOptions, LbOptions, find_binary},
    traffic::{
        load::{Load, LoadOptions},
        server::Server,
    },
};

/// Where the lab's services listen.
const PORT: u16 = 80;
/// Requests to each service, before and after the change.
const REQUESTS: u64 = 100;
/// A second.
const RATE: u32 = 200;
/// How long the agent may take to know all backends' next hops.
const LOOKS: u32 = 500;
const POLL: Duration = Duration::from_millis(20);

/// Writes a pinned dataplane down as text.
#[derive(Debug, Parser)]
enum Command {
    /// Of an agent that is made for this: two services with traffic, a change of weights under way, then SIGKILL.
    Make,
    /// What is pinned in a directory.
    Record {
        /// The directory.
        directory: PathBuf,
    },
}

fn main() -> Result<()> {
    let text = match Command::parse() {
        Command::Make => make()?,
        Command::Record { directory } => fixture::record(&directory)?,
    };
    print!("{text}");
    Ok(())
}

fn make() -> Result<String> {
    let lab = Lab::new(LabOptions {
        backends: 3,
        ..LabOptions::new(Forwarder::L2dsr)
    })?;
    let serve = |host| {
        let listen = lab.listen_addresses(host, PORT);
        Server::start(&host.namespace, &host.name, &listen)
    };
    let _servers = lab.backends.iter().map(serve).collect::<Result<Vec<_>>>()?;
    let lb = find_binary("lb", "LB_BIN")?;
    let mut agent = Agent::start(&lab.balancer, &LbOptions::new(lb, Some(config(&lab))))?;
    wait_until_all_up(&agent)?;
    ask(&lab)?;
    for (name, address) in [("web0", lab.backends[0].ipv4), ("web1", lab.backends[0].ipv6)] {
        let address = address.to_string();
        let changed = agent.cli(&["backend", "set", name, &address, "--weight", "3"])?;
        ensure!(
            changed.status.success(),
            "{}",
            String::from_utf8_lossy(&changed.stderr)
        );
    }
    ask(&lab)?;
    agent.kill()?;
    fixture::record(&agent.pins().pin_dir())
}

/// One service for each VIP, without checks.
fn config(lab: &Lab) -> String {
    let mut text = String::new();
    for (i, &vip) in lab.options().vips.iter().enumerate() {
        text += &format!(
            "[[service]]\nname = \"web{i}\"\nvips = [\"{vip}\"]\nprotocol = \"tcp\"\nport = {PORT}\n\
             forwarder = \"l2dsr\"\ncheck = {{ type = \"none\" }}\n"
        );
        for host in &lab.backends {
            text += &format!("[[service.backend]]\naddress = \"{}\"\n", host.address_like(vip));
        }
    }
    text
}

fn wait_until_all_up(agent: &Agent) -> Result<()> {
    for _ in 0..LOOKS {
        let status = agent.status()?;
        if status.backends_up == status.backends {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    bail!(
        "not all backends are up; the agent's log ends:\n{}",
        agent.log_end()
    )
}

fn ask(lab: &Lab) -> Result<()> {
    for &vip in &lab.options().vips {
        let options = LoadOptions::new(SocketAddr::new(vip, PORT), RATE, REQUESTS);
        for record in Load::start(&lab.clients[0].namespace, options)?.wait()? {
            ensure!(
                record.outcome.is_ok(),
                "a request to {vip} failed: {:?}",
                record.outcome
            );
        }
    }
    Ok(())
}
