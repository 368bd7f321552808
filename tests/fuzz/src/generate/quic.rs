//! QUIC packets.

use std::net::SocketAddr;

use lb_common::quic::encode;
use lb_core::desired::{Protocol, QuicKey};
use rand::{Rng, seq::IteratorRandom};

use super::Generator;

impl Generator<'_> {
    /// A QUIC packet with a connection ID that some server could have made, or nearly.
    pub(super) fn quic(&mut self) -> Vec<u8> {
        let routed: Vec<_> = self
            .world
            .pools
            .iter()
            .filter(|pool| pool.service.quic.is_some())
            .collect();
        let pool = routed[self.numbers.random_range(0..routed.len())];
        let configs = pool.service.quic.iter().flat_map(|quic| &quic.configs);
        let Some(config) = configs.choose(&mut self.numbers) else {
            return self.other();
        };
        let backends = &pool.service.backends;
        let named = &backends[self.numbers.random_range(0..backends.len())];
        let mut server_id = named.server_id.as_ref().map_or(vec![], |id| id.bytes().to_vec());
        if self.one_in(6) {
            self.numbers.fill(&mut server_id[..]);
        }
        let mut nonce = vec![0; config.nonce_length.into()];
        self.numbers.fill(&mut nonce[..]);
        let first = config.id << 5 | self.numbers.random::<u8>() & 0x1f;
        let first = if self.one_in(8) {
            self.numbers.random()
        } else {
            first
        };
        let mut cid = self.numbers.random();
        let key = config.key.as_ref().map(QuicKey::bytes);
        let len = encode(first, &server_id, &nonce, key, &mut cid);
        let len = if self.one_in(6) {
            self.numbers.random_range(0..=21)
        } else {
            len
        };
        let mut data = if self.one_in(2) {
            [&[0xc3, 0, 0, 0, 1, len as u8], &cid[..]].concat()
        } else {
            [&[0x43], &cid[..]].concat()
        };
        let more = self.numbers.random_range(0..40);
        data.resize(data.len() + more, 0x51);
        if self.one_in(8) {
            data.truncate(self.numbers.random_range(0..30));
        }
        let vip = pool.vips[self.numbers.random_range(0..pool.vips.len())];
        let port = pool.service.port.exact().map_or(4433, u16::from);
        let service = SocketAddr::new(vip.address(), port);
        let client = SocketAddr::new(self.client(service.is_ipv6()), self.numbers.random());
        let frame = self.packet(client, service, Protocol::Udp).data(&data);
        self.dressed(frame).bytes()
    }
}
