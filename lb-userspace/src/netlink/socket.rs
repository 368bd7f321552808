//! One rtnetlink request socket. Every question to the kernel goes through it, so that each one is answered, refused
//! or given up after a bounded time.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long the kernel may take for the next message of an answer. It answers at once; only an answer that cannot be
/// decoded never arrives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a question to the kernel has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened.
    #[error("cannot open an rtnetlink socket: {0}; it needs the network namespace's CAP_NET_ADMIN")]
    Open(#[source] io::Error),
    /// The kernel answered with an error number.
    #[error("the kernel refused: {0}")]
    Refused(#[source] io::Error),
    /// The answer did not come, or could not be decoded.
    #[error("the kernel's answer did not arrive or could not be decoded")]
    Unanswered,
    /// The socket failed and is closed.
    #[error("the rtnetlink socket is closed; restart lb")]
    Closed,
}

impl Error {
    /// The error number that the kernel answered with, if it did.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            Self::Open(_) | Self::Unanswered | Self::Closed => None,
        }
    }
}

/// A request socket in the network namespace of the thread that opened it.
pub(super) struct Socket {
    handle: Handle,
    /// Drives the connection; aborted when the socket is dropped.
    _driver: JoinSet<()>,
}

impl Socket {
    /// Opens the socket. Must be called inside a tokio runtime.
    pub(super) fn open() -> Result<Self, Error> {
        // Strict checking lets the kernel filter dumps, which matters on hosts with large routing tables.
        let (connection, handle, _) = rtnetlink::new_connection_with_strict_check().map_err(Error::Open)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            handle,
            _driver: driver,
        })
    }

    /// Asks for one object, and returns the first message of the answer.
    pub(super) async fn get(&self, question: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Error> {
        let mut answer = None;
        self.ask(question, NLM_F_REQUEST, |message| {
            answer.get_or_insert(message);
        })
        .await?;
        answer.ok_or(Error::Unanswered)
    }

    /// Asks for all objects of a kind, and hands each to `visit`.
    pub(super) async fn dump(
        &self,
        question: RouteNetlinkMessage,
        visit: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), Error> {
        self.ask(question, NLM_F_REQUEST | NLM_F_DUMP, visit).await
    }

    /// Sends a change and waits for the kernel's acknowledgement. `flags` are `NLM_F_CREATE` and its like.
    pub(super) async fn change(&self, change: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
        self.ask(change, NLM_F_REQUEST | NLM_F_ACK | flags, |_| ()).await
    }

    async fn ask(
        &self,
        question: RouteNetlinkMessage,
        flags: u16,
        mut visit: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), Error> {
        let mut request = NetlinkMessage::from(question);
        request.header.flags = flags;
        let mut answers = self.handle.clone().request(request).map_err(|_| Error::Closed)?;
        while let Some(answer) = timeout(ANSWER_TIMEOUT, answers.next())
            .await
            .map_err(|_| Error::Unanswered)?
        {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => visit(message),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Error::Refused(error.to_io()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The netlink family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
