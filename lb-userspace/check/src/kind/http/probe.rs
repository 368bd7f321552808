//! The HTTP check: one GET over a fresh connection.
//!
//! Invariant: what a backend can make us hold or read is bounded, in bytes and in time.

mod answer;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use self::answer::Answer;
use super::HttpCheck;
use crate::probe::{Attempt, Deadline, Miss, Probe};

/// Most of a body that is searched, in bytes.
const MAX_BODY: usize = 64 * 1024;
const USER_AGENT: &str = concat!("lb-healthcheck/", env!("CARGO_PKG_VERSION"));

impl Probe for HttpCheck {
    type Shared = ();

    async fn probe(&self, (): &(), attempt: &Attempt<'_>) -> Result<(), Miss> {
        let mut stream = attempt.connect().await?;
        // Boxed: a health check at rest should not carry room for an HTTP exchange.
        let result = Box::pin(exchange(&mut stream, attempt.address, self, &attempt.deadline)).await;
        attempt.end(stream);
        result
    }
}

/// Asks over `stream`, which leads to `address`.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: SocketAddr,
    check: &HttpCheck,
    deadline: &Deadline,
) -> Result<(), Miss> {
    let exchange = async {
        let asked = stream.write_all(request(address, check).as_bytes()).await;
        asked.map_err(|error| answer::io_miss(&error))?;
        judge(&mut Answer::read(stream).await?, check).await
    };
    deadline.bound("no complete answer", exchange).await
}

/// Path and host hold nothing that could end their lines: [`HttpCheck`] was validated.
fn request(address: SocketAddr, check: &HttpCheck) -> String {
    let host = check.host.clone().unwrap_or_else(|| match address.port() {
        80 if address.is_ipv6() => format!("[{}]", address.ip()),
        80 => address.ip().to_string(),
        _ => address.to_string(),
    });
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n",
        path = check.path
    )
}

async fn judge(answer: &mut Answer<impl AsyncRead + Unpin>, check: &HttpCheck) -> Result<(), Miss> {
    let code = answer.status();
    if !check.status.contains(code) {
        return Err(Miss::Failure(format!(
            "http status {code}, expected {}",
            check.status
        )));
    }
    match &check.body {
        None => Ok(()),
        Some(text) => find_in_body(answer, text).await,
    }
}

async fn find_in_body(answer: &mut Answer<impl AsyncRead + Unpin>, text: &str) -> Result<(), Miss> {
    let text_bytes = text.as_bytes();
    let mut seen = Vec::new();
    loop {
        // The text may begin at the end of what came before.
        let from = seen.len().saturating_sub(text_bytes.len());
        if !answer.read_body(&mut seen, MAX_BODY).await? {
            return Err(Miss::Failure(format!("body lacks {text:?}")));
        }
        if seen[from..]
            .windows(text_bytes.len())
            .any(|window| window == text_bytes)
        {
            return Ok(());
        }
        if seen.len() == MAX_BODY {
            return Err(Miss::Failure(format!(
                "body lacks {text:?} in its first {} KiB",
                MAX_BODY / 1024
            )));
        }
    }
}
