//! QUIC clients, each with a socket and a connection of its own.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::future::join_all;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime};
use rustls::RootCertStore;
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use super::{Identity, NAME, transport};
use crate::{Namespace, patience::patient};

/// The longest answer.
const ANSWER_LIMIT: usize = 64;

/// Open connections. They live on only while something is asked of them, or they [rest](QuicClients::rest).
#[derive(Debug)]
pub struct QuicClients {
    clients: Vec<Client>,
    limit: Duration,
    runtime: Runtime,
    namespace: Namespace,
}

#[derive(Debug)]
struct Client {
    endpoint: Endpoint,
    connection: Connection,
}

impl QuicClients {
    /// Opens `count` connections from `namespace`. Nothing may take longer than `limit`.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(
        namespace: &Namespace,
        from: IpAddr,
        target: SocketAddr,
        identity: &Identity,
        count: usize,
        limit: Duration,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.certificate.clone())?;
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots))?;
        config.transport_config(transport(limit)?);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut clients = Vec::new();
        for _ in 0..count {
            let socket = bind(namespace, from)?;
            let connect = async {
                let endpoint =
                    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))?;
                let connecting = endpoint.connect_with(config.clone(), target, NAME)?;
                let connection = timeout(patient(limit), connecting)
                    .await
                    .context("not opened in time")??;
                anyhow::Ok(Client { endpoint, connection })
            };
            clients.push(runtime.block_on(connect)?);
        }
        Ok(Self {
            clients,
            limit,
            runtime,
            namespace: namespace.clone(),
        })
    }

    /// Asks over every connection at once; who answered, or what went wrong.
    pub fn ask(&self) -> Vec<Result<String>> {
        let answers = self.clients.iter().map(|client| async {
            timeout(self.limit, ask(&client.connection))
                .await
                .context("no answer in time")?
        });
        self.runtime.block_on(join_all(answers))
    }

    /// Moves every connection to another port of `address`, as a client does that changes networks.
    ///
    /// # Errors
    /// When the address is not the client's.
    pub fn move_to(&self, address: IpAddr) -> Result<()> {
        let _inside = self.runtime.enter();
        for client in &self.clients {
            client.endpoint.rebind(bind(&self.namespace, address)?)?;
        }
        Ok(())
    }

    /// Lets time pass.
    pub fn rest(&self, time: Duration) {
        self.runtime.block_on(async { sleep(time).await });
    }
}

fn bind(namespace: &Namespace, address: IpAddr) -> Result<UdpSocket> {
    let address = SocketAddr::new(address, 0);
    let socket = namespace.run(|| UdpSocket::bind(address))?;
    socket.with_context(|| format!("cannot open a socket on {address}"))
}

async fn ask(connection: &Connection) -> Result<String> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"who?").await?;
    send.finish()?;
    Ok(String::from_utf8(receive.read_to_end(ANSWER_LIMIT).await?)?)
}
