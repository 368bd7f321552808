//! Accepts connections and answers requests.
//!
//! Invariant: connections are bounded in number, and one that asks nothing makes room for the next, so that clients that
//! hang shut nobody out.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::UnixStream,
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};

use super::{error::ApiError, routes, socket::ApiSocket};
use crate::agent::handle::AgentHandle;
use crate::supervise::{Supervisor, guarded};

/// Most connections at a time; for a further one, the one is ended that has asked nothing for longest.
const CONNECTIONS: usize = 256;
/// How long a request may take, from its headers to its answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a connection may be silent before or between requests.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How long requests under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often to look whether clients still find the socket.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves the API on `socket` until `stop` changes or is dropped; then the requests under way are
/// finished, for a few seconds at most. Where nobody finds the socket any more, it listens again.
pub async fn serve(
    mut socket: ApiSocket,
    agent: AgentHandle,
    mut stop: watch::Receiver<()>,
    mut supervisor: Supervisor,
) {
    let router = routes::router(agent).layer(middleware::from_fn(timed));
    let places = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Idle::default()));
    let mut connections = JoinSet::new();
    loop {
        let accepting = accept(&socket, &router, &places, &mut connections, stop.clone());
        let why = tokio::select! {
            _ = stop.changed() => break,
            Err(why) = guarded(accepting) => why,
        };
        tokio::select! {
            _ = stop.changed() => break,
            again = supervisor.again_after(&why) => if !again { break },
        }
        if let Err(error) = socket.listen_again() {
            log::error!("{error}");
        }
    }
    drop(socket);
    let finished = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        log::warn!(
            "API requests under way were cut off: they took more than {} s to end",
            GRACE.as_secs()
        );
    }
}

/// Accepts connections until that fails.
async fn accept(
    socket: &ApiSocket,
    router: &Router,
    (permits, idle): &(Arc<Semaphore>, Arc<Idle>),
    connections: &mut JoinSet<()>,
    stop: watch::Receiver<()>,
) -> Result<Infallible, String> {
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            _ = look.tick() => if !socket.is_in_place() {
                return Err("its socket has been removed or replaced".to_owned());
            },
            Some(_) = connections.join_next() => (),
            accepted = socket.listener().accept() => match accepted {
                Ok((stream, _)) => {
                    if connections.len() >= CONNECTIONS {
                        idle.end_oldest();
                    }
                    let place = IdleConnection::new(Arc::clone(idle));
                    connections.spawn(connection(stream, router.clone(), place, Arc::clone(permits), stop.clone()));
                }
                Err(error) if may_pass(&error) => {
                    log::warn!("the API cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => return Err(format!("it cannot accept connections: {error}")),
            },
        }
    }
}

/// Whether the listener is as good as it was.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ECONNABORTED | libc::EINTR)
    )
}

async fn connection(
    stream: UnixStream,
    router: Router,
    place: IdleConnection,
    permits: Arc<Semaphore>,
    mut stop: watch::Receiver<()>,
) {
    let end = Arc::clone(&place.end);
    let _permit = tokio::select! {
        permit = permits.acquire_owned() => permit,
        () = end.notified() => return,
        _ = stop.changed() => return,
    };
    let service = TowerToHyperService::new(router.layer(Extension(Arc::new(place))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .max_buf_size(64 << 10)
        // `socat` and others say that they have said everything, and then want the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = end.notified() => Ok(()),
    };
    if let Err(error) = ended {
        log::debug!("an API connection broke off: {error}");
    }
}

/// Connections without a request, by when they were last asked something.
#[derive(Default)]
struct Idle(Mutex<IdleConnections>);

#[derive(Default)]
struct IdleConnections {
    /// The number of the next one that gets idle.
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

impl Idle {
    fn places(&self) -> MutexGuard<'_, IdleConnections> {
        // Whoever panicked left no half of a change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, end: &Arc<Notify>) -> u64 {
        let mut places = self.places();
        let number = places.next;
        places.next += 1;
        places.by_age.insert(number, Arc::clone(end));
        number
    }

    fn leave(&self, number: u64) {
        self.places().by_age.remove(&number);
    }

    fn end_oldest(&self) {
        if let Some((_, end)) = self.places().by_age.pop_first() {
            end.notify_one();
        }
    }
}

/// One connection among the idle ones, while it has no request.
struct IdleConnection {
    idle: Arc<Idle>,
    end: Arc<Notify>,
    number: Mutex<u64>,
}

impl IdleConnection {
    fn new(idle: Arc<Idle>) -> Self {
        let end = Arc::new(Notify::new());
        let number = Mutex::new(idle.enter(&end));
        Self { idle, end, number }
    }

    /// Keeps the connection while `request` is answered.
    async fn busy<T>(&self, request: impl Future<Output = T>) -> T {
        self.idle
            .leave(*self.number.lock().unwrap_or_else(PoisonError::into_inner));
        let answer = request.await;
        *self.number.lock().unwrap_or_else(PoisonError::into_inner) = self.idle.enter(&self.end);
        answer
    }
}

impl Drop for IdleConnection {
    fn drop(&mut self) {
        let number = self.number.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.idle.leave(*number);
    }
}

async fn timed(Extension(place): Extension<Arc<IdleConnection>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME, place.busy(next.run(request))).await {
        Ok(response) => response,
        Err(_) => {
            let seconds = REQUEST_TIME.as_secs();
            let message = format!(
                "there was no answer within {seconds} s: whether a change was made shows in the generation of \
                 /v1/status"
            );
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message).into_response()
        }
    }
}
