//! What the demo reports: which requests failed, and when.

use std::{collections::BTreeMap, fmt, time::Instant};

use lb_lab::{Forwarder, traffic::load::Record};
use serde::Serialize;

use super::stage::Change;

/// When things happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeline {
    /// The backend was killed.
    pub(super) killed: Instant,
    /// The agent was first seen to have it taken out.
    pub(super) drained: Instant,
    /// The agent took it back.
    pub(super) rejoined: Change,
}

/// In which part of the demo a request falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All backends up: before the kill, or after the return.
    Steady,
    /// Under way at any moment between the kill and its detection, or at the moment when slots moved back to the
    /// returning backend: that cuts flows which are not tracked.
    Detection,
    /// The dead backend is out.
    Drained,
}

impl Timeline {
    fn part_of(&self, record: &Record) -> Part {
        let overlaps = |from: Instant, to: Instant| record.started < to && record.ended >= from;
        if overlaps(self.killed, self.drained) || overlaps(self.rejoined.before, self.rejoined.seen) {
            Part::Detection
        } else if record.ended < self.killed || record.started >= self.rejoined.seen {
            Part::Steady
        } else {
            Part::Drained
        }
    }
}

/// The demo's result; as JSON, the fields are these, in this order.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    mode: String,
    forwarder: &'static str,
    backends: usize,
    requests: usize,
    failed_steady: usize,
    failed_during_detection: usize,
    failed_after_drain: usize,
    detection_ms: u64,
    apply_us: u64,
    share: BTreeMap<String, f64>,
}

impl Summary {
    pub(super) fn new(
        mode: String,
        forwarder: Forwarder,
        backends: &[String],
        records: &[Record],
        timeline: &Timeline,
        apply_us: u64,
    ) -> Self {
        let failed_in = |part| {
            let failed = records.iter().filter(|record| record.outcome.is_err());
            failed.filter(|record| timeline.part_of(record) == part).count()
        };
        let detection = timeline.drained.duration_since(timeline.killed);
        Self {
            mode,
            forwarder: forwarder.name(),
            backends: backends.len(),
            requests: records.len(),
            failed_steady: failed_in(Part::Steady),
            failed_during_detection: failed_in(Part::Detection),
            failed_after_drain: failed_in(Part::Drained),
            detection_ms: u64::try_from(detection.as_millis()).unwrap_or(u64::MAX),
            apply_us,
            share: shares(backends, records, timeline),
        }
    }

    /// Whether requests failed only where that could not be avoided, and any were sent.
    pub(super) const fn is_good(&self) -> bool {
        self.requests > 0 && self.failed_steady == 0 && self.failed_after_drain == 0
    }
}

/// Each backend's part of the answers while all were up, 0 to 1.
fn shares(backends: &[String], records: &[Record], timeline: &Timeline) -> BTreeMap<String, f64> {
    let steady = records
        .iter()
        .filter(|record| timeline.part_of(record) == Part::Steady);
    let answers: Vec<&String> = steady.filter_map(|record| record.outcome.as_ref().ok()).collect();
    let share = |backend: &String| {
        let answered = answers.iter().filter(|name| **name == backend).count();
        let share = answered as f64 / answers.len().max(1) as f64;
        (share * 1e4).round() / 1e4
    };
    backends
        .iter()
        .map(|backend| (backend.clone(), share(backend)))
        .collect()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            forwarder,
            backends,
            requests,
            failed_steady,
            failed_during_detection,
            ..
        } = self;
        writeln!(
            f,
            "\n{requests} requests through {mode} XDP ({forwarder}) to {backends} backends:"
        )?;
        writeln!(f, "  failed while all were up         {failed_steady}")?;
        writeln!(f, "  failed until the dead was out    {failed_during_detection}")?;
        writeln!(
            f,
            "  failed after that                {}",
            self.failed_after_drain
        )?;
        writeln!(f, "  death noticed after              {} ms", self.detection_ms)?;
        writeln!(f, "  tables changed in                {} µs", self.apply_us)?;
        let shares = self
            .share
            .iter()
            .map(|(backend, share)| format!("{backend} {:.1}%", share * 100.0));
        writeln!(
            f,
            "  shares while all were up         {}",
            shares.collect::<Vec<_>>().join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use lb_lab::traffic::load::Failure;

    /// Kill at 100 ms, drained at 200 ms, back between 300 and 310 ms.
    fn timeline(start: Instant) -> Timeline {
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let rejoined = Change {
            before: at(300),
            seen: at(310),
        };
        Timeline {
            killed: at(100),
            drained: at(200),
            rejoined,
        }
    }

    fn record(start: Instant, from: u64, to: u64, outcome: Result<String, Failure>) -> Record {
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        Record {
            started: at(from),
            ended: at(to),
            connection: 0,
            outcome,
        }
    }

    #[test]
    fn failures_belong_to_the_part_they_happen_in() {
        use Part::{Detection, Drained, Steady};
        let start = Instant::now();
        for (from, to, part) in [
            (0, 99, Steady),
            (50, 100, Detection),
            (100, 150, Detection),
            (199, 290, Detection),
            (200, 290, Drained),
            (250, 299, Drained),
            (250, 300, Detection),
            (309, 400, Detection),
            (310, 400, Steady),
        ] {
            let record = record(start, from, to, Err(Failure::Reset));
            assert_eq!(timeline(start).part_of(&record), part, "{from} to {to} ms");
        }
    }

    #[test]
    fn a_summary_counts_and_has_the_promised_form() {
        let start = Instant::now();
        let names = ["a".to_owned(), "b".to_owned()];
        let served = |from, to, name: &str| record(start, from, to, Ok(name.to_owned()));
        let failed = |from, to| record(start, from, to, Err(Failure::Refused));
        let records = [
            served(0, 1, "a"),
            served(1, 2, "b"),
            served(320, 321, "b"),
            served(330, 331, "b"),
            served(210, 220, "a"),
            failed(120, 121),
        ];
        let summary = Summary::new(
            "native".into(),
            Forwarder::Ipip,
            &names,
            &records,
            &timeline(start),
            42,
        );
        assert!(summary.is_good());
        assert_eq!(
            serde_json::to_string(&summary).unwrap(),
            r#"{"mode":"native","forwarder":"ipip","backends":2,"requests":6,"failed_steady":0,"#.to_owned()
                + r#""failed_during_detection":1,"failed_after_drain":0,"detection_ms":100,"apply_us":42,"#
                + r#""share":{"a":0.25,"b":0.75}}"#
        );
        for failure in [failed(0, 1), failed(210, 211), failed(400, 401)] {
            let summary = Summary::new(
                "native".into(),
                Forwarder::Ipip,
                &names,
                &[failure],
                &timeline(start),
                42,
            );
            assert!(!summary.is_good());
        }
    }
}
