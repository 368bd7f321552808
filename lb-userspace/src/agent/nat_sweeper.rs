//! Looks through the table of `fullnat` flows beside the agent's other work: a full table takes seconds to read.
//!
//! Invariant: a look reads the table first and takes the layout afterwards. The agent publishes a layout before packets can
//! meet it, so the layout knows whatever the entries name.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use crate::dataplane::Translations;
use crate::supervise::{Supervisor, guarded};
use lb_core::plan::{BackendRef, FlowTime, Layout, Usage};

/// What the last look found.
#[derive(Debug, Default)]
pub(super) struct NatLook {
    /// When it began; absent before the first one.
    pub(super) began: Option<Instant>,
    /// How long it took.
    pub(super) took: Duration,
    /// Entries that were in the table; absent before the first look, since an earlier agent may have left some.
    pub(super) entries: Option<usize>,
    /// Flows of each backend; absent means none.
    pub(super) flows: HashMap<BackendRef, u64>,
    /// How much of each address is in use that backends see.
    pub(super) used: BTreeMap<IpAddr, Usage>,
}

/// The table, and what the last look left open.
struct Table {
    translations: Translations,
    /// Entries whose opposite was not found.
    lonely: HashSet<lb_common::abi::FlowEnds>,
}

impl Table {
    fn look(&mut self, layout: impl FnOnce() -> Layout, time: FlowTime) -> Result<NatLook> {
        let began = Instant::now();
        let entries = self.translations.entries()?;
        let translated = layout().look_through(&entries, &self.lonely, time);
        translated.carry_out(&mut self.translations);
        self.lonely = translated.lonely;
        Ok(NatLook {
            began: Some(began),
            took: began.elapsed(),
            entries: Some(entries.len()),
            flows: translated.flows,
            used: translated.used,
        })
    }
}

/// The agent's end: asks for looks, and takes what they found.
pub(super) struct NatSweeper {
    table: Arc<Mutex<Table>>,
    asks: mpsc::Sender<FlowTime>,
    layouts: watch::Sender<Layout>,
}

impl NatSweeper {
    /// Begins the task on the calling tokio runtime. The receiver has what the last look found.
    pub(super) fn spawn(
        translations: Translations,
        layout: Layout,
        supervisor: Supervisor,
    ) -> (Self, watch::Receiver<Arc<NatLook>>) {
        let table = Arc::new(Mutex::new(Table {
            translations,
            lonely: HashSet::new(),
        }));
        // One more may wait while a look is under way: it sees what has changed since that one began.
        let (asks, asked) = mpsc::channel(1);
        let (layouts, layout) = watch::channel(layout);
        let (looks, found) = watch::channel(Arc::default());
        tokio::spawn(run(Arc::clone(&table), asked, layout, looks, supervisor));
        (Self { table, asks, layouts }, found)
    }

    /// Takes note of the layout that packets are about to meet.
    pub(super) fn publish(&self, layout: &Layout) {
        self.layouts.send_replace(layout.clone());
    }

    /// Asks for a look from now on.
    pub(super) fn ask(&self, time: FlowTime) {
        // One that waits already will see what this one would.
        let _ = self.asks.try_send(time);
    }

    /// Looks at once, and waits for it: for when cells are needed that flows may still name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn look_now(&self, layout: &Layout, time: FlowTime) -> Result<NatLook> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.look(|| layout.clone(), time)
    }
}

/// Looks whenever it is asked to, until nobody can ask any more.
async fn run(
    table: Arc<Mutex<Table>>,
    mut asked: mpsc::Receiver<FlowTime>,
    layouts: watch::Receiver<Layout>,
    looks: watch::Sender<Arc<NatLook>>,
    mut supervisor: Supervisor,
) {
    let mut serve = async || -> Result<()> {
        while let Some(time) = asked.recv().await {
            let (table, layouts) = (Arc::clone(&table), layouts.clone());
            let look = move || {
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                table.look(|| layouts.borrow().clone(), time)
            };
            let found = spawn_blocking(look).await.context("it panicked")??;
            looks.send_replace(Arc::new(found));
        }
        Ok(())
    };
    while let Err(why) = guarded(serve()).await {
        if !supervisor.again_after(&why).await {
            return;
        }
    }
}
