//! Packets in fragments.

use lb_core::desired::Protocol;
use rand::{Rng, seq::SliceRandom};

use super::Generator;

impl Generator<'_> {
    /// The fragments of a packet, in some order; now and then one twice, or one that overlaps another.
    pub(super) fn fragments(&mut self) -> Vec<Vec<u8>> {
        let mut ends = self.ends();
        ends.client.set_ip(self.own_client(ends.client.is_ipv6()));
        let mut frame = self.packet(ends.client, ends.service, ends.protocol);
        frame = self.dressed(frame).padding(&[]);
        let len = self.numbers.random_range(30..400);
        if ends.protocol != Protocol::Sctp {
            frame = frame.ip_len(len + 80);
        }
        let whole = frame.bytes();
        let header = whole.len() - self.quoted_payload(&whole[14..]);
        let (headers, payload) = whole.split_at(header);
        self.pieces(headers, payload)
    }

    /// The fragments, in some order, of a packet with that payload behind its Ethernet and IP headers.
    pub(super) fn pieces(&mut self, headers: &[u8], payload: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < payload.len() {
            let room = self.pick(&[8, 16, 24, 40, 64, 128, 256]);
            // First fragments mostly hold the whole header.
            let room = if at == 0 && !self.one_in(8) {
                room.max(24)
            } else {
                room
            };
            let end = (at + room).min(payload.len());
            pieces.push((at, end));
            at = end;
            if pieces.len() == 5 && at < payload.len() {
                pieces.push((at, payload.len()));
                break;
            }
        }
        if self.one_in(4) {
            let (start, end) = self.pick(&pieces);
            let odd = if self.one_in(2) {
                (start, end)
            } else {
                (start / 16 * 8, end)
            };
            pieces.push(odd);
        }
        match self.numbers.random_range(0..4) {
            0 => pieces.shuffle(&mut self.numbers),
            1 => pieces.rotate_left(1),
            _ => {}
        }
        let id = self.numbers.random::<u32>();
        pieces
            .iter()
            .map(|(start, end)| {
                let more = *end < payload.len();
                fragment(headers, &payload[*start..*end], *start, more, id)
            })
            .collect()
    }
}

/// A fragment of a packet whose Ethernet and IP headers are `headers`.
fn fragment(headers: &[u8], data: &[u8], start: usize, more: bool, id: u32) -> Vec<u8> {
    let mut frame = headers.to_vec();
    let ip = &mut frame[14..];
    if ip[0] >> 4 == 4 {
        let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(ip);
        packet.set_total_len((headers.len() - 14 + data.len()) as u16);
        packet.set_ident(id as u16);
        packet.set_dont_frag(false);
        packet.set_more_frags(more);
        packet.set_frag_offset(start as u16);
        packet.fill_checksum();
        return [&frame, data].concat();
    }
    let next = std::mem::replace(&mut ip[6], 44);
    ip[4..6].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
    let word = start as u16 & !7 | u16::from(more);
    let header = [&[next, 0][..], &word.to_be_bytes(), &id.to_be_bytes()].concat();
    [&frame[..], &header, data].concat()
}
