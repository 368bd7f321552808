//! What QUIC connection IDs mean.

use lb_common::{
    abi::{QuicSetEntry, RoundKeys, ServerIdEntry, ServerTable},
    pipeline::QuicTables,
    quic::aes::{self, Block, Cipher},
};

use super::InMemory;

impl Cipher for InMemory {
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        aes::encrypt(keys, block)
    }

    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        aes::decrypt(keys, block)
    }
}

impl QuicTables for InMemory {
    fn quic(&self, index: u32) -> Option<&QuicSetEntry> {
        self.quic.get(index as usize)
    }

    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32> {
        table.look_up(id, |line| self.servers.get(line as usize))
    }
}
