//! Asks the processor to load memory before it is needed.
#![allow(unsafe_code)]

/// Loads the cache line that `value` begins in, and does nothing where the processor has no such instruction.
#[inline(always)]
pub(super) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that reads nothing and never faults; SSE is part of x86_64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Loads the first two cache lines of `value`: a slot's key, and the state behind it.
#[inline(always)]
pub(super) fn prefetch_two<T>(value: &T) {
    prefetch(value);
    if size_of::<T>() > 64 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; the address lies within `value`, which is larger than 64 bytes.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast::<i8>().add(64));
        }
    }
}
