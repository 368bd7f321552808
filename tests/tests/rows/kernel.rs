//! The rows in the kernel: the real program on its real maps, run by `BPF_PROG_TEST_RUN` in a namespace of its own.

use anyhow::{Context, Result};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use lb_common::abi::{Reason, TargetCounters, TrackingCounters};
use lb_core::plan::{Capacity, Layout, MacTable, Memory};
use lb_lab::Namespace;
use lb_userspace::dataplane::{Dataplane, Explained, MappedTables};
use lb_userspace::netlink::Uppers;
use lb_world::{Interfaces, explain, load, namespace, send};

use super::{
    fullnat, routes,
    row::{Row, ip_start},
    service_set::ServiceSet,
    tracking::Machine,
    verdict::Verdict,
};

/// A namespace with routes, in which programs are run.
pub(crate) struct Kernel {
    namespace: Namespace,
    pub(crate) interfaces: Interfaces,
}

impl Kernel {
    pub(crate) fn new() -> Result<Self> {
        let namespace = namespace("rows")?;
        let interfaces = routes::set_up(&namespace)?;
        Ok(Self {
            namespace,
            interfaces,
        })
    }

    /// Loads the program, lays `services` out in its maps, and runs `body` with it inside the namespace.
    pub(crate) fn with_loaded<T: Send>(
        &self,
        services: ServiceSet,
        body: impl FnOnce(&Loaded) -> Result<T> + Send,
    ) -> Result<T> {
        let build = |tables: &mut MappedTables| services.lay_out(self.interfaces, tables);
        self.with(&ServiceSet::CAPACITY, build, body)
    }

    /// Tables of another size, filled by `build`.
    pub(crate) fn with<T: Send>(
        &self,
        capacity: &Capacity,
        build: impl FnOnce(&mut MappedTables) -> Layout + Send,
        body: impl FnOnce(&Loaded) -> Result<T> + Send,
    ) -> Result<T> {
        self.with_uppers(&routes::uppers(self.interfaces), capacity, build, body)
    }

    /// Loads the program with other knowledge of the interfaces and tables of another size, which `build` fills, and
    /// runs `body` with it inside the namespace.
    pub(crate) fn with_uppers<T: Send>(
        &self,
        uppers: &Uppers,
        capacity: &Capacity,
        build: impl FnOnce(&mut MappedTables) -> Layout + Send,
        body: impl FnOnce(&Loaded) -> Result<T> + Send,
    ) -> Result<T> {
        let interfaces = self.interfaces;
        self.namespace.run(|| {
            let dataplane = load(capacity, interfaces, uppers, &fullnat::source_pool())?;
            let layout = build(&mut dataplane.tables()?);
            body(&Loaded {
                dataplane,
                layout,
                interfaces,
            })
        })?
    }
}

/// The program with services in its maps.
pub(crate) struct Loaded {
    dataplane: Dataplane,
    pub(crate) layout: Layout,
    interfaces: Interfaces,
}

impl Loaded {
    /// Has the program know these MACs.
    pub(crate) fn set_macs(&self, macs: &MacTable) -> Result<()> {
        self.dataplane.set_macs(macs)
    }

    /// What the program does with a frame; it is not counted.
    pub(crate) fn explain(&self, frame: &[u8]) -> Result<Verdict> {
        let (explained, redirected) = explain(&self.dataplane, frame, self.interfaces.front)?;
        let Explained {
            reason,
            action: _,
            service,
            target,
            slot,
            placement,
            clock: _,
            frame,
        } = explained;
        Ok(Verdict {
            reason,
            redirected,
            service,
            slot,
            target,
            placement,
            frame,
        })
    }

    /// Runs the program on a frame as on one from the wire, and returns its action.
    pub(crate) fn run(&self, frame: &[u8]) -> Result<u32> {
        let (action, _) = send(&self.dataplane, frame, self.interfaces.front)?;
        Ok(action)
    }

    /// All counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let counters = self.dataplane.counters()?;
        let targets = (0..ServiceSet::CAPACITY.target_cells()).map(|index| counters.target(index));
        let reasons = Reason::ALL.iter().map(|reason| counters.reason(*reason));
        Ok(Counters {
            targets: targets.collect::<Result<_>>()?,
            reasons: reasons.collect::<Result<_>>()?,
        })
    }
}

/// The program and its tables, to be changed between packets.
pub(crate) struct Tracked<'a> {
    loaded: &'a Loaded,
    tables: MappedTables,
}

impl<'a> Tracked<'a> {
    pub(crate) fn new(loaded: &'a Loaded) -> Result<Self> {
        let tables = loaded.dataplane.tables()?;
        Ok(Self { loaded, tables })
    }
}

impl Machine for Tracked<'_> {
    fn memory(&mut self) -> &mut dyn Memory {
        &mut self.tables
    }

    fn clock(&self) -> Result<u32> {
        Ok(self.loaded.dataplane.flow_time()?.now)
    }

    fn explain(&mut self, frame: &[u8]) -> Result<Verdict> {
        self.loaded.explain(frame)
    }

    fn send(&mut self, frame: &[u8]) -> Result<Option<u32>> {
        let counters = self.loaded.dataplane.counters()?;
        let cells = 0..self.loaded.dataplane.capacity().target_cells();
        let packets = || -> Result<Vec<u64>> {
            let all = cells.clone().map(|cell| Ok(counters.target(cell)?.packets));
            all.collect()
        };
        let before = packets()?;
        self.loaded.run(frame)?;
        let after = packets()?;
        let moved = before
            .iter()
            .zip(&after)
            .position(|(before, after)| before != after);
        Ok(moved.map(|cell| cell as u32))
    }

    fn tracking(&self, number: u32) -> Result<TrackingCounters> {
        self.loaded.dataplane.counters()?.tracking(number)
    }
}

/// Every counter that the program has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    targets: Vec<TargetCounters>,
    reasons: Vec<u64>,
}

impl Counters {
    /// What one packet of `row` makes of these.
    pub(crate) fn after(mut self, row: &Row, verdict: &Verdict) -> Result<Self> {
        let target = verdict.target.map(|index| &mut self.targets[index as usize]);
        match row.reason {
            Reason::Forwarded | Reason::Local => {
                let count = target.context("no target")?;
                count.packets += 1;
                count.bytes += ip_len(&row.input);
                let (opens, closes) = flow_events(&row.input);
                count.flows += u64::from(opens || row.opens);
                count.closed += u64::from(closes);
            }
            Reason::Returned => {
                let count = target.context("no target")?;
                count.returned_packets += 1;
                count.returned_bytes += ip_len(&row.input);
            }
            reason => self.reasons[reason as usize] += 1,
        }
        Ok(self)
    }
}

/// Length of the IP packet, by its header.
fn ip_len(frame: &[u8]) -> u64 {
    let ip = &frame[ip_start(frame)..];
    let field = |at: usize| u64::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    if ip[0] >> 4 == 4 { field(2) } else { field(4) + 40 }
}

/// What a packet says about its flow: whether it opens it, and whether it closes it.
fn flow_events(frame: &[u8]) -> (bool, bool) {
    let ip = &frame[ip_start(frame)..];
    let Ok(headers) = PacketHeaders::from_ip_slice(ip) else {
        return (false, false);
    };
    let is_sctp = match &headers.net {
        Some(NetHeaders::Ipv4(ip, _)) => ip.protocol.0 == 132,
        Some(NetHeaders::Ipv6(ip, _)) => ip.next_header.0 == 132,
        _ => false,
    };
    match &headers.transport {
        Some(TransportHeader::Tcp(tcp)) => (tcp.syn && !tcp.ack, tcp.fin || tcp.rst),
        None if is_sctp => {
            let chunk = headers.payload.slice().get(12);
            (chunk == Some(&1), matches!(chunk, Some(6 | 14)))
        }
        _ => (false, false),
    }
}
