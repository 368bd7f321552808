//! AES in the kernel, as global functions: the verifier walks through each once, however many passes there are.

use lb_common::{
    abi::RoundKeys,
    quic::aes::{self, Block},
};

/// Encrypts a block.
#[inline(always)]
pub(super) fn encrypt(keys: &RoundKeys, mut block: Block) -> Block {
    lb_encrypt(keys, &mut block);
    block
}

/// Decrypts a block.
#[inline(always)]
pub(super) fn decrypt(keys: &RoundKeys, mut block: Block) -> Block {
    lb_decrypt(keys, &mut block);
    block
}

/// Declares a function that does `$cipher` in place. It returns 0.
macro_rules! in_place {
    ($function:ident $cipher:path) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $function(keys: *const RoundKeys, block: *mut Block) -> u32 {
            // SAFETY: the caller's memory of these types, or null; the verifier holds every caller to it.
            if let (Some(keys), Some(block)) = unsafe { (keys.as_ref(), block.as_mut()) } {
                *block = $cipher(keys, *block);
            }
            0
        }
    };
}

in_place!(lb_encrypt aes::encrypt);
in_place!(lb_decrypt aes::decrypt);
