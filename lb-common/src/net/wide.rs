//! Loads and stores of whole words at any offset of a fixed-size view.
//!
//! Offsets are constants and views are arrays, so the bounds checks fold away, and each of these is one instruction
//! where the target allows misaligned access (the eBPF build asks for it). Words hold the wire's byte order.

macro_rules! wide {
    ($load:ident $store:ident $word:ty) => {
        /// The word at `offset`, in wire order.
        #[inline(always)]
        pub fn $load<const N: usize>(bytes: &[u8; N], offset: usize) -> $word {
            let mut word = [0; size_of::<$word>()];
            word.copy_from_slice(&bytes[offset..offset + size_of::<$word>()]);
            <$word>::from_ne_bytes(word)
        }

        /// Puts a word, in wire order, at `offset`.
        #[inline(always)]
        pub fn $store<const N: usize>(bytes: &mut [u8; N], offset: usize, word: $word) {
            bytes[offset..offset + size_of::<$word>()].copy_from_slice(&word.to_ne_bytes());
        }
    };
}

wide!(load16 store16 u16);
wide!(load32 store32 u32);
wide!(load64 store64 u64);
