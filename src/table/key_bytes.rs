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

    /// Bytes outside of the slot.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Boxed(bytes) => bytes.len(),
        }
    }
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
            assert_eq!(kept.heap_bytes(), if len > INLINE_LEN { len } else { 0 });
        }
        assert_eq!(size_of::<KeyBytes>(), 24);
    }
}
