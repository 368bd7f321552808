//! Kernel settings of a namespace. `/proc/sys/net` shows the namespace of the thread that opens it, so every write
//! happens in a thread inside.

use std::fs;

use anyhow::{Context, Result};

use super::Namespace;

/// What every namespace of the lab starts with: no duplicate address detection, router solicitations, redirects or
/// reverse path filter, so that little but the packets that a test causes is seen.
pub(super) const QUIET: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
];

/// For a backend that owns a VIP it must not be asked for: no ARP answers for addresses of other interfaces, and no
/// announcement of them.
pub(super) const ARP_SILENCE: &[(&str, &str)] = &[
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
];

/// For the balancer of `nat` backends, which is their router.
pub const FORWARDING: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

impl Namespace {
    /// Writes settings, given as paths below `/proc/sys`, inside the namespace.
    ///
    /// # Errors
    /// When a setting does not exist or refuses its value; those before it are written.
    pub fn set_sysctls(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(path, value)| {
                let path = format!("/proc/sys/{path}");
                fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {path}"))
            })
        })?
    }
}
