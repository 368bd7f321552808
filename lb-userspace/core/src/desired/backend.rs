//! One backend of a service.

use std::{fmt, net::IpAddr, net::SocketAddr, num::NonZeroU16, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, Unexpected},
};

use super::{
    AdminState, Forwarder, Invalid, Key, ServerId, Span, Vlan, Zone,
    merge_patch::{or_default, present},
};

/// Names a backend within its service: `10.0.0.5`, `10.0.0.5:8080`, `2001:db8::5`, `[2001:db8::5]:8080`.
///
/// Without a port it is the service's port that the backend listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackendId {
    /// The host.
    pub address: IpAddr,
    /// Its port, where that differs from the service's.
    pub port: Option<NonZeroU16>,
}

impl FromStr for BackendId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { address, port: None });
        }
        let scoped = |a: &SocketAddr| matches!(a, SocketAddr::V6(v6) if v6.scope_id() != 0);
        text.parse::<SocketAddr>()
            .ok()
            .filter(|a| !scoped(a))
            .and_then(|a| {
                Some(Self {
                    address: a.ip(),
                    port: Some(NonZeroU16::new(a.port())?),
                })
            })
            .ok_or_else(|| {
                Invalid::new(format!(
                    "{text:?} names no backend: expected ADDRESS, ADDRESS:PORT or [IPV6]:PORT"
                ))
            })
    }
}

impl TryFrom<String> for BackendId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<BackendId> for String {
    fn from(id: BackendId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for BackendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => f.pad(&SocketAddr::new(self.address, port.get()).to_string()),
            None => f.pad(&self.address.to_string()),
        }
    }
}

/// A host that serves a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// The host's address; its family may differ from the VIP's unless the forwarder translates addresses.
    #[serde(deserialize_with = "read_address")]
    pub address: IpAddr,
    /// The port it listens on where that is not the service's; for forwarders that translate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Its part of the new flows against the other weights of the service; 0 takes none.
    #[serde(default = "Backend::default_weight")]
    pub weight: u16,
    /// What the operator wants of it.
    #[serde(default)]
    pub state: AdminState,
    /// When its drain ends at the latest, counted from its start; absent: the service's. Only while it drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// A label that it shares with others, so that all of them can be drained together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// How packets reach it where that is not the service's way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarder: Option<Forwarder>,
    /// The tags of packets toward it; absent: those of the VLAN device that its route goes over, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// What names it in QUIC connection IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<ServerId>,
}

impl Backend {
    /// A ready backend of weight 1.
    pub fn new(id: BackendId) -> Self {
        Self {
            address: id.address,
            port: id.port,
            weight: Self::default_weight(),
            state: AdminState::Ready,
            deadline: None,
            zone: None,
            forwarder: None,
            vlan: None,
            server_id: None,
        }
    }

    /// Whether it runs dry: its flows stay, and it takes no new ones.
    pub fn drains(&self) -> bool {
        matches!(self.state, AdminState::Drain | AdminState::Leaving)
    }

    /// Whether it goes when its drain is over.
    pub fn leaves(&self) -> bool {
        self.state == AdminState::Leaving
    }

    /// Puts it in another state; a deadline is that of one drain.
    pub(super) fn enter(&mut self, state: AdminState) {
        self.state = state;
        if !self.drains() {
            self.deadline = None;
        }
    }

    /// Refuses what no operator can ask for: a backend becomes leaving by its removal.
    pub fn check_desired(&self) -> Result<(), Invalid> {
        refuse_leaving(Some(self.state))
    }

    /// What names it within its service.
    pub fn id(&self) -> BackendId {
        BackendId {
            address: self.address,
            port: self.port,
        }
    }

    fn default_weight() -> u16 {
        1
    }
}

/// The parts of a backend that `set` may change; absent parts stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendPatch {
    /// New weight.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "weight_or_default"
    )]
    pub weight: Option<u16>,
    /// New wanted state.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "or_default"
    )]
    pub state: Option<AdminState>,
    /// New deadline of its drain; `Some(None)`: the service's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub deadline: Option<Option<Span>>,
    /// New zone; `Some(None)`: none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub zone: Option<Option<Zone>>,
    /// New forwarder; `Some(None)`: the service's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub forwarder: Option<Option<Forwarder>>,
    /// New tags; `Some(None)`: those of its route.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub vlan: Option<Option<Vlan>>,
    /// New name in QUIC connection IDs; `Some(None)`: none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub server_id: Option<Option<ServerId>>,
}

fn weight_or_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Option::deserialize(deserializer).map(|weight| Some(weight.unwrap_or_else(Backend::default_weight)))
}

impl BackendPatch {
    pub(super) fn apply(self, backend: &mut Backend) -> Result<(), Invalid> {
        let Self {
            weight,
            state,
            deadline,
            zone,
            forwarder,
            vlan,
            server_id,
        } = self;
        refuse_leaving(state)?;
        backend.weight = weight.unwrap_or(backend.weight);
        // Who is leaving drains already.
        let stays = backend.leaves() && state == Some(AdminState::Drain);
        if let Some(state) = state.filter(|_| !stays) {
            backend.enter(state);
        }
        backend.deadline = deadline.unwrap_or(backend.deadline);
        backend.forwarder = forwarder.unwrap_or(backend.forwarder);
        backend.vlan = vlan.unwrap_or(backend.vlan);
        if let Some(zone) = zone {
            backend.zone = zone;
        }
        if let Some(server_id) = server_id {
            backend.server_id = server_id;
        }
        Ok(())
    }
}

fn refuse_leaving(state: Option<AdminState>) -> Result<(), Invalid> {
    if state != Some(AdminState::Leaving) {
        return Ok(());
    }
    let message =
        "\"leaving\" is what a removal makes of a backend: remove it, or expected one of ready, drain, maint";
    Err(Invalid::new(message).at(Key::Name("state")))
}

/// Reads an address. The standard library's own error does not say what an address looks like.
fn read_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    if !deserializer.is_human_readable() {
        return IpAddr::deserialize(deserializer);
    }
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let expected = "an IP address such as 192.0.2.1 or 2001:db8::1";
        D::Error::invalid_value(Unexpected::Str(&text), &expected)
    })
}
