//! `lb stats`: where packets went.

use std::fmt::Write as _;

use super::output::{Failure, Output};
use lb_api::{
    client::Client,
    view::{ConnectionIdsView, ServiceStats, StatsView, Totals, TrackingView},
};

pub(super) async fn execute(client: &Client, json: bool) -> Result<Output, Failure> {
    let view = client.stats().await?;
    Output::either(json, &view, || text(&view))
}

/// Reasons that have not been met are left out; `--json` has them all.
fn text(view: &StatsView) -> String {
    let mut text = format!("{:>16}  {:<8}  {:<20}  Meaning\n", "Packets", "Action", "Reason");
    for reason in view.reasons.iter().filter(|reason| reason.packets > 0) {
        let meaning = reason.meaning.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            text,
            "{:>16}  {:<8}  {:<20}  {meaning}",
            reason.packets, reason.action, reason.name
        );
    }
    let _ = writeln!(
        text,
        "\n{:>16}  {:>20}  {:>16}  Service",
        "Packets", "Bytes", "Flows"
    );
    let mut put = |packets: u64, bytes: u64, flows: u64, name: &str| {
        let _ = writeln!(text, "{packets:>16}  {bytes:>20}  {flows:>16}  {name}");
    };
    for ServiceStats {
        name,
        packets,
        bytes,
        flows,
        tracking: _,
        connection_ids: _,
    } in &view.services
    {
        put(*packets, *bytes, *flows, name);
    }
    let Totals {
        packets,
        bytes,
        flows,
    } = view.totals;
    put(packets, bytes, flows, "(all)");
    text + &tracked(&view.services) + &routed(&view.services)
}

/// What the flow table did, by service; those that never needed it are left out.
fn tracked(services: &[ServiceStats]) -> String {
    let used: Vec<&ServiceStats> = services
        .iter()
        .filter(|service| service.tracking != TrackingView::default())
        .collect();
    if used.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:>16}  {:>12}  {:>12}  {:>12}  {:>12}  Flow table of\n",
        "Hits", "Inserted", "Adopted", "Evicted", "Refused"
    );
    for ServiceStats { name, tracking, .. } in used {
        let TrackingView {
            hits,
            inserted,
            adopted,
            evicted,
            refused,
        } = tracking;
        let _ = writeln!(
            text,
            "{hits:>16}  {inserted:>12}  {adopted:>12}  {evicted:>12}  {refused:>12}  {name}"
        );
    }
    text
}

/// What connection IDs said, by service; those that are not routed by them are left out.
fn routed(services: &[ServiceStats]) -> String {
    let mut text = String::new();
    for ServiceStats {
        name, connection_ids, ..
    } in services
    {
        let ConnectionIdsView { routed, unroutable } = *connection_ids;
        if (routed, unroutable) == (0, 0) {
            continue;
        }
        if text.is_empty() {
            let _ = writeln!(
                text,
                "\n{:>16}  {:>12}  Connection IDs of",
                "Routed", "Unroutable"
            );
        }
        let _ = writeln!(text, "{routed:>16}  {unroutable:>12}  {name}");
    }
    text
}
