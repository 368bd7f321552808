//! What `lb plan` prints.

use lb_api::plan::{BackendPlan, Fate, PlanView, ServiceChange, ServicePlan};

/// What its help ends with.
pub(super) const HELP: &str = "\
Slots that move cost a look-up for each of their packets until the change is over; their flows stay where they are.
\"At least\" is what any table must move in which every backend has its share. Flows that are cut break.

Examples:
  lb plan backend remove web 10.0.0.7
  lb plan backend set web 10.0.0.7 --weight 5
  lb plan service set web --scheduler maglev
  lb plan drain --zone rack-2
  lb plan reload --now --json";

const HEADER: [&str; 7] = [
    "Service",
    "Change",
    "Slots",
    "Moved",
    "At least",
    "Flows moved",
    "Flows cut",
];

/// The plan as a table; backends for which little changes are left out.
pub(super) fn text(view: &PlanView) -> String {
    let PlanView { generation, services } = view;
    if services.is_empty() {
        return format!("generation {generation}: nothing would change\n");
    }
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(services.iter().map(row));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let mut lines = rows.iter().map(|row| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    let mut text = format!("generation {generation}: nothing has been changed\n");
    text.extend(lines.next());
    for (line, service) in lines.zip(services) {
        text.push_str(&line);
        text.extend(service.backends.iter().filter_map(backend));
        text.extend(service.notes.iter().map(|note| format!("  note: {note}\n")));
    }
    text
}

fn row(service: &ServicePlan) -> [String; HEADER.len()] {
    let change = match service.change {
        ServiceChange::Added => "added",
        ServiceChange::Changed => "changed",
        ServiceChange::Removed => "removed",
    };
    let slots = match (service.slots_before, service.slots) {
        (before, after) if before == after || before == 0 => after.to_string(),
        (before, 0) => before.to_string(),
        (before, after) => format!("{before}→{after}"),
    };
    let part = |slots: u32, percent: f64| format!("{slots} ({percent:.2}%)");
    [
        service.name.clone(),
        change.to_owned(),
        slots,
        part(service.moved, service.moved_percent),
        part(service.fewest, service.fewest_percent),
        about(service.flows_moved),
        about(service.flows_cut),
    ]
}

fn backend(backend: &BackendPlan) -> Option<String> {
    let BackendPlan {
        address,
        port,
        fate,
        slots_before,
        slots,
        flows,
        ..
    } = backend;
    let fate = match fate {
        Fate::Stays => return None,
        Fate::Joins => "joins",
        Fate::Drains => "drains",
        Fate::Cut => "is cut",
    };
    let name = match port {
        Some(port) => std::net::SocketAddr::new(*address, port.get()).to_string(),
        None => address.to_string(),
    };
    let flows = about(*flows);
    Some(format!(
        "  -> {name} {fate}: slots {slots_before}→{slots}, flows {flows}\n"
    ))
}

fn about(flows: Option<u64>) -> String {
    match flows {
        None => "not counted".to_owned(),
        Some(0) => "0".to_owned(),
        Some(flows) => format!("about {flows}"),
    }
}
