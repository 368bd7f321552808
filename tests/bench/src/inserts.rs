//! Writing flows down: one CPU alone against two at once, in one table.
//!
//! What must hold: every frame counted here was written down. The flows are adopted ones, as a service's budget limits
//! new ones; the table is emptied between runs, and never more than half full.

use std::{sync::Barrier, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use lb_userspace::dataplane::Dataplane;

use super::{
    Options,
    agent::Row,
    case::{Ends, FRESH},
    cpu::{pin, thread_time},
    frame::Payload,
    report::Spread,
    scenario::{Balancer, Scenario},
    wrapper::Wrapper,
};

/// Frames of one CPU in one run.
const FRAMES: u32 = 200_000;

/// Takes the figures, on the CPU asked for and the one after it (or before it, for the last).
pub(super) fn run(options: &Options, cpus: usize, interface: u32) -> Result<Vec<Row>> {
    ensure!(cpus > 1, "this takes two CPUs, and there is one");
    let other = if options.cpu as usize + 1 < cpus {
        options.cpu + 1
    } else {
        options.cpu - 1
    };
    let ends = Ends::new(options);
    let mut balancer = Balancer::load(&Scenario::moved(ends.vip4), interface)?;
    let wrapper = |client: u32, dataplane: &Dataplane| {
        let frame = ends.frame_from(client, Payload::Tcp)?;
        Wrapper::load(&frame, FRESH, dataplane.program()?.fd()?, interface)
    };
    // Their clients are far apart, so that their flows are never the same.
    let wrappers = [
        wrapper(0, &balancer.dataplane)?,
        wrapper(1 << 20, &balancer.dataplane)?,
    ];
    let (mut alone, mut together, mut gain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=options.rounds {
        let one = timed(&wrappers[0])?;
        check(&mut balancer, 1)?;
        let two = at_once(&wrappers, [options.cpu, other])?;
        check(&mut balancer, 2)?;
        alone.push(one);
        together.extend(two);
        gain.push(100.0 * two.iter().map(|two| one / two).sum::<f64>());
    }
    let row = |name: &str, unit, samples: &[f64]| {
        anyhow::Ok(Row {
            name: name.to_owned(),
            unit,
            // The first round fills caches, and is not counted.
            value: Spread::of(samples).context("no rounds")?,
        })
    };
    Ok(vec![
        row("insert-one-cpu", "ns", &alone[1..])?,
        row("insert-two-cpus", "ns", &together[2..])?,
        row("insert-throughput-of-two", "%", &gain[1..])?,
    ])
}

/// Nanoseconds a frame.
fn timed(wrapper: &Wrapper) -> Result<f64> {
    let start = thread_time()?;
    wrapper.run(FRAMES)?;
    let spent: Duration = thread_time()? - start;
    Ok(spent.as_secs_f64() * 1e9 / f64::from(FRAMES))
}

fn at_once(wrappers: &[Wrapper; 2], cpus: [u32; 2]) -> Result<[f64; 2]> {
    let start = Barrier::new(2);
    let start = &start;
    let run = &|i: usize| {
        pin(cpus[i])?;
        start.wait();
        timed(&wrappers[i])
    };
    thread::scope(|scope| {
        let [one, two] = [0, 1].map(|i| scope.spawn(move || run(i)));
        let join = |thread: thread::ScopedJoinHandle<'_, Result<f64>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        Ok([join(one)?, join(two)?])
    })
}

/// Empties the table, which must hold what was sent but for a few flows whose places were all taken.
fn check(balancer: &mut Balancer, cpus: u32) -> Result<()> {
    let (sent, written) = (u64::from(FRAMES * cpus), balancer.forget_flows());
    ensure!(
        written * 100 >= sent * 97,
        "of {sent} flows {written} were written down"
    );
    Ok(())
}
