//! The load client: HTTP requests from inside a namespace at a steady rate, each one recorded.
//!
//! What must hold: every request that was started is recorded exactly once, and the load ends by itself.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use hyper::{Request, Response, body::Bytes, client::conn::http1::SendRequest};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::http::{self, ExchangeError};
use crate::{Namespace, patience::patient};

/// Requests that may be under way at once; beyond it the load slows down.
const MAX_IN_FLIGHT: usize = 512;

/// How requests use connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// A new connection for every request.
    PerRequest,
    /// This many connections, opened at the start; each sends its requests until it breaks and is not opened again.
    LongLived(u32),
}

/// What to send. Whichever of `requests` and `time` is reached first ends the load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Where to connect.
    pub target: SocketAddr,
    /// The path to ask for.
    pub path: String,
    /// How connections are used.
    pub connections: Connections,
    /// Requests a second, all connections together.
    pub rate: u32,
    /// At most that many requests.
    pub requests: u64,
    /// At most that long.
    pub time: Duration,
    /// How long one request may take, connecting included.
    pub timeout: Duration,
}

impl LoadOptions {
    /// `requests` requests at `rate` a second for `/`, each over a connection of its own.
    pub fn new(target: SocketAddr, rate: u32, requests: u64) -> Self {
        let time = Duration::from_secs(120);
        let timeout = Duration::from_secs(2);
        Self {
            target,
            path: "/".into(),
            connections: Connections::PerRequest,
            rate,
            requests,
            time,
            timeout,
        }
    }
}

/// What came of one request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it started, with the connection if that is its own.
    pub started: Instant,
    /// When its answer was complete or it had failed.
    pub ended: Instant,
    /// The number of its connection, from 0 in the order of opening.
    pub connection: u64,
    /// The name of the backend that answered, or what went wrong.
    pub outcome: Result<String, Failure>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// The connection was reset.
    #[error("connection reset")]
    Reset,
    /// The connection ended before the answer did.
    #[error("connection closed early")]
    Closed,
    /// No whole answer within the limit.
    #[error("no answer in time")]
    Timeout,
    /// An answer, but not of success.
    #[error("status {0}")]
    Status(u16),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

#[derive(Debug, Default)]
struct Journal {
    records: Mutex<Vec<Record>>,
    stop: AtomicBool,
}

/// A running load; dropping it stops it.
#[derive(Debug)]
pub struct Load {
    journal: Arc<Journal>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts a load inside `namespace`.
    ///
    /// # Errors
    /// When the rate is zero or the thread cannot be started.
    pub fn start(namespace: &Namespace, options: LoadOptions) -> Result<Self> {
        ensure!(
            options.rate > 0,
            "a load needs a rate of at least one request a second"
        );
        let journal = Arc::new(Journal::default());
        let theirs = Arc::clone(&journal);
        let thread = namespace.spawn_async(async move || match options.connections {
            Connections::PerRequest => per_request(Arc::new(options), theirs).await,
            Connections::LongLived(count) => long_lived(Arc::new(options), count, theirs).await,
        })?;
        Ok(Self {
            journal,
            thread: Some(thread),
        })
    }

    /// The records from number `from` on, in the order in which the requests ended.
    pub fn records_from(&self, from: usize) -> Vec<Record> {
        self.journal.lock().get(from..).unwrap_or_default().to_vec()
    }

    /// Waits for the load's own end and returns all records.
    ///
    /// # Errors
    /// When the load could not enter its namespace.
    pub fn wait(mut self) -> Result<Vec<Record>> {
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the load panicked"))?
                .context("the load could not run")?;
        }
        Ok(std::mem::take(&mut *self.journal.lock()))
    }

    /// Starts no further request, waits for those under way and returns all records.
    ///
    /// # Errors
    /// As [`Load::wait`].
    pub fn stop(self) -> Result<Vec<Record>> {
        self.journal.stop.store(true, Ordering::Relaxed);
        self.wait()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.journal.stop.store(true, Ordering::Relaxed);
    }
}

impl Journal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        // A record is pushed whole or not at all, so a panic elsewhere leaves the list usable.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, started: Instant, connection: u64, outcome: Result<String, Failure>) {
        self.lock().push(Record {
            started,
            ended: Instant::now(),
            connection,
            outcome,
        });
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

async fn per_request(options: Arc<LoadOptions>, journal: Arc<Journal>) {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut ticks = ticks(options.rate, 1);
    let deadline = Instant::now() + options.time;
    let mut requests = JoinSet::new();
    for connection in 0..options.requests {
        ticks.tick().await;
        // The semaphore is never closed; if it were, the load would end.
        let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
            break;
        };
        if journal.stopped() || Instant::now() >= deadline {
            break;
        }
        let (options, journal) = (Arc::clone(&options), Arc::clone(&journal));
        requests.spawn(async move {
            let started = Instant::now();
            let exchange = async { get(&mut open(options.target).await?, &options, "close").await };
            let outcome = within(options.timeout, exchange).await;
            journal.record(started, connection, outcome);
            drop(permit);
        });
        while requests.try_join_next().is_some() {}
    }
    requests.join_all().await;
}

async fn long_lived(options: Arc<LoadOptions>, count: u32, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    for connection in 0..u64::from(count) {
        // Request n of the load goes over connection n modulo count.
        let requests = options
            .requests
            .saturating_sub(connection)
            .div_ceil(u64::from(count));
        let (options, journal) = (Arc::clone(&options), Arc::clone(&journal));
        connections
            .spawn(async move { one_connection(&options, connection, count, requests, &journal).await });
    }
    connections.join_all().await;
}

async fn one_connection(
    options: &LoadOptions,
    connection: u64,
    count: u32,
    requests: u64,
    journal: &Journal,
) {
    let deadline = Instant::now() + options.time;
    let mut ticks = ticks(options.rate, count);
    let mut sender = None;
    for _ in 0..requests {
        ticks.tick().await;
        if journal.stopped() || Instant::now() >= deadline {
            return;
        }
        let started = Instant::now();
        let exchange = async {
            let mut open = match sender.take() {
                Some(open) => open,
                None => open(options.target).await?,
            };
            let backend = get(&mut open, options, "keep-alive").await?;
            Ok((open, backend))
        };
        match within(options.timeout, exchange).await {
            Ok((open, backend)) => {
                sender = Some(open);
                journal.record(started, connection, Ok(backend));
            }
            Err(failure) => return journal.record(started, connection, Err(failure)),
        }
    }
}

/// A tick for each request of one of `connections` that share `rate` requests a second.
fn ticks(rate: u32, connections: u32) -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_secs(1) * connections / rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(patient(limit), exchange)
        .await
        .unwrap_or(Err(Failure::Timeout))
}

async fn open(target: SocketAddr) -> Result<SendRequest<http::Body>, Failure> {
    let stream = TcpStream::connect(target).await?;
    Ok(http::connect(stream).await?)
}

async fn get(
    sender: &mut SendRequest<http::Body>,
    options: &LoadOptions,
    connection: &str,
) -> Result<String, Failure> {
    let request = Request::get(&options.path)
        .header("host", options.target.to_string())
        .header("connection", connection)
        .body(http::Body::default())
        .map_err(|error| Failure::Other(error.to_string()))?;
    backend_in(&http::send(sender, request).await?)
}

fn backend_in(response: &Response<Bytes>) -> Result<String, Failure> {
    if !response.status().is_success() {
        return Err(Failure::Status(response.status().as_u16()));
    }
    let backend =
        http::backend_of(response).ok_or_else(|| Failure::Other("the answer names no backend".into()))?;
    Ok(backend.to_owned())
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        if let ExchangeError::Http(http) = &error
            && (http.is_incomplete_message() || http.is_closed() || http.is_canceled())
        {
            return Self::Closed;
        }
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(io) = cause.downcast_ref::<io::Error>() {
                return Self::from(io::Error::new(io.kind(), io.to_string()));
            }
            source = cause.source();
        }
        Self::Other(error.to_string())
    }
}
