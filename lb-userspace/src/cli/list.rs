//! `lb list`: the services and their backends, in the manner of `ipvsadm -Ln`.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;

use super::{
    output::{Failure, Output},
    status::sentence,
    wait::standing,
};
use lb_api::{
    client::Client,
    view::{BackendState, BackendView, ServiceView, ServicesView},
};
use lb_core::desired::{Prefix, ServiceName, ServicePort};

#[derive(Args, Debug)]
#[command(after_help = "\
States: up, down (its check is bad), checking (not known yet), unresolved (its next hop is not known), drain, maint.
After the word drain comes what is left of it; a leaving backend goes when its drain is over.
Share is the part of the slots that the backend holds; flows and rates are those of the balancer.

Examples:
  lb list
  lb list web --json")]
pub(super) struct ListArgs {
    /// Only this service.
    service: Option<ServiceName>,
}

impl ListArgs {
    pub(super) async fn execute(self, client: &Client, json: bool) -> Result<Output, Failure> {
        let view = match &self.service {
            None => client.services().await?,
            Some(name) => client.services_named(name).await?,
        };
        if let Some(name) = self.service.filter(|_| view.services.is_empty()) {
            return Err(Failure::Refused(format!(
                "there is no service {name}: `lb list` shows the services"
            )));
        }
        Output::either(json, &view, || listing(&view, SystemTime::now()))
    }
}

/// The view as text; the time tells how long backends have been in their states.
pub(super) fn listing(view: &ServicesView, now: SystemTime) -> String {
    let ServicesView {
        generation,
        outages,
        services,
    } = view;
    let mut text = format!("Generation {generation}, services: {}\n", services.len());
    for outage in outages {
        let _ = writeln!(text, "OUTAGE {}", sentence(outage));
    }
    text.push_str("Prot LocalAddress:Port Scheduler Forwarder Name Flags\n");
    let backends = || services.iter().flat_map(|s| &s.backends);
    let extra = Extra {
        vlans: backends().any(|b| b.vlan.is_some()),
        zones: backends().any(|b| b.zone.is_some()),
    };
    let rows: Vec<Vec<Row>> = services
        .iter()
        .map(|s| s.backends.iter().map(|b| row(s, b, extra, now)).collect())
        .collect();
    let header: Vec<String> = HEADER
        .into_iter()
        .chain(extra.vlans.then_some(VLAN))
        .chain(extra.zones.then_some(ZONE))
        .map(String::from)
        .collect();
    let widths = widths(&header, rows.iter().flatten());
    text.push_str(&line("  -> ", &header, "", &widths));
    for (service, rows) in services.iter().zip(&rows) {
        for vip in &service.vips {
            text.push_str(&service_line(service, *vip));
        }
        for Row { columns, note } in rows {
            text.push_str(&line("  -> ", columns, note, &widths));
        }
    }
    text
}

const HEADER: [&str; 8] = [
    "RemoteAddress:Port",
    "Forward",
    "Weight",
    "State",
    "Share",
    "Flows",
    "Flows/s",
    "Rate",
];
const VLAN: &str = "Vlan";
const ZONE: &str = "Zone";

/// Columns that stand last, and only where there is something in them.
#[derive(Clone, Copy)]
struct Extra {
    vlans: bool,
    zones: bool,
}

struct Row {
    columns: Vec<String>,
    note: String,
}

fn service_line(service: &ServiceView, vip: Prefix) -> String {
    let ServiceView {
        name,
        protocol,
        port,
        forwarder,
        scheduler,
        affinity,
        on_empty,
        unserved,
        tunnel_port,
        ttl_expired,
        mss_clamp,
        fragments,
        source,
        quic,
        ..
    } = service;
    let protocol = protocol.to_string().to_uppercase();
    let mut text = format!(
        "{protocol}  {} {scheduler} {forwarder} {name}",
        endpoint(vip, *port)
    );
    let mut flag = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(text, " {name}={value}");
        }
    };
    flag("affinity", unusual(affinity));
    flag("on_empty", unusual(on_empty));
    flag("unserved", unusual(unserved));
    flag("tunnel_port", tunnel_port.map(|port| port.to_string()));
    flag("ttl_expired", unusual(ttl_expired));
    flag("mss_clamp", unusual(mss_clamp));
    flag("fragments", unusual(fragments));
    if let Some(source) = source {
        let count = |list: &[Prefix]| (!list.is_empty()).then(|| list.len().to_string());
        flag("allow", count(&source.allow));
        flag("deny", count(&source.deny));
    }
    flag("quic", quic.as_ref().map(|quic| quic.configs.len().to_string()));
    text.push('\n');
    text
}

/// What is not as it is without the operator's word.
fn unusual<T: Default + PartialEq + ToString>(value: &T) -> Option<String> {
    (*value != T::default()).then(|| value.to_string())
}

fn row(service: &ServiceView, backend: &BackendView, extra: Extra, now: SystemTime) -> Row {
    let port = backend.port.map_or(service.port, ServicePort::Exact);
    let mut columns = vec![
        endpoint(backend.address.into(), port),
        backend.forwarder.unwrap_or(service.forwarder).to_string(),
        backend.weight.to_string(),
        backend.state.to_string(),
        format!("{:.1}%", backend.share * 100.0),
        backend.flows.to_string(),
        format!("{:.1}", backend.flows_per_second),
        bit_rate(backend.bits_per_second),
    ];
    let mut column =
        |shown: bool, text: Option<String>| columns.extend(shown.then(|| text.unwrap_or_default()));
    column(extra.vlans, backend.vlan.map(|vlan| vlan.to_string()));
    column(extra.zones, backend.zone.as_ref().map(ToString::to_string));
    Row {
        columns,
        note: note(backend, now),
    }
}

/// Why and since when, where the state is not as it should be.
fn note(backend: &BackendView, now: SystemTime) -> String {
    let reason = backend.reason.as_deref().unwrap_or_default();
    if backend.state == BackendState::Up {
        return reason.to_owned();
    }
    // A time that is no time, or in the future, tells nothing.
    let since = Duration::try_from_secs_f64(backend.since).unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = Duration::from_secs(now.saturating_sub(since).as_secs());
    let age = format!("for {}", humantime::format_duration(age));
    let drain = backend.drain.as_ref().map(standing).unwrap_or_default();
    let parts = [reason, &drain, &age];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn endpoint(address: Prefix, port: ServicePort) -> String {
    if address.is_ipv4() {
        format!("{address}:{port}")
    } else {
        format!("[{address}]:{port}")
    }
}

/// Bits a second with the prefix that keeps the number short.
fn bit_rate(bits: f64) -> String {
    let (mut number, mut unit) = (bits, "bit/s");
    for larger in ["kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"] {
        if number < 1_000.0 {
            break;
        }
        (number, unit) = (number / 1_000.0, larger);
    }
    format!("{number:.1} {unit}")
}

fn widths<'a>(header: &[String], rows: impl Iterator<Item = &'a Row>) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(String::len).collect();
    for row in rows {
        for (width, column) in widths.iter_mut().zip(&row.columns) {
            *width = column.chars().count().max(*width);
        }
    }
    widths
}

fn line(lead: &str, columns: &[String], note: &str, widths: &[usize]) -> String {
    let mut text = lead.to_owned();
    for (column, width) in columns.iter().zip(widths) {
        let _ = write!(text, "{column:width$}  ");
    }
    text.push_str(note);
    let mut text = text.trim_end().to_owned();
    text.push('\n');
    text
}
