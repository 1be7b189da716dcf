//! Asks the system for huge pages: slots and their index are read at random, and with pages of 4 KiB nearly every read
//! walks the page table, too.
#![allow(unsafe_code)]

/// A huge page.
const PAGE: usize = 2 << 20;

/// Asks for huge pages in as much of the memory as whole ones fit into. A hint: where the system has none, or gives none,
/// nothing is different but the time.
pub(super) fn advise<T>(memory: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let range = memory.as_mut_ptr_range();
        let (start, end) = (range.start as usize, range.end as usize);
        let first = start.next_multiple_of(PAGE);
        let len = (end - end % PAGE).saturating_sub(first);
        if len > 0 {
            let at = range.start.cast::<u8>().wrapping_add(first - start);
            // SAFETY: the range lies within `memory`, which is borrowed exclusively, and the advice changes no contents.
            let advised = unsafe { rustix::mm::madvise(at.cast(), len, rustix::mm::Advice::LinuxHugepage) };
            if let Err(error) = advised {
                tracing::debug!(%error, len, "no huge pages");
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_what_is_in_it() {
        for len in [0, 1, PAGE - 1, PAGE, 3 * PAGE + 7] {
            let mut memory: Vec<u8> = (0..len).map(|at| at as u8).collect();
            advise(&mut memory);
            assert!(memory.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        }
    }
}
