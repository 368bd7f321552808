//! Telling frames to this host from frames to others. On shared wires, behind mirror ports, and where a switch has
//! forgotten who is where, hosts see frames of others; balancing them would deliver them twice.

use crate::{
    abi::{Mac, MacKey, OwnMacs, Reason},
    net::{ETHERNET, load64},
};

use super::{Host, Packet, family::Family};

/// Refuses frames for other hosts (RFC 1122 §3.3.4), and frames for groups whose packet is for one host (§3.3.6).
///
/// # Errors
/// [`Reason::OtherHost`].
#[inline(always)]
pub(super) fn check<F: Family, P: Packet, T: Host>(
    packet: &P,
    tables: &T,
    destination: F::Address,
) -> Result<(), Reason> {
    let ethernet: &[u8; ETHERNET] = packet.view(0).ok_or(Reason::NotIp)?;
    let mac = Mac::at_the_start_of(load64(ethernet, 0));
    if mac == tables.common_mac(0) || tables.accepts(mac, F::is_group(destination)) {
        Ok(())
    } else {
        Err(Reason::OtherHost)
    }
}

/// Whether a frame to that MAC is for this host, if what tells at once does not.
#[inline(always)]
pub fn accepts<T: Host>(tables: &T, mac: Mac, is_for_group: bool) -> bool {
    let interface = tables.ingress();
    let key = MacKey::new(interface, mac);
    let is_common = (1..OwnMacs::COMMON).any(|index| tables.common_mac(index) == mac);
    if is_common || tables.own_mac(interface) == key || tables.common_mac(0) == Mac(0) {
        return true;
    }
    let is_right = if mac.is_group() {
        is_for_group
    } else {
        tables.has_mac(&key)
    };
    is_right || !tables.has_mac(&MacKey::known(interface))
}
