//! AES-128 on single blocks (FIPS 197), by tables: the only cipher that connection IDs need.
//!
//! A round is 16 look-ups in tables of 256 words, whose indexes are single bytes, so that the verifier sees that they
//! are within bounds, and no compiler has to be believed. The time of a look-up depends on caches, and these on key and
//! data: what is hidden here is which server a connection is at, not what it says.

use crate::abi::RoundKeys;

/// The cipher, by [`encrypt`] and [`decrypt`] or functions that call them: the kernel build makes them functions of their
/// own, which the verifier walks through once and not at every pass.
pub trait Cipher {
    /// See [`encrypt`].
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block;
    /// See [`decrypt`].
    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block;
}

/// The cipher called directly.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Cipher for Direct {
    fn encrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        encrypt(keys, block)
    }

    fn decrypt(&self, keys: &RoundKeys, block: Block) -> Block {
        decrypt(keys, block)
    }
}

/// 16 bytes as two words, the first byte in the highest bits.
pub type Block = [u64; 2];

const ROUNDS: usize = 10;

/// Double in the field of FIPS 197 §4.2.
const fn double(x: u8) -> u8 {
    (x << 1) ^ ((x >> 7) * 0x1b)
}

/// The product in that field.
const fn product(x: u8, factor: u8) -> u8 {
    let (mut sum, mut multiple, mut bits) = (0, x, factor);
    while bits != 0 {
        if bits & 1 != 0 {
            sum ^= multiple;
        }
        multiple = double(multiple);
        bits >>= 1;
    }
    sum
}

/// SubBytes (FIPS 197 §5.1.1): the inverse in the field, then an affine map.
const SUBSTITUTE: [u8; 256] = {
    let mut table = [0; 256];
    // Powers of 3 run through all of the field but 0, and those of its inverse 0xf6 backwards.
    let (mut power, mut inverse) = (1_u8, 1_u8);
    let mut i = 0;
    while i < 255 {
        let turned = inverse ^ inverse.rotate_left(1) ^ inverse.rotate_left(2) ^ inverse.rotate_left(3);
        table[power as usize] = turned ^ inverse.rotate_left(4) ^ 0x63;
        power = product(power, 3);
        inverse = product(inverse, 0xf6);
        i += 1;
    }
    table[0] = 0x63;
    table
};

/// The inverse of [`SUBSTITUTE`] (FIPS 197 §5.3.2).
const RESTORE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SUBSTITUTE[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// For every byte the column that `substitute` and a multiplication with `column` make of it.
const fn mixed(substitute: &[u8; 256], column: [u8; 4]) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let byte = substitute[i];
        let mut word = [0; 4];
        let mut row = 0;
        while row < 4 {
            word[row] = product(byte, column[row]);
            row += 1;
        }
        table[i] = u32::from_be_bytes(word);
        i += 1;
    }
    table
}

static SUBSTITUTED: [u8; 256] = SUBSTITUTE;
static RESTORED: [u8; 256] = RESTORE;
/// SubBytes and MixColumns (FIPS 197 §5.1.3) of a byte in the first row; other rows are its rotations.
static FORWARD: [u32; 256] = mixed(&SUBSTITUTE, [2, 1, 1, 3]);
/// InvSubBytes and InvMixColumns (FIPS 197 §5.3.2 and §5.3.3) of a byte in the first row; other rows are its rotations.
static BACKWARD: [u32; 256] = mixed(&RESTORE, [14, 9, 13, 11]);

/// Byte `row` of a column, counted from the top.
#[inline(always)]
const fn byte(column: u32, row: u32) -> usize {
    (column >> (24 - 8 * row)) as u8 as usize
}

/// The four columns of a block.
#[inline(always)]
const fn columns([high, low]: Block) -> [u32; 4] {
    [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32]
}

/// The block of four columns.
#[inline(always)]
const fn block([a, b, c, d]: [u32; 4]) -> Block {
    [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
}

/// All rounds, the last of which does not mix. `shift` is how many columns further on row 1 is taken from: 1 forward,
/// 3 backward (ShiftRows, FIPS 197 §5.1.2).
#[inline(always)]
fn rounds(
    keys: &RoundKeys,
    input: Block,
    shift: usize,
    mixed: &[u32; 256],
    substituted: &[u8; 256],
) -> Block {
    let mut state = columns(input);
    for (column, key) in state.iter_mut().zip(keys.0[0]) {
        *column ^= key;
    }
    for key in &keys.0[1..ROUNDS] {
        let mut next = *key;
        for (i, column) in next.iter_mut().enumerate() {
            for row in 0..4 {
                let from = state[(i + shift * row) % 4];
                *column ^= mixed[byte(from, row as u32)].rotate_right(8 * row as u32);
            }
        }
        state = next;
    }
    let mut last = keys.0[ROUNDS];
    for (i, column) in last.iter_mut().enumerate() {
        for row in 0..4 {
            let from = state[(i + shift * row) % 4];
            *column ^= u32::from(substituted[byte(from, row as u32)]) << (24 - 8 * row);
        }
    }
    block(last)
}

/// Encrypts a block (FIPS 197 §5.1) with keys of [`encryption_keys`].
#[inline(always)]
pub fn encrypt(keys: &RoundKeys, block: Block) -> Block {
    rounds(keys, block, 1, &FORWARD, &SUBSTITUTED)
}

/// Decrypts a block (the equivalent inverse cipher of FIPS 197 §5.3.5) with keys of [`decryption_keys`].
#[inline(always)]
pub fn decrypt(keys: &RoundKeys, block: Block) -> Block {
    rounds(keys, block, 3, &BACKWARD, &RESTORED)
}

/// The keys of all rounds of encryption (FIPS 197 §5.2).
pub fn encryption_keys(key: &[u8; 16]) -> RoundKeys {
    let mut words = [0_u32; 4 * (ROUNDS + 1)];
    let [high, low] = [0, 8].map(|i| crate::net::load64(key, i).swap_bytes());
    words[..4].copy_from_slice(&columns([high, low]));
    let mut constant = 1;
    for i in 4..words.len() {
        let mut word = words[i - 1];
        if i % 4 == 0 {
            word = substitute(word.rotate_left(8)) ^ u32::from(constant) << 24;
            constant = double(constant);
        }
        words[i] = words[i - 4] ^ word;
    }
    RoundKeys(bytemuck::cast(words))
}

/// The keys of all rounds of decryption (FIPS 197 §5.3.5).
pub fn decryption_keys(key: &[u8; 16]) -> RoundKeys {
    let RoundKeys(mut keys) = encryption_keys(key);
    keys.reverse();
    for column in keys[1..ROUNDS].as_flattened_mut() {
        // The table undoes SubBytes first, which is done here so that it has nothing to undo.
        let bytes = substitute(*column);
        *column = (0..4).fold(0, |sum, row| {
            sum ^ BACKWARD[byte(bytes, row)].rotate_right(8 * row)
        });
    }
    RoundKeys(keys)
}

/// SubBytes of a column.
fn substitute(column: u32) -> u32 {
    u32::from_be_bytes(column.to_be_bytes().map(|byte| SUBSTITUTE[byte as usize]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_of(number: u128) -> Block {
        [(number >> 64) as u64, number as u64]
    }

    /// Key, plaintext and ciphertext of FIPS 197 (appendices B and C.1) and SP 800-38A (F.1.1).
    const VECTORS: [(u128, u128, u128); 6] = [
        (
            0x2b7e1516_28aed2a6_abf71588_09cf4f3c,
            0x3243f6a8_885a308d_313198a2_e0370734,
            0x3925841d_02dc09fb_dc118597_196a0b32,
        ),
        (
            0x00010203_04050607_08090a0b_0c0d0e0f,
            0x00112233_44556677_8899aabb_ccddeeff,
            0x69c4e0d8_6a7b0430_d8cdb780_70b4c55a,
        ),
        (
            0x2b7e1516_28aed2a6_abf71588_09cf4f3c,
            0x6bc1bee2_2e409f96_e93d7e11_7393172a,
            0x3ad77bb4_0d7a3660_a89ecaf3_2466ef97,
        ),
        (
            0x2b7e1516_28aed2a6_abf71588_09cf4f3c,
            0xae2d8a57_1e03ac9c_9eb76fac_45af8e51,
            0xf5d3d585_03b9699d_e785895a_96fdbaaf,
        ),
        (
            0x2b7e1516_28aed2a6_abf71588_09cf4f3c,
            0x30c81c46_a35ce411_e5fbc119_1a0a52ef,
            0x43b1cd7f_598ece23_881b00e3_ed030688,
        ),
        (
            0x2b7e1516_28aed2a6_abf71588_09cf4f3c,
            0xf69f2445_df4f9b17_ad2b417b_e66c3710,
            0x7b0c785e_27e8ad3f_82232071_04725dd4,
        ),
    ];

    #[test]
    fn the_standards_vectors_come_out() {
        for (key, plain, cipher) in VECTORS {
            let key = key.to_be_bytes();
            let (plain, cipher) = (block_of(plain), block_of(cipher));
            assert_eq!(encrypt(&encryption_keys(&key), plain), cipher);
            assert_eq!(decrypt(&decryption_keys(&key), cipher), plain);
        }
    }

    #[test]
    fn the_key_schedule_is_that_of_appendix_a() {
        let keys = encryption_keys(&VECTORS[0].0.to_be_bytes());
        assert_eq!(keys.0[1], [0xa0fafe17, 0x88542cb1, 0x23a33939, 0x2a6c7605]);
        assert_eq!(keys.0[10], [0xd014f9a8, 0xc9ee2589, 0xe13f0cc8, 0xb6630ca6]);
    }

    proptest! {
        #[test]
        fn what_was_encrypted_is_decrypted(key: [u8; 16], plain: Block) {
            let cipher = encrypt(&encryption_keys(&key), plain);
            prop_assert_eq!(decrypt(&decryption_keys(&key), cipher), plain);
            prop_assert_ne!(cipher, plain);
        }
    }
}
