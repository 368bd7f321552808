//! The real `lb` binary on the lab's balancer: started, asked, killed, started again, stopped.
//!
//! What must hold: an [`Agent`] exists only once its process has answered on its socket; its files and its dataplane
//! go with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use hyper::{Request, Response, body::Bytes, header::HeaderValue};
use lb_api::{
    packet::ExplainRequest,
    view::{ExplainView, ServicesView, StatsView, StatusView},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::{BpfFs, Host, Namespace};
use crate::{patience::patient, process::Process, traffic::http};

/// How long the agent may take until its socket answers: an emulated machine is slow.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long the agent may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long one request to the API may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// An argument for an agent that pins nothing.
const EPHEMERAL: &str = "--ephemeral";
/// How much of the log an error shows.
const LOG_LINES: usize = 20;

/// How to start `lb`.
#[derive(Debug, Clone)]
pub struct LbOptions {
    /// The binary; see [`find_binary`].
    pub binary: PathBuf,
    /// `native`, `generic` or `auto`.
    pub mode: String,
    /// The text of the configuration file; without one the agent starts empty.
    pub config: Option<String>,
    /// Further arguments for `lb run`.
    pub arguments: Vec<String>,
}

impl LbOptions {
    /// Native mode, with or without a configuration.
    pub fn new(binary: PathBuf, config: Option<String>) -> Self {
        Self {
            binary,
            mode: "native".into(),
            config,
            arguments: Vec::new(),
        }
    }
}

/// A running `lb run`; dropping it kills it and removes its files and its dataplane.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    namespace: Namespace,
    interface: String,
    options: LbOptions,
    directory: tempfile::TempDir,
    pins: BpfFs,
}

impl Agent {
    /// Starts `lb` on the host's interface and waits until its socket answers.
    ///
    /// # Errors
    /// When the binary is missing, ends, or does not answer; with the end of its log.
    pub fn start(host: &Host, options: &LbOptions) -> Result<Self> {
        Self::start_on(host, options, BpfFs::new()?)
    }

    /// Starts `lb` as [`Agent::start`] does, on a BPF file system in which something may be pinned already, in
    /// [`BpfFs::pin_dir`].
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_on(host: &Host, options: &LbOptions, pins: BpfFs) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("lb-lab-")
            .tempdir()
            .context("cannot make a directory")?;
        if let Some(config) = &options.config {
            let path = config_in(directory.path());
            fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        }
        let command = run_command(host.interface(), directory.path(), &pins, options)?;
        let mut agent = Self {
            process: host.namespace.spawn(command)?,
            namespace: host.namespace.clone(),
            interface: host.interface().to_owned(),
            options: options.clone(),
            directory,
            pins,
        };
        agent.wait_until_it_answers()?;
        Ok(agent)
    }

    /// Kills the agent with SIGKILL, unless it has ended; its dataplane stays, and so do its files.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts an agent that has ended once more, with the same files, options and pins.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.begin_again()?;
        self.wait_until_it_answers()
    }

    /// Starts an agent that has ended once more, without waiting until it answers.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn begin_again(&mut self) -> Result<()> {
        let command = run_command(&self.interface, self.directory.path(), &self.pins, &self.options)?;
        self.process = self.namespace.spawn(command)?;
        Ok(())
    }

    /// How it is started; what is changed takes effect with [`Agent::start_again`].
    pub const fn options(&mut self) -> &mut LbOptions {
        &mut self.options
    }

    /// The file system that the dataplane is pinned in.
    pub const fn pins(&self) -> &BpfFs {
        &self.pins
    }

    /// The agent's socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.directory.path())
    }

    /// The configuration file that the agent was started with; write it and reload to change it.
    pub fn config_file(&self) -> PathBuf {
        config_in(self.directory.path())
    }

    /// The agent's process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs the command line client with `arguments` against this agent and waits for it.
    ///
    /// # Errors
    /// When it cannot be started; a failure of its own is in the output's status.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.options.binary);
        command.args(arguments).arg("--socket").arg(self.socket());
        self.namespace
            .run(|| command.output())?
            .with_context(|| format!("cannot run {}", self.options.binary.display()))
    }

    /// Runs the command line client, which must succeed, and parses what it prints as JSON.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn cli_json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.cli(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "lb {} ended with {}: {errors}",
            arguments.join(" "),
            output.status
        );
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("lb {} printed no JSON", arguments.join(" ")))
    }

    /// Asks the agent's API, for example for `/v1/services`.
    ///
    /// # Errors
    /// When it does not answer in time, or with anything but success and JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask(Request::get(path).body(http::Body::default())?)
    }

    /// The services as they stand.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn services(&self) -> Result<ServicesView> {
        self.ask(Request::get("/v1/services").body(http::Body::default())?)
    }

    /// The agent's own state.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn status(&self) -> Result<StatusView> {
        self.ask(Request::get("/v1/status").body(http::Body::default())?)
    }

    /// The counters.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn stats(&self) -> Result<StatsView> {
        self.ask(Request::get("/v1/stats").body(http::Body::default())?)
    }

    /// What the dataplane would do with a packet.
    ///
    /// # Errors
    /// As [`Agent::get`].
    pub fn explain(&self, question: &ExplainRequest) -> Result<ExplainView> {
        let body = serde_json::to_vec(question).context("the question cannot be written as JSON")?;
        let request = Request::post("/v1/explain").header("content-type", "application/json");
        self.ask(request.body(Bytes::from(body).into())?)
    }

    /// Sends any request to the agent's API; a refusal is an answer too.
    ///
    /// # Errors
    /// When the agent does not answer in time.
    pub fn send(&self, mut request: Request<http::Body>) -> Result<Response<Bytes>> {
        let what = format!("{} {}", request.method(), request.uri());
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("lb"));
        let exchange = async || {
            let exchange = async {
                let stream = UnixStream::connect(self.socket()).await?;
                anyhow::Ok(http::exchange(stream, request).await?)
            };
            tokio::time::timeout(patient(REQUEST_LIMIT), exchange).await?
        };
        self.namespace
            .block_on(exchange)?
            .with_context(|| format!("the agent does not answer {what}"))
    }

    fn ask<T: DeserializeOwned>(&self, request: Request<http::Body>) -> Result<T> {
        let what = format!("{} {}", request.method(), request.uri());
        let response = self.send(request)?;
        ensure!(
            response.status().is_success(),
            "the agent answers {what} with {}: {}",
            response.status(),
            String::from_utf8_lossy(response.body())
        );
        serde_json::from_slice(response.body()).with_context(|| format!("the answer to {what} is not valid"))
    }

    /// Ends the agent and its dataplane, and waits for that.
    ///
    /// # Errors
    /// When it refuses, or does not end in time.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.cli_json(&["stop", "--detach", "--json"])?;
        self.process.wait(patient(STOP_LIMIT))
    }

    /// The last lines of the agent's log.
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(log_in(self.directory.path())).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        self.poll_until_it_answers().with_context(|| {
            format!(
                "{} does not run on {}; its log ends:\n{}",
                self.options.binary.display(),
                self.interface,
                self.log_end()
            )
        })
    }

    fn poll_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + patient(START_LIMIT);
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            match self.get("/v1/services") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => thread::sleep(POLL),
            }
        }
    }
}

/// Finds a binary of this workspace: the file that the environment variable `variable` names, or `name` in the
/// directory of the running program or the one above (tests run one directory below the binaries).
///
/// # Errors
/// When it is in none of these places.
pub fn find_binary(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable).map(PathBuf::from) {
        ensure!(
            path.is_file(),
            "{variable} names {}, which is no file",
            path.display()
        );
        return Ok(path);
    }
    let program = env::current_exe().context("cannot tell where the running program is")?;
    let found = program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "there is no {name} near {}; build it with `cargo build`, or name it in {variable}",
            program.display()
        )
    })
}

fn run_command(interface: &str, directory: &Path, pins: &BpfFs, options: &LbOptions) -> Result<Command> {
    let mut command = Command::new(&options.binary);
    command.args(["run", "--iface", interface, "--mode", &options.mode]);
    command
        .arg("--socket")
        .arg(socket_in(directory))
        .arg("--state-dir")
        .arg(directory.join("state"));
    if options.config.is_some() {
        command.arg("--config").arg(config_in(directory));
    }
    if !options.arguments.iter().any(|argument| argument == EPHEMERAL) {
        command.arg("--pin-dir").arg(pins.pin_dir());
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_in(directory))
        .context("cannot open the agent's log")?;
    let log_too = log.try_clone().context("cannot share the agent's log")?;
    command.args(&options.arguments).stdout(log).stderr(log_too);
    if env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", "info");
    }
    Ok(command)
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("lb.sock")
}

fn config_in(directory: &Path) -> PathBuf {
    directory.join("lb.toml")
}

fn log_in(directory: &Path) -> PathBuf {
    directory.join("lb.log")
}
