//! A lab with a server on every backend and `lb` on the balancer.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    thread,
};

use hyper::{Request, StatusCode, body::Bytes};
use lb_api::{
    packet::{ExplainRequest, FlowProtocol, PacketSpec},
    view::{BackendState, BackendView, ExplainView},
};
use lb_lab::{
    Agent, Host, Lab, LbOptions, find_binary,
    traffic::{http, server::Server},
};
use serde_json::Value;

use super::{PORT, wait_until};

/// Everything that is on while a test runs. A test that fails shows the end of the agent's log.
#[derive(Debug)]
pub(crate) struct Rig {
    // Dropped in this order: nothing asks a server or a namespace that is gone.
    pub(crate) agent: Agent,
    pub(crate) servers: Vec<Option<Server>>,
    pub(crate) lab: Lab,
    ports: Vec<u16>,
}

impl Rig {
    /// Starts servers on port 80 of all backends and the agent, and waits until every backend is up.
    pub(crate) fn new(lab: Lab, config: &impl ToString) -> Self {
        let rig = Self::on_ports(lab, config, &[PORT]);
        rig.wait_until_all_up();
        rig
    }

    /// Starts servers on `ports` (none without ports) of all backends and the agent; waits for no backend.
    pub(crate) fn on_ports(lab: Lab, config: &impl ToString, ports: &[u16]) -> Self {
        Self::with(lab, &LbOptions::new(lb(), Some(config.to_string())), ports)
    }

    /// Starts servers on `ports` (none without ports) of all backends and an agent of any kind; waits for no backend.
    pub(crate) fn with(lab: Lab, options: &LbOptions, ports: &[u16]) -> Self {
        let serve = |host| (!ports.is_empty()).then(|| serve(&lab, host, ports));
        let servers = lab.backends.iter().map(serve);
        Self {
            servers: servers.collect(),
            agent: Agent::start(&lab.balancer, options).unwrap(),
            lab,
            ports: ports.to_vec(),
        }
    }

    pub(crate) fn client(&self) -> &Host {
        &self.lab.clients[0]
    }

    /// Kills the server of a backend with SIGKILL.
    pub(crate) fn kill_server(&mut self, backend: usize) {
        let mut server = self.servers[backend].take().unwrap();
        assert!(server.process().kill().unwrap(), "the server had ended by itself");
    }

    /// Starts the server of a backend again.
    pub(crate) fn revive_server(&mut self, backend: usize) {
        self.servers[backend] = Some(serve(&self.lab, &self.lab.backends[backend], &self.ports));
    }

    /// A backend as `lb list` shows it.
    pub(crate) fn backend(&self, service: &str, address: IpAddr) -> BackendView {
        let view = self.agent.services().unwrap();
        let service = view.services.iter().find(|found| found.name == service).unwrap();
        let backend = service.backends.iter().find(|found| found.address == address);
        backend.unwrap().clone()
    }

    pub(crate) fn wait_for_state(&self, service: &str, address: IpAddr, state: BackendState) {
        wait_until(&format!("{address} of {service} is {state}"), || {
            self.backend(service, address).state == state
        });
    }

    pub(crate) fn wait_until_all_up(&self) {
        wait_until("all backends are up", || {
            let view = self.agent.services().unwrap();
            let mut backends = view.services.iter().flat_map(|service| &service.backends);
            backends.all(|backend| backend.state == BackendState::Up)
        });
    }

    /// Runs the command line client, which must succeed; what it printed.
    pub(crate) fn lb(&self, arguments: &[&str]) -> String {
        let output = self.agent.cli(arguments).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "lb {} ended with {}: {errors}",
            arguments.join(" "),
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the command line client, which must end with `code`; what it said on standard error.
    pub(crate) fn lb_refuses(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.agent.cli(arguments).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "lb {}: {errors}",
            arguments.join(" ")
        );
        errors
    }

    /// Sends a write to the API; it must succeed.
    pub(crate) fn write(&self, method: &str, path: &str, body: Option<&Value>) {
        let answer = self.agent.send(write_request(method, path, body)).unwrap();
        let text = String::from_utf8_lossy(answer.body());
        assert!(
            matches!(answer.status(), StatusCode::OK | StatusCode::CREATED),
            "{method} {path}: {text}"
        );
    }

    /// What the dataplane would do with a further packet of a TCP connection of the first client to `target`.
    pub(crate) fn explain_tcp(&self, client_port: u16, target: SocketAddr) -> ExplainView {
        self.explain_tcp_of(client_port, target, None)
    }

    /// What the dataplane would do with a further packet, of that many bytes, of a TCP connection of the first client
    /// to `target`.
    pub(crate) fn explain_tcp_of(
        &self,
        client_port: u16,
        target: SocketAddr,
        size: Option<u16>,
    ) -> ExplainView {
        let flow = PacketSpec {
            protocol: FlowProtocol::Tcp,
            client: self.client().address_like(target.ip()),
            client_port,
            vip: target.ip(),
            vip_port: Some(target.port()),
            flags: "A".parse().unwrap(),
            size,
            connection_id: None,
            mac: None,
        };
        let question = ExplainRequest {
            flow: Some(flow),
            ..ExplainRequest::default()
        };
        self.agent.explain(&question).unwrap()
    }

    /// How many packets left the dataplane for a reason, by its name.
    pub(crate) fn count(&self, reason: &str) -> u64 {
        let stats = self.agent.stats().unwrap();
        stats
            .reasons
            .iter()
            .find(|found| found.name == reason)
            .unwrap()
            .packets
    }

    /// The reasons for which packets were dropped, with their counts.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let reasons = self.agent.stats().unwrap().reasons.into_iter();
        reasons
            .filter(|reason| reason.action == "drop" && reason.packets > 0)
            .map(|reason| (reason.name, reason.packets))
            .collect()
    }

    /// Replaces the configuration file; nobody reads it before a reload.
    pub(crate) fn write_config(&self, config: &impl ToString) {
        fs::write(self.agent.config_file(), config.to_string()).unwrap();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("The agent's log ends:\n{}", self.agent.log_end());
        }
    }
}

/// The binary under test.
pub(crate) fn lb() -> PathBuf {
    find_binary("lb", "LB_BIN").unwrap()
}

/// A write to the API.
pub(crate) fn write_request(method: &str, path: &str, body: Option<&Value>) -> Request<http::Body> {
    let mut request = Request::builder().method(method).uri(path);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    request.body(body.into()).unwrap()
}

/// Starts a server on these ports of all addresses of a backend.
pub(crate) fn serve(lab: &Lab, host: &Host, ports: &[u16]) -> Server {
    let listen: Vec<_> = ports
        .iter()
        .flat_map(|&port| lab.listen_addresses(host, port))
        .collect();
    Server::start(&host.namespace, &host.name, &listen).unwrap()
}
