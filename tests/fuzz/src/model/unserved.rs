//! What VIPs do with packets that none of their services takes.

use lb_common::abi::Reason;
use lb_core::desired::Unserved;
use smoltcp::wire::IpProtocol;

use super::{
    Expected, Mistake, Model,
    answers::Answer,
    parse::{Content, Parsed},
    service::length,
    unchanged,
};

impl Model<'_> {
    /// What becomes of a packet that is for no service. The most exact VIP that it is for decides.
    pub(super) fn for_no_service(&self, parsed: &Parsed, frame: &[u8]) -> Expected {
        // RFC 4861 §6.1.1, §7.1: neighbour discovery has the hop limit of what was never forwarded.
        let is_error = matches!(parsed.content, Content::Error(_));
        let may_be_discovery = parsed.protocol == IpProtocol::Icmpv6 && parsed.ttl == u8::MAX && !is_error;
        if may_be_discovery || self.errs(Mistake::Unserved) {
            return unchanged(Reason::NoService, frame);
        }
        self.refused(parsed, frame)
            .unwrap_or_else(|| unchanged(Reason::NoService, frame))
    }

    /// What a VIP says that wants none of it; `None` if the packet is the host's.
    fn refused(&self, parsed: &Parsed, frame: &[u8]) -> Option<Expected> {
        let holding = |pool: &_| length(pool, parsed.destination);
        let longest = self.world.pools.iter().filter_map(holding).max()?;
        let mut words = self
            .world
            .pools
            .iter()
            .filter(|pool| holding(pool) == Some(longest))
            .map(|pool| pool.service.unserved);
        let silent = || unchanged(Reason::Unserved, frame);
        if words.clone().any(|word| word == Unserved::Reject) {
            return Some(
                self.answer(parsed, frame, Answer::Unserved)
                    .unwrap_or_else(silent),
            );
        }
        words.any(|word| word == Unserved::Drop).then(silent)
    }
}
