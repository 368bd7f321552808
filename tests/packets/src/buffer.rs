//! A frame in plain memory, as the host build of the pipeline takes it.

use lb_common::{
    abi::Reason,
    net::Bytes,
    pipeline::{Packet, Tables, Wrap, wrap},
};

/// Bytes that a driver leaves in front of a frame (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

/// A frame with some room in front of it.
#[derive(Clone, Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// A frame with the room that XDP drivers leave.
    pub fn new(frame: &[u8]) -> Self {
        Self::with_headroom(frame, HEADROOM)
    }

    /// A frame with `room` bytes in front of it.
    pub fn with_headroom(frame: &[u8], room: usize) -> Self {
        Self {
            bytes: [&vec![0; room], frame].concat(),
            start: room,
        }
    }

    /// The frame as it is now.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Bytes for Buffer {
    fn view<const N: usize>(&self, offset: usize) -> Option<&[u8; N]> {
        self.frame().get(offset..)?.first_chunk()
    }

    fn view_mut<const N: usize>(&mut self, offset: usize) -> Option<&mut [u8; N]> {
        self.bytes[self.start..].get_mut(offset..)?.first_chunk_mut()
    }

    fn grow(&mut self, bytes: i32) -> bool {
        match self.start.checked_add_signed(-bytes as isize) {
            Some(start) => {
                self.start = start;
                true
            }
            None => false,
        }
    }

    fn frame_len(&self) -> usize {
        self.frame().len()
    }
}

impl Packet for Buffer {
    fn trim(&mut self, len: usize) -> bool {
        self.bytes.truncate(self.start + len);
        true
    }

    fn wrap<T: Tables>(&mut self, tables: &T, wrap: Wrap) -> Result<(), Reason> {
        wrap::wrap(self, tables, wrap)
    }
}
