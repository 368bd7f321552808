//! The bytes of a checkpoint: a header of fixed size, the state, and perhaps the flows.
//!
//! | bytes | what |
//! |---|---|
//! | 0–7 | magic |
//! | 8–11 | version of this format |
//! | 12–15 | `ABI_VERSION` of the tables that the flows come from |
//! | 16–23 | generation of the desired state |
//! | 24–31 | bytes of the state, n |
//! | 32–39 | bytes of the flows, m; 0: there are none |
//! | 40–71 | SHA-256 of bytes 0–39 and all that follows the header |
//! | n bytes | [`SavedState`] as MessagePack with named fields |
//! | m bytes | the flow clock, then key and value of each flow |
//!
//! Numbers are little-endian. Invariant: whatever bytes are given, [`decode`] yields what [`encode`] was given, or an
//! error; it never panics and allocates no more than the bytes account for.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use bytemuck::{Pod, Zeroable};
use lb_common::abi::{ABI_VERSION, FlowKey, FlowValue};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::state::{SavedFlows, SavedState};

/// The first byte is no text, the last ones show what a transfer as text would have done.
const MAGIC: [u8; 8] = *b"\x89lbckp\r\n";
/// The version that is written, and the only one that is read so far.
const VERSION: u32 = 1;
/// Bytes of the flow clock.
const CLOCK: usize = 8;

/// Largest file that is written or read, in bytes: room for 30 million flows.
pub const MAX_BYTES: u64 = 512 << 20;

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// All but the flows.
    pub state: SavedState,
    /// The flows, where they are there and mean anything to this version's tables.
    pub flows: Option<SavedFlows>,
}

/// Why a file is no checkpoint that this version can use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system refused.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// It is a directory, a pipe or the like.
    #[error("this is no regular file")]
    NoFile,
    /// Nothing in it.
    #[error("the file is empty: writing it was cut off, or the disk was full")]
    Empty,
    /// Something else.
    #[error("this is no checkpoint: it does not begin like one")]
    Foreign,
    /// Of another version of lb.
    #[error("it has format {0}, this lb reads format {VERSION}: use the lb that wrote it")]
    Version(u32),
    /// Not as long as it says.
    #[error("it has {found} bytes instead of {expected}: writing it was cut off, or it was changed")]
    Length {
        /// By its header.
        expected: u64,
        /// By the file system.
        found: u64,
    },
    /// Longer than anything lb writes.
    #[error("it has {0} bytes, more than the {MAX_BYTES} that lb writes at most")]
    TooLarge(u64),
    /// Some of it is not what was written.
    #[error("its checksum is wrong: the file is damaged")]
    Checksum,
    /// It was written so, but says nothing valid.
    #[error("its content makes no sense to this lb: {0}")]
    Content(String),
}

/// A file's first bytes; numbers are little-endian.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct FileHeader {
    magic: [u8; 8],
    version: [u8; 4],
    abi_version: [u8; 4],
    generation: [u8; 8],
    state: [u8; 8],
    flows: [u8; 8],
    checksum: [u8; 32],
}

/// A flow in a file; numbers are little-endian.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct FlowRecord {
    key: [u8; 8],
    value: [u8; 8],
}

/// Bytes in front of the payload.
pub(super) const HEADER: usize = size_of::<FileHeader>();
const _: () = assert!(HEADER == 72);

impl FileHeader {
    /// The header of a file of `length` bytes that begins with `bytes`.
    pub(super) fn parse(bytes: &[u8], length: u64) -> Result<Self, Unusable> {
        if length == 0 {
            return Err(Unusable::Empty);
        }
        let magic = bytes.len().min(MAGIC.len());
        if bytes[..magic] != MAGIC[..magic] {
            return Err(Unusable::Foreign);
        }
        let whole = |expected| Unusable::Length {
            expected,
            found: length,
        };
        let header: &Self = bytes
            .get(..HEADER)
            .and_then(|bytes| bytemuck::try_from_bytes(bytes).ok())
            .ok_or_else(|| whole(HEADER as u64))?;
        match u32::from_le_bytes(header.version) {
            VERSION if header.length() == length => Ok(*header),
            VERSION => Err(whole(header.length())),
            version => Err(Unusable::Version(version)),
        }
    }

    /// Whether flows follow.
    pub(super) fn has_flows(&self) -> bool {
        self.flows != [0; 8]
    }

    /// The generation of the desired state.
    pub(super) fn generation(&self) -> u64 {
        u64::from_le_bytes(self.generation)
    }

    fn length(&self) -> u64 {
        (HEADER as u64)
            .saturating_add(u64::from_le_bytes(self.state))
            .saturating_add(u64::from_le_bytes(self.flows))
    }

    /// The checksum that fits, with this payload.
    fn sum(&self, payload: &[u8]) -> [u8; 32] {
        let Self {
            magic,
            version,
            abi_version,
            generation,
            state,
            flows,
            checksum: _,
        } = self;
        let mut hasher = Sha256::new();
        for part in [
            &magic[..],
            version,
            abi_version,
            generation,
            state,
            flows,
            payload,
        ] {
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// The bytes of a file that holds `state` and, where given, `flows`.
///
/// # Errors
/// [`Unusable::TooLarge`]; [`Unusable::Content`] when a value has no form in a file, which none is known to be.
pub fn encode(state: &SavedState, flows: Option<&SavedFlows>) -> Result<Vec<u8>, Unusable> {
    let mut bytes = vec![0; HEADER];
    let mut serializer = rmp_serde::Serializer::new(&mut bytes)
        .with_struct_map()
        .with_human_readable();
    state
        .serialize(&mut serializer)
        .map_err(|error| Unusable::Content(error.to_string()))?;
    let sealed = Sealed {
        abi_version: ABI_VERSION,
        generation: state.generation,
        state: bytes.len() - HEADER,
    };
    if let Some(SavedFlows { clock, entries }) = flows {
        bytes.reserve_exact(CLOCK + size_of::<FlowRecord>() * entries.len());
        bytes.extend(u64::from(*clock).to_le_bytes());
        for (key, value) in entries {
            bytes.extend(key.0.to_le_bytes());
            bytes.extend(value.0.to_le_bytes());
        }
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unusable::TooLarge(bytes.len() as u64));
    }
    sealed.seal(&mut bytes);
    Ok(bytes)
}

/// What a header says about the payload, beside its checksum.
pub(super) struct Sealed {
    pub(super) abi_version: u32,
    pub(super) generation: u64,
    /// How many bytes of the payload are the state.
    pub(super) state: usize,
}

impl Sealed {
    /// Fills in the header in front of a payload.
    pub(super) fn seal(&self, bytes: &mut [u8]) {
        let (head, payload) = bytes.split_at_mut(HEADER);
        let mut header = FileHeader {
            magic: MAGIC,
            version: VERSION.to_le_bytes(),
            abi_version: self.abi_version.to_le_bytes(),
            generation: self.generation.to_le_bytes(),
            state: (self.state as u64).to_le_bytes(),
            flows: ((payload.len() - self.state) as u64).to_le_bytes(),
            checksum: [0; 32],
        };
        header.checksum = header.sum(payload);
        head.copy_from_slice(bytemuck::bytes_of(&header));
    }
}

/// What `bytes`, a whole file, hold.
///
/// # Errors
/// Why they are of no use.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, Unusable> {
    let header = FileHeader::parse(bytes, bytes.len() as u64)?;
    let payload = &bytes[HEADER..];
    if header.sum(payload) != header.checksum {
        return Err(Unusable::Checksum);
    }
    // The header accounts for all of the payload, so the state's part is no longer than that.
    let (state, flows) = payload.split_at(u64::from_le_bytes(header.state) as usize);
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(state).with_human_readable();
    let state: SavedState = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Unusable::Content(format!("{}: {}", error.path(), error.inner())))?;
    state.check().map_err(Unusable::Content)?;
    let known = header.has_flows() && u32::from_le_bytes(header.abi_version) == ABI_VERSION;
    Ok(Checkpoint {
        state,
        flows: known.then(|| decode_flows(flows)).transpose()?,
    })
}

fn decode_flows(bytes: &[u8]) -> Result<SavedFlows, Unusable> {
    let broken = || Unusable::Content("its flows are cut off".to_owned());
    let (clock, flows) = bytes.split_first_chunk::<CLOCK>().ok_or_else(broken)?;
    let clock = u32::try_from(u64::from_le_bytes(*clock)).map_err(|_| broken())?;
    let flows: &[FlowRecord] = bytemuck::try_cast_slice(flows).map_err(|_| broken())?;
    let entry = |flow: &FlowRecord| {
        (
            FlowKey(u64::from_le_bytes(flow.key)),
            FlowValue(u64::from_le_bytes(flow.value)),
        )
    };
    Ok(SavedFlows {
        clock,
        entries: flows.iter().map(entry).collect(),
    })
}

/// Reads the file at `path`.
///
/// # Errors
/// Why it is of no use.
pub fn read(path: &Path) -> Result<Checkpoint, Unusable> {
    let (file, length) = open(path)?;
    if length > MAX_BYTES {
        return Err(Unusable::TooLarge(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // One byte more, so that a file that grows is noticed.
    file.take(length + 1).read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// Reads the header of the file at `path` alone.
pub(super) fn read_header(path: &Path) -> Result<FileHeader, Unusable> {
    let (file, length) = open(path)?;
    let mut bytes = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut bytes)?;
    FileHeader::parse(&bytes, length)
}

/// A regular file and its length. Without O_NONBLOCK, opening a named pipe would hang.
fn open(path: &Path) -> Result<(File, u64), Unusable> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::NoFile);
    }
    Ok((file, metadata.len()))
}
