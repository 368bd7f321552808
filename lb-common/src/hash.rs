//! The flow hash: which slot a flow falls into.

/// Mixes one word under a seed. Bits 48 to 63 of the result are the best and choose the slot.
///
/// The first shift matters: without it flows that differ only in low address bits fall unevenly (0.49 against 0.013
/// of relative bias over the slots).
#[inline(always)]
pub const fn mix(word: u64, seed: u64) -> u64 {
    let x = word ^ (word >> 32) ^ seed;
    let x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (x ^ (x >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Mixes two address words and the ports.
#[inline(always)]
pub const fn mix_wide(address: [u64; 2], ports: u32, seed: u64) -> u64 {
    let high = (address[0] ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (address[1] ^ (ports as u64) << 32 ^ ports as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mix(high ^ (high >> 32) ^ low ^ (low >> 29), seed)
}
