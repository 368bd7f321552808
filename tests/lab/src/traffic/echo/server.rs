//! The echo server: one task for each connection, all on one thread.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{ANSWER_LEN, NAME_LEN, QUESTION_LEN};

/// Accepts connections, counts them in `accepted`, and echoes on each until the client ends it.
///
/// # Errors
/// When the name is too long, or connections cannot be accepted.
pub(in crate::traffic) async fn accept(
    listener: TcpListener,
    name: Arc<str>,
    accepted: Arc<AtomicU64>,
) -> Result<()> {
    ensure!(
        name.len() <= NAME_LEN,
        "an echo server's name has at most {NAME_LEN} bytes"
    );
    let mut answer = [0; ANSWER_LEN];
    answer[QUESTION_LEN..][..name.len()].copy_from_slice(name.as_bytes());
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept connections")?;
        accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(echo(stream, answer));
    }
}

async fn echo(mut stream: TcpStream, mut answer: [u8; ANSWER_LEN]) {
    // Without it answers are late, not wrong.
    let _ = stream.set_nodelay(true);
    // The client may end the connection at any time; it records what it meets.
    while stream.read_exact(&mut answer[..QUESTION_LEN]).await.is_ok() {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}
