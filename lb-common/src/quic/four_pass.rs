//! Four-pass encryption: a Feistel network whose round function is AES (draft-ietf-quic-load-balancers-21 §5.4.2).
//!
//! The plaintext (server ID and nonce, 5 to 19 bytes) is cut into two halves of as many *nibbles* as it has bytes. Both
//! are handled as blocks: the left one from the first byte on; the right one likewise, after a nibble of zeros if the
//! plaintext has an odd number of bytes.

use crate::abi::RoundKeys;

use super::aes::{Block, Cipher, Direct};

/// Server ID and nonce as three words, the first byte in the highest bits, zeros behind.
pub(super) type CidText = [u64; 3];

/// The bits above the lowest `64 - bits` of a word; `bits` is 0 to 64.
#[inline(always)]
const fn high(bits: u32) -> u64 {
    match bits {
        0 => 0,
        bits => u64::MAX << ((64 - bits) & 63),
    }
}

/// The first `bits` of a block; `bits` is 0 to 128.
#[inline(always)]
pub(super) const fn first(bits: u32) -> Block {
    if bits < 64 {
        [high(bits), 0]
    } else {
        [u64::MAX, high(bits - 64)]
    }
}

#[inline(always)]
pub(super) const fn and(a: Block, b: Block) -> Block {
    [a[0] & b[0], a[1] & b[1]]
}

#[inline(always)]
const fn xor(a: Block, b: Block) -> Block {
    [a[0] ^ b[0], a[1] ^ b[1]]
}

/// The text from its byte `n` on, as far as a block goes; `n` is 0 to 15.
#[inline(always)]
const fn from(text: CidText, n: u32) -> Block {
    let [a, b, c] = text;
    let [a, b, c] = if n < 8 { [a, b, c] } else { [b, c, 0] };
    let bits = n % 8 * 8;
    if bits == 0 {
        [a, b]
    } else {
        [a << bits | b >> (64 - bits), b << bits | c >> (64 - bits)]
    }
}

/// A block moved `n` bytes back, among zeros, as a text; `n` is 0 to 15.
#[inline(always)]
const fn back(block: Block, n: u32) -> CidText {
    let [a, b] = block;
    let bits = n % 8 * 8;
    let [a, b, c] = if bits == 0 {
        [a, b, 0]
    } else {
        [a >> bits, a << (64 - bits) | b >> bits, b << (64 - bits)]
    };
    if n < 8 { [a, b, c] } else { [0, a, b] }
}

/// Where the halves of a text of that many bytes are.
struct Halves<'k, C> {
    cipher: &'k C,
    keys: &'k RoundKeys,
    len: u32,
    /// The bits of the left half.
    left: Block,
    /// The bits of the right half.
    right: Block,
}

impl<'k, C: Cipher> Halves<'k, C> {
    #[inline(always)]
    fn new(cipher: &'k C, keys: &'k RoundKeys, len: u32) -> Self {
        let mut right = first(len.div_ceil(2) * 8);
        if !len.is_multiple_of(2) {
            right[0] &= u64::MAX >> 4;
        }
        Self {
            cipher,
            keys,
            len,
            left: first(len * 4),
            right,
        }
    }

    #[inline(always)]
    fn cut(&self, text: CidText) -> (Block, Block) {
        let left = and([text[0], text[1]], self.left);
        (left, and(from(text, self.len / 2), self.right))
    }

    #[inline(always)]
    fn join(&self, left: Block, right: Block) -> CidText {
        let [a, b, c] = back(right, self.len / 2);
        [left[0] | a, left[1] | b, c]
    }

    /// One pass: `half` changed by the `other` half.
    #[inline(always)]
    fn pass(&self, pass: u32, half: Block, other: Block, mask: Block) -> Block {
        let expanded = [other[0], other[1] | u64::from(self.len << 8 | pass)];
        xor(half, and(self.cipher.encrypt(self.keys, expanded), mask))
    }
}

/// Encrypts the first `len` bytes of `text`, and leaves the others out.
pub(super) fn encrypt(keys: &RoundKeys, text: CidText, len: u32) -> CidText {
    let halves = Halves::new(&Direct, keys, len);
    let (mut left, mut right) = halves.cut(text);
    for pass in [1, 3] {
        right = halves.pass(pass, right, left, halves.right);
        left = halves.pass(pass + 1, left, right, halves.left);
    }
    halves.join(left, right)
}

/// Decrypts the first `len` bytes of `text`, and leaves the others out. Only the first `wanted` of them are asked for:
/// if they are in the left half, the last pass is spared.
#[inline(always)]
pub(super) fn decrypt<C: Cipher>(
    cipher: &C,
    keys: &RoundKeys,
    text: CidText,
    len: u32,
    wanted: u32,
) -> CidText {
    let halves = Halves::new(cipher, keys, len);
    let (mut left, mut right) = halves.cut(text);
    left = halves.pass(4, left, right, halves.left);
    right = halves.pass(3, right, left, halves.right);
    left = halves.pass(2, left, right, halves.left);
    if wanted * 2 > len {
        right = halves.pass(1, right, left, halves.right);
    }
    halves.join(left, right)
}
