//! The wrapper program (`lb-ebpf/src/bench/wrapper.rs`), set up for one frame and one program under test.

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};

use super::frame::Frame;

/// The object with all XDP programs of the bench.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(env!("LB_BENCH_OBJECT"));

/// Room for what comes back: the frame and the longest outer header.
const OUTPUT: usize = 2048;

/// Which flows a case sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flows {
    /// There are 2 to this power.
    pub(super) bits: u32,
    /// They are divided among 2 to this power of services with consecutive addresses.
    pub(super) service_bits: u32,
    /// Every frame opens a flow of its own instead.
    pub(super) fresh: bool,
}

/// A loaded wrapper.
#[derive(Debug)]
pub(super) struct Wrapper {
    ebpf: Ebpf,
    frame: Vec<u8>,
    context: [u32; 6],
}

/// What one run gave back.
#[derive(Debug)]
pub(super) struct Returned {
    /// The XDP action for the last frame.
    pub(super) action: u32,
    /// The last frame.
    pub(super) frame: Vec<u8>,
}

impl Wrapper {
    /// Loads the wrapper to feed `program` with `frame`, as if it came in by `interface` of the caller's namespace.
    pub(super) fn load(frame: &Frame, flows: Flows, program: &ProgramFd, interface: u32) -> Result<Self> {
        let mut ebpf =
            load_for(frame, flows).context("cannot load the bench's BPF object; run this as root")?;
        xdp(&mut ebpf, "wrapper")?
            .load()
            .context("the kernel refuses the bench's wrapper")?;
        let under_test = ebpf.map_mut("UNDER_TEST").context("no map UNDER_TEST")?;
        ProgramArray::try_from(under_test)?.set(0, program, 0).context(
            "the kernel refuses a tail call into the program: is it XDP, and JIT-compiled like the wrapper?",
        )?;
        let len = u32::try_from(frame.bytes.len())?;
        Ok(Self {
            ebpf,
            frame: frame.bytes.clone(),
            // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
            context: [0, len, 0, interface, 0, 0],
        })
    }

    /// Runs wrapper and program under test `repeat` times.
    pub(super) fn run(&self, repeat: u32) -> Result<Returned> {
        let mut output = vec![0; OUTPUT];
        let result = self.program()?.test_run(TestRunOptions {
            data_in: Some(&self.frame),
            data_out: Some(&mut output),
            ctx_in: Some(bytemuck::bytes_of(&self.context)),
            repeat,
            ..TestRunOptions::new()
        });
        let result = result.context("the kernel refuses a test run")?;
        output.truncate(result.data_size_out as usize);
        Ok(Returned {
            action: result.return_value,
            frame: output,
        })
    }

    /// Sends `repeat` real frames through wrapper and program under test, and on to where the program says.
    pub(super) fn run_live(&self, repeat: u32) -> Result<()> {
        const BATCH: u32 = 64;
        self.program()?
            .test_run(TestRunOptions {
                data_in: Some(&self.frame),
                ctx_in: Some(bytemuck::bytes_of(&self.context)),
                repeat,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::new()
            })
            .context("the kernel refuses a test run with live frames; that needs Linux 5.18")?;
        Ok(())
    }

    /// How many frames came back rewritten so far; the last frame of each run does not come back.
    pub(super) fn rewritten(&self) -> Result<u64> {
        let data = self.ebpf.map(".bss").context("the wrapper has no variables")?;
        let state: Array<_, [u64; 2]> = data.try_into()?;
        let [rewritten, _flow] = state.get(&0, 0)?;
        Ok(rewritten)
    }

    /// Whether `other` is the frame as it went in.
    pub(super) fn is_unchanged(&self, other: &[u8]) -> bool {
        let len = |frame: &[u8]| frame.len();
        len(other) == len(&self.frame) && other.get(..8) == self.frame.get(..8)
    }

    fn program(&self) -> Result<&Xdp> {
        let program = self.ebpf.program("wrapper").context("no program wrapper")?;
        Ok(program.try_into()?)
    }
}

/// The XDP program `name` of the bench's object.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the bench's BPF object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("{name} is no XDP program"))
}

fn load_for(frame: &Frame, flows: Flows) -> Result<Ebpf> {
    let Frame {
        bytes,
        v6,
        changing_checksum,
    } = frame;
    let Flows {
        bits,
        service_bits,
        fresh,
    } = flows;
    let word = |at: usize| Ok::<_, anyhow::Error>(u64::from_ne_bytes(field(bytes, at)?));
    let half = |at: usize| Ok::<_, anyhow::Error>(u32::from_ne_bytes(field(bytes, at)?));
    let quarter = |at: usize| Ok::<_, anyhow::Error>(u32::from(u16::from_ne_bytes(field(bytes, at)?)));
    let checksum_at = changing_checksum.unwrap_or(0);
    // Offsets of the addresses' last four bytes, and of the ports.
    let (source, destination, ports) = if *v6 { (34, 50, 54) } else { (26, 30, 34) };
    let halves = [
        ("FRAME_LEN", u32::try_from(bytes.len())?),
        ("IS_V6", u32::from(*v6)),
        // Only read of IPv6 frames.
        ("SOURCE_MIDDLE", half(30)?),
        ("DESTINATION_MIDDLE", half(46)?),
        ("SOURCE", half(source)?),
        ("DESTINATION", half(destination)?),
        ("PORTS", half(ports)?),
        ("CHECKSUM_AT", u32::try_from(checksum_at)?),
        ("CHECKSUM", quarter(checksum_at)?),
        ("FLOW_BITS", bits),
        ("SERVICE_BITS", service_bits),
        ("FRESH", u32::from(fresh)),
    ];
    let words = [
        ("ETHERNET_HEAD", word(0)?),
        (
            "ETHERNET_TAIL",
            u64::from(half(8)?) | u64::from(quarter(12)?) << 32,
        ),
        ("IP_HEAD", if *v6 { word(14)? } else { u64::from(half(22)?) }),
        ("SOURCE_HEAD", word(22)?),
        ("DESTINATION_HEAD", word(38)?),
    ];
    let mut loader = EbpfLoader::new();
    for (name, value) in &halves {
        loader.override_global(name, value, true);
    }
    for (name, value) in &words {
        loader.override_global(name, value, true);
    }
    Ok(loader.load(OBJECT)?)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes
        .get(at..at + N)
        .context("the frame is shorter than its headers")?;
    Ok(field.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::SocketAddr};

    use super::*;
    use crate::{frame::Payload, wire::Wire};

    /// Source address and ports of IPv4.
    const FLOW: std::ops::Range<usize> = 26..38;

    #[test]
    fn every_flow_comes_once_before_the_first_comes_again() {
        let client: SocketAddr = "192.168.0.1:1024".parse().unwrap();
        let service: SocketAddr = "10.200.1.2:80".parse().unwrap();
        let frame = Frame::new(Payload::Tcp, client, service).unwrap();
        let flows = Flows {
            bits: 5,
            service_bits: 1,
            fresh: false,
        };
        let wire = Wire::new().unwrap();
        let run = || {
            let mut ebpf = Ebpf::load(OBJECT).unwrap();
            let empty = xdp(&mut ebpf, "empty").unwrap();
            empty.load().unwrap();
            let wrapper = Wrapper::load(&frame, flows, empty.fd().unwrap(), wire.interface).unwrap();
            let flow = |_| wrapper.run(1).unwrap().frame[FLOW].to_vec();
            (0..64).map(flow).collect::<Vec<_>>()
        };
        let seen = wire.inside(run).unwrap();
        let distinct: HashSet<&Vec<u8>> = seen[..32].iter().collect();
        assert_eq!(distinct.len(), 32);
        assert_eq!(seen[..32], seen[32..]);
        let of_first_service = distinct
            .iter()
            .filter(|flow| flow[4..8] == [10, 200, 1, 2])
            .count();
        assert_eq!(of_first_service, 16);
    }
}
