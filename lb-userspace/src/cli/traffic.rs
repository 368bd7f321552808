//! Options of `lb service add` and `set` about which packets a service takes, and what becomes of unusual ones.

use clap::Args;

use super::output::Failure;
use super::words::{QuicWord, TunnelPort, one_of};
use lb_core::desired::{Fragments, MssClamp, Prefix, Quic, ServicePatch, Source, TtlExpired, Unserved};

#[derive(Args, Debug)]
pub(super) struct Traffic {
    /// The UDP port of backends that "gue" and "fou" tunnels end at, or "auto": 6080 for gue, 5555 for fou.
    #[arg(long, value_name = "PORT")]
    tunnel_port: Option<TunnelPort>,
    /// What happens to packets whose TTL or hop limit has run out: the sender is told, or they are dropped.
    #[arg(long, value_parser = one_of::<TtlExpired>(TtlExpired::WORDS))]
    ttl_expired: Option<TtlExpired>,
    /// What happens to packets for its VIPs that no service takes: they are left to this host, dropped, or refused (TCP: RST;
    /// else ICMP "port unreachable").
    #[arg(long, value_parser = one_of::<Unserved>(Unserved::WORDS))]
    unserved: Option<Unserved>,
    /// The largest segment that a TCP SYN may ask for, 536 to 65495; "true": what the narrowest way to a backend
    /// carries; "false": what it asks for.
    #[arg(long, value_name = "true|false|BYTES")]
    mss_clamp: Option<MssClamp>,
    /// How fragments find their backend: behind the first one, by the source address alone, or not at all.
    #[arg(long, value_parser = one_of::<Fragments>(Fragments::WORDS))]
    fragments: Option<Fragments>,
    /// Clients that may use it; the longest prefix decides. Together with --deny all of them.
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PREFIX")]
    allow: Vec<Prefix>,
    /// Clients that may not use it; the longest prefix decides. Together with --allow all of them.
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PREFIX")]
    deny: Vec<Prefix>,
    /// Route QUIC by connection ID: number, bytes of server ID and of nonce, and key where it is encrypted; all of the
    /// configurations. Other users of this host can see arguments: a key is better read from @FILE, or @- for standard
    /// input.
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "ID:LENGTH:LENGTH[:KEY|:@FILE]")]
    quic: Vec<QuicWord>,
}

impl Traffic {
    /// What was asked for, with keys read from their files.
    pub(super) fn patch(self) -> Result<ServicePatch, Failure> {
        let Self {
            tunnel_port,
            ttl_expired,
            unserved,
            mss_clamp,
            fragments,
            allow,
            deny,
            quic,
        } = self;
        let source = Source { allow, deny };
        let configs: Vec<_> = quic.into_iter().map(QuicWord::config).collect::<Result<_, _>>()?;
        Ok(ServicePatch {
            tunnel_port: tunnel_port.map(|TunnelPort(port)| port),
            ttl_expired,
            unserved,
            mss_clamp,
            fragments,
            source: (!source.is_empty()).then_some(Some(source)),
            quic: (!configs.is_empty()).then_some(Some(Quic { configs })),
            ..ServicePatch::default()
        })
    }
}

/// What only a service that is there can lose.
#[derive(Args, Debug)]
pub(super) struct Unset {
    /// Let all clients use it again.
    #[arg(long, conflicts_with_all = ["allow", "deny"])]
    no_source: bool,
    /// Route QUIC like any other UDP again.
    #[arg(long, conflicts_with = "quic")]
    no_quic: bool,
}

impl Unset {
    /// `patch`, and what is to go besides.
    pub(super) fn and(self, patch: ServicePatch) -> ServicePatch {
        ServicePatch {
            source: if self.no_source { Some(None) } else { patch.source },
            quic: if self.no_quic { Some(None) } else { patch.quic },
            ..patch
        }
    }
}
