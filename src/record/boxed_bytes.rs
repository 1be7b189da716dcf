//! The bytes of a large `fixed`, made where they stay: an array that is made first and boxed then may be too large for a
//! stack.

/// A copy on the heap.
pub fn boxed_bytes<const N: usize>(bytes: &[u8; N]) -> Box<[u8; N]> {
    of_vec(bytes.to_vec())
}

/// Zeroes on the heap.
pub fn boxed_zeroes<const N: usize>() -> Box<[u8; N]> {
    of_vec(vec![0; N])
}

fn of_vec<const N: usize>(bytes: Vec<u8>) -> Box<[u8; N]> {
    bytes.into_boxed_slice().try_into().unwrap_or_else(|_| never())
}

/// There are always `N`. It stands apart so that nobody's frame has room for the array.
#[cold]
#[inline(never)]
fn never<const N: usize>() -> Box<[u8; N]> {
    Box::new([0; N])
}
