//! A plot of what a packet costs over the number of flows, drawn from the bench's own JSON.
//!
//! What must hold: a point is a measured median. What was not measured is left out, and nothing is in its place.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use plotters::{coord::Shift, prelude::*};
use serde::Deserialize;
use serde_json::Value;

/// Pixels.
const SIZE: (u32, u32) = (800, 480);
/// A case's name ends with how many flows it has, if more than one.
const FLOWS: [(&str, f64); 5] = [
    ("", 1.0),
    ("-4k", 4096.0),
    ("-64k", 65_536.0),
    ("-256k", 262_144.0),
    ("-1m", 1_048_576.0),
];
/// Where the axes end: at that many flows, and so far above the highest point.
const MOST_FLOWS: f64 = 2_097_152.0;
const HEADROOM: f64 = 1.15;

/// What is read of the JSON that `--json` gives.
#[derive(Debug, Deserialize)]
struct Measured {
    machine: Machine,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Machine {
    cpu_model: String,
    kernel: String,
}

/// Nanoseconds of a frame; none if the case failed, or had no peer.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    median: Option<f64>,
    peer: Option<f64>,
}

/// A line of the plot: which cases, and which of their figures.
struct Line {
    name: &'static str,
    cases: &'static str,
    figure: fn(&Case) -> Option<f64>,
    color: RGBColor,
}

const LINES: [Line; 4] = [
    Line {
        name: "ours, IPv6",
        cases: "tcp6-ipip",
        figure: |case| case.median,
        color: RGBColor(44, 160, 44),
    },
    Line {
        name: "ours, IPv4",
        cases: "tcp4-ipip",
        figure: |case| case.median,
        color: RGBColor(31, 119, 180),
    },
    Line {
        name: "floor",
        cases: "floor",
        figure: |case| case.median,
        color: RGBColor(127, 127, 127),
    },
    Line {
        name: "peer, IPv4",
        cases: "tcp4-ipip",
        figure: |case| case.peer,
        color: RGBColor(214, 39, 40),
    },
];

impl Line {
    /// Flows and nanoseconds.
    fn points(&self, cases: &[Case]) -> Vec<(f64, f64)> {
        let point = |(suffix, flows): (&str, f64)| {
            let case = cases
                .iter()
                .find(|case| case.name.strip_prefix(self.cases) == Some(suffix))?;
            Some((flows, (self.figure)(case)?))
        };
        FLOWS.into_iter().filter_map(point).collect()
    }
}

/// The JSON of an earlier bench: the last line of that file.
pub(super) fn earlier(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    serde_json::from_str(last)
        .with_context(|| format!("the last line of {} is not what --json gives", path.display()))
}

/// Draws the bench's result `json` as an SVG file.
///
/// # Errors
/// When none of the cases was measured that the plot is made of, or the file cannot be written.
pub(super) fn draw(json: Value, path: &Path) -> Result<()> {
    let svg = svg(&serde_json::from_value(json).context("this is not the bench's JSON")?)?;
    fs::write(path, svg).with_context(|| format!("cannot write {}", path.display()))
}

fn svg(measured: &Measured) -> Result<String> {
    let lines = LINES.map(|line| (line.points(&measured.cases), line));
    let highest = lines
        .iter()
        .flat_map(|(points, _)| points)
        .map(|(_, ns)| *ns)
        .fold(0.0, f64::max);
    ensure!(
        highest > 0.0,
        "nothing to plot: measure cases of floor and tcp4-ipip, or all of them"
    );
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    // The drawing library's errors borrow from what they are about.
    if let Err(error) = chart(&area, measured, &lines, highest * HEADROOM) {
        bail!("cannot draw the plot: {error}");
    }
    drop(area);
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn chart<'a>(
    area: &Area<'a>,
    measured: &Measured,
    lines: &[(Vec<(f64, f64)>, Line)],
    top: f64,
) -> Result<(), Failure<'a>> {
    area.fill(&WHITE)?;
    let Machine { cpu_model, kernel } = &measured.machine;
    let area = area.titled(&format!("{cpu_model}, Linux {kernel}"), ("sans-serif", 15))?;
    let mut chart = ChartBuilder::on(&area)
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(55)
        .build_cartesian_2d((1.0..MOST_FLOWS).log_scale().base(2.0), 0.0..top)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("flows")
        .y_desc("ns of CPU time a packet, wrapper included")
        .x_labels(11)
        .x_label_formatter(&|flows| count(*flows))
        .y_label_formatter(&f64::to_string)
        .label_style(("sans-serif", 14))
        .draw()?;
    for (points, line) in lines.iter().filter(|(points, _)| !points.is_empty()) {
        let style = line.color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        // Nothing costs less than the floor.
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", 14))
        .background_style(WHITE)
        .draw()?;
    area.present()
}

/// `65536` as `64 Ki`.
fn count(flows: f64) -> String {
    const KI: f64 = 1024.0;
    if flows >= KI * KI {
        format!("{} Mi", flows / KI / KI)
    } else if flows >= KI {
        format!("{} Ki", flows / KI)
    } else {
        flows.to_string()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::{Options, case};

    fn measured(cases: &Value) -> Measured {
        let machine = json!({"cpu_model": "A & B", "kernel": "6.18"});
        serde_json::from_value(json!({"machine": machine, "cases": cases})).unwrap()
    }

    #[test]
    fn every_point_is_a_case_with_that_many_flows() {
        let cases = case::all(&Options::parse_from(["lb-bench"])).unwrap();
        let flows_of = |name: &str| {
            let case = cases.iter().find(|case| case.name == name)?;
            Some(f64::from(1u32 << case.flows.bits))
        };
        for (suffix, flows) in FLOWS {
            for line in LINES {
                let name = format!("{}{suffix}", line.cases);
                assert_eq!(flows_of(&name), Some(flows), "{name}");
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let measured = measured(&json!([
            {"name": "floor", "median": 14.0},
            {"name": "tcp4-ipip", "median": 25.0},
            {"name": "tcp4-ipip-64k", "error": "the XDP action was 2, not 3"},
            {"name": "tcp4-ipip-64svc-1m", "median": 60.0},
            {"name": "tcp4-ipip-1m", "median": 30.0},
        ]));
        let points = LINES.map(|line| line.points(&measured.cases));
        assert_eq!(
            points,
            [
                vec![],
                vec![(1.0, 25.0), (1_048_576.0, 30.0)],
                vec![(1.0, 14.0)],
                vec![]
            ]
        );
        let svg = svg(&measured).unwrap();
        for expected in ["A &amp; B", "ours, IPv4", "floor", "64 Ki"] {
            assert!(svg.contains(expected), "{expected} is not in {svg}");
        }
        assert!(!svg.contains("IPv6") && !svg.contains("peer"), "{svg}");
    }

    #[test]
    fn nothing_measured_is_no_plot() {
        let complaint = svg(&measured(&json!([{"name": "pass", "median": 9.0}]))).unwrap_err();
        assert!(complaint.to_string().contains("nothing to plot"), "{complaint}");
    }
}
