//! Connections that are opened once and asked again later.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use futures_util::future::join_all;
use hyper::client::conn::http1::SendRequest;
use lb_lab::{Host, patience::patient, traffic::http};
use tokio::{runtime::Runtime, time::timeout};

use super::get;

/// How long an answer may take. Long enough for one lost packet's retransmission.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Open HTTP connections from one client.
#[derive(Debug)]
pub(crate) struct HeldConnections {
    connections: Vec<Connection>,
    runtime: Runtime,
}

#[derive(Debug)]
struct Connection {
    port: u16,
    sender: SendRequest<http::Body>,
}

impl HeldConnections {
    /// Opens `count` connections.
    pub(crate) fn open(client: &Host, target: SocketAddr, count: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let connect =
            || -> Vec<TcpStream> { (0..count).map(|_| TcpStream::connect(target).unwrap()).collect() };
        let streams = client.namespace.run(connect).unwrap();
        let connections = streams.into_iter().map(|stream| {
            stream.set_nonblocking(true).unwrap();
            let port = stream.local_addr().unwrap().port();
            let sender = runtime.block_on(async {
                let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                http::connect(stream).await.unwrap()
            });
            Connection { port, sender }
        });
        Self {
            connections: connections.collect(),
            runtime,
        }
    }

    /// The client's port of each connection.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.connections
            .iter()
            .map(|connection| connection.port)
            .collect()
    }

    /// Sends a request over every connection at once; who answered, or what went wrong.
    pub(crate) fn ask(&mut self) -> Vec<Result<String, String>> {
        let answers = self.connections.iter_mut().map(|connection| async {
            let answer = timeout(
                patient(ANSWER_LIMIT),
                http::send(&mut connection.sender, get("/")),
            )
            .await;
            let answer = answer.map_err(|_| "no answer in time".to_owned())?;
            let answer = answer.map_err(|error| error.to_string())?;
            Ok(http::backend_of(&answer).unwrap().to_owned())
        });
        self.runtime.block_on(join_all(answers))
    }
}
