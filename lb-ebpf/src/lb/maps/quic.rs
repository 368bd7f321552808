//! What QUIC connection IDs mean, in the kernel.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use lb_common::{
    abi::{QuicSetEntry, RoundKeys, ServerIdEntry, ServerLine, ServerTable, Trace},
    pipeline::QuicTables,
    quic::aes::{Block, Cipher},
};

use super::{super::cipher, Maps};

#[map]
static QUIC: Array<QuicSetEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static SERVERS: Array<ServerLine> = Array::with_max_entries(1, BPF_F_MMAPABLE);

impl Cipher for Maps<'_> {
    #[inline(always)]
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        cipher::encrypt(keys, block)
    }

    #[inline(always)]
    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        cipher::decrypt(keys, block)
    }
}

impl QuicTables for Maps<'_> {
    #[inline(always)]
    fn quic(&self, index: u32) -> Option<&QuicSetEntry> {
        QUIC.get(index)
    }

    #[inline(always)]
    fn server(&self, table: &ServerTable, id: &ServerIdEntry) -> Option<u32> {
        let ServerTable { first, mask, seed } = *table;
        let [high, low] = id.0;
        let target = lb_server(first, mask, seed, high, low);
        (target != Trace::NONE).then_some(target)
    }
}

/// The target that the server ID of words `high` and `low` names by the table of the other words, or [`Trace::NONE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lb_server(first: u32, mask: u32, seed: u64, high: u64, low: u64) -> u32 {
    let table = ServerTable { first, mask, seed };
    table
        .look_up(&ServerIdEntry([high, low]), |line| SERVERS.get(line))
        .unwrap_or(Trace::NONE)
}
