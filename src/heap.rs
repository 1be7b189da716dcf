//! In unit tests: the memory that a thread takes.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

/// Counts for each thread, so that tests do not see each other.
struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

thread_local! {
    /// What was taken less what was given back.
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    /// The most that this has been.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let now = TAKEN.get() + bytes;
    TAKEN.set(now);
    MOST.set(MOST.get().max(now));
}

// SAFETY: every call is handed to the system's allocator as it is. What is counted needs no memory and no destructor.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are the same, and the block came from there.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Where it moves it is there twice for a moment.
        count(size as isize);
        // SAFETY: the caller's promises are the same, and the block came from there.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        count(-(layout.size() as isize));
        moved
    }
}

/// Runs something; returns the most memory that this thread had meanwhile beyond what it had before.
pub(crate) fn most_of(run: impl FnOnce()) -> usize {
    let before = TAKEN.get();
    MOST.set(before);
    run();
    MOST.get().abs_diff(before)
}

#[test]
fn memory_counts_that_was_taken_on_the_way() {
    let most = most_of(|| {
        let kept = black_box(vec![1_u8; 1_000]);
        drop(black_box(vec![2_u8; 5_000]));
        drop(black_box(vec![3_u8; 4_000]));
        drop(kept);
    });
    assert_eq!(most, 6_000);
    let most = most_of(|| {
        let mut grown = black_box(vec![1_u8; 4_000]);
        grown.reserve_exact(2_000);
        black_box(grown);
    });
    assert_eq!(most, 10_000);
}
