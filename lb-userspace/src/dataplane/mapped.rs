//! An mmap-able BPF array as memory: what is stored is what the next packet reads.
//!
//! Invariant: stores are whole aligned words, so that a packet on another CPU reads an old word or a new one.

use std::{
    num::NonZeroUsize,
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use aya::maps::MapData;
use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A BPF array of `T` mapped into this process.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    start: NonNull<T>,
    entries: usize,
    bytes: NonZeroUsize,
}

// SAFETY: the mapping belongs to this value alone, is not tied to a thread, and `T: Pod` holds no references.
unsafe impl<T: Pod + Send> Send for Mapped<T> {}

impl<T: Pod> Mapped<T> {
    pub(super) fn new(map: &MapData, name: &str) -> Result<Self> {
        let info = map.info()?;
        ensure!(
            info.value_size() as usize == size_of::<T>() && size_of::<T>().is_multiple_of(8),
            "map {name} has values of {} bytes, not {}: it was made by another version of lb",
            info.value_size(),
            size_of::<T>()
        );
        let entries = info.max_entries() as usize;
        let bytes = NonZeroUsize::new(entries * size_of::<T>()).context("an empty map")?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; it overlays nothing of ours.
        let start = unsafe { mmap(None, bytes, protection, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) }
            .with_context(|| format!("cannot map {name} into memory"))?;
        Ok(Self {
            start: start.cast(),
            entries,
            bytes,
        })
    }

    /// Stores `value` word by word, in order.
    pub(super) fn store(&self, index: usize, value: &T) {
        let words: &[u64] = bytemuck::cast_slice(std::slice::from_ref(value));
        for (word, atomic) in words.iter().zip(self.words(index)) {
            atomic.store(*word, Ordering::Release);
        }
    }

    /// The entry, word by word.
    pub(super) fn load(&self, index: usize) -> T {
        let mut value = T::zeroed();
        let words: &mut [u64] = bytemuck::cast_slice_mut(std::slice::from_mut(&mut value));
        for (word, atomic) in words.iter_mut().zip(self.words(index)) {
            *word = atomic.load(Ordering::Acquire);
        }
        value
    }

    /// The entry's 8-byte words.
    pub(super) fn words(&self, index: usize) -> &[AtomicU64] {
        self.cells(index, 1)
    }

    /// The 2-byte cells of `count` entries from `index` on.
    pub(super) fn halves(&self, index: usize, count: usize) -> &[AtomicU16] {
        self.cells(index, count)
    }

    /// All entries as `S`, which is `T` with atomic words.
    pub(super) fn shared<S>(&self) -> &[S] {
        assert!(size_of::<S>() == size_of::<T>(), "a word is a word");
        self.cells(0, self.entries)
    }

    fn cells<A>(&self, index: usize, count: usize) -> &[A] {
        assert!(
            index + count <= self.entries,
            "entry {index} + {count} of {}",
            self.entries
        );
        // SAFETY: the assertion keeps the slice inside the mapping, which lives as long as `self`; entries are multiples
        // of 8 bytes from a page's start, so both kinds of cell are aligned; atomics may be shared with the kernel.
        unsafe {
            let first = self.start.as_ptr().add(index).cast::<A>();
            std::slice::from_raw_parts(first, count * size_of::<T>() / size_of::<A>())
        }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no slice of it outlives `self`. Failure would leave it
        // mapped, which harms nothing.
        let _ = unsafe { munmap(self.start.cast(), self.bytes.get()) };
    }
}
