//! `lb status`: the agent and its dataplane.

use std::{fmt::Write as _, time::Duration};

use super::{
    checkpoint,
    output::{Failure, Output},
};
use lb_api::{
    client::Client,
    view::{DataplaneOrigin, OutageView, StatusView},
};

/// The exit code where something that is asked for is not done.
const OUTAGE: u8 = 6;

/// An outage in one line.
pub(super) fn sentence(outage: &OutageView) -> String {
    let since = checkpoint::time(outage.since);
    format!("{}, since {since}: {}", outage.what, outage.reason)
}

pub(super) async fn execute(client: &Client, json: bool) -> Result<Output, Failure> {
    let view = client.status().await?;
    let output = Output::either(json, &view, || text(&view))?;
    if view.outages.is_empty() {
        return Ok(output);
    }
    let what: Vec<&str> = view.outages.iter().map(|outage| outage.what.as_str()).collect();
    Err(Failure::Ended {
        code: OUTAGE,
        output,
        message: format!("not all is well: {}", what.join(", ")),
    })
}

fn text(view: &StatusView) -> String {
    let uptime = Duration::try_from_secs_f64(view.uptime_seconds).unwrap_or_default();
    let uptime = humantime::format_duration(Duration::from_secs(uptime.as_secs()));
    let config = view
        .config
        .as_ref()
        .map_or("none".into(), |path| path.display().to_string());
    let memory: u64 = view.map_bytes.iter().map(|map| map.bytes).sum();
    let mut text = String::new();
    let mut put = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14}{value}");
    };
    put(
        "agent",
        format!("lb {}, process {}, up {uptime}", view.version, view.pid),
    );
    for outage in &view.outages {
        put("OUTAGE", sentence(outage));
    }
    let drift = if view.drift {
        "; the running services are others: `lb reload` would make them the file's"
    } else {
        ""
    };
    put("configuration", config + drift);
    put(
        "generation",
        format!("{}, applied in {} µs", view.generation, view.last_apply_us),
    );
    let origin = match view.origin {
        DataplaneOrigin::New => "new",
        DataplaneOrigin::Adopted => "taken over from an earlier agent",
    };
    put(
        "dataplane",
        match &view.pin_dir {
            Some(directory) => format!("{origin}, pinned in {}", directory.display()),
            None => format!("{origin}, ends with the agent"),
        },
    );
    for interface in &view.interfaces {
        let driver = interface
            .driver
            .as_ref()
            .map_or(String::new(), |driver| format!(", driver {driver}"));
        let mode = interface.mode;
        put(
            "interface",
            format!(
                "{}: {mode} XDP{driver}, program {}, link {}",
                interface.name, interface.program_id, interface.link_id
            ),
        );
    }
    put("services", view.services.to_string());
    put(
        "backends",
        format!("{}, {} of them up", view.backends, view.backends_up),
    );
    put(
        "targets",
        format!("{} of {}", view.targets_used, view.targets_capacity),
    );
    put("slots", format!("{} of {}", view.slots_used, view.slots_capacity));
    put(
        "flow table",
        format!(
            "{} of {} flows, {} migrating slots, swept in {} µs",
            view.flows_tracked, view.flows_capacity, view.slots_unsafe, view.last_sweep_us
        ),
    );
    for source in &view.fullnat_sources {
        put(
            "source",
            format!(
                "{}: {} of {} ports in use toward one backend, {} flows in all",
                source.address, source.used, source.total, source.flows
            ),
        );
    }
    put(
        "maps",
        format!("{:.1} MiB, layout {}", mebibytes(memory), view.abi_version),
    );
    put("hash seed", view.hash_seed.clone());
    if let Some(last) = &view.checkpoint.last {
        put(
            "checkpoint",
            format!(
                "{}, generation {}, {}, saved {}",
                last.number,
                last.generation,
                checkpoint::size(last.bytes),
                checkpoint::time(last.written)
            ),
        );
    }
    for warning in &view.warnings {
        put("warning", warning.clone());
    }
    text
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the figure is rounded to a tenth when it is shown"
)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
