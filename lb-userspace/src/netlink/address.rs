//! This host's own addresses.

use std::net::IpAddr;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};

use super::socket::{Error, Socket};

/// The addresses of all interfaces, loopback included.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn own_addresses() -> Result<Vec<IpAddr>, Error> {
    let mut addresses = Vec::new();
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    Socket::open()?
        .dump(question, |answer| {
            if let RouteNetlinkMessage::NewAddress(message) = answer {
                addresses.extend(local_address(&message));
            }
        })
        .await?;
    Ok(addresses)
}

/// The interface's own address; on a point-to-point link the message's `Address` is the other end's.
fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}
