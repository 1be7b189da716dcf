//! A key's raw bytes within a slot.

use std::fmt;

/// The longest key that needs no allocation of its own.
const INLINE_LEN: usize = 22;

/// Raw key bytes: short ones lie in the slot, so that comparing a key touches no other memory.
#[derive(Clone)]
pub(super) enum KeyBytes {
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    Boxed(Box<[u8]>),
}

impl KeyBytes {
    pub(super) const EMPTY: Self = Self::Inline { len: 0, bytes: [0; INLINE_LEN] };

    pub(super) fn new(key: &[u8]) -> Self {
        if key.len() > INLINE_LEN {
            return Self::Boxed(key.into());
        }
        let mut bytes = [0; INLINE_LEN];
        bytes[..key.len()].copy_from_slice(key);
        Self::Inline { len: key.len() as u8, bytes }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len).min(INLINE_LEN)],
            Self::Boxed(bytes) => bytes,
        }
    }

    /// Whether it is this key.
    #[inline(always)]
    pub(super) fn is(&self, key: &[u8]) -> bool {
        match self {
            Self::Inline { len, bytes } => usize::from(*len) == key.len() && short_eq(bytes, key),
            Self::Boxed(bytes) => **bytes == *key,
        }
    }

    /// Bytes outside of the slot.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Boxed(bytes) => bytes.len(),
        }
    }
}

/// Whether `bytes` begin with `key`, for keys that fit: a few overlapping words, which is quicker than the call that a
/// comparison of slices of unknown length becomes.
#[inline(always)]
fn short_eq(bytes: &[u8; INLINE_LEN], key: &[u8]) -> bool {
    let long = |at: usize| word::<8>(bytes, at) == word::<8>(key, at);
    let int = |at: usize| word::<4>(bytes, at) == word::<4>(key, at);
    match key.len() {
        len @ 8..=16 => long(0) & long(len - 8),
        len @ 4..=7 => int(0) & int(len - 4),
        len @ 17..=INLINE_LEN => long(0) & long(8) & long(len - 8),
        len => bytes.get(..len) == Some(key),
    }
}

#[inline]
fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_slice().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_are_kept() {
        for len in 0..=300_usize {
            let key: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let kept = KeyBytes::new(&key);
            assert_eq!(kept.as_slice(), key);
            assert!(kept.is(&key));
            assert!(!kept.is(&[&key[..], b"x"].concat()));
            for at in 0..len {
                let mut other = key.clone();
                other[at] ^= 1;
                assert!(!kept.is(&other), "byte {at} of {len}");
            }
            assert_eq!(kept.heap_bytes(), if len > INLINE_LEN { len } else { 0 });
        }
        assert_eq!(size_of::<KeyBytes>(), 24);
    }
}
