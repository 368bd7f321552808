//! One HTTP/1.1 exchange over an open connection, with a limit on the answer.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{Namespace, patience::patient};

/// The body of a request.
pub type Body = Full<Bytes>;

/// The header in which a server of the lab gives its name.
pub const BACKEND_HEADER: &str = "x-backend";

/// The longest body that is read, in bytes.
const BODY_LIMIT: usize = 64 << 20;

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection failed or broke HTTP.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The body could not be read to its end, or is too long.
    #[error("cannot read the answer: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Speaks HTTP over `stream`; the connection lasts as long as the returned sender.
///
/// # Errors
/// When the connection is closed at once.
pub async fn connect<S>(stream: S) -> Result<SendRequest<Body>, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its error reaches the sender as well.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends one request and reads the whole answer.
///
/// # Errors
/// When the connection fails or the answer is too long.
pub async fn send(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> Result<Response<Bytes>, ExchangeError> {
    sender.ready().await?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, BODY_LIMIT)
        .collect()
        .await
        .map_err(ExchangeError::Body)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Sends one request over a connection of its own and reads the whole answer.
///
/// # Errors
/// As [`send`].
pub async fn exchange<S>(stream: S, request: Request<Body>) -> Result<Response<Bytes>, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    send(&mut connect(stream).await?, request).await
}

/// Sends one request from inside `namespace` to `target` and reads the whole answer.
///
/// # Errors
/// When the target does not answer within `limit`.
pub fn fetch(
    namespace: &Namespace,
    target: SocketAddr,
    request: Request<Body>,
    limit: Duration,
) -> Result<Response<Bytes>> {
    let what = format!("{} http://{target}{}", request.method(), request.uri());
    let run = async || {
        let exchange = async { anyhow::Ok(exchange(TcpStream::connect(target).await?, request).await?) };
        tokio::time::timeout(patient(limit), exchange)
            .await
            .with_context(|| format!("no answer after {limit:?}"))?
    };
    namespace
        .block_on(run)?
        .with_context(|| format!("{what} from {} failed", namespace.name()))
}

/// The server's name in an answer of the lab.
pub fn backend_of(response: &Response<Bytes>) -> Option<&str> {
    response.headers().get(BACKEND_HEADER)?.to_str().ok()
}
