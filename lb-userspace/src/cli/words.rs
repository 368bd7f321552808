//! Parsers of single arguments.
//!
//! Invariant: what they accept is what the configuration file and the API accept, for they call the same code.

use std::{
    fmt::Display,
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;

use super::output::Failure;
use lb_check::SpanError;
use lb_core::desired::{Backend, BackendId, Invalid, QuicConfig, Span};

/// One of a fixed set of words; help and completions list them.
pub(super) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse::<T>().map_err(|error| error.to_string()))
}

/// A number of slots, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slots(pub(super) Option<u32>);

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            _ => text
                .parse()
                .map(|n| Self(Some(n)))
                .map_err(|_| "expected a power of two, or \"auto\"".into()),
        }
    }
}

/// A span of time, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) Option<Span>);

impl FromStr for Time {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        match text {
            "auto" => Ok(Self(None)),
            _ => text.parse().map(|span| Self(Some(span))),
        }
    }
}

/// The UDP port of tunnels, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TunnelPort(pub(super) Option<NonZeroU16>);

impl FromStr for TunnelPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            _ => text
                .parse()
                .map(|port| Self(Some(port)))
                .map_err(|_| "expected a port from 1 to 65535, or \"auto\"".into()),
        }
    }
}

/// A configuration of QUIC: `ID:SERVER_ID_LENGTH:NONCE_LENGTH[:KEY]`, where the key may be `@FILE`, or `@-` for standard
/// input: other users of a host can see arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuicWord {
    config: QuicConfig,
    key_file: Option<PathBuf>,
}

impl QuicWord {
    /// More than a key takes.
    const MOST_BYTES: u64 = 256;

    /// The configuration, with the key that its file holds.
    pub(super) fn config(self) -> Result<QuicConfig, Failure> {
        let Self { mut config, key_file } = self;
        if let Some(path) = key_file {
            let bad = |error: &dyn Display| {
                Failure::BadInput(format!("cannot read the key in {}: {error}", path.display()))
            };
            let mut text = String::new();
            let read = if path == Path::new("-") {
                io::stdin().take(Self::MOST_BYTES).read_to_string(&mut text)
            } else {
                File::open(&path).and_then(|file| file.take(Self::MOST_BYTES).read_to_string(&mut text))
            };
            read.map_err(|error| bad(&error))?;
            config.key = Some(text.trim().parse().map_err(|error: Invalid| bad(&error))?);
        }
        Ok(config)
    }
}

impl FromStr for QuicWord {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.splitn(4, ':').collect();
        let [id, server_id_length, nonce_length, ref key @ ..] = parts[..] else {
            return Err(Invalid::new(
                "expected the number, the bytes of the server ID, those of the nonce, and the key if there is one, \
                 such as 0:4:8, 1:4:8:@/etc/lb/quic.key or 1:4:8:8f95f09245765f80256934e50c66207f",
            ));
        };
        let number = |what: &str, text: &str| {
            let bad = |_| Invalid::new(format!("{what} {text:?}: expected a whole number"));
            text.parse().map_err(bad)
        };
        let file = key.first().and_then(|key| key.strip_prefix('@'));
        let typed = key.first().filter(|_| file.is_none());
        let config = QuicConfig {
            id: number("the number", id)?,
            server_id_length: number("the length of the server ID", server_id_length)?,
            nonce_length: number("the length of the nonce", nonce_length)?,
            key: typed.map(|key| key.parse()).transpose()?,
        };
        Ok(Self {
            config,
            key_file: file.map(PathBuf::from),
        })
    }
}

/// A backend with its weight: `ADDR[:PORT][@WEIGHT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WeightedBackend(pub(super) Backend);

impl FromStr for WeightedBackend {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (id, weight) = text
            .rsplit_once('@')
            .map_or((text, None), |(id, weight)| (id, Some(weight)));
        let mut backend = Backend::new(id.parse::<BackendId>()?);
        if let Some(weight) = weight {
            let bad = |_| {
                Invalid::new(format!(
                    "{weight:?} is no weight: expected a whole number from 0 to 65535"
                ))
            };
            backend.weight = weight.parse().map_err(bad)?;
        }
        Ok(Self(backend))
    }
}

/// One end of a packet: `ADDR`, `ADDR:PORT` or `[IPV6]:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self { address, port: None });
        }
        let both = text.parse::<SocketAddr>();
        both.map(|a| Self {
            address: a.ip(),
            port: Some(a.port()),
        })
        .map_err(|_| "expected ADDRESS, ADDRESS:PORT or [IPV6]:PORT".into())
    }
}

/// A prefix, or an address alone.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse::<IpNet>())
        .map_err(|_| "expected an address, or a prefix such as 172.16.0.0/16".into())
}
