//! How QUIC packets find their backend by connection ID: configurations, and whom server IDs name.
//!
//! Invariant: a set that packets can reach does not change, nor do the lines that it leads to. A change makes a new
//! set, and [`super::OptionsEntry::quic`] leads to it in one store.

use bytemuck::{Pod, Zeroable};
use open_enum::open_enum;

use crate::hash::mix_wide;

/// The keys of AES-128's eleven rounds, a native word a column with its first byte in the highest bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct RoundKeys(pub [[u32; 4]; 11]);

impl core::fmt::Debug for RoundKeys {
    /// A secret does not get into logs.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RoundKeys(..)")
    }
}

/// How the server ID lies in connection IDs of one configuration.
#[open_enum]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(u8)]
pub enum QuicKind {
    /// There is no such configuration.
    None = 0,
    /// As it is.
    Plaintext = 1,
    /// Server ID and nonce are one block of AES; the keys are those of decryption.
    SinglePass = 2,
    /// Server ID and nonce went through a Feistel network of four rounds; the keys are those of encryption.
    FourPass = 3,
}

/// One configuration of draft-ietf-quic-load-balancers-21. All zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct QuicConfigEntry {
    /// What it decrypts with.
    pub keys: RoundKeys,
    /// How the server ID lies in connection IDs.
    pub kind: QuicKind,
    /// Bytes of a server ID: 1 to 15.
    pub server_id_length: u8,
    /// Bytes of the nonce behind it: 4 to 18, together at most 19.
    pub nonce_length: u8,
    /// Zero.
    pub spare: [u8; 13],
}

const _: () = assert!(size_of::<QuicConfigEntry>() == 192);

/// Map `QUIC`, mmap-able: all configurations of a service, and where its server IDs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct QuicSetEntry {
    /// By the first three bits of a connection ID; the eighth value says that it names no server.
    pub configs: [QuicConfigEntry; 7],
    /// Where its server IDs are.
    pub servers: ServerTable,
    /// Zero.
    pub spare: [u64; 6],
}

const _: () = assert!(size_of::<QuicSetEntry>() == 1408);

/// Where the server IDs of a set are: a run of lines in map `SERVERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ServerTable {
    /// The first line.
    pub first: u32,
    /// Lines less one; a power of two less one.
    pub mask: u32,
    /// What server IDs are hashed under: one by which all of them are found.
    pub seed: u64,
}

impl ServerTable {
    /// A server ID is in one of so many lines, from the one that it hashes to on; behind the last comes the first.
    pub const PROBES: u32 = 8;

    /// The `probe`th line to look in for `id`.
    #[inline(always)]
    pub const fn line(&self, id: &ServerIdEntry, probe: u32) -> u32 {
        let hash = (mix_wide(id.0, 0, self.seed) >> 40) as u32;
        self.first.wrapping_add(hash.wrapping_add(probe) & self.mask)
    }

    /// The target that `id` names, where `line` shows the lines.
    #[inline(always)]
    pub fn look_up<'t>(
        &self,
        id: &ServerIdEntry,
        line: impl Fn(u32) -> Option<&'t ServerLine>,
    ) -> Option<u32> {
        for probe in 0..Self::PROBES {
            let line = line(self.line(id, probe))?;
            for (i, present) in line.ids.iter().enumerate() {
                if *present == *id {
                    return Some(line.targets[i]);
                }
            }
            // It would lie in the first place that was free.
            if line.ids[SERVERS_PER_LINE - 1] == ServerIdEntry::NONE {
                return None;
            }
        }
        None
    }
}

/// Server IDs of one 64-byte line.
pub const SERVERS_PER_LINE: usize = 3;

/// Map `SERVERS`, mmap-able: server IDs and the targets that they name, handed out to sets in runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct ServerLine {
    /// The IDs, those that are [`ServerIdEntry::NONE`] last.
    pub ids: [ServerIdEntry; SERVERS_PER_LINE],
    /// Index in `TARGETS` of each.
    pub targets: [u32; SERVERS_PER_LINE],
    /// Zero.
    pub spare: u32,
}

const _: () = assert!(size_of::<ServerLine>() == 64);

/// A server ID of up to 15 bytes: those from the highest bits of the first word on, then zeros, then its length in the
/// lowest byte of the second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct ServerIdEntry(pub [u64; 2]);

impl ServerIdEntry {
    /// No server ID.
    pub const NONE: Self = Self([0; 2]);

    /// Most bytes of one.
    pub const MAX_BYTES: usize = 15;

    /// The server ID of those bytes; `None` if they are none or more than [`ServerIdEntry::MAX_BYTES`].
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || bytes.len() > Self::MAX_BYTES {
            return None;
        }
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded[Self::MAX_BYTES] = bytes.len() as u8;
        Some(Self(bytemuck::cast::<_, [u64; 2]>(padded).map(u64::from_be)))
    }
}
