//! Configuration files, written as the tests need them.

use std::{fmt, net::IpAddr};

use lb_lab::Forwarder;

use super::PORT;

/// Notices a dead server in a fraction of a second, and is patient with one that is slow because the machine is busy.
pub(crate) const FAST_CHECK: &str = r#"{ type = "tcp", port = 80, interval = "200ms", fast_interval = "50ms", timeout = "3s", rise = 2, fall = 2 }"#;
/// Backends are up as soon as their next hop is known.
pub(crate) const NO_CHECK: &str = r#"{ type = "none" }"#;

/// A `[[service]]` of a configuration file.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    keys: Vec<(String, String)>,
    backends: Vec<String>,
}

impl Service {
    /// A TCP service `web` on port 80 of `vips` with a fast check.
    pub(crate) fn new(forwarder: Forwarder, vips: &[IpAddr]) -> Self {
        let vips: Vec<String> = vips.iter().map(|vip| format!("\"{vip}\"")).collect();
        let empty = Self {
            keys: Vec::new(),
            backends: Vec::new(),
        };
        empty
            .text("name", "web")
            .key("vips", format!("[{}]", vips.join(", ")))
            .text("protocol", "tcp")
            .key("port", PORT)
            .text("forwarder", forwarder.name())
            .key("check", FAST_CHECK)
    }

    /// Gives `key` a value, written as TOML.
    pub(crate) fn key(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.keys.retain(|(present, _)| present != key);
        self.keys.push((key.to_owned(), value.to_string()));
        self
    }

    /// Gives `key` a string as its value.
    pub(crate) fn text(self, key: &str, value: &str) -> Self {
        self.key(key, format!("\"{value}\""))
    }

    /// Adds a backend.
    pub(crate) fn backend(self, address: IpAddr) -> Self {
        self.backend_with(address, "")
    }

    /// Adds a backend with further keys, for example `, weight = 3`.
    pub(crate) fn backend_with(mut self, address: IpAddr, keys: &str) -> Self {
        self.backends.push(format!("{{ address = \"{address}\"{keys} }}"));
        self
    }

    /// Adds backends.
    pub(crate) fn backends(self, addresses: &[IpAddr]) -> Self {
        addresses
            .iter()
            .fold(self, |service, &address| service.backend(address))
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[service]]")?;
        for (key, value) in &self.keys {
            writeln!(f, "{key} = {value}")?;
        }
        writeln!(f, "backend = [\n  {}\n]\n", self.backends.join(",\n  "))
    }
}
