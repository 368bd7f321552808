//! Connection IDs: the first byte, which says by which configuration they were made, and the server ID behind it.

use crate::{
    abi::{QuicConfigEntry, QuicKind, QuicSetEntry, ServerIdEntry},
    net::load64,
    verifier::element,
};

use super::{
    aes::{self, Cipher},
    four_pass::{self, CidText, and, first},
};

/// The first 20 bytes of a connection ID, or what lies there in the packet: short headers do not say how long one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The first byte: three bits for the configuration; the others are the server's.
    first: u8,
    /// How long it is, where that is known; otherwise [`ConnectionId::MAX_BYTES`].
    len: u8,
    text: CidText,
}

impl ConnectionId {
    /// Most bytes of a connection ID of QUIC versions 1 and 2 (RFC 9000 §17.2).
    pub const MAX_BYTES: usize = 20;

    /// Of a connection ID of `len` bytes, which lie at the beginning of `bytes`.
    #[inline(always)]
    pub fn new(bytes: &[u8; Self::MAX_BYTES], len: usize) -> Self {
        let [a, b] = [1, 9].map(|i| load64(bytes, i).swap_bytes());
        // The last three bytes, with those in front of them out of the way.
        let c = load64(bytes, 12).swap_bytes() << 40;
        Self {
            first: bytes[0],
            len: len as u8,
            text: [a, b, c],
        }
    }

    /// Which configuration made it: 0 to 6, or 7 for none.
    #[inline(always)]
    pub const fn rotation(&self) -> u8 {
        self.first >> 5
    }
}

/// Why a connection ID names no server (§4.1 of the draft).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// No configuration that is live made it.
    NoConfig,
    /// It is shorter than those that its configuration makes.
    TooShort,
}

/// The server ID that `cid` names by one of the configurations of `set`.
///
/// # Errors
/// When it names none.
#[inline(always)]
pub fn decode<C: Cipher>(
    cipher: &C,
    set: &QuicSetEntry,
    cid: &ConnectionId,
) -> Result<ServerIdEntry, Unroutable> {
    let config = element(&set.configs, usize::from(cid.rotation())).ok_or(Unroutable::NoConfig)?;
    let (server, nonce) = (u32::from(config.server_id_length), u32::from(config.nonce_length));
    if u32::from(cid.len) < 1 + server + nonce {
        return Err(Unroutable::TooShort);
    }
    let [a, b, _] = match config.kind {
        QuicKind::Plaintext => cid.text,
        QuicKind::SinglePass => {
            let [a, b] = cipher.decrypt(&config.keys, [cid.text[0], cid.text[1]]);
            [a, b, 0]
        }
        QuicKind::FourPass => four_pass::decrypt(cipher, &config.keys, cid.text, server + nonce, server),
        _ => return Err(Unroutable::NoConfig),
    };
    let [a, b] = and([a, b], first(server * 8));
    Ok(ServerIdEntry([a, b | u64::from(config.server_id_length)]))
}

/// The bytes of server ID and nonce that make one block, so that one pass is enough.
const ONE_BLOCK: u8 = 16;

/// A configuration for decoding: lengths within the draft's limits, and the key if there is one.
pub fn config(server_id_length: u8, nonce_length: u8, key: Option<&[u8; 16]>) -> QuicConfigEntry {
    let (kind, keys) = match key {
        None => (QuicKind::Plaintext, Default::default()),
        Some(key) if server_id_length + nonce_length == ONE_BLOCK => {
            (QuicKind::SinglePass, aes::decryption_keys(key))
        }
        Some(key) => (QuicKind::FourPass, aes::encryption_keys(key)),
    };
    QuicConfigEntry {
        keys,
        kind,
        server_id_length,
        nonce_length,
        spare: [0; 13],
    }
}

/// What a server does: writes server ID and nonce behind the `first` byte into `cid`, encrypted if there is a key, and
/// returns how long the connection ID is. Together they have 5 to 19 bytes.
pub fn encode(
    first: u8,
    server_id: &[u8],
    nonce: &[u8],
    key: Option<&[u8; 16]>,
    cid: &mut [u8; ConnectionId::MAX_BYTES],
) -> usize {
    let len = server_id.len() + nonce.len();
    let mut text = [0; 24];
    text[..server_id.len()].copy_from_slice(server_id);
    text[server_id.len()..len].copy_from_slice(nonce);
    let plain: CidText = bytemuck::cast::<_, CidText>(text).map(u64::from_be);
    let cipher = match key {
        None => plain,
        Some(key) if len == usize::from(ONE_BLOCK) => {
            let [a, b] = aes::encrypt(&aes::encryption_keys(key), [plain[0], plain[1]]);
            [a, b, 0]
        }
        Some(key) => four_pass::encrypt(&aes::encryption_keys(key), plain, len as u32),
    };
    let text: [u8; 24] = bytemuck::cast(cipher.map(u64::to_be));
    cid[0] = first;
    cid[1..=len].copy_from_slice(&text[..len]);
    1 + len
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{string::String, vec::Vec};

    use proptest::{collection::vec, prelude::*};

    use super::{super::aes::Direct, *};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal digits"))
            .collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| std::format!("{byte:02x}")).collect()
    }

    fn set_of(rotation: u8, config: QuicConfigEntry) -> QuicSetEntry {
        let mut set = QuicSetEntry::default();
        set.configs[usize::from(rotation)] = config;
        set
    }

    /// Checks that a server makes `cid`, and that it is read back, by one pass less than there are where that suffices.
    fn check(server_id: &str, nonce: &str, key: Option<&str>, cid: &str) {
        let (server_id, nonce, cid) = (bytes(server_id), bytes(nonce), bytes(cid));
        let key = key.map(|key| <[u8; 16]>::try_from(bytes(key)).expect("16 bytes"));
        let mut made = [0; ConnectionId::MAX_BYTES];
        let len = encode(cid[0], &server_id, &nonce, key.as_ref(), &mut made);
        assert_eq!(hex(&made[..len]), hex(&cid));
        let config = config(server_id.len() as u8, nonce.len() as u8, key.as_ref());
        let decoded = decode(
            &Direct,
            &set_of(cid[0] >> 5, config),
            &ConnectionId::new(&made, len),
        );
        assert_eq!(decoded.ok(), ServerIdEntry::new(&server_id));
    }

    const KEY: Option<&str> = Some("8f95f09245765f80256934e50c66207f");

    #[test]
    fn plaintext_vectors() {
        check("c4605e", "4504cc4f", None, "07c4605e4504cc4f");
        // The draft prints 20a350d28b4203487d970b and leaves out a zero at the nonce's beginning. The first byte says that
        // ten bytes follow, and so they are.
        check("350d28b420", "03487d970b", None, "2a350d28b42003487d970b");
    }

    #[test]
    fn single_pass_vector() {
        check(
            "ed793a51d49b8f5f",
            "ee080dbf48c0d1e5",
            KEY,
            "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
        );
    }

    #[test]
    fn four_pass_vectors() {
        check("ed793a", "ee080dbf", KEY, "0720b1d07b359d3c");
        check(
            "ed793a51d49b8f5fab65",
            "ee080dbf48",
            KEY,
            "2fcc381bc74cb4fbad2823a3d1f8fed2",
        );
        check(
            "ed793a51d49b8f5fab",
            "ee080dbf48c0d1e55d",
            KEY,
            "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
        );
        // The example of §5.4.2.4.
        let key = Some("fdf726a9893ec05c0632d3956680baf0");
        check("31441a", "9c69c275", key, "0767947d29be054a");
    }

    #[test]
    fn what_no_configuration_made_is_unroutable() {
        let set = set_of(2, config(3, 4, None));
        let cid = |first: u8, len| {
            let mut bytes = [0x11; ConnectionId::MAX_BYTES];
            bytes[0] = first;
            decode(&Direct, &set, &ConnectionId::new(&bytes, len))
        };
        assert_eq!(cid(0x5f, 8), Ok(ServerIdEntry::new(&[0x11; 3]).expect("3 bytes")));
        assert_eq!(cid(0x5f, 20), cid(0x40, 8));
        assert_eq!(cid(0x5f, 7), Err(Unroutable::TooShort));
        for other in [0x00, 0x3f, 0x60, 0xdf, 0xe0, 0xff] {
            assert_eq!(cid(other, 20), Err(Unroutable::NoConfig), "{other:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_a_server_encodes_is_decoded(
            rotation in 0..7_u8,
            random: u8,
            server_id in vec(any::<u8>(), 1..=15),
            nonce in vec(any::<u8>(), 4..=18),
            key: Option<[u8; 16]>,
            rest: [u8; ConnectionId::MAX_BYTES],
        ) {
            prop_assume!(server_id.len() + nonce.len() <= 19);
            let mut cid = rest;
            let first = rotation << 5 | random & 0x1f;
            let len = encode(first, &server_id, &nonce, key.as_ref(), &mut cid);
            prop_assert_eq!(&cid[len..], &rest[len..]);
            prop_assert!(key.is_some() || cid[1..len] == [&server_id[..], &nonce].concat());
            let config = config(server_id.len() as u8, nonce.len() as u8, key.as_ref());
            let set = set_of(rotation, config);
            for known in [len, ConnectionId::MAX_BYTES] {
                prop_assert_eq!(decode(&Direct, &set, &ConnectionId::new(&cid, known)).ok(), ServerIdEntry::new(&server_id));
            }
            prop_assert!(decode(&Direct, &set, &ConnectionId::new(&cid, len - 1)).is_err());
        }

        #[test]
        fn a_nonce_changes_all_of_an_encrypted_id(
            server_id in vec(any::<u8>(), 1..=15),
            nonce in vec(any::<u8>(), 4..=18),
            key: [u8; 16],
        ) {
            prop_assume!(server_id.len() + nonce.len() <= 19);
            let mut other = nonce.clone();
            other[0] ^= 1;
            let made = [nonce, other].map(|nonce| {
                let mut cid = [0; ConnectionId::MAX_BYTES];
                let len = encode(0, &server_id, &nonce, Some(&key), &mut cid);
                cid[1..len].to_vec()
            });
            let half = made[0].len() / 2;
            prop_assert_ne!(&made[0][..half], &made[1][..half]);
            prop_assert_ne!(&made[0][half..], &made[1][half..]);
        }
    }
}
