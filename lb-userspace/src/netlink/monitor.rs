//! The kernel's reports of changes. One socket reads all of them, so that they come in the order of the changes; also
//! those of next-hop objects, which rtnetlink's own monitor takes for garbage.

use std::io;

use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use rtnetlink::{
    MulticastGroup,
    packet_core::{DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkSerializable},
    packet_route::RouteNetlinkMessage,
    proto::{
        self,
        sys::{AsyncSocket, SocketAddr, protocols::NETLINK_ROUTE},
    },
};
use tokio::task::JoinSet;

use super::socket::Error;

/// `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP` and the same of the buckets of resilient groups.
const NEXT_HOP_TYPES: [u16; 4] = [104, 105, 116, 117];

/// One report.
#[derive(Debug)]
pub(super) enum Report {
    /// Of something that has a form here.
    Change(Box<RouteNetlinkMessage>),
    /// Of a next-hop object or a group of them, whichever: routes that refer to it do not report it.
    NextHops,
}

impl NetlinkDeserializable for Report {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        if NEXT_HOP_TYPES.contains(&header.message_type) {
            return Ok(Self::NextHops);
        }
        RouteNetlinkMessage::deserialize(header, payload).map(|change| Self::Change(Box::new(change)))
    }
}

/// Nothing is ever sent; the socket's type wants to know how.
impl NetlinkSerializable for Report {
    fn message_type(&self) -> u16 {
        match self {
            Self::Change(change) => change.message_type(),
            Self::NextHops => 0,
        }
    }

    fn buffer_len(&self) -> usize {
        match self {
            Self::Change(change) => change.buffer_len(),
            Self::NextHops => 0,
        }
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Self::Change(change) = self {
            change.serialize(buffer);
        }
    }
}

/// The reports of some groups.
pub(super) struct Monitor {
    /// In the order of the changes; ends when the socket fails.
    pub(super) reports: BoxStream<'static, NetlinkMessage<Report>>,
    /// Drives the connection; aborted with the monitor.
    _driver: JoinSet<()>,
}

impl Monitor {
    /// Opens it in the calling thread's network namespace. Must be called inside a tokio runtime.
    pub(super) fn open(groups: &[MulticastGroup]) -> Result<Self, Error> {
        let open = || -> io::Result<Self> {
            let (mut connection, _, reports) = proto::new_connection::<Report>(NETLINK_ROUTE)?;
            let socket = connection.socket_mut().socket_mut();
            socket.bind(&SocketAddr::new(0, 0))?;
            for &group in groups {
                socket.add_membership(group as u32)?;
            }
            let mut driver = JoinSet::new();
            driver.spawn(connection);
            Ok(Self {
                reports: reports.map(|(report, _)| report).boxed(),
                _driver: driver,
            })
        };
        open().map_err(Error::Open)
    }

    /// One whose socket has failed, or that panics.
    #[cfg(test)]
    pub(super) fn broken(panics: bool) -> Self {
        let reports = futures_util::stream::poll_fn(move |_| {
            assert!(!panics, "the monitor stumbles");
            std::task::Poll::Ready(None)
        });
        Self {
            reports: reports.boxed(),
            _driver: JoinSet::new(),
        }
    }

    /// Drops the reports that have arrived.
    pub(super) fn forget_queued(&mut self) -> Result<(), Error> {
        while let Some(report) = self.reports.next().now_or_never() {
            report.ok_or(Error::Closed)?;
        }
        Ok(())
    }
}
