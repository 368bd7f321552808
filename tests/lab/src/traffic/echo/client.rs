//! Many echoing connections from inside one namespace, all on one thread.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval_at, timeout},
};

use super::{ANSWER_LEN, Break, Connection, QUESTION_LEN};
use crate::{Namespace, patience::patient, process::raise_file_limit, traffic::load::Failure};

/// How many connections are opened, and how they are used.
#[derive(Debug, Clone)]
pub struct EchoOptions {
    /// Where to connect.
    pub target: SocketAddr,
    /// Connections at the same time. One that ends is followed by another.
    pub connections: u32,
    /// Between two questions of one connection.
    pub interval: Duration,
    /// After how many answers the client closes a connection; `None`: never.
    pub life: Option<u64>,
    /// How long connecting, and an answer, may take.
    pub timeout: Duration,
    /// At most that long.
    pub time: Duration,
}

impl EchoOptions {
    /// `connections` that stay, and echo every 200 ms; at most for five minutes. Patient enough for retransmissions on
    /// a busy machine.
    pub fn new(target: SocketAddr, connections: u32) -> Self {
        Self {
            target,
            connections,
            interval: Duration::from_millis(200),
            life: None,
            timeout: Duration::from_secs(10),
            time: Duration::from_secs(300),
        }
    }
}

/// Running connections; dropping it ends them.
#[derive(Debug)]
pub struct Echoes {
    journal: Arc<Journal>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Journal {
    connections: Mutex<Vec<Connection>>,
    stop: AtomicBool,
}

impl Echoes {
    /// Begins to open connections from `namespace`, evenly spread over ten intervals.
    ///
    /// # Errors
    /// When the thread cannot be started, or this process may not open as many files.
    pub fn start(namespace: &Namespace, options: EchoOptions) -> Result<Self> {
        raise_file_limit(u64::from(options.connections) + 1000)?;
        let journal = Arc::new(Journal::default());
        let theirs = Arc::clone(&journal);
        let thread = namespace.spawn_async(async move || run(Arc::new(options), theirs).await)?;
        Ok(Self {
            journal,
            thread: Some(thread),
        })
    }

    /// All connections so far, in the order of opening.
    pub fn connections(&self) -> Vec<Connection> {
        self.journal.lock().clone()
    }

    /// Ends the connections and returns them. Those that lived until now have no end.
    ///
    /// # Errors
    /// When the thread could not enter its namespace.
    pub fn stop(mut self) -> Result<Vec<Connection>> {
        self.journal.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the echoing thread panicked"))?
                .context("the connections could not be opened")?;
        }
        Ok(std::mem::take(&mut *self.journal.lock()))
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.journal.stop.store(true, Ordering::Relaxed);
    }
}

impl Journal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // An entry is changed whole or not at all, so a panic elsewhere leaves the list usable.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> usize {
        let mut connections = self.lock();
        connections.push(Connection::new());
        connections.len() - 1
    }

    fn update<T>(&self, number: usize, change: impl FnOnce(&mut Connection) -> T) -> T {
        change(&mut self.lock()[number])
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

async fn run(options: Arc<EchoOptions>, journal: Arc<Journal>) {
    let mut places = JoinSet::new();
    let begin = tokio::time::Instant::now();
    for place in 0..options.connections {
        let first = begin + options.interval * 10 * place / options.connections;
        let mut ticks = interval_at(first, options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (options, journal) = (Arc::clone(&options), Arc::clone(&journal));
        places.spawn(async move {
            let deadline = Instant::now() + options.time;
            let goes_on = || !journal.stopped() && Instant::now() < deadline;
            while goes_on() {
                ticks.tick().await;
                let number = journal.open();
                let result = converse(&options, &journal, number, &mut ticks, &goes_on).await;
                if result.is_err() || goes_on() {
                    journal.update(number, |connection| {
                        connection.end = Some((Instant::now(), result));
                    });
                }
            }
        });
    }
    places.join_all().await;
}

/// One connection from its opening to its end.
async fn converse(
    options: &EchoOptions,
    journal: &Journal,
    number: usize,
    ticks: &mut Interval,
    goes_on: &impl Fn() -> bool,
) -> Result<(), Break> {
    let open = TcpStream::connect(options.target);
    let mut stream = within(options.timeout, open).await.map_err(Break::Open)?;
    // Without either the record is poorer, not wrong.
    let _ = stream.set_nodelay(true);
    let port = stream.local_addr().map(|address| address.port()).ok();
    journal.update(number, |connection| connection.port = port);
    let mut questions = 0..options.life.unwrap_or(u64::MAX);
    while goes_on()
        && let Some(question) = questions.next()
    {
        let asked = Instant::now();
        let answer = within(options.timeout, ask(&mut stream, question));
        let answer = answer.await.map_err(Break::Lost)?;
        journal.update(number, |connection| {
            judge(connection, question, &answer, asked.elapsed())
        })?;
        ticks.tick().await;
    }
    Ok(())
}

async fn ask(stream: &mut TcpStream, question: u64) -> std::io::Result<[u8; ANSWER_LEN]> {
    stream.write_all(&question.to_be_bytes()).await?;
    let mut answer = [0; ANSWER_LEN];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

async fn within<T>(limit: Duration, work: impl Future<Output = std::io::Result<T>>) -> Result<T, Failure> {
    Ok(timeout(patient(limit), work)
        .await
        .map_err(|_| Failure::Timeout)??)
}

/// Records an answer, if it is the right one.
fn judge(
    connection: &mut Connection,
    question: u64,
    answer: &[u8; ANSWER_LEN],
    took: Duration,
) -> Result<(), Break> {
    let (sequence, name) = answer.split_at(QUESTION_LEN);
    let sequence = sequence.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let name = String::from_utf8_lossy(name);
    let name = name.trim_end_matches('\0');
    if sequence != question {
        return Err(Break::Sequence {
            question,
            answer: sequence,
        });
    }
    let server = connection.server.get_or_insert_with(|| name.into());
    if **server != *name {
        return Err(Break::Server(name.into()));
    }
    connection.echoes += 1;
    connection.heard = Some(Instant::now());
    connection.slowest = connection.slowest.max(took);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sequence: u64, name: &str) -> [u8; ANSWER_LEN] {
        let mut answer = [0; ANSWER_LEN];
        answer[..QUESTION_LEN].copy_from_slice(&sequence.to_be_bytes());
        answer[QUESTION_LEN..][..name.len()].copy_from_slice(name.as_bytes());
        answer
    }

    #[test]
    fn other_servers_and_other_answers_are_breaks() {
        let took = Duration::from_millis(3);
        let mut connection = Connection::new();
        judge(&mut connection, 0, &answer(0, "one"), took).unwrap();
        judge(&mut connection, 0x0102_0304, &answer(0x0102_0304, "one"), took).unwrap();
        assert_eq!((connection.echoes, connection.slowest), (2, took));
        let other = judge(&mut connection, 2, &answer(2, "two"), took);
        assert_eq!(other, Err(Break::Server("two".into())));
        let late = judge(&mut connection, 2, &answer(1, "one"), took);
        assert_eq!(
            late,
            Err(Break::Sequence {
                question: 2,
                answer: 1
            })
        );
        assert_eq!(connection.echoes, 2);
    }
}
