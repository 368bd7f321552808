//! What QUIC connection IDs mean.

use crate::{
    abi::{QuicSetEntry, ServerIdEntry, ServerTable},
    quic::aes::Cipher,
};

/// The tables of QUIC configurations and server IDs, and the cipher to read connection IDs with.
pub trait QuicTables: Cipher {
    /// An entry of map `QUIC`.
    fn quic(&self, index: u32) -> Option<&QuicSetEntry>;
    /// The target that a server ID names by map `SERVERS`: [`ServerTable::look_up`], which the kernel build makes a function of its own.
    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32>;
}
