//! What the kernel is asked to do about one neighbour.

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourExtFlags, NeighbourFlags};

use super::{Neighbour, NeighbourKey, OUR_PROTOCOL};
use crate::netlink::socket::{Error, Socket};

/// Has the kernel make sure of a neighbour that is not kept fresh, as it would if it sent a packet there itself.
///
/// # Errors
/// When the socket is closed.
pub(in crate::netlink) async fn revalidate(socket: &Socket, key: NeighbourKey) -> Result<(), Error> {
    let flags = match get(socket, key).await {
        Ok(Some(neighbour)) if neighbour.is_in_doubt() => 0,
        Ok(Some(_)) => return Ok(()),
        Ok(None) => NLM_F_CREATE | NLM_F_EXCL,
        Err(Error::Closed) => return Err(Error::Closed),
        Err(_) => return Ok(()),
    };
    let mut message = key.message();
    message.header.flags = NeighbourFlags::Use;
    let change = RouteNetlinkMessage::NewNeighbour(message);
    match socket.change(change, flags).await {
        Err(Error::Closed) => Err(Error::Closed),
        // The next packet asks again.
        Err(error) => {
            log::debug!("the kernel does not ask for neighbour {}: {error}", key.address);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn get(socket: &Socket, key: NeighbourKey) -> Result<Option<Neighbour>, Error> {
    match socket.get(RouteNetlinkMessage::GetNeighbour(key.message())).await {
        Ok(RouteNetlinkMessage::NewNeighbour(message)) => {
            Ok(Neighbour::from_message(&message).map(|(_, neighbour)| neighbour))
        }
        Ok(_) => Err(Error::Unanswered),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has the kernel resolve a neighbour and keep it fresh, unless somebody maintains it already. Returns the entry as it
/// was before, `None` if there was none.
pub(super) async fn keep_fresh(socket: &Socket, key: NeighbourKey) -> Result<Option<Neighbour>, Error> {
    let mut existing = get(socket, key).await?;
    let flags = match &existing {
        Some(neighbour) if neighbour.foreign => return Ok(existing),
        Some(neighbour)
            if neighbour.managed
                && (neighbour.uncounted || !neighbour.ours)
                && neighbour.usable_mac().is_some() =>
        {
            return Ok(existing);
        }
        Some(_) => 0,
        // Never onto an entry that an operator made a moment ago: using a permanent one takes its permanence away.
        None => NLM_F_CREATE | NLM_F_EXCL,
    };
    let mut message = key.message();
    message.header.flags = NeighbourFlags::Use | NeighbourFlags::ExtLearned;
    // Kernels before 5.16 ignore this attribute. Then the entry is not managed, and is used again from time to time.
    message
        .attributes
        .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    // One that somebody else has the kernel manage stays theirs, and is counted.
    let theirs = existing
        .as_ref()
        .is_some_and(|neighbour| neighbour.managed && !neighbour.ours);
    if theirs {
        message.header.flags = NeighbourFlags::Use;
    } else {
        message
            .attributes
            .push(NeighbourAttribute::Protocol(OUR_PROTOCOL));
    }
    match socket
        .change(RouteNetlinkMessage::NewNeighbour(message), flags)
        .await
    {
        Ok(()) => {}
        // It came or went in between; the kernel's report of that is on its way.
        Err(error) if matches!(error.errno(), Some(libc::EEXIST | libc::ENOENT)) => existing = None,
        Err(error) => return Err(error),
    }
    Ok(existing)
}

/// Tells the kernel that lb no longer needs it to keep a neighbour fresh. The entry stays, and ages like any other.
pub(super) async fn release(socket: &Socket, key: NeighbourKey) -> Result<(), Error> {
    let ours = match get(socket, key).await {
        Ok(neighbour) => neighbour.is_some_and(|neighbour| {
            neighbour.ours && (neighbour.managed || neighbour.uncounted) && !neighbour.foreign
        }),
        Err(Error::Closed) => return Err(Error::Closed),
        Err(_) => false,
    };
    if !ours {
        return Ok(());
    }
    // Using an entry without asking for its management ends the management, and has the kernel count it again.
    let mut message = key.message();
    message.header.flags = NeighbourFlags::Use;
    match socket.change(RouteNetlinkMessage::NewNeighbour(message), 0).await {
        Err(Error::Closed) => Err(Error::Closed),
        Err(error) => {
            log::debug!("neighbour {} stays managed by the kernel: {error}", key.address);
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
