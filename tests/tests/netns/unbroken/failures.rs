//! Which connections had to break, and which had not.

use std::{
    fmt,
    time::{Duration, Instant},
};

use lb_lab::traffic::echo::Connection;

/// The death of a server.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) server: String,
    pub(super) killed: Instant,
    /// When it was listed as down, and so got no new connections any more.
    pub(super) detected: Instant,
}

impl Failure {
    /// Whether it explains the end of a connection at `when`. One that had no answer yet may have met any server.
    fn explains(&self, connection: &Connection, when: Instant) -> bool {
        let met = connection
            .server
            .as_ref()
            .is_none_or(|server| **server == *self.server);
        met && connection.opened <= self.detected && when >= self.killed
    }

    /// Whether the connection was with that server when it died.
    fn hits(&self, connection: &Connection) -> bool {
        let Some((heard, server)) = connection.heard.zip(connection.server.as_ref()) else {
            return false;
        };
        let before = connection.opened < self.killed && heard < self.killed;
        let ended_before = connection
            .end
            .as_ref()
            .is_some_and(|(when, _)| *when < self.killed);
        **server == *self.server && before && !ended_before
    }
}

/// What became of many connections.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) connections: usize,
    /// Connections that broke with their server.
    pub(super) failed: usize,
    echoes: u64,
    slowest: Duration,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            failed,
            echoes,
            slowest,
        } = self;
        write!(
            f,
            "{connections} connections, {failed} of them lost with their server; {echoes} echoes, the slowest in {slowest:?}"
        )
    }
}

/// Every connection that broke did so because of a failure, and every one that was with a failed server broke.
pub(super) fn account(connections: &[Connection], failures: &[Failure]) -> Account {
    let mut unexplained = Vec::new();
    let mut failed = 0;
    for connection in connections {
        let explained = |when| failures.iter().any(|failure| failure.explains(connection, when));
        match connection.broken() {
            Some((when, _)) if explained(when) => failed += 1,
            Some(_) => unexplained.push(connection),
            None => {
                let survived = failures.iter().any(|failure| failure.hits(connection));
                let closed = connection.end.is_some();
                assert!(
                    !survived || closed,
                    "its server died, and yet it lives: {connection:?}"
                );
            }
        }
    }
    assert!(
        unexplained.is_empty(),
        "{} of {} connections broke, {failed} of them with their server. Without a reason, among others:\n{}",
        unexplained.len() + failed,
        connections.len(),
        describe(&unexplained)
    );
    Account {
        connections: connections.len(),
        echoes: connections.iter().map(|connection| connection.echoes).sum(),
        failed,
        slowest: connections
            .iter()
            .map(|connection| connection.slowest)
            .max()
            .unwrap_or_default(),
    }
}

/// Some of these connections, a line each.
fn describe(broken: &[&Connection]) -> String {
    let lines = broken.iter().take(20).filter_map(|connection| {
        let (when, how) = connection.broken()?;
        let age = when - connection.opened;
        Some(format!(
            "{:?} from port {:?} after {age:?} and {} echoes: {how}",
            connection.server, connection.port, connection.echoes
        ))
    });
    lines.collect::<Vec<_>>().join("\n")
}
