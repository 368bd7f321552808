//! Flows through `fullnat`: what the sweep of their table keeps, moves and removes.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use lb_common::{
    abi::{FlowEnds, NatEntry, Reason, SnatPoolEntry, TagsEntry},
    net::{TCP, UDP},
};

use super::{
    cases::{load, service},
    *,
};
use crate::desired::{AdminState, BackendPatch, Forwarder, Protocol, Service};
use crate::plan::{Cause, EndedFlow, NextHop, Translated, TranslationTable, tables::target::wide};

const VIP: &str = "10.0.0.1";
/// So many that there is room for other cells; two of them at one address.
const BACKENDS: [&str; 8] = [
    "10.0.1.1",
    "10.0.1.2",
    "10.0.1.2:8080",
    "10.0.1.3",
    "10.0.1.4",
    "10.0.1.5",
    "10.0.1.6",
    "10.0.1.7",
];
const SOURCE: &str = "10.0.0.5";

type Table = HashMap<FlowEnds, NatEntry>;

impl TranslationTable for Table {
    fn get(&self, key: &FlowEnds) -> Option<NatEntry> {
        self.get(key).copied()
    }

    fn replace(&mut self, key: &FlowEnds, entry: &NatEntry) {
        if let Some(present) = self.get_mut(key) {
            *present = *entry;
        }
    }

    fn remove(&mut self, key: &FlowEnds) {
        self.remove(key);
    }
}

fn web() -> Service {
    Service {
        slots: Some(256),
        ..service("web", VIP, "80", Forwarder::Fullnat, &BACKENDS)
    }
}

/// Tables with that service, where packets leave traces.
fn run_with(service: Service) -> Run {
    let mut run = Run::new();
    run.memory.nat_sources = vec![wide(SOURCE.parse().unwrap())];
    run.memory.source_pools[0] = SnatPoolEntry {
        first: 0,
        addresses: 1,
        first_port: 1024,
        ports: 20_000,
    };
    run.memory.clock = TIME.now;
    run.step(load(vec![service]));
    run.memory.explains = false;
    run
}

fn run() -> Run {
    run_with(web())
}

/// A client's packet to the service.
fn packet(port: u16, opens: bool) -> Sample {
    Sample {
        kind: Kind::ToService,
        source: "198.51.100.1".parse().unwrap(),
        destination: VIP.parse().unwrap(),
        protocol: TCP,
        ports: [port, 80],
        opens,
    }
}

/// What the backend sees of a client's packet: source and destination address, and their ports.
fn shown(frame: &[u8]) -> &[u8] {
    &frame[14 + 12..14 + 24]
}

impl Run {
    fn table(&self) -> Table {
        self.memory.translations.borrow().clone()
    }

    /// The way there of the flow that a packet from that port opens.
    fn opened(&self, port: u16) -> (FlowEnds, NatEntry) {
        let before = self.table();
        assert_eq!(packet(port, true).seen(&self.memory).reason, Reason::Forwarded);
        let table = self.table();
        let mut new = table
            .into_iter()
            .filter(|(key, entry)| !before.contains_key(key) && entry.is_back == 0);
        new.next().unwrap()
    }

    /// What a look finds `after` a while.
    fn look(&self, lonely: &HashSet<FlowEnds>, after: Duration) -> Translated {
        self.layout.look_through(&self.table(), lonely, later(after))
    }

    /// One sweep, without pause between look and removal.
    fn look_and_carry_out(&self, lonely: &HashSet<FlowEnds>) -> Translated {
        let found = self.look(lonely, Duration::ZERO);
        found.carry_out(&mut *self.memory.translations.borrow_mut());
        found
    }

    /// A step, looked at from all sides without leaving traces.
    fn quietly(&mut self, step: Step) {
        self.memory.explains = true;
        self.step(step);
        self.memory.explains = false;
    }

    fn change_entry(&self, key: &FlowEnds, change: impl FnOnce(&mut NatEntry)) {
        change(self.memory.translations.borrow_mut().get_mut(key).unwrap());
    }
}

fn later(by: Duration) -> FlowTime {
    FlowTime {
        now: TIME.now + (by.as_nanos() / TIME.unit.as_nanos()) as u32,
        ..TIME
    }
}

fn hop(mtu: u32, interface: u32) -> Option<NextHop> {
    Some(NextHop {
        interface,
        destination_mac: [2, 0, 0, 0, 1, 0],
        source_mac: [2, 0, 0, 0, 2, 1],
        mtu,
        on_link: true,
        tags: TagsEntry::NONE,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// However often ways to backends change, and cells are given to others: every flow shows its backend the same ends,
    /// and is counted as its.
    #[test]
    fn flows_outlive_changes_of_the_way(
        changes in vec((0..2_usize, proptest::sample::select(vec![1400, 9000]), 1..3_u32, 0..2_000_u64), 1..12),
    ) {
        let mut run = run();
        let ports = 2000..2040;
        let show = |run: &Run, port| {
            let seen = packet(port, false).seen(&run.memory);
            let owner = run.layout.owner(seen.outcome.target);
            (seen.reason, owner, shown(&seen.frame).to_vec())
        };
        let before: Vec<_> = ports.clone().map(|port| show(&run, port)).collect();
        let counted = run.look_and_carry_out(&HashSet::new()).flows;
        prop_assert!(before.iter().all(|(reason, owner, _)| *reason == Reason::Forwarded && owner.is_some()));
        for (backend, mtu, interface, pause) in changes {
            run.quietly(Step::Pass(pause));
            run.quietly(Step::Hop(BACKENDS[backend].parse().unwrap(), hop(mtu, interface)));
            let found = run.look_and_carry_out(&HashSet::new());
            prop_assert_eq!(&found.gone, &[]);
            prop_assert_eq!(&found.flows, &counted);
            let after: Vec<_> = ports.clone().map(|port| show(&run, port)).collect();
            prop_assert_eq!(&after, &before);
        }
        prop_assert_eq!(run.table().len(), 80);
    }

    /// A flow stays for as long as its state says, whoever was silent, and no longer than some seconds more.
    #[test]
    fn flows_are_kept_for_as_long_as_their_state_says(
        tcp: bool, idle in 1..200_u64,
        there in 0..4_u32, back in 0..3_u32,
        silent in 0..300_u64, client_is_last: bool,
    ) {
        let mut service = web();
        service.idle = Some(format!("{idle}s").parse().unwrap());
        service.window = Some("1s".parse().unwrap());
        if !tcp {
            service.protocol = Protocol::Udp;
        }
        prop_assume!(tcp || there == NatEntry::OPEN || there == NatEntry::OPENING);
        prop_assume!(tcp || back == NatEntry::OPEN);
        let run = run_with(service);
        let protocol = if tcp { TCP } else { UDP };
        let mut sample = packet(2000, tcp);
        sample.protocol = protocol;
        sample.seen(&run.memory);
        let (key, entry) = run.table().into_iter().find(|(_, entry)| entry.is_back == 0).unwrap();
        // The one who spoke last did so now, the other long ago.
        let ago = |is_last: bool| if is_last { TIME.now } else { TIME.now - 900 };
        run.change_entry(&key, |entry| (entry.state, entry.clock) = (there, ago(client_is_last)));
        run.change_entry(&entry.to.reversed(), |entry| (entry.state, entry.clock) = (back, ago(!client_is_last)));
        let half_open = if tcp { 60 } else { 30 };
        let limit = if there == NatEntry::RESET || back == NatEntry::RESET {
            10
        } else if there == NatEntry::OPENING {
            // Only the client counts; 900 units are 230 s.
            if client_is_last { half_open } else { 0 }
        } else if there == NatEntry::HALF_CLOSED && back == NatEntry::HALF_CLOSED {
            60
        } else {
            idle.max(half_open)
        };
        let is_gone = !run.look(&HashSet::new(), Duration::from_secs(silent)).gone.is_empty();
        if silent <= limit && limit > 0 {
            prop_assert!(!is_gone, "{} of {} s", silent, limit);
        } else if silent > limit + 3 || limit == 0 {
            prop_assert!(is_gone, "{} of {} s", silent, limit);
        }
    }
}

#[test]
fn a_flow_whose_backend_has_another_cell_names_that() {
    let mut run = run();
    let flows: Vec<_> = (2000..2040).map(|port| run.opened(port)).collect();
    let before = run.table();
    let address = wide(BACKENDS[0].parse().unwrap());
    run.quietly(Step::Hop(BACKENDS[0].parse().unwrap(), hop(1400, 1)));
    let found = run.look_and_carry_out(&HashSet::new());
    let its: HashSet<FlowEnds> = flows
        .iter()
        .filter(|(_, entry)| entry.to.destination == address)
        .map(|(key, _)| *key)
        .collect();
    assert!(!its.is_empty());
    assert_eq!(
        found.moved.iter().map(|moved| moved.key).collect::<HashSet<_>>(),
        its
    );
    for (key, now) in run.table() {
        let then = before[&key];
        assert_eq!(now.owner != then.owner, its.contains(&key));
        assert_eq!(
            NatEntry {
                owner: then.owner,
                ..now
            },
            then
        );
    }
    assert_eq!(run.look_and_carry_out(&HashSet::new()).moved, []);
}

#[test]
fn a_flow_that_is_another_by_now_is_not_moved() {
    let mut run = run();
    let (key, _) = (2000..2040)
        .map(|port| run.opened(port))
        .find(|(_, entry)| entry.to.destination == wide(BACKENDS[0].parse().unwrap()))
        .unwrap();
    run.quietly(Step::Hop(BACKENDS[0].parse().unwrap(), hop(1400, 1)));
    let found = run.look(&HashSet::new(), Duration::ZERO);
    assert!(found.moved.iter().any(|moved| moved.key == key));
    run.change_entry(&key, |entry| entry.owner = 5);
    let mut table = run.table();
    found.carry_out(&mut table);
    assert_eq!(table[&key].owner, 5);
    // What packets have left is kept.
    let found = run.look(&HashSet::new(), Duration::ZERO);
    run.change_entry(&key, |entry| {
        (entry.clock, entry.state) = (TIME.now + 9, NatEntry::HALF_CLOSED);
    });
    let mut table = run.table();
    found.carry_out(&mut table);
    assert_eq!(table[&key].clock, TIME.now + 9);
    assert_eq!(table[&key].state, NatEntry::HALF_CLOSED);
    assert_ne!(table[&key].owner, 5);
}

/// Long enough for every flow of a service without `idle`.
const LONG: Duration = Duration::from_secs(1000);

#[test]
fn a_flow_that_goes_on_meanwhile_stays() {
    let run = run();
    let (key, entry) = run.opened(2000);
    let back = entry.to.reversed();
    let found = run.look(&HashSet::new(), LONG);
    assert_eq!(found.gone.len(), 1);
    let carried_out = |change: &dyn Fn(&mut Table)| {
        let mut table = run.table();
        change(&mut table);
        let before = table.clone();
        found.carry_out(&mut table);
        (table == before, table.len())
    };
    assert_eq!(carried_out(&|_| ()), (false, 0));
    for way in [key, back] {
        // A packet; the next connection from the same port.
        let talks = |table: &mut Table| table.get_mut(&way).unwrap().clock += 1;
        assert_eq!(carried_out(&talks), (true, 2));
        let closes = |table: &mut Table| table.get_mut(&way).unwrap().state = NatEntry::HALF_CLOSED;
        assert_eq!(carried_out(&closes), (true, 2));
    }
    // The program has forgotten the flow and made another by the same key, at another place.
    let made_anew = |table: &mut Table| {
        table.remove(&back);
        let mut there = entry;
        there.to.ports ^= 0x100;
        let opposite = NatEntry {
            to: key.reversed(),
            is_back: 1,
            ..entry
        };
        table.insert(key, there);
        table.insert(there.to.reversed(), opposite);
    };
    assert_eq!(carried_out(&made_anew), (true, 2));
    // The same, between the two steps of that.
    let forgotten = |table: &mut Table| _ = table.remove(&key);
    assert_eq!(carried_out(&forgotten), (true, 1));
}

#[test]
fn a_flow_whose_backend_is_gone_goes_though_it_is_in_use() {
    for patch in [
        None,
        Some(BackendPatch {
            state: Some(AdminState::Maint),
            ..BackendPatch::default()
        }),
    ] {
        let mut run = run();
        let flows: Vec<_> = (2000..2040).map(|port| run.opened(port)).collect();
        let address = wide(BACKENDS[0].parse().unwrap());
        let its = flows.iter().filter(|(_, entry)| entry.to.destination == address);
        let its: Vec<_> = its.copied().collect();
        run.quietly(Step::Touch("web".parse().unwrap(), 0, patch));
        let found = run.look(&HashSet::new(), Duration::ZERO);
        assert_eq!(found.gone.len(), its.len());
        assert!(found.gone.iter().all(|gone| gone.cause == Cause::Cut));
        for (key, _) in &its {
            run.change_entry(key, |entry| entry.clock += 1);
        }
        let mut table = run.table();
        found.carry_out(&mut table);
        assert_eq!(table.len(), 80 - 2 * its.len());
        assert_eq!(found.flows.values().sum::<u64>() as usize, 40 - its.len());
    }
}

#[test]
fn half_a_flow_goes_at_the_second_look_though_it_is_in_use() {
    let run = run();
    let (key, entry) = run.opened(2000);
    let back = entry.to.reversed();
    for (missing, left) in [(back, key), (key, back)] {
        let mut table = run.table();
        table.remove(&missing);
        let look = |table: &Table, lonely: &HashSet<FlowEnds>| run.layout.look_through(table, lonely, TIME);
        let first = look(&table, &HashSet::new());
        assert_eq!(
            (first.gone.as_slice(), first.lonely.len()),
            (&[] as &[EndedFlow], 1)
        );
        let second = look(&table, &first.lonely);
        assert_eq!((second.gone.len(), second.lonely.len()), (1, 0));
        // Its opposite comes in time.
        let mut whole = run.table();
        second.carry_out(&mut whole);
        assert_eq!(whole.len(), 2);
        table.get_mut(&left).unwrap().clock += 1;
        second.carry_out(&mut table);
        assert_eq!(table.len(), 0);
        // It was there at the second look.
        assert_eq!(look(&run.table(), &first.lonely).gone, []);
    }
}
