//! Lines of the flow table as several CPUs and the agent share them.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use crate::abi::{FLOWS_PER_LINE, FlowLine};
#[cfg(target_has_atomic = "64")]
use crate::abi::{FlowKey, FlowValue};

/// A [`FlowLine`] that several CPUs read and write.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct SharedLine {
    pub(super) keys: [Word; FLOWS_PER_LINE],
    pub(super) values: [Word; FLOWS_PER_LINE],
}

/// A word that several CPUs read and write, each time as a whole and without any order between words.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    /// Its address, for atomic instructions.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut u64 {
        self.0.as_ptr()
    }

    #[inline(always)]
    pub(super) fn load(&self) -> u64 {
        // SAFETY: LLVM has atomic loads only for BPF of version 4; a volatile load of an aligned word is one
        // instruction, too, and the compiler leaves it where it is. What others do to the word is atomic.
        #[cfg(target_arch = "bpf")]
        return unsafe { self.as_ptr().read_volatile() };
        #[cfg(not(target_arch = "bpf"))]
        self.0.load(Acquire)
    }

    #[inline(always)]
    pub(super) fn store(&self, value: u64) {
        // SAFETY: as in `load`.
        #[cfg(target_arch = "bpf")]
        unsafe {
            self.as_ptr().write_volatile(value);
        }
        #[cfg(not(target_arch = "bpf"))]
        self.0.store(value, Release);
    }

    /// Puts `new` into it if it holds `old`, as one step: whether it did. Rust has no such operation for BPF, though the
    /// instruction exists.
    #[cfg(target_has_atomic = "64")]
    pub fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.compare_exchange(old, new, AcqRel, Acquire).is_ok()
    }
}

const _: () = assert!(size_of::<SharedLine>() == size_of::<FlowLine>());

/// The agent's side of the table.
#[cfg(target_has_atomic = "64")]
impl SharedLine {
    /// The entries in use, and what `visit` makes of each: `Some` takes its place if it has not changed meanwhile.
    pub fn visit(&self, visit: &mut dyn FnMut(FlowKey, FlowValue) -> Option<FlowValue>) {
        for (word, place) in self.keys.iter().zip(&self.values) {
            let key = word.load();
            let value = FlowValue(place.load());
            if !value.is_used() || word.load() != key {
                continue;
            }
            if let Some(next) = visit(FlowKey(key), value) {
                let _ = place.exchange(value.0, next.0);
            }
        }
    }

    /// Puts an entry into a free place; false if there is none.
    pub fn put(&self, key: FlowKey, value: FlowValue) -> bool {
        for (i, place) in self.values.iter().enumerate() {
            if place.exchange(FlowValue::FREE.0, FlowValue::CLAIMED.0) {
                self.keys[i].store(key.0);
                place.store(value.0);
                return true;
            }
        }
        false
    }

    /// What it holds.
    pub fn read(&self) -> FlowLine {
        let mut line = FlowLine::default();
        for i in 0..FLOWS_PER_LINE {
            line.keys[i] = FlowKey(self.keys[i].load());
            line.values[i] = FlowValue(self.values[i].load());
        }
        line
    }
}

#[cfg(target_has_atomic = "64")]
impl Clone for SharedLine {
    fn clone(&self) -> Self {
        let FlowLine { keys, values } = self.read();
        Self {
            keys: keys.map(|key| Word(AtomicU64::new(key.0))),
            values: values.map(|value| Word(AtomicU64::new(value.0))),
        }
    }
}
