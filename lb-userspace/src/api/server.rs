//! Accepts connections and answers requests.
//!
//! Invariant: every connection is bounded in number and time, so clients that hang cannot shut others out for long.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
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
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::{error::ApiError, routes, socket::ApiSocket};
use crate::agent::AgentHandle;

/// Most connections at a time; further ones wait in the socket's backlog.
const CONNECTIONS: usize = 256;
/// How long a request may take, from its headers to its answer.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// How long a connection may be silent before or between requests.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How long requests under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after a failed accept, which means that the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on `socket` until `stop` changes or is dropped; then the requests under way are
/// finished, for a few seconds at most.
pub async fn serve(socket: ApiSocket, agent: AgentHandle, mut stop: watch::Receiver<()>) {
    let router = routes::router(agent).layer(middleware::from_fn(timed));
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (permit, socket.listener().accept().await)
        };
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => (),
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), permit, stop.clone()));
                }
                Err(error) => {
                    log::warn!("the API cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
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

async fn connection(
    stream: UnixStream,
    router: Router,
    permit: Option<OwnedSemaphorePermit>,
    mut stop: watch::Receiver<()>,
) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIME)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("an API connection broke off: {error}");
    }
    drop(permit);
}

async fn timed(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIME, next.run(request)).await {
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
