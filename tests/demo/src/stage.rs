//! Everything that is on while the demo plays: lab, servers, agent, load, and the eye on them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lb_lab::{
    Agent, Host, Lab, LabOptions, LbOptions,
    traffic::{
        load::{Load, LoadOptions, Record},
        server::Server,
    },
};
use serde::Deserialize;

use super::{
    Options,
    config::{self, SERVICE_PORT},
    interrupt::Interrupt,
    screen::{Row, Screen, Table},
};

/// Requests a second, each over a connection of its own.
const RATE: u32 = 300;
/// No demo lasts as long as this load could.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the agent may take to see all backends up.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// How often the agent is asked for the states; the precision of the times that the demo reports.
const POLL: Duration = Duration::from_millis(10);
/// The table shows the requests of the last second.
const WINDOW: Duration = Duration::from_secs(1);

/// When a change of state showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// The agent was last seen in the old state here.
    pub(super) before: Instant,
    /// The agent was first seen in the new state here.
    pub(super) seen: Instant,
}

/// What the demo reads of `GET /v1/services`.
#[derive(Debug, Deserialize)]
struct Services {
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct Service {
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: IpAddr,
    state: String,
}

/// The stage; dropping it removes all that is on it.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    // Dropped in this order: nothing asks a server or a namespace that is gone.
    load: Load,
    agent: Agent,
    servers: Vec<Option<Server>>,
    lab: Lab,
    addresses: Vec<IpAddr>,
    port: u16,
    screen: Screen,
    phase: &'static str,
    interrupt: &'a Interrupt,
}

impl<'a> Stage<'a> {
    /// Builds the lab, starts servers, agent and, when all backends are up, the load.
    pub(super) fn build(
        options: &Options,
        lb: PathBuf,
        mut screen: Screen,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let lab = Lab::new(LabOptions::new(options.forwarder))?;
        let vip = lab
            .options()
            .vips
            .iter()
            .copied()
            .find(|&vip| options.family.contains(vip));
        let vip = vip.context("the lab has no VIP of this family")?;
        let addresses: Vec<IpAddr> = lab.backends.iter().map(|host| host.address_like(vip)).collect();
        let port = config::backend_port(options.forwarder);
        let servers = lab
            .backends
            .iter()
            .map(|host| serve(&lab, host, port).map(Some))
            .collect::<Result<Vec<_>>>()?;
        interrupt.check()?;

        let target = SocketAddr::new(vip, SERVICE_PORT);
        let forwarder = options.forwarder.name();
        screen.say(&format!(
            "Starting lb on the balancer: {target}, forwarder {forwarder}."
        ))?;
        let text = config::config(options.forwarder, vip, &addresses, lab.balancer.address_like(vip));
        let agent = Agent::start(&lab.balancer, &LbOptions::new(lb, Some(text)))?;
        wait_until_all_up(&agent, addresses.len(), interrupt)?;

        screen.say(&format!(
            "All backends are up. The client opens {RATE} connections a second."
        ))?;
        let load = LoadOptions {
            time: LOAD_LIMIT,
            timeout: REQUEST_TIMEOUT,
            ..LoadOptions::new(target, RATE, u64::from(RATE) * LOAD_LIMIT.as_secs())
        };
        let client = lab.clients.first().context("the lab has no client")?;
        let load = Load::start(&client.namespace, load)?;
        Ok(Self {
            load,
            agent,
            servers,
            lab,
            addresses,
            port,
            screen,
            phase: "",
            interrupt,
        })
    }

    pub(super) fn backend_name(&self, backend: usize) -> &str {
        &self.lab.backends[backend].name
    }

    pub(super) fn backend_names(&self) -> Vec<String> {
        self.lab.backends.iter().map(|host| host.name.clone()).collect()
    }

    /// Says what happens, and what the part that begins now is called.
    pub(super) fn announce(&mut self, sentence: &str, phase: &'static str) -> Result<()> {
        self.phase = phase;
        self.screen.say(sentence)
    }

    /// Kills the server of a backend with SIGKILL and returns when.
    pub(super) fn kill(&mut self, backend: usize) -> Result<Instant> {
        let mut server = self.servers[backend]
            .take()
            .context("this backend does not run")?;
        let killed = Instant::now();
        ensure!(
            server.process().kill()?,
            "{} had ended by itself",
            self.backend_name(backend)
        );
        Ok(killed)
    }

    /// Starts the server of a backend again.
    pub(super) fn revive(&mut self, backend: usize) -> Result<()> {
        self.servers[backend] = Some(serve(&self.lab, &self.lab.backends[backend], self.port)?);
        Ok(())
    }

    /// Shows the table for `time`.
    pub(super) fn watch(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look()?;
        }
        Ok(())
    }

    /// Shows the table until the agent sees `backend` in `state`.
    pub(super) fn watch_until(&mut self, backend: usize, state: &str, limit: Duration) -> Result<Change> {
        let start = Instant::now();
        let mut before = start;
        let address = self.addresses[backend];
        loop {
            let asked = Instant::now();
            let states = self.look()?;
            let now = states.get(&address).map_or("missing", String::as_str);
            if now == state {
                return Ok(Change {
                    before,
                    seen: Instant::now(),
                });
            }
            let name = self.backend_name(backend);
            ensure!(
                start.elapsed() < limit,
                "the agent still sees {name} as {now}, not {state}, after {limit:?}; its log ends:\n{}",
                self.agent.log_end()
            );
            before = asked;
        }
    }

    /// How the agent's program is attached: `native` or `generic`.
    pub(super) fn mode(&self) -> Result<String> {
        let status = self.agent.cli_json(&["status", "--json"])?;
        let mode = status["interfaces"][0]["mode"].as_str();
        Ok(mode.context("lb status names no mode of attachment")?.to_owned())
    }

    /// How long the agent's last change of the dataplane's tables took, in microseconds.
    pub(super) fn last_apply_us(&self) -> Result<u64> {
        let status = self.agent.cli_json(&["status", "--json"])?;
        status["last_apply_us"]
            .as_u64()
            .context("lb status names no time of the last apply")
    }

    /// Ends load and agent in good order, drops the rest, and returns all records.
    pub(super) fn take_down(mut self) -> Result<Vec<Record>> {
        self.screen.finish()?;
        let records = self.load.stop()?;
        let status = self.agent.stop()?;
        ensure!(status.success(), "lb ended with {status} after SIGTERM");
        Ok(records)
    }

    /// Waits for the next moment to look, reads the states, and shows them with the latest requests.
    fn look(&mut self) -> Result<BTreeMap<IpAddr, String>> {
        self.interrupt.check()?;
        thread::sleep(POLL);
        let states = states(&self.agent)?;
        if self.screen.is_due() {
            let table = self.table(&states);
            self.screen.show(&table)?;
        }
        Ok(states)
    }

    fn table(&self, states: &BTreeMap<IpAddr, String>) -> Table {
        let now = Instant::now();
        let records = self.load.records_from(0);
        let latest = records
            .iter()
            .filter(|record| now.duration_since(record.ended) < WINDOW);
        let served: Vec<&String> = latest.filter_map(|record| record.outcome.as_ref().ok()).collect();
        let rows = self
            .lab
            .backends
            .iter()
            .zip(&self.addresses)
            .map(|(host, address)| {
                let requests = served.iter().filter(|name| **name == &host.name).count();
                Row {
                    name: host.name.clone(),
                    address: *address,
                    state: states.get(address).cloned().unwrap_or_default(),
                    share: requests as f64 / served.len().max(1) as f64,
                    per_second: requests,
                }
            });
        Table {
            phase: self.phase,
            rows: rows.collect(),
            requests: records.len(),
            failed: records.iter().filter(|record| record.outcome.is_err()).count(),
        }
    }
}

fn serve(lab: &Lab, host: &Host, port: u16) -> Result<Server> {
    Server::start(&host.namespace, &host.name, &lab.listen_addresses(host, port))
}

fn states(agent: &Agent) -> Result<BTreeMap<IpAddr, String>> {
    let services: Services = serde_json::from_value(agent.get("/v1/services")?)
        .context("the agent's list of services is not valid")?;
    let backends = services.services.into_iter().flat_map(|service| service.backends);
    Ok(backends.map(|backend| (backend.address, backend.state)).collect())
}

fn wait_until_all_up(agent: &Agent, backends: usize, interrupt: &Interrupt) -> Result<()> {
    let start = Instant::now();
    loop {
        interrupt.check()?;
        let states = states(agent)?;
        if states.len() == backends && states.values().all(|state| state == "up") {
            return Ok(());
        }
        ensure!(
            start.elapsed() < READY_LIMIT,
            "not all backends are up after {READY_LIMIT:?}: {states:?}; the agent's log ends:\n{}",
            agent.log_end()
        );
        thread::sleep(POLL);
    }
}
