//! Asking the loaded program what it would do with a frame, by `BPF_PROG_TEST_RUN`.

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use bytemuck::Zeroable;
use lb_api::packet::{MAX_FRAME, MIN_FRAME};
use lb_common::abi::{Placement, Reason, Trace};

use super::Dataplane;

/// The most that a frame grows by: two VLAN tags, and headers of IPv6, UDP and GUE.
const GROWTH: usize = 8 + 40 + 8 + 4;

/// Answers that are asked for before they are taken to differ for good.
const MOST_ANSWERS: usize = 8;

/// The context of an XDP program, `struct xdp_md` of the kernel's UAPI.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct XdpMd {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// What the program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Why the packet left as it did.
    pub reason: Reason,
    /// The program's XDP action.
    pub action: u32,
    /// The service's number, the target's index, the slot; as far as they were decided.
    pub service: Option<u32>,
    /// Index of the target.
    pub target: Option<u32>,
    /// Slot of the service's table.
    pub slot: Option<u32>,
    /// How the backend was found.
    pub placement: Placement,
    /// What the flow clock said.
    pub clock: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

impl Explained {
    /// Whether the same was done, at whatever time.
    fn agrees_with(&self, other: &Self) -> bool {
        let clock = other.clock;
        Self {
            clock,
            ..self.clone()
        } == *other
    }
}

impl Dataplane {
    /// Runs the loaded program on a frame that would come in by `interface`. Nothing is counted.
    ///
    /// Kernels that do not hold back soft interrupts meanwhile (before 6.10) let real packets come in between on the same
    /// CPU. They take no notice of this one, since each begins the per-CPU memory of the detour anew; but this one may go
    /// on from what they left there. So it is asked until two answers in a row agree.
    ///
    /// # Errors
    /// When the frame is too short or long, or the kernel refuses the run.
    pub fn explain(&self, frame: &[u8], interface: u32) -> Result<Explained> {
        let mut before = self.explain_once(frame, interface)?;
        for _ in 0..MOST_ANSWERS {
            let now = self.explain_once(frame, interface)?;
            if now.agrees_with(&before) {
                return Ok(now);
            }
            before = now;
        }
        bail!("the program's answers differed {MOST_ANSWERS} times: the tables change, ask again")
    }

    fn explain_once(&self, frame: &[u8], interface: u32) -> Result<Explained> {
        let len = frame.len();
        ensure!(
            (MIN_FRAME..=MAX_FRAME).contains(&len),
            "a frame of {len} bytes cannot be run: expected {MIN_FRAME} to {MAX_FRAME}"
        );
        let meta = size_of::<Trace>();
        let trace = Trace {
            magic: Trace::MAGIC,
            ..Trace::default()
        };
        let input = [bytemuck::bytes_of(&trace), frame].concat();
        let context = XdpMd {
            data: meta as u32,
            data_end: input.len() as u32,
            ingress_ifindex: interface,
            ..XdpMd::zeroed()
        };
        let mut context_out = XdpMd::zeroed();
        let mut output = vec![0; input.len() + GROWTH];
        let result = self
            .program()?
            .test_run(TestRunOptions {
                data_in: Some(&input),
                data_out: Some(&mut output),
                ctx_in: Some(bytemuck::bytes_of(&context)),
                ctx_out: Some(bytemuck::bytes_of_mut(&mut context_out)),
                ..TestRunOptions::new()
            })
            .context("the kernel refused to run the program on this frame")?;
        output.truncate(result.data_size_out as usize);
        let Some((trace, frame)) = output.split_at_checked(meta) else {
            bail!("the kernel gave back less than it was given");
        };
        let trace: Trace = bytemuck::pod_read_unaligned(trace);
        let placement = u16::try_from(trace.placement)
            .ok()
            .and_then(Placement::from_number);
        let reason = Reason::from_number(trace.reason).context("the program gave no reason")?;
        let some = |number: u32| (number != Trace::NONE).then_some(number);
        Ok(Explained {
            reason,
            action: result.return_value,
            service: some(trace.service),
            target: some(trace.target),
            slot: some(trace.slot),
            placement: placement.context("the program did not say how")?,
            clock: trace.clock,
            frame: frame.to_vec(),
        })
    }
}
