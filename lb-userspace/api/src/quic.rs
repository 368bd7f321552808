//! How a service routes QUIC packets, as the API shows it.
//!
//! Invariant: no key is ever part of an answer.

use serde::{Deserialize, Serialize};

use lb_core::desired::{Quic, QuicConfig};

/// How QUIC packets are routed by connection ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuicView {
    /// The configurations that are live at once.
    pub configs: Vec<QuicConfigView>,
}

/// One way of writing a server ID into a connection ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuicConfigView {
    /// Its number in the first three bits of a connection ID.
    pub id: u8,
    /// Bytes of a server ID.
    pub server_id_length: u8,
    /// Bytes of the nonce behind it.
    pub nonce_length: u8,
    /// Whether there is a key; it is not shown.
    pub encrypted: bool,
}

impl From<&Quic> for QuicView {
    fn from(quic: &Quic) -> Self {
        let config = |config: &QuicConfig| QuicConfigView {
            id: config.id,
            server_id_length: config.server_id_length,
            nonce_length: config.nonce_length,
            encrypted: config.key.is_some(),
        };
        Self {
            configs: quic.configs.iter().map(config).collect(),
        }
    }
}
