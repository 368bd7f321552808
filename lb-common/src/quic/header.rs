//! Where packets of QUIC, of whatever version, have their destination connection ID (RFC 8999 §5).

/// The kinds of headers that invariants know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A version, then the ID's length, then the ID (§5.1).
    Long,
    /// The ID, and nothing says how long it is (§5.2).
    Short,
}

impl Header {
    /// Where the connection ID begins, from the packet's first byte.
    #[inline(always)]
    pub const fn connection_id(self) -> usize {
        match self {
            Self::Long => 6,
            Self::Short => 1,
        }
    }

    /// Where a long header says how long the connection ID is.
    pub const LENGTH: usize = 5;
}

/// The kind of header that begins with that byte.
#[inline(always)]
pub const fn header(first: u8) -> Header {
    if first & 0x80 != 0 {
        Header::Long
    } else {
        Header::Short
    }
}
