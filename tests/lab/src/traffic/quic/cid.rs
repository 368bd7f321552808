//! A server's connection IDs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lb_common::quic;
use lb_core::desired::{QuicConfig, QuicKey, ServerId};
use quinn::{ConnectionId, ConnectionIdGenerator};

/// Makes connection IDs that name a server. Clones share the configuration.
#[derive(Debug, Clone)]
pub struct ConnectionIds {
    server_id: ServerId,
    config: Arc<Mutex<QuicConfig>>,
    len: usize,
    lifetime: Option<Duration>,
}

impl ConnectionIds {
    /// Of the server with that ID. Those older than `lifetime` are replaced.
    pub fn new(server_id: ServerId, config: QuicConfig, lifetime: Option<Duration>) -> Self {
        Self {
            len: length(&config),
            server_id,
            config: Arc::new(Mutex::new(config)),
            lifetime,
        }
    }

    /// Makes those to come by another configuration.
    ///
    /// # Panics
    /// When they were of another length: quinn knows them by that.
    pub fn rotate(&self, config: QuicConfig) {
        assert_eq!(
            length(&config),
            self.len,
            "a server's connection IDs are of one length"
        );
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

fn length(config: &QuicConfig) -> usize {
    usize::from(1 + config.server_id_length + config.nonce_length)
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nonce = vec![0; usize::from(config.nonce_length)];
        rand::fill(&mut nonce[..]);
        let first = config.id << 5 | rand::random::<u8>() & 0x1f;
        let key = config.key.as_ref().map(QuicKey::bytes);
        let mut cid = [0; quic::ConnectionId::MAX_BYTES];
        let len = quic::encode(first, self.server_id.bytes(), &nonce, key, &mut cid);
        ConnectionId::new(&cid[..len])
    }

    fn cid_len(&self) -> usize {
        self.len
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.lifetime
    }
}
