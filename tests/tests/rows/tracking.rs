//! Packets of migrating slots: each rule of the flow table, on the host and in the kernel, with the table afterwards.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lb_common::abi::{FlowKey, FlowState, FlowValue, Placement, SLOTS_PER_LINE, Slot, TrackingCounters};
use lb_core::desired::{Affinity, Forwarder, Service, TrackingPolicy as Which};
use lb_core::plan::{Capacity, Layout, Memory};
use lb_packets::{Frame, flow_hash};

use FlowState::{Closing, Embryonic, Established, Reset};
use Placement::{Adopted, Current, Known, Opened, Previous, Refused, Slot as BySlot};
use lb_world::{Interfaces, SEED};

use super::{
    host::{Host, INTERFACES},
    kernel::{Kernel, Tracked},
    service_set::{plain_world, service},
    verdict::Verdict,
};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;

const CAPACITY: Capacity = Capacity {
    services: 16,
    targets: 64,
    slots: 8192,
    flows: 4096,
    nat_flows: 4096,
};

/// Something that packets go through: the host's pipeline, or the kernel.
pub(crate) trait Machine {
    fn memory(&mut self) -> &mut dyn Memory;
    /// The flow clock.
    fn clock(&self) -> Result<u32>;
    /// What would become of a frame; nothing is to change.
    fn explain(&mut self, frame: &[u8]) -> Result<Verdict>;
    /// Sends a frame through, and says to which target.
    fn send(&mut self, frame: &[u8]) -> Result<Option<u32>>;
    fn tracking(&self, number: u32) -> Result<TrackingCounters>;
}

/// An entry: owner, state, and units of the flow clock since it was seen.
type Entry = (u32, FlowState, u32);

/// One rule.
#[derive(Clone)]
struct Case {
    name: &'static str,
    to: &'static str,
    /// TCP's flags.
    flags: u8,
    /// The slot's owner.
    current: Option<u16>,
    /// Its previous owner; outer `None`: the slot is stable.
    previous: Option<Option<u16>>,
    /// Whether that is the slot's home, which is out.
    lent: bool,
    /// The flow's entry before.
    entry: Option<Entry>,
    /// Whether other flows have taken all of its places.
    crowded: Option<(FlowState, u32)>,
    owner: Option<u32>,
    placement: Placement,
    /// Its entry afterwards; its age is 0 if it is given as less than one second.
    after: Option<Entry>,
    counted: TrackingCounters,
}

const NOTHING: TrackingCounters = TrackingCounters {
    hits: 0,
    inserted: 0,
    adopted: 0,
    evicted: 0,
    refused: 0,
    routed: 0,
    unroutable: 0,
    budget: 0,
};
const HIT: TrackingCounters = TrackingCounters { hits: 1, ..NOTHING };
const INSERTED: TrackingCounters = TrackingCounters {
    inserted: 1,
    ..NOTHING
};
const ADOPTED: TrackingCounters = TrackingCounters {
    adopted: 1,
    ..NOTHING
};
const REFUSED: TrackingCounters = TrackingCounters {
    refused: 1,
    ..NOTHING
};

const SPREAD: &str = "192.0.2.8:80";

/// A packet of a migrating slot of backend 1 that was backend 2's.
fn case(name: &'static str, flags: u8, owner: u32, placement: Placement) -> Case {
    Case {
        name,
        to: SPREAD,
        flags,
        current: Some(1),
        previous: Some(Some(2)),
        lent: false,
        entry: None,
        crowded: None,
        owner: Some(owner),
        placement,
        after: None,
        counted: NOTHING,
    }
}

impl Case {
    fn to(self, to: &'static str) -> Self {
        Self { to, ..self }
    }

    fn slot(self, current: Option<u16>, previous: Option<Option<u16>>) -> Self {
        Self {
            current,
            previous,
            ..self
        }
    }

    fn lent(self) -> Self {
        Self { lent: true, ..self }
    }

    fn with(self, entry: Entry) -> Self {
        Self {
            entry: Some(entry),
            after: Some(entry),
            counted: HIT,
            ..self
        }
    }

    fn leaves(self, after: Entry, counted: TrackingCounters) -> Self {
        Self {
            after: Some(after),
            counted,
            ..self
        }
    }

    fn counts(self, counted: TrackingCounters) -> Self {
        Self { counted, ..self }
    }

    fn crowded(self, state: FlowState, age: u32) -> Self {
        Self {
            crowded: Some((state, age)),
            ..self
        }
    }

    fn nowhere(self) -> Self {
        Self { owner: None, ..self }
    }
}

fn cases() -> Vec<Case> {
    const V6: &str = "[2001:db8::8]:80";
    const UDP: &str = "192.0.2.8:53";
    const STICKY: &str = "192.0.2.9:80";
    const ALWAYS: &str = "192.0.2.10:80";
    let new = |name| case(name, SYN, 1, Opened).leaves((1, Embryonic, 0), INSERTED);
    let adopted = |name| case(name, ACK, 2, Adopted).leaves((2, Embryonic, 0), ADOPTED);
    let evicted = TrackingCounters {
        evicted: 1,
        ..INSERTED
    };
    vec![
        case("safe", ACK, 1, BySlot).slot(Some(1), None),
        case("safe, though the table knows better", ACK, 1, BySlot)
            .slot(Some(1), None)
            .with((3, Established, 0))
            .counts(NOTHING),
        new("a SYN"),
        new("a SYN over IPv6").to(V6),
        new("a SYN of a client kept together").to(STICKY),
        adopted("an ACK"),
        adopted("an ACK over IPv6").to(V6),
        adopted("an ACK of a client kept together").to(STICKY),
        adopted("a datagram").to(UDP),
        case("a FIN", FIN, 2, Adopted).leaves((2, Closing, 0), ADOPTED),
        case("a FIN over IPv6", FIN, 2, Adopted)
            .to(V6)
            .leaves((2, Closing, 0), ADOPTED),
        case("a FIN of a client kept together", FIN, 2, Adopted)
            .to(STICKY)
            .leaves((2, Closing, 0), ADOPTED),
        case("a FIN, nobody now", FIN, 2, Adopted)
            .slot(None, Some(Some(2)))
            .leaves((2, Closing, 0), ADOPTED),
        case("a FIN, same owner as before", FIN, 1, Current).slot(Some(1), Some(Some(1))),
        case("a FIN among flows that live", FIN, 2, Previous)
            .crowded(Established, 100)
            .counts(REFUSED),
        case("a RST", RST, 2, Previous),
        case("a FIN and RST", FIN | RST, 2, Previous),
        case("a SYN, same owner as before", SYN, 1, Current).slot(Some(1), Some(Some(1))),
        case("an ACK, same owner as before", ACK, 1, Current).slot(Some(1), Some(Some(1))),
        case("an ACK, nobody before", ACK, 1, Current).slot(Some(1), Some(None)),
        case("a SYN, nobody before", SYN, 1, Current).slot(Some(1), Some(None)),
        case("a SYN, nobody now", SYN, 0, Refused)
            .slot(None, Some(Some(2)))
            .nowhere(),
        adopted("an ACK, nobody now").slot(None, Some(Some(2))),
        case("an ACK, nobody ever", ACK, 0, Current)
            .slot(None, Some(None))
            .nowhere(),
        new("lent, a SYN").lent(),
        new("lent, a SYN over IPv6").to(V6).lent(),
        case("lent, an ACK", ACK, 1, Current).lent(),
        case("lent, a datagram", 0, 1, Current).to(UDP).lent(),
        case("lent, a FIN", FIN, 1, Current).lent(),
        case("lent, known", ACK, 3, Known)
            .lent()
            .with((3, Established, 0)),
        case("lent, a SYN among flows that live", SYN, 1, Current)
            .lent()
            .crowded(Established, 100)
            .counts(REFUSED),
        case("lent to nobody, a SYN", SYN, 0, Current)
            .slot(None, Some(Some(2)))
            .lent()
            .nowhere(),
        case("tracked always, lent, an ACK", ACK, 1, Adopted)
            .to(ALWAYS)
            .lent()
            .leaves((1, Embryonic, 0), ADOPTED),
        case("known, nobody now", ACK, 3, Known)
            .slot(None, Some(None))
            .with((3, Established, 0)),
        case("known", ACK, 3, Known).with((3, Established, 0)),
        case("known over IPv6", ACK, 3, Known)
            .to(V6)
            .with((3, Established, 0)),
        case("known by UDP", 0, 3, Known)
            .to(UDP)
            .with((3, Established, 0)),
        case("known and silent for a second", ACK, 3, Known)
            .with((3, Established, 9))
            .leaves((3, Established, 0), HIT),
        case("a second packet", ACK, 3, Known)
            .with((3, Embryonic, 0))
            .leaves((3, Established, 0), HIT),
        case("a second datagram", 0, 3, Known)
            .to(UDP)
            .with((3, Embryonic, 0))
            .leaves((3, Established, 0), HIT),
        case("a SYN again", SYN, 3, Known).with((3, Embryonic, 0)),
        case("a SYN within a connection", SYN, 3, Known).with((3, Established, 0)),
        case("known, a FIN", FIN, 3, Known)
            .with((3, Established, 0))
            .leaves((3, Closing, 0), HIT),
        case("known by one packet, a FIN", FIN, 3, Known)
            .with((3, Embryonic, 0))
            .leaves((3, Closing, 0), HIT),
        case("known, a RST", RST, 3, Known)
            .with((3, Embryonic, 0))
            .leaves((3, Reset, 0), HIT),
        case("known, a FIN and RST", FIN | RST, 3, Known)
            .with((3, Established, 0))
            .leaves((3, Reset, 0), HIT),
        case("after a FIN", ACK, 3, Known).with((3, Closing, 0)),
        case("after a FIN and long silence", ACK, 3, Known)
            .with((3, Closing, 900))
            .leaves((3, Closing, 0), HIT),
        case("a FIN again", FIN, 3, Known).with((3, Closing, 0)),
        case("a RST after a FIN", RST, 3, Known)
            .with((3, Closing, 0))
            .leaves((3, Reset, 0), HIT),
        case("a RST again", RST, 3, Known).with((3, Reset, 0)),
        // Anybody may have sent the reset.
        case("after a RST", ACK, 3, Known)
            .with((3, Reset, 0))
            .leaves((3, Established, 0), HIT),
        case("a FIN after a RST", FIN, 3, Known)
            .with((3, Reset, 0))
            .leaves((3, Closing, 0), HIT),
        case("a SYN after a FIN", SYN, 1, Opened)
            .with((3, Closing, 0))
            .leaves((1, Embryonic, 0), INSERTED),
        case("a SYN after a RST", SYN, 1, Opened)
            .with((3, Reset, 0))
            .leaves((1, Embryonic, 0), INSERTED),
        case("a SYN among flows that live", SYN, 2, Refused)
            .crowded(Established, 100)
            .counts(REFUSED),
        case("a SYN among flows that have just begun", SYN, 2, Refused)
            .crowded(Embryonic, 1)
            .counts(REFUSED),
        case("an ACK among flows that live", ACK, 2, Previous)
            .crowded(Established, 100)
            .counts(REFUSED),
        new("a SYN among flows half open")
            .crowded(Embryonic, 50)
            .counts(evicted),
        new("a SYN among flows that their clients have ended")
            .crowded(Closing, 50)
            .counts(evicted),
        new("a SYN among flows that were reset")
            .crowded(Reset, 50)
            .counts(evicted),
        new("a SYN among flows long silent")
            .crowded(Established, 5000)
            .counts(evicted),
        new("tracked always, a SYN").to(ALWAYS).slot(Some(1), None),
        case("tracked always, an ACK", ACK, 1, Adopted)
            .to(ALWAYS)
            .slot(Some(1), None)
            .leaves((1, Embryonic, 0), ADOPTED),
        case("tracked always, a FIN", FIN, 1, Adopted)
            .to(ALWAYS)
            .slot(Some(1), None)
            .leaves((1, Closing, 0), ADOPTED),
        case("tracked always, known", ACK, 3, Known)
            .to(ALWAYS)
            .slot(Some(1), None)
            .with((3, Established, 0)),
        adopted("tracked always, an ACK in a migrating slot").to(ALWAYS),
    ]
}

fn services() -> Vec<Service> {
    let four = ["10.0.0.40", "10.0.0.41", "10.0.0.42", "10.0.0.43"];
    let named = |name, vip, protocol, port| service(name, vip, protocol, port, Forwarder::L2dsr, &four);
    vec![
        named("spread", 8, "tcp", "80"),
        named("spread-udp", 8, "udp", "53"),
        Service {
            affinity: Affinity::ClientIp,
            ..named("sticky", 9, "tcp", "80")
        },
        Service {
            tracking: Which::Always,
            ..named("always", 10, "tcp", "80")
        },
        named("twin", 11, "tcp", "80"),
    ]
}

fn build(interfaces: Interfaces, memory: &mut dyn Memory) -> Layout {
    plain_world(services(), CAPACITY, interfaces)
        .lay_out(memory)
        .unwrap()
}

fn frame(to: &str, flags: u8) -> Frame {
    let from = if to.starts_with('[') {
        "[2001:db8:c::7]:40007"
    } else {
        "198.51.100.7:40007"
    };
    if to.ends_with(":53") {
        Frame::udp(from, to)
    } else {
        Frame::tcp(from, to).flags(flags)
    }
}

/// The frame's flow, worked out apart from the pipeline.
fn key(case: &Case) -> FlowKey {
    let frame = frame(case.to, case.flags);
    let flow = flow_hash(frame.source, frame.ports(), SEED);
    let sticky = case.to.starts_with("192.0.2.9:");
    let slot = if sticky {
        flow_hash(frame.source, [0, 0], SEED)
    } else {
        flow
    };
    FlowKey::new(slot, flow)
}

/// Puts all slots in the case's state, and what is to be there into the flow table.
fn set_up(case: &Case, id: u32, machine: &mut dyn Machine) -> Result<()> {
    let clock = machine.clock()?;
    let memory = machine.memory();
    memory.visit_flows(&mut |_, _| Some(FlowValue::FREE));
    let owned = |owner: Option<u16>| owner.map_or(Slot::NONE, Slot::owned_by);
    let line = |slot| [slot; SLOTS_PER_LINE as usize];
    for i in 0..CAPACITY.slot_lines() {
        memory.write_previous(i, &line(owned(case.previous.flatten()).with_flag(case.lent)));
        memory.write_slots(i, &line(owned(case.current).with_flag(case.previous.is_some())));
    }
    let key = key(case);
    if let Some((owner, state, age)) = case.entry {
        let value = FlowValue::new(owner, state, id, clock.wrapping_sub(age));
        ensure!(memory.insert_flow(key, value), "no room for the entry");
    }
    for i in 0..8 * u64::from(case.crowded.is_some()) {
        let (state, age) = case.crowded.unwrap_or((Established, 0));
        let value = FlowValue::new(0, state, id, clock.wrapping_sub(age));
        // Other flows of the same line.
        let other = FlowKey(key.0 ^ (i + 1));
        ensure!(memory.insert_flow(other, value), "no room for another entry");
    }
    Ok(())
}

/// All entries of the flow: owner, state, id, and whether it was seen within the last second.
fn entries(key: FlowKey, machine: &mut dyn Machine) -> Result<Vec<(u32, FlowState, u32, bool)>> {
    let clock = machine.clock()?;
    let mut found = Vec::new();
    machine.memory().visit_flows(&mut |at, value| {
        if at == key {
            let state = value.state().expect("used");
            found.push((value.owner(), state, value.service_id(), value.age(clock) < 4));
        }
        None
    });
    Ok(found)
}

/// Runs a case; what became of the packet.
fn run(case: &Case, layout: &Layout, machine: &mut dyn Machine) -> Result<Verdict> {
    let bytes = frame(case.to, case.flags).bytes();
    let key = key(case);
    let number = machine
        .explain(&bytes)?
        .service
        .expect("the packet is for a service");
    let to: SocketAddr = case.to.parse()?;
    // The service's VIPs are one of each family, IPv4 first.
    let id = number | u32::from(to.is_ipv6()) << 16;
    set_up(case, id, machine)?;
    let (before, table) = (machine.tracking(number)?, entries(key, machine)?);
    let verdict = machine.explain(&bytes)?;
    ensure!(machine.tracking(number)? == before, "explaining was counted");
    ensure!(entries(key, machine)? == table, "explaining changed the table");
    let base = first_cell(layout, number);
    if case.counted != REFUSED {
        // Explaining does not try whether there is room.
        check_verdict(case, base, &verdict)?;
    }
    let owner = machine.send(&bytes)?.map(|target| target - base);
    ensure!(owner == case.owner, "went to {owner:?}, not {:?}", case.owner);
    let expected = case.after.map(|(owner, state, age)| (owner, state, id, age < 4));
    let after = entries(key, machine)?;
    ensure!(
        after == Vec::from_iter(expected),
        "the table holds {after:?}, not {expected:?}"
    );
    let counted = since(machine.tracking(number)?, before);
    ensure!(counted == case.counted, "counted {counted:?}");
    Ok(verdict)
}

/// The first of a service's target cells, which its owners are counted from.
fn first_cell(layout: &Layout, number: u32) -> u32 {
    let name = layout.service(number).expect("a service");
    let own = layout.owners().filter(|(_, whose)| whose.service == *name);
    own.map(|(cell, _)| cell).min().expect("it has backends")
}

fn check_verdict(case: &Case, base: u32, verdict: &Verdict) -> Result<()> {
    let owner = verdict.target.map(|target| target - base);
    ensure!(owner == case.owner, "would go to {owner:?}, not {:?}", case.owner);
    let placement = verdict.placement;
    ensure!(
        owner.is_none() || placement == case.placement,
        "found {placement:?}, not {:?}",
        case.placement
    );
    Ok(())
}

fn since(now: TrackingCounters, before: TrackingCounters) -> TrackingCounters {
    TrackingCounters {
        hits: now.hits - before.hits,
        inserted: now.inserted - before.inserted,
        adopted: now.adopted - before.adopted,
        evicted: now.evicted - before.evicted,
        refused: now.refused - before.refused,
        routed: now.routed - before.routed,
        unroutable: now.unroutable - before.unroutable,
        budget: 0,
    }
}

fn run_all(layout: &Layout, machine: &mut dyn Machine) -> (Vec<Verdict>, Vec<String>) {
    let (mut verdicts, mut wrong) = (Vec::new(), Vec::new());
    for case in cases() {
        match run(&case, layout, machine) {
            Ok(verdict) => verdicts.push(verdict),
            Err(error) => wrong.push(format!("{}: {error:#}", case.name)),
        }
    }
    (verdicts, wrong)
}

#[test]
fn rules_of_the_flow_table_hold_on_the_host_and_in_the_kernel() {
    let kernel = Kernel::new().unwrap();
    let mut host = Host::with(&CAPACITY, kernel.interfaces, |memory| {
        build(kernel.interfaces, memory)
    });
    let layout = host.layout.clone();
    let (on_host, wrong) = run_all(&layout, &mut host);
    super::report(&wrong);
    let in_kernel = kernel.with(
        &CAPACITY,
        |tables| build(kernel.interfaces, tables),
        |loaded| {
            let mut tracked = Tracked::new(loaded)?;
            Ok(run_all(&loaded.layout, &mut tracked))
        },
    );
    let (in_kernel, wrong) = in_kernel.unwrap();
    super::report(&wrong);
    assert_eq!(on_host, in_kernel, "host and kernel agree");
}

/// Flows with the same client and ports, but to another service, another VIP or by another protocol.
#[test]
fn entries_of_other_services_are_not_taken_for_the_flow() {
    let mut host = Host::with(&CAPACITY, INTERFACES, |memory| build(INTERFACES, memory));
    let case = case("", ACK, 2, Adopted);
    let bytes = frame(SPREAD, ACK).bytes();
    let number = host.run(&bytes).service.unwrap();
    let key = key(&case);
    for other in [number ^ 1, number | 1 << 16, number | 1 << 17] {
        set_up(&case, number, &mut host).unwrap();
        let clock = host.clock().unwrap();
        let value = FlowValue::new(3, Established, other, clock);
        assert!(host.memory().insert_flow(key, value));
        let verdict = host.explain(&bytes).unwrap();
        assert_eq!(verdict.placement, Adopted, "{other:#x}");
        host.send(&bytes).unwrap();
        assert_eq!(entries(key, &mut host).unwrap().len(), 2, "{other:#x}");
    }
}

/// What a service may write down in one unit of the clock, and that the rest goes where its next packets will.
#[test]
fn new_flows_beyond_the_budget_stay_with_the_previous_owner() {
    let mut host = Host::with(&CAPACITY, INTERFACES, |memory| build(INTERFACES, memory));
    set_up(&case("", SYN, 1, Opened), 0, &mut host).unwrap();
    let number = host
        .explain(&frame(SPREAD, SYN).bytes())
        .unwrap()
        .service
        .unwrap();
    let mut refused = None;
    for port in 1024..4096_u16 {
        let client: SocketAddr = "198.51.100.7:1".parse().unwrap();
        let frame = frame(SPREAD, SYN).from(client.ip(), port);
        let placement = host.run(&frame.bytes()).placement;
        if placement != Opened {
            refused = Some((frame, placement));
            break;
        }
    }
    let (frame, placement) = refused.expect("a table of 4,096 takes fewer in a second");
    assert_eq!(placement, Refused);
    let counted = host.tracking(number).unwrap();
    assert_eq!((counted.refused, counted.evicted), (1, 0), "{counted:?}");
    assert!((1..=256).contains(&counted.inserted), "{counted:?}");
    // In the next unit there is room again; another packet of the flow is not new.
    host.tick();
    let verdict = host.run(&frame.clone().flags(ACK).bytes());
    assert_eq!(verdict.placement, Adopted);
    let other = frame.from("198.51.100.8".parse().unwrap(), 5);
    assert_eq!(host.run(&other.bytes()).placement, Opened);
}
