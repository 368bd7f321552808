//! The program's globals: read in place, without a look-up.

use core::cell::UnsafeCell;

use aya_ebpf::Global;
use lb_common::abi::{Control, Features, Lengths, Mac, MacKey, OwnMacs, TableIndex};

/// Seed of the flow hash, set at load.
#[unsafe(no_mangle)]
pub(super) static SEED: Global<u64> = Global::new(0);

/// log2 of the lines that keys hash to in each half of a service table, set at load.
#[unsafe(no_mangle)]
static SERVICE_BITS: Global<u32> = Global::new(1);

/// The flow clock is the kernel's jiffies shifted right by this; set at load.
#[unsafe(no_mangle)]
pub(super) static CLOCK_SHIFT: Global<u32> = Global::new(6);

/// Lines of the flow table, a power of two; set at load.
#[unsafe(no_mangle)]
pub(super) static FLOW_LINES: Global<u32> = Global::new(2);

/// New flows that one service may write down on one CPU in one unit of the flow clock; set at load.
#[unsafe(no_mangle)]
pub(super) static FLOW_BUDGET: Global<u32> = Global::new(1);

/// Answers that one CPU may make in one unit of the flow clock; set at load.
#[unsafe(no_mangle)]
pub(super) static ANSWER_BUDGET: Global<u32> = Global::new(1);

/// Set at load by `lb run --debug-dataplane`. While it is 0 the verifier removes the code behind it.
#[unsafe(no_mangle)]
pub(super) static DEBUG: Global<u64> = Global::new(0);

/// Written by user space while the program runs, never by the program.
#[repr(transparent)]
struct Written<T>(UnsafeCell<T>);

// SAFETY: only ever read here, by volatile loads of single words; see `Control` for how it is written.
unsafe impl<T: Sync> Sync for Written<T> {}

#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.control")]
static CONTROL: Written<Control> = Written(UnsafeCell::new(Control {
    multipliers: [[1; 2]; 2],
    halves: [0; 2],
    features: Features::empty(),
    routes: 0,
    generation: 0,
    lengths: [Lengths([0; 2]); 2],
}));

#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.macs")]
static OWN_MACS: Written<OwnMacs> = Written(UnsafeCell::new(OwnMacs::UNKNOWN));

/// One of the MACs that are right at every interface.
#[inline(always)]
pub(super) fn common_mac(index: usize) -> Mac {
    // SAFETY: as in `features`; the index is bounded to the array.
    Mac(unsafe { (&raw const (*OWN_MACS.0.get()).common[index % OwnMacs::COMMON].0).read_volatile() })
}

/// The interface's own MAC, or what is in its place.
#[inline(always)]
pub(super) fn own_mac(interface: u32) -> MacKey {
    let place = OwnMacs::place(interface) as usize;
    // SAFETY: as in `features`; the place is within the array.
    unsafe {
        let own = (&raw const (*OWN_MACS.0.get()).own).cast::<MacKey>().add(place);
        MacKey {
            interface: (&raw const (*own).interface).read_volatile(),
            mac: Mac((&raw const (*own).mac.0).read_volatile()),
        }
    }
}

/// Look-ups that can find anything.
#[inline(always)]
pub(super) fn features() -> Features {
    // SAFETY: a valid, aligned place of plain words.
    unsafe { (&raw const (*CONTROL.0.get()).features).read_volatile() }
}

/// Changes whenever a route or a neighbour of the host may have changed.
#[inline(always)]
pub(super) fn routes() -> u32 {
    // SAFETY: as in `features`.
    unsafe { (&raw const (*CONTROL.0.get()).routes).read_volatile() }
}

/// Where the service table of IPv4 or IPv6 is found.
#[inline(always)]
pub(super) fn service_index(v6: bool) -> TableIndex {
    let control = CONTROL.0.get();
    // SAFETY: as in `features`; the half is masked to the array's bounds.
    let (half, multiplier) = unsafe {
        let half = (&raw const (*control).halves[usize::from(v6)]).read_volatile() & 1;
        (
            half,
            (&raw const (*control).multipliers[usize::from(v6)][half as usize]).read_volatile(),
        )
    };
    TableIndex {
        multiplier,
        half,
        bits: SERVICE_BITS.load(),
    }
}

/// Lengths of the prefixes of IPv4 or IPv6 that services have as VIPs.
#[inline(always)]
pub(super) fn lengths(v6: bool) -> Lengths {
    let control = CONTROL.0.get();
    // SAFETY: as in `features`.
    let word =
        |half: usize| unsafe { (&raw const (*control).lengths[usize::from(v6)].0[half]).read_volatile() };
    Lengths([word(0), word(1)])
}
