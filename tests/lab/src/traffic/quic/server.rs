//! A QUIC server that answers everything with its name.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use quinn::{Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use tokio::sync::oneshot;

use super::{ConnectionIds, Identity, transport};
use crate::Namespace;

/// How long a server keeps a connection that nothing is heard of.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest question.
const QUESTION_LIMIT: usize = 64;

/// A server in a thread of its own; dropping it ends it and its connections.
#[derive(Debug)]
pub struct QuicServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<Result<()>>>>,
}

impl QuicServer {
    /// Starts a server. Without `ids` its connection IDs name nobody.
    ///
    /// # Errors
    /// When the address is not the namespace's or is in use.
    pub fn start(
        namespace: &Namespace,
        name: &str,
        listen: SocketAddr,
        identity: &Identity,
        ids: Option<ConnectionIds>,
    ) -> Result<Self> {
        let mut server = ServerConfig::with_single_cert(vec![identity.certificate.clone()], identity.key())?;
        server.transport_config(transport(SILENCE)?);
        let mut endpoint = EndpointConfig::default();
        if let Some(ids) = ids {
            endpoint.cid_generator(move || Box::new(ids.clone()));
        }
        let socket = namespace
            .run(|| UdpSocket::bind(listen))?
            .with_context(|| format!("cannot listen on UDP {listen}"))?;
        let (stop, stopped) = oneshot::channel();
        let name: Arc<str> = name.into();
        let serve = async move || -> Result<()> {
            let endpoint = Endpoint::new(endpoint, Some(server), socket, Arc::new(TokioRuntime))?;
            tokio::select! {
                () = accept(&endpoint, &name) => {}
                _ = stopped => {}
            }
            Ok(())
        };
        Ok(Self {
            stop: Some(stop),
            thread: Some(namespace.spawn_async(serve)?),
        })
    }
}

impl Drop for QuicServer {
    fn drop(&mut self) {
        // It may have ended by itself; its connections are lost then, which clients notice.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(endpoint: &Endpoint, name: &Arc<str>) {
    while let Some(incoming) = endpoint.accept().await {
        let name = Arc::clone(name);
        tokio::spawn(async move {
            // However it ends, the client notices.
            let _ = serve(incoming, &name).await;
        });
    }
}

async fn serve(incoming: Incoming, name: &str) -> Result<()> {
    let connection = incoming.await?;
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        receive.read_to_end(QUESTION_LIMIT).await?;
        send.write_all(name.as_bytes()).await?;
        send.finish()?;
    }
}
