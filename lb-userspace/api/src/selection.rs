//! What requests about several backends at once say.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use lb_core::desired::{Invalid, SelectBy, Selection, ServiceName, Span, Zone};

/// Which backends: all with an address, or all of a zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<Zone>,
    /// Only those of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<ServiceName>,
    /// Only for drains: when they end at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Span>,
}

impl SelectionRequest {
    /// Selects those, and has their drains end at that deadline.
    pub fn new(selection: &Selection, deadline: Option<Span>) -> Self {
        let (host, zone) = match &selection.whom {
            SelectBy::Host(host) => (Some(*host), None),
            SelectBy::Zone(zone) => (None, Some(zone.clone())),
        };
        Self {
            host,
            zone,
            service: selection.service.clone(),
            deadline,
        }
    }

    /// The selection, for what is no drain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_without_deadline(self) -> Result<Selection, Invalid> {
        match self.read()? {
            (selection, None) => Ok(selection),
            (_, Some(_)) => Err(Invalid::new("`deadline` is that of a drain: leave it out")),
        }
    }

    /// The selection, and the deadline of the drains.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(self) -> Result<(Selection, Option<Span>), Invalid> {
        let Self {
            host,
            zone,
            service,
            deadline,
        } = self;
        let whom = match (host, zone) {
            (Some(host), None) => SelectBy::Host(host),
            (None, Some(zone)) => SelectBy::Zone(zone),
            _ => return Err(Invalid::new("expected either `host` or `zone`")),
        };
        Ok((Selection { whom, service }, deadline))
    }
}
