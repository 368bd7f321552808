//! Connection IDs of QUIC, as draft-ietf-quic-load-balancers-21 has them, by AES of another make.

use aes::{
    Aes128,
    cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit},
};
use lb_core::desired::{BackendId, QuicConfig};

use super::{
    Mistake, Model,
    parse::{Content, Parsed},
};
use lb_core::plan::Pool;

/// UDP's header, and the longest connection ID (RFC 9000 §17.2).
const UDP: usize = 8;
const LONGEST: usize = 20;

/// The destination connection ID of a UDP datagram, as far as it is known where it ends (RFC 8999 §5). Only of datagrams
/// that could hold the longest one, since QUIC's are longer.
fn connection_id(datagram: &[u8]) -> Option<&[u8]> {
    let packet = datagram.get(UDP..)?;
    let (at, len) = if packet.first()? & 0x80 != 0 {
        (6, usize::from(*packet.get(5)?))
    } else {
        (1, LONGEST)
    };
    let bytes = packet.get(at..at + LONGEST)?;
    bytes.get(..len.min(LONGEST))
}

/// The server ID in a connection ID; `None` if no configuration made it (§4.1, §5.5).
fn server_id(cid: &[u8], configs: &[QuicConfig]) -> Option<Vec<u8>> {
    let config = configs
        .iter()
        .find(|config| config.id == cid.first().map_or(7, |first| first >> 5))?;
    let (id, nonce) = (
        usize::from(config.server_id_length),
        usize::from(config.nonce_length),
    );
    let text = cid.get(1..1 + id + nonce)?;
    let plain = match &config.key {
        None => text.to_vec(),
        Some(key) => decrypt(key.bytes(), text),
    };
    Some(plain[..id].to_vec())
}

/// §5.4: one block by itself, all else in four passes.
fn decrypt(key: &[u8; 16], text: &[u8]) -> Vec<u8> {
    let aes = Aes128::new(key.into());
    if let Ok(block) = <[u8; 16]>::try_from(text) {
        let mut block = block.into();
        aes.decrypt_block(&mut block);
        return block.to_vec();
    }
    let half = text.len().div_ceil(2);
    let is_odd = text.len() % 2 == 1;
    let (mut left, mut right) = (text[..half].to_vec(), text[text.len() - half..].to_vec());
    if is_odd {
        left[half - 1] &= 0xf0;
        right[0] &= 0x0f;
    }
    for pass in (1..=4).rev() {
        // §5.4.2.2: the half, zeros, the length, the pass.
        let from = if pass % 2 == 0 { &right } else { &left };
        let mut block = [0; 16];
        block[..half].copy_from_slice(from);
        block[14] = text.len() as u8;
        block[15] = pass;
        let mut block = block.into();
        aes.encrypt_block(&mut block);
        let changed = if pass % 2 == 0 { &mut left } else { &mut right };
        for (byte, mask) in changed.iter_mut().zip(block) {
            *byte ^= mask;
        }
        if is_odd {
            left[half - 1] &= 0xf0;
            right[0] &= 0x0f;
        }
    }
    if is_odd {
        left[half - 1] |= right[0];
        right.remove(0);
    }
    [left, right].concat()
}

/// The UDP datagram of a packet for a service that is routed by connection IDs. What is sent in fragments is no QUIC
/// (RFC 9000 §14).
fn datagram<'f>(pool: &Pool, parsed: &Parsed, frame: &'f [u8]) -> Option<&'f [u8]> {
    let is_whole = parsed.piece.is_none() && matches!(parsed.content, Content::Ported { .. });
    if pool.service.quic.is_none() || !is_whole {
        return None;
    }
    let packet = &frame[parsed.at + parsed.transport..parsed.at + parsed.len];
    let len = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    packet.get(..len)
}

/// Whether a QUIC packet that names nobody opens a connection: its header is long.
pub(super) fn opens(pool: &Pool, parsed: &Parsed, frame: &[u8]) -> bool {
    let datagram = datagram(pool, parsed, frame);
    datagram.is_some_and(|datagram| connection_id(datagram).is_some() && datagram[UDP] & 0x80 != 0)
}

impl Model<'_> {
    /// The backend that a QUIC packet names, if it can serve.
    pub(super) fn named(&self, pool: &Pool, parsed: &Parsed, frame: &[u8]) -> Option<BackendId> {
        let quic = pool
            .service
            .quic
            .as_ref()
            .filter(|_| !self.errs(Mistake::Nameless))?;
        let id = server_id(connection_id(datagram(pool, parsed, frame)?)?, &quic.configs)?;
        let backend = pool.service.backends.iter().find(|backend| {
            let is_its = backend.server_id.as_ref().is_some_and(|own| own.bytes() == id);
            is_its && pool.members.iter().any(|member| member.id == backend.id())
        })?;
        self.world.next_hop(backend.address).map(|_| backend.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex
            .chars()
            .filter_map(|c| c.to_digit(16))
            .map(|digit| digit as u8)
            .collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// Appendix B of the draft, and the example of §5.4.2.4.
    #[test]
    fn connection_ids_of_the_draft_name_their_servers() {
        const KEY: &str = "8f95f09245765f80256934e50c66207f";
        const OTHER: &str = "fdf726a9893ec05c0632d3956680baf0";
        for (key, server, nonce, cid) in [
            (None, "c4605e", 4, "07c4605e4504cc4f"),
            (None, "350d28b420", 5, "2a350d28b42003487d970b"),
            (Some(KEY), "ed793a", 4, "0720b1d07b359d3c"),
            (
                Some(KEY),
                "ed793a51d49b8f5fab65",
                5,
                "2fcc381bc74cb4fbad2823a3d1f8fed2",
            ),
            (
                Some(KEY),
                "ed793a51d49b8f5f",
                8,
                "504dd2d05a7b0de9b2b9907afb5ecf8cc3",
            ),
            (
                Some(KEY),
                "ed793a51d49b8f5fab",
                9,
                "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc",
            ),
            (Some(OTHER), "31441a", 4, "0767947d29be054a"),
        ] {
            let cid = bytes(cid);
            let config = QuicConfig {
                id: cid[0] >> 5,
                server_id_length: bytes(server).len() as u8,
                nonce_length: nonce,
                key: key.and_then(|key| key.parse().ok()),
            };
            assert_eq!(server_id(&cid, &[config]), Some(bytes(server)), "{cid:02x?}");
        }
    }
}
