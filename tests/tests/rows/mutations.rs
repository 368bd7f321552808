//! The rows' packets, damaged at random: whatever comes, host and kernel agree, and what is not sent is not changed.

use anyhow::{Result, ensure};
use lb_api::packet::MIN_FRAME;
use lb_common::{
    abi::{Action, Reason},
    hash,
};
use lb_packets::check_sums;

use super::{
    host::Host,
    kernel::{Kernel, Loaded},
    of, report,
    row::{Row, ip_start},
    service_set::ServiceSet,
    tracking::Machine,
};

const VARIANTS: u64 = 8;
/// Bytes that are damaged: headers, and a little more.
const DAMAGED: usize = 90;

/// A reproducible sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 += 1;
        (hash::mix(self.0, 0xbad) >> 32) as usize % limit
    }
}

/// One to three bytes changed, and now and then a frame cut or extended. The destination stays, since the test's
/// routes know only those that rows go to.
fn damaged(row: &Row, numbers: &mut Numbers) -> Vec<u8> {
    let mut frame = row.input.clone();
    let ip = ip_start(&frame);
    let destination = if frame[ip - 2] == 0x08 {
        ip + 16..ip + 20
    } else {
        ip + 24..ip + 40
    };
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(frame.len().min(DAMAGED));
        if !destination.contains(&at) {
            // Small changes of a field find more than random values do.
            frame[at] = match numbers.below(3) {
                0 => numbers.below(256) as u8,
                1 => frame[at].wrapping_add(1),
                _ => frame[at] ^ 1 << numbers.below(8),
            };
        }
    }
    match numbers.below(8) {
        0 => frame.truncate(MIN_FRAME.max(numbers.below(frame.len()))),
        1 => frame.resize(frame.len() + numbers.below(40), 0),
        _ => {}
    }
    frame
}

fn check(frame: &[u8], loaded: &Loaded, host: &mut Host) -> Result<Reason> {
    let verdict = loaded.explain(frame)?;
    let on_host = host.explain(frame)?;
    ensure!(
        verdict == on_host,
        "the kernel says {verdict:?}, the host {on_host:?}"
    );
    if !matches!(verdict.reason.action(), Action::Send | Action::Hand) {
        ensure!(verdict.frame == frame, "dropped or passed, but changed");
    } else if check_sums(frame).is_ok() {
        check_sums(&verdict.frame)?;
    }
    Ok(verdict.reason)
}

#[test]
fn host_and_kernel_agree_on_damaged_packets() {
    let kernel = Kernel::new().unwrap();
    let mut host = Host::new(ServiceSet::Full, kernel.interfaces);
    let mut numbers = Numbers(0);
    let (mut wrong, mut reasons) = (Vec::new(), [0; Reason::COUNT as usize]);
    let checked = kernel.with_loaded(ServiceSet::Full, |loaded| {
        for row in of(ServiceSet::Full).filter(|row| row.input.len() >= MIN_FRAME) {
            for _ in 0..VARIANTS {
                let frame = damaged(&row, &mut numbers);
                match check(&frame, loaded, &mut host) {
                    Ok(reason) => reasons[reason as usize] += 1,
                    Err(error) => wrong.push(format!("{}, as {frame:02x?}: {error:#}", row.name)),
                }
            }
        }
        Ok(())
    });
    checked.unwrap();
    report(&wrong);
    for reason in [
        Reason::Forwarded,
        Reason::Returned,
        Reason::EchoReply,
        Reason::BadHeader,
    ] {
        assert!(
            reasons[reason as usize] > 10,
            "few packets left for {reason:?}: {reasons:?}"
        );
    }
}
