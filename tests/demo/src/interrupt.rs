//! Signals that end the demo early. They are only noted; the demo looks between two steps and unwinds normally.

use std::{
    process::{self, ExitCode},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The first signal that arrived; 0 while there was none.
#[derive(Debug)]
pub(super) struct Interrupt {
    number: Arc<AtomicU8>,
}

/// A signal asked the demo to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by a signal")]
pub(super) struct Interrupted;

impl Interrupt {
    /// Starts to note SIGINT, SIGTERM and SIGHUP. A second one ends the process at once; the kernel kills its
    /// children and removes its namespaces then.
    pub(super) fn watch() -> Result<Self> {
        let number = Arc::new(AtomicU8::new(0));
        let noted = Arc::clone(&number);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let guard = runtime.enter();
        let mut signals = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ]
        .map(|kind| signal(kind).map(|stream| (kind, stream)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .context("cannot watch for signals")?;
        drop(guard);
        let note = move || {
            loop {
                let arrived = runtime.block_on(next(&mut signals));
                if noted.swap(arrived, Ordering::Relaxed) != 0 {
                    process::exit(128 + i32::from(arrived));
                }
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(note)
            .context("cannot start a thread")?;
        Ok(Self { number })
    }

    /// # Errors
    /// When a signal has arrived.
    pub(super) fn check(&self) -> Result<(), Interrupted> {
        if self.number.load(Ordering::Relaxed) == 0 {
            Ok(())
        } else {
            Err(Interrupted)
        }
    }

    /// 128 + the signal's number, as shells do; `None` while no signal has arrived.
    pub(super) fn exit_code(&self) -> Option<ExitCode> {
        let number = self.number.load(Ordering::Relaxed);
        (number != 0).then(|| ExitCode::from(128 + number))
    }
}

/// The number of the next signal.
async fn next(signals: &mut [(SignalKind, Signal)]) -> u8 {
    let each = signals.iter_mut().map(|(kind, stream)| {
        Box::pin(async move {
            stream.recv().await;
            kind.as_raw_value()
        })
    });
    let (number, ..) = futures_util::future::select_all(each).await;
    u8::try_from(number).unwrap_or(u8::MAX - 128)
}
