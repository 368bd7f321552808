//! The service tables: crowded ones, long chains, thousands of keys; on the host and in the kernel.

use std::collections::HashMap;

use anyhow::Result;
use bytemuck::Zeroable;
use lb_common::abi::{
    Control, Direction, Key4, Key6, MAX_CHAIN, Reason, Selector, ServiceEntry as Entry, ServiceKey,
    ServiceLine, ServiceLine4, ServiceLine6, Slot, TableIndex,
};
use lb_core::desired::{Forwarder, Service};
use lb_core::plan::{Capacity, Layout, Memory};
use lb_packets::Frame;
use lb_world::{Interfaces, SEED};

use super::{
    host::{Host, INTERFACES},
    kernel::Kernel,
    row::{CLIENT4, CLIENT6},
    service_set::{plain_world, service},
    verdict::Verdict,
};

/// A packet, and the number of the service that it is for.
type Probe = (Frame, Option<u32>);

/// What takes a frame through a pipeline.
type Runner<'r> = dyn FnMut(&[u8]) -> Result<Verdict> + 'r;

/// Lays tables out twice and sends the probes through the pipeline on the host and through the program in the kernel.
fn check<M>(capacity: &Capacity, build: M, probes: impl Fn(&Layout) -> Vec<Probe> + Sync)
where
    M: Fn(Interfaces, &mut dyn Memory) -> Layout + Sync,
{
    let compare = |layout: &Layout, run: &mut Runner| {
        for (frame, service) in probes(layout) {
            let verdict = run(&frame.bytes()).unwrap();
            assert_eq!(verdict.service, service, "{frame:?}");
            let reason = if service.is_some() {
                Reason::NoBackend
            } else {
                Reason::NoService
            };
            assert_eq!(verdict.reason, reason, "{frame:?}");
        }
    };
    let mut host = Host::with(capacity, INTERFACES, |memory| build(INTERFACES, memory));
    let layout = host.layout.clone();
    compare(&layout, &mut |frame| Ok(host.run(frame)));
    let kernel = Kernel::new().unwrap();
    let checked = kernel.with(
        capacity,
        |tables| build(kernel.interfaces, tables),
        |loaded| {
            compare(&loaded.layout, &mut |frame| loaded.explain(frame));
            Ok(())
        },
    );
    checked.unwrap();
}

/// Services without backends, each with the same VIPs and a port of its own.
fn services(count: u16, vips: u16) -> Vec<Service> {
    let one = |i: u16| {
        let mut service = service(
            &format!("s{i}"),
            1,
            "tcp",
            &port(i).to_string(),
            Forwarder::L2dsr,
            &[],
        );
        service.vips = (0..vips)
            .flat_map(|vip| [vip4(vip), vip6(vip)])
            .map(|v| v.parse().unwrap())
            .collect();
        service.slots = Some(Service::MIN_SLOTS);
        service
    };
    (0..count).map(one).collect()
}

fn port(service: u16) -> u16 {
    1000 + service
}

fn vip4(vip: u16) -> String {
    let [high, low] = (vip + 1).to_be_bytes();
    format!("10.9.{high}.{low}")
}

fn vip6(vip: u16) -> String {
    format!("2001:db8:9::{:x}", vip + 1)
}

/// A packet to every key, and some to keys that are not there.
fn probes(layout: &Layout, count: u16, vips: u16) -> Vec<Probe> {
    let numbered = (0..u32::from(count)).filter_map(|id| Some((layout.service(id)?.to_string(), id)));
    let numbers: HashMap<String, u32> = numbered.collect();
    let mut probes = Vec::new();
    for i in 0..count {
        let number = Some(numbers[&format!("s{i}")]);
        for vip in 0..vips {
            probes.push((to4(vip, port(i)), number));
            probes.push((to6(vip, port(i)), number));
        }
    }
    for absent in 0..500 {
        probes.push((to4(absent % vips, 20_000 + absent), None));
        probes.push((to6(absent % vips, 20_000 + absent), None));
        probes.push((to4(vips + absent, port(0)), None));
        probes.push((to6(vips + absent, port(0)), None));
    }
    probes
}

fn to4(vip: u16, port: u16) -> Frame {
    Frame::tcp(CLIENT4, &format!("{}:{port}", vip4(vip)))
}

fn to6(vip: u16, port: u16) -> Frame {
    Frame::tcp(CLIENT6, &format!("[{}]:{port}", vip6(vip)))
}

/// A hundred keys of each family in 64 lines.
#[test]
fn every_key_of_a_crowded_table_is_found() {
    let capacity = Capacity {
        services: 16,
        targets: 16,
        slots: 4096,
        flows: 4096,
        nat_flows: 4096,
    };
    let build = |interfaces, memory: &mut dyn Memory| {
        let world = plain_world(services(9, 10), capacity, interfaces);
        world.lay_out(memory).unwrap()
    };
    check(&capacity, build, |layout| probes(layout, 9, 10));
}

#[test]
fn every_key_of_thousands_is_found() {
    let capacity = Capacity {
        services: 1024,
        targets: 16,
        slots: 1 << 17,
        flows: 4096,
        nat_flows: 4096,
    };
    let build = |interfaces, memory: &mut dyn Memory| {
        let world = plain_world(services(1024, 4), capacity, interfaces);
        world.lay_out(memory).unwrap()
    };
    check(&capacity, build, |layout| probes(layout, 1024, 4));
}

/// Keys that hash to one line, in a chain of one line more than a look-up follows.
#[test]
fn chains_are_followed_as_far_as_the_limit() {
    let capacity = Capacity {
        services: 16,
        targets: 16,
        slots: 4096,
        flows: 4096,
        nat_flows: 4096,
    };
    let bits = capacity.service_bits();
    let index = TableIndex {
        multiplier: 0x9e37_79b9_7f4a_7c15,
        half: 0,
        bits,
    };
    let longest = MAX_CHAIN as u16 + 1;
    let selector = |port: u16| Selector::new(port.to_be(), 6, Direction::ToService);
    let key4 = |port: u16| {
        let address: std::net::Ipv4Addr = vip4(0).parse().unwrap();
        Key4::new(u32::from_ne_bytes(address.octets()), selector(port))
    };
    let key6 = |port: u16| {
        let address: std::net::Ipv6Addr = vip6(0).parse().unwrap();
        let [high, low]: [u64; 2] = bytemuck::cast(address.octets());
        Key6::new([high, low], selector(port))
    };
    let ports4 = colliding(key4, index, usize::from(longest) * 2);
    let ports6 = colliding(key6, index, usize::from(longest));
    let build = |_, memory: &mut dyn Memory| {
        let keys4: Vec<Key4> = ports4.iter().map(|port| key4(*port)).collect();
        let keys6: Vec<Key6> = ports6.iter().map(|port| key6(*port)).collect();
        let lines4: Vec<ServiceLine4> = chain(&keys4, index);
        let lines6: Vec<ServiceLine6> = chain(&keys6, index);
        memory.write_services4(0, &lines4);
        memory.write_services6(0, &lines6);
        memory.write_slots(0, &[Slot::NONE; 64]);
        let mut control = Control::default();
        control.set_index(false, index);
        control.set_index(true, index);
        memory.publish(&control);
        Layout::new(capacity, SEED)
    };
    let probes = |_: &Layout| {
        let found = |line: usize, number: usize| (line < MAX_CHAIN as usize).then_some(number as u32);
        let mut probes = Vec::new();
        for (i, port) in ports4.iter().enumerate() {
            probes.push((to4(0, *port), found(i / 2, i)));
        }
        for (i, port) in ports6.iter().enumerate() {
            probes.push((to6(0, *port), found(i, i)));
        }
        probes
    };
    check(&capacity, build, probes);
}

/// Ports whose keys hash to the same line as the first of them.
fn colliding<K: ServiceKey>(key: impl Fn(u16) -> K, index: TableIndex, count: usize) -> Vec<u16> {
    let line = |port: u16| index.line(&key(port));
    let ports: Vec<u16> = (1..=u16::MAX)
        .filter(|port| line(*port) == line(1))
        .take(count)
        .collect();
    assert_eq!(ports.len(), count);
    ports
}

/// A half of a table in which `keys`, numbered in order, fill one chain.
fn chain<K, const N: usize, const SPARE: usize>(
    keys: &[K],
    index: TableIndex,
) -> Vec<ServiceLine<K, N, SPARE>>
where
    K: ServiceKey,
    ServiceLine<K, N, SPARE>: Zeroable,
{
    let mut lines: Vec<ServiceLine<K, N, SPARE>> = (0..2 << index.bits).map(|_| Zeroable::zeroed()).collect();
    let mut at = index.line(&keys[0]) as usize;
    for (i, keys) in keys.chunks(N).enumerate() {
        if i > 0 {
            let next = (1 << index.bits) + i;
            lines[at].next = next as u32;
            at = next;
        }
        lines[at].keys[..keys.len()].copy_from_slice(keys);
        for (j, entry) in lines[at].services.iter_mut().enumerate() {
            *entry = Entry {
                slot_mask: 63,
                id: (i * N + j) as u32,
                ..Entry::default()
            };
        }
    }
    lines
}
