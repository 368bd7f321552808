//! The other end of the API: what the command line asks the agent with.
//!
//! Invariant: an error tells the operator what to do next.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{
    checkpoint::{CheckpointsView, RestoredView, SavedView},
    error::{ErrorBody, ErrorText},
    packet::ExplainRequest,
    plan::PlanView,
    view::{
        DrainsView, ExplainView, ServiceView, ServicesView, StatsView, StatusView, StopRequest, StopView,
    },
};
use crate::write::Applied;
use lb_core::desired::{Change, ServiceName};

/// Why the agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("{0}")]
    NoAgent(String),
    /// The generation has moved.
    #[error("{0}")]
    Conflict(String),
    /// The agent refused.
    #[error("{message}")]
    Refused {
        /// The API's code for it.
        code: String,
        /// What the agent says.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the agent's answer cannot be read: {0}; do `lb` and the agent have the same version?")]
    Answer(String),
}

/// The agent behind a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Longest answer that is read, in bytes.
    const MAX_ANSWER: usize = 1 << 30;
    /// How long an answer may take; somewhat more than the agent takes to give up itself.
    const PATIENCE: Duration = Duration::from_secs(40);

    /// The agent that listens at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// All services.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn services(&self) -> Result<ServicesView, ClientError> {
        self.read("/v1/services").await
    }

    /// The service of that name, or none, with what [`Client::services`] says of the agent.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn services_named(&self, name: &ServiceName) -> Result<ServicesView, ClientError> {
        self.read(&format!("/v1/services?name={name}")).await
    }

    /// One service.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceView, ClientError> {
        self.read(&service_path(name)).await
    }

    /// The agent's own state.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.read("/v1/status").await
    }

    /// All counters.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn stats(&self) -> Result<StatsView, ClientError> {
        self.read("/v1/stats").await
    }

    /// What would the dataplane do?
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<ExplainView, ClientError> {
        self.ask(Method::POST, "/v1/explain", Some(request), None).await
    }

    /// Ends the agent, and the dataplane where `detach`.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn stop(&self, detach: bool) -> Result<StopView, ClientError> {
        self.ask(Method::POST, "/v1/stop", Some(&StopRequest { detach }), None)
            .await
    }

    /// Whether anybody listens on the socket.
    pub async fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// Makes a change, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not made.
    pub async fn write(&self, change: &Change, expected: Option<u64>) -> Result<Applied, ClientError> {
        self.ask(Method::POST, "/v1/write", Some(change), expected).await
    }

    /// What a change would do, unless the generation in force is not the `expected` one. Nothing is written.
    ///
    /// # Errors
    /// Why it would not be made.
    pub async fn plan(&self, change: &Change, expected: Option<u64>) -> Result<PlanView, ClientError> {
        self.ask(Method::POST, "/v1/plan", Some(change), expected).await
    }

    /// All checkpoints.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn checkpoints(&self) -> Result<CheckpointsView, ClientError> {
        self.read("/v1/checkpoints").await
    }

    /// A checkpoint more.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn save_checkpoint(&self) -> Result<SavedView, ClientError> {
        self.ask(Method::POST, "/v1/checkpoints", NO_BODY, None).await
    }

    /// Makes the desired state what a checkpoint says, unless the generation in force is not the `expected` one.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn restore(&self, number: u64, expected: Option<u64>) -> Result<RestoredView, ClientError> {
        let path = format!("/v1/checkpoints/{number}/restore");
        self.ask(Method::POST, &path, NO_BODY, expected).await
    }

    /// The drains under way, and those that ended of late.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn drains(&self) -> Result<DrainsView, ClientError> {
        self.read("/v1/drains").await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, NO_BODY, None).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        expected: Option<u64>,
    ) -> Result<T, ClientError> {
        let exchange = self.exchange(request(method, path, body, expected)?);
        let (status, answer) = tokio::time::timeout(Self::PATIENCE, exchange)
            .await
            .map_err(|_| {
                let seconds = Self::PATIENCE.as_secs();
                ClientError::NoAgent(format!(
                    "the agent gave no answer within {seconds} s: look at its log"
                ))
            })??;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(unreadable);
        }
        let ErrorBody {
            error: ErrorText { code, message },
        } = serde_json::from_slice(&answer).map_err(unreadable)?;
        match status {
            StatusCode::PRECONDITION_FAILED => Err(ClientError::Conflict(message)),
            _ => Err(ClientError::Refused { code, message }),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.no_agent(&error))?;
        let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(unreadable)?;
        let answer = async {
            let (head, body) = sender
                .send_request(request)
                .await
                .map_err(unreadable)?
                .into_parts();
            Ok((head.status, read_body(body).await?))
        };
        tokio::pin!(answer);
        tokio::select! {
            answered = &mut answer => answered,
            // The connection ends first when the answer is its last word; what came is there all the same.
            _ = connection => answer.await,
        }
    }

    fn no_agent(&self, error: &io::Error) -> ClientError {
        let socket = self.socket.display();
        ClientError::NoAgent(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
                "no agent answers on {socket}: start one with `lb run --iface IFACE`, or name its socket with --socket"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "this user may not use {socket}: use sudo, join the socket's group, or name another socket with --socket"
            ),
            _ => format!("cannot connect to {socket}: {error}; name the agent's socket with --socket"),
        })
    }
}

const NO_BODY: Option<&()> = None;

fn request(
    method: Method,
    path: &str,
    body: Option<&impl Serialize>,
    expected: Option<u64>,
) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "lb");
    if let Some(generation) = expected {
        request = request.header(header::IF_MATCH, format!("\"{generation}\""));
    }
    let bytes = match body {
        None => Bytes::new(),
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            serde_json::to_vec(body).map_err(unreadable)?.into()
        }
    };
    request.body(Full::new(bytes)).map_err(unreadable)
}

async fn read_body(body: Incoming) -> Result<Bytes, ClientError> {
    let limited = Limited::new(body, Client::MAX_ANSWER).collect().await;
    limited.map(Collected::to_bytes).map_err(unreadable)
}

fn unreadable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Answer(error.to_string())
}

/// Names and ids have only characters that a path may hold as they are.
fn service_path(name: &ServiceName) -> String {
    format!("/v1/services/{name}")
}
