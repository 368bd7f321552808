//! Events as lines of the agent's log.

use log::Level;

use super::{Event, Sink};
use lb_api::view::DrainEnd;
use lb_core::plan::BackendState;

/// The agent's log.
#[derive(Debug, Default)]
pub(super) struct LogSink;

impl Sink for LogSink {
    fn tell(&self, event: &Event) {
        let (level, line) = line(event);
        log::log!(level, "{line}");
    }
}

/// The line for an event, and how much it matters.
fn line(event: &Event) -> (Level, String) {
    match event {
        Event::BackendChanged {
            service,
            backend,
            before: Some(_),
            now: now @ (BackendState::Down | BackendState::Unresolved),
            why: Some(why),
        } => (Level::Warn, format!("{service}: {backend} is {now}: {why}")),
        Event::BackendChanged {
            service, backend, now, ..
        } => (Level::Info, format!("{service}: {backend} is {now}")),
        Event::DrainEnded {
            service,
            backend,
            end,
            flows,
            has_left,
        } => {
            let now = if *has_left { "has left" } else { "is drained" };
            match (end, flows) {
                (DrainEnd::Deadline, Some(flows)) => {
                    let line = format!("{service}: {backend} {now}: {end}, {flows} flows were cut");
                    (Level::Warn, line)
                }
                (DrainEnd::Deadline | DrainEnd::Down, _) => {
                    (Level::Warn, format!("{service}: {backend} {now}: {end}"))
                }
                (DrainEnd::NoFlows | DrainEnd::Silent, _) => {
                    (Level::Info, format!("{service}: {backend} {now}: {end}"))
                }
            }
        }
        Event::FileTakesAway { path, losses } => {
            (Level::Info, format!("{} no longer has {losses}", path.display()))
        }
        Event::CheckpointRestored { number, generation } => (
            Level::Info,
            format!("restored checkpoint {number}: generation {generation}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_somebody_is_a_warning() {
        let changed = |before, now, why: Option<&str>| {
            line(&Event::BackendChanged {
                service: "web".parse().unwrap(),
                backend: "10.0.0.5:80".parse().unwrap(),
                before,
                now,
                why: why.map(str::to_owned),
            })
        };
        let up = Some(BackendState::Up);
        assert_eq!(
            changed(up, BackendState::Down, Some("connection refused")),
            (Level::Warn, "web: 10.0.0.5:80 is down: connection refused".to_owned())
        );
        // Nobody needs to come for a backend that has not been there before, or that is back.
        assert_eq!(changed(None, BackendState::Unresolved, Some("no route")).0, Level::Info);
        let back = changed(Some(BackendState::Down), BackendState::Up, Some("connection refused"));
        assert_eq!(back, (Level::Info, "web: 10.0.0.5:80 is up".to_owned()));

        let ended = |end, flows, has_left| {
            line(&Event::DrainEnded {
                service: "web".parse().unwrap(),
                backend: "10.0.0.5".parse().unwrap(),
                end,
                flows,
                has_left,
            })
        };
        let (level, text) = ended(DrainEnd::Deadline, Some(7), true);
        assert_eq!(level, Level::Warn);
        assert!(text.starts_with("web: 10.0.0.5 has left: ") && text.ends_with(", 7 flows were cut"), "{text}");
        assert_eq!(ended(DrainEnd::NoFlows, Some(0), false).0, Level::Info);
        assert_eq!(ended(DrainEnd::Down, None, false).0, Level::Warn);
    }
}
