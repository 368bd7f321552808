//! The lab's server of HTTP and echo, and the handle to one that runs as a process of its own.
//!
//! Every answer carries the server's name. `GET /` and `/health` answer at once, `/big?bytes=N` sends N bytes,
//! `POST` counts what it is sent, `/stats` shows the counters.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{echo, http, udp};
use crate::{
    Namespace, find_binary,
    patience::patient,
    process::{Process, raise_file_limit},
};

/// The longest body that `/big` sends.
const BIG_LIMIT: u64 = 64 << 20;
const CHUNK: &[u8] = &[b'x'; 16 << 10];
/// What the process prints when all its sockets listen.
const READY: &str = "ready";
/// Connections and listening sockets of one server.
const FILES: u64 = 4096;
const STATS_LIMIT: Duration = Duration::from_secs(5);

/// What a server has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Accepted HTTP connections, the one that asks included.
    pub connections: u64,
    /// Accepted TCP echo connections.
    pub echo_connections: u64,
    /// Answered HTTP requests, the one that asks excluded.
    pub requests: u64,
    /// Bytes received in bodies of POST requests.
    pub uploaded: u64,
}

/// A server that runs as a process inside a namespace; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    process: Process,
    namespace: Namespace,
    listen: Vec<SocketAddr>,
}

impl Server {
    /// Starts a server that listens on every address of `listen` over TCP (HTTP, or echo on [`echo::PORT`]) and UDP
    /// (echo), and waits until it does.
    ///
    /// # Errors
    /// When the program `lb-lab-node` is missing or cannot listen.
    pub fn start(namespace: &Namespace, name: &str, listen: &[SocketAddr]) -> Result<Self> {
        let mut command = Command::new(find_binary("lb-lab-node", "LB_LAB_NODE")?);
        command.args(["serve", "--name", name]).stdout(Stdio::piped());
        for address in listen {
            command.arg("--listen").arg(address.to_string());
        }
        let mut process = namespace.spawn(command)?;
        let output = process
            .child()
            .stdout
            .take()
            .context("the server's output is not piped")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("cannot read the server's output")?;
        if line.trim_end() != READY {
            bail!("the server {name} did not start; its message is above");
        }
        Ok(Self {
            process,
            namespace: namespace.clone(),
            listen: listen.to_vec(),
        })
    }

    /// The server's process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks the server, from its own namespace, what it has seen.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn stats(&self) -> Result<Stats> {
        let target = self.listen.iter().find(|address| address.port() != echo::PORT);
        let target = *target.context("the server speaks no HTTP")?;
        let request = Request::get("/stats")
            .header("host", "lab")
            .body(http::Body::default())?;
        let response = http::fetch(&self.namespace, target, request, patient(STATS_LIMIT))?;
        serde_json::from_slice(response.body()).context("the server's statistics are not valid")
    }
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    echo_connections: Arc<AtomicU64>,
    requests: AtomicU64,
    uploaded: AtomicU64,
}

/// Serves until the process is killed: the body of `lb-lab-node serve`. Says on standard output when it is ready.
///
/// # Errors
/// When an address cannot be listened on, or the process may not open enough files.
pub async fn serve(name: &str, listen: &[SocketAddr]) -> Result<()> {
    raise_file_limit(FILES)?;
    let name: Arc<str> = name.into();
    let counters = Arc::new(Counters::default());
    let mut tasks = JoinSet::new();
    for &address in listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on TCP {address}"))?;
        if address.port() == echo::PORT {
            let accepted = Arc::clone(&counters.echo_connections);
            tasks.spawn(echo::accept(listener, Arc::clone(&name), accepted));
        } else {
            tasks.spawn(accept(listener, Arc::clone(&name), Arc::clone(&counters)));
        }
        let socket = udp::bind(address).await?;
        tasks.spawn(udp::echo(socket, Arc::clone(&name)));
    }
    println!("{READY}");
    while let Some(ended) = tasks.join_next().await {
        ended.context("a task of the server panicked")??;
    }
    Ok(())
}

async fn accept(listener: TcpListener, name: Arc<str>, counters: Arc<Counters>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept connections")?;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve_connection(stream, Arc::clone(&name), Arc::clone(&counters)));
    }
}

async fn serve_connection(stream: TcpStream, name: Arc<str>, counters: Arc<Counters>) {
    let service = service_fn(|request| answer(request, &name, &counters));
    // A client that goes away in the middle is its own business; it records the failure.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type AnswerBody = BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    name: &str,
    counters: &Counters,
) -> Result<Response<AnswerBody>, hyper::http::Error> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, _) => match count(request.into_body(), counters).await {
            Ok(bytes) => (StatusCode::OK, text(bytes.to_string())),
            Err(error) => (StatusCode::BAD_REQUEST, text(error.to_string())),
        },
        (_, "/big") => match big_bytes(request.uri().query()) {
            Some(bytes) => (StatusCode::OK, big(bytes)),
            None => (
                StatusCode::BAD_REQUEST,
                text(format!("ask for /big?bytes=N, at most {BIG_LIMIT}")),
            ),
        },
        (_, "/stats") => (StatusCode::OK, text(counters.to_json())),
        (_, "/") => (StatusCode::OK, text(format!("{name}\n"))),
        (_, "/health") => (StatusCode::OK, text("ok\n".into())),
        _ => (StatusCode::NOT_FOUND, text("not found\n".into())),
    };
    counters.requests.fetch_add(1, Ordering::Relaxed);
    Response::builder()
        .status(status)
        .header(http::BACKEND_HEADER, name)
        .body(body)
}

async fn count(mut body: Incoming, counters: &Counters) -> Result<u64, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let received = frame?.data_ref().map_or(0, Bytes::len) as u64;
        counters.uploaded.fetch_add(received, Ordering::Relaxed);
        bytes += received;
    }
    Ok(bytes)
}

fn big_bytes(query: Option<&str>) -> Option<u64> {
    query?
        .strip_prefix("bytes=")?
        .parse()
        .ok()
        .filter(|&bytes| bytes <= BIG_LIMIT)
}

fn big(bytes: u64) -> AnswerBody {
    let chunks = stream::unfold(bytes, |left| async move {
        let length = CHUNK.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let chunk = Frame::data(Bytes::from_static(&CHUNK[..length]));
        (left > 0).then(|| (Ok(chunk), left - length as u64))
    });
    StreamBody::new(Box::pin(chunks)).boxed()
}

fn text(text: String) -> AnswerBody {
    Full::from(text).boxed()
}

impl Counters {
    fn to_json(&self) -> String {
        let stats = Stats {
            connections: self.connections.load(Ordering::Relaxed),
            echo_connections: self.echo_connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            uploaded: self.uploaded.load(Ordering::Relaxed),
        };
        serde_json::json!(stats).to_string()
    }
}
