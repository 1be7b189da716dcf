//! A partition's memory just below its bound, at it and just above it.

use super::*;

const KEYS: u32 = 100;

/// A partition with so much memory and some keys of one size, which are dirty.
fn filled(memory_bytes: usize) -> Rc<dyn AnyPartition> {
    let partition = Home { memory_bytes, ..Home::memory() }.open();
    let mut table = handle(&partition);
    for key in 0..KEYS {
        table.as_mut().set(&format!("{key:06}"), "some value".to_owned()).unwrap();
    }
    partition
}

#[test]
fn a_commit_is_due_when_half_of_the_memory_is_dirty() {
    let dirty = filled(usize::MAX).dirty_bytes();
    assert!(dirty > 5_000, "{dirty}");
    for (half, due) in [(dirty - 1, true), (dirty, true), (dirty + 1, false)] {
        assert_eq!(filled(2 * half).wants_commit(), due, "{dirty} of {half}");
    }
}

#[test]
fn records_wait_for_the_store_when_all_of_the_memory_is_dirty() {
    let dirty = filled(usize::MAX).dirty_bytes();
    for (memory_bytes, full) in [(dirty - 1, true), (dirty, true), (dirty + 1, false)] {
        assert_eq!(filled(memory_bytes).is_full(), full, "{dirty} of {memory_bytes}");
    }
}

#[test]
fn what_is_clean_goes_when_it_is_beyond_the_bound() {
    let left_of = |memory_bytes: usize| {
        let partition = filled(memory_bytes);
        commit(&*partition);
        checkpoint(&*partition, 1);
        partition.evict();
        assert_eq!(all(&handle(&partition)).len(), KEYS as usize);
        partition.memory_bytes()
    };
    let whole = left_of(usize::MAX);
    let one = whole / KEYS as usize;
    for (memory_bytes, left) in
        [(whole + 1, whole), (whole, whole), (whole - 1, whole - one), (whole - one, whole - one)]
    {
        assert_eq!(left_of(memory_bytes), left, "{memory_bytes} of {whole}");
    }
}
