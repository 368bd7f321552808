//! Undoing what the program under test did to the frame, and picking the next flow.
//!
//! `BPF_PROG_TEST_RUN` hands each round the frame that the round before left. What must hold: the program under test
//! finds the same frame each time, but for the flow. What forwarders change is stored anew: MACs, EtherType, TTL, IP
//! checksum, addresses, ports, and the transport's checksum where it changes. Stores are laid out such that a load of
//! any one field, of both IPv4 addresses, or of half an IPv6 address lies within one of them. And all of this is as
//! short as can be: what the wrapper costs is in each figure, and brings ratios nearer to 1.

use core::cell::UnsafeCell;

use aya_ebpf::{Global, programs::XdpContext};

use crate::packet::{Head, shift, store_at};

// Set when the program is loaded; the words of the frame as on the wire, the rest native.
/// Length of the frame.
#[unsafe(no_mangle)]
static FRAME_LEN: Global<u32> = Global::new(0);
/// The Ethernet header, bytes 0 to 7 and 8 to 13.
#[unsafe(no_mangle)]
static ETHERNET_HEAD: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static ETHERNET_TAIL: Global<u64> = Global::new(0);
/// 0: IPv4.
#[unsafe(no_mangle)]
static IS_V6: Global<u32> = Global::new(0);
/// IPv4: TTL, protocol, checksum. IPv6: the header's first 8 bytes.
#[unsafe(no_mangle)]
static IP_HEAD: Global<u64> = Global::new(0);
/// IPv6: the first 12 bytes of both addresses.
#[unsafe(no_mangle)]
static SOURCE_HEAD: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static SOURCE_MIDDLE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static DESTINATION_HEAD: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static DESTINATION_MIDDLE: Global<u32> = Global::new(0);
/// The last 4 bytes of both addresses, and the ports: of the first flow to the first service.
#[unsafe(no_mangle)]
static SOURCE: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static DESTINATION: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static PORTS: Global<u32> = Global::new(0);
/// Where the transport's checksum lies in the frame, and what it is; 0: it does not change.
#[unsafe(no_mangle)]
static CHECKSUM_AT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static CHECKSUM: Global<u32> = Global::new(0);
/// There are two to this power of flows.
#[unsafe(no_mangle)]
static FLOW_BITS: Global<u32> = Global::new(0);
/// And two to this power of services, with consecutive addresses, among which the flows are divided.
#[unsafe(no_mangle)]
static SERVICE_BITS: Global<u32> = Global::new(0);
/// 1: every frame opens a flow never seen before.
#[unsafe(no_mangle)]
static FRESH: Global<u32> = Global::new(0);

/// Ports of one client: the next flow is another client's.
const PORT_BITS: u32 = 14;

/// A variable of the program. (An atomic would do, but version 3 of the instruction set has no atomic stores.)
#[repr(transparent)]
struct Variable(UnsafeCell<u64>);

// SAFETY: the bench runs a wrapper on one CPU at a time; two at once could lose a count, and no more.
unsafe impl Sync for Variable {}

impl Variable {
    #[inline(always)]
    fn get(&self) -> u64 {
        // SAFETY: the pointer is to a live, aligned integer.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn set(&self, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.get().write_volatile(value) };
    }
}

/// All that is not constant; user space reads it by this layout.
#[repr(C)]
struct State {
    /// Frames that came back with another length or another destination.
    rewritten: Variable,
    /// The last flow.
    flow: Variable,
}

#[unsafe(no_mangle)]
static STATE: State = State {
    rewritten: Variable(UnsafeCell::new(0)),
    flow: Variable(UnsafeCell::new(0)),
};

/// Makes the frame what the program under test is to find.
#[inline(always)]
pub(crate) fn prepare(context: &XdpContext) -> Option<()> {
    let len = context.data_end() - context.data();
    let grown = len as u32 != FRAME_LEN.load();
    if grown {
        shift(context, len as i32 - FRAME_LEN.load() as i32)?;
    }
    let frame = Head::<58>::of(context)?;
    if grown || frame.load::<u64, 0>() != ETHERNET_HEAD.load() {
        STATE.rewritten.set(STATE.rewritten.get() + 1);
    }
    frame.store::<u64, 0>(ETHERNET_HEAD.load());
    let tail = ETHERNET_TAIL.load();
    frame.store::<u32, 8>(tail as u32);
    frame.store::<u16, 12>((tail >> 32) as u16);

    let Flow {
        source,
        destination,
        ports,
    } = next_flow();
    if IS_V6.load() == 0 {
        frame.store::<u32, 22>(IP_HEAD.load() as u32);
        frame.store::<u64, 26>(u64::from(source) | u64::from(destination) << 32);
        frame.store::<u32, 34>(ports);
    } else {
        frame.store::<u64, 14>(IP_HEAD.load());
        frame.store::<u64, 22>(SOURCE_HEAD.load());
        frame.store::<u64, 30>(u64::from(SOURCE_MIDDLE.load()) | u64::from(source) << 32);
        frame.store::<u64, 38>(DESTINATION_HEAD.load());
        frame.store::<u64, 46>(u64::from(DESTINATION_MIDDLE.load()) | u64::from(destination) << 32);
        frame.store::<u32, 54>(ports);
    }
    if CHECKSUM_AT.load() != 0 {
        store_at(context, CHECKSUM_AT.load() as usize, CHECKSUM.load() as u16);
    }
    Some(())
}

/// What tells flows apart, as on the wire: the last 4 bytes of both addresses, and the ports.
struct Flow {
    source: u32,
    destination: u32,
    ports: u32,
}

#[inline(always)]
fn next_flow() -> Flow {
    let (source, destination, ports) = (SOURCE.load(), DESTINATION.load(), PORTS.load());
    if FRESH.load() == 0 && FLOW_BITS.load() == 0 {
        return Flow {
            source,
            destination,
            ports,
        };
    }
    let number = next_number();
    let client = u32::from_be(source) + (number >> PORT_BITS);
    let port = u16::from_be(ports as u16) + (number & ((1 << PORT_BITS) - 1)) as u16;
    Flow {
        source: client.to_be(),
        destination: (u32::from_be(destination) + service(number)).to_be(),
        ports: ports & 0xffff_0000 | u32::from(port.to_be()),
    }
}

/// The number of the next flow, in an order that no cache and no prefetcher can follow.
#[inline(always)]
fn next_number() -> u32 {
    if FRESH.load() != 0 {
        let number = STATE.flow.get() + 1;
        STATE.flow.set(number);
        return number as u32;
    }
    let mask = (1_u32 << FLOW_BITS.load()) - 1;
    // A linear congruential generator modulo a power of two visits each number once (Hull and Dobell 1962: an odd
    // increment, a multiplier of 1 modulo 4)...
    let number = (STATE.flow.get() as u32)
        .wrapping_mul(1_664_525)
        .wrapping_add(1_013_904_223)
        & mask;
    STATE.flow.set(u64::from(number));
    // ... but its low bits repeat soon. Each of these steps is a bijection too.
    let mixed = number ^ number >> 9;
    let mixed = mixed.wrapping_mul(0x9e37_79b1) & mask;
    mixed ^ mixed >> 7
}

/// The service that a flow belongs to: one of equal runs of flows.
#[inline(always)]
fn service(number: u32) -> u32 {
    if SERVICE_BITS.load() == 0 {
        return 0;
    }
    number >> (FLOW_BITS.load() - SERVICE_BITS.load())
}
