//! QUIC as quinn speaks it: servers whose connection IDs name them (draft-ietf-quic-load-balancers), and clients that
//! move to other addresses.
//!
//! What must hold: who answers is the server that has the connection; nobody else could.

mod cid;
mod client;
mod server;

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use cid::ConnectionIds;
pub use client::QuicClients;
pub use server::QuicServer;

/// The name that clients ask for.
const NAME: &str = "quic.lab";

/// A key and a certificate of its own making, which all servers of a service have and its clients trust.
#[derive(Debug)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// Makes one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()),
        })
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key().into()
    }
}

/// Connections outlive quiet times of tests, and notice within `silence` that nobody answers.
fn transport(silence: Duration) -> Result<Arc<TransportConfig>> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IdleTimeout::try_from(silence)?));
    transport.max_concurrent_bidi_streams(VarInt::from_u32(100));
    Ok(Arc::new(transport))
}
