//! A bound on the memory that reading may take: an allocation beyond it fails, which ends the process with its size.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what is allocated, by all threads together: a target may start a worker.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static BOUND: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is handed to the system's allocator as it is, or answered by null, which is how an allocator says
// that there is no more.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the same, and the block came from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are the same, and the block came from there.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn take(size: usize) -> bool {
    let bound = BOUND.load(Relaxed);
    let with = |live: usize| live.checked_add(size).filter(|live| *live <= bound);
    LIVE.fetch_update(Relaxed, Relaxed, with).is_ok()
}

/// Runs something that may take so many bytes more than are taken now.
pub fn within<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    let before = BOUND.swap(LIVE.load(Relaxed) + bytes, Relaxed);
    let done = run();
    BOUND.store(before, Relaxed);
    done
}
