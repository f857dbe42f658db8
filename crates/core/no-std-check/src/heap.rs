//! The smallest allocator that will do: it hands out a fixed arena front to back and never takes anything back.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

const ARENA: usize = 4 << 20;

/// A bump allocator over a static arena.
pub(crate) struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

impl Bump {
    pub(crate) const fn new() -> Self {
        Self { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) }
    }
}

// SAFETY: the arena is only reached through blocks from `alloc`, which never overlap.
unsafe impl Sync for Bump {}

// SAFETY: each block lies inside the arena, is aligned as asked, and is disjoint from all others because `used` only
// grows and each block is claimed by one successful compare-and-exchange.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.arena.get().cast::<u8>();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let padding = (base as usize + used).wrapping_neg() & (layout.align() - 1);
            let start = used + padding;
            let Some(end) = start.checked_add(layout.size()).filter(|&end| end <= ARENA) else {
                return ptr::null_mut();
            };
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `start` is at most `ARENA`, the length of the arena that `base` begins.
                Ok(_) => return unsafe { base.add(start) },
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}
