//! Texts, most of which are short and ASCII: known for UTF-8 by a look at whole words.
#![allow(unsafe_code)]

use std::str::Utf8Error;

/// A byte above ASCII has its highest bit.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// As `std::str::from_utf8`, which goes byte by byte over texts of a few words.
#[inline(always)]
pub(super) fn from_utf8(bytes: &[u8]) -> Result<&str, Utf8Error> {
    if is_short_ascii(bytes) {
        // SAFETY: every byte is below 0x80, and such bytes are UTF-8, each a character of its own.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes)
}

/// Whether these are at most 32 bytes and all ASCII. Words overlap where the length is no multiple of theirs.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    let word = |chunk: Option<&[u8; 8]>| chunk.map_or(HIGH, |chunk| u64::from_le_bytes(*chunk));
    let half = |chunk: Option<&[u8; 4]>| chunk.map_or(HIGH, |chunk| u64::from(u32::from_le_bytes(*chunk)));
    let high = match bytes.len() {
        0 => 0,
        1..4 => u64::from(bytes[0] | bytes[bytes.len() / 2] | bytes[bytes.len() - 1]),
        4..8 => half(bytes.first_chunk()) | half(bytes.last_chunk()),
        8..=16 => word(bytes.first_chunk()) | word(bytes.last_chunk()),
        17..=32 => {
            let (first, last) = (&bytes[..16], &bytes[bytes.len() - 16..]);
            word(first.first_chunk()) | word(first.last_chunk()) | word(last.first_chunk()) | word(last.last_chunk())
        }
        _ => HIGH,
    };
    high & HIGH == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_std() {
        for len in 0..70 {
            let mut bytes: Vec<u8> = (0..len as u8).map(|i| b' ' + i).collect();
            assert_eq!(from_utf8(&bytes), std::str::from_utf8(&bytes));
            for at in 0..len {
                for wrong in [0x80, 0xc3, 0xff] {
                    let right = std::mem::replace(&mut bytes[at], wrong);
                    assert_eq!(from_utf8(&bytes), std::str::from_utf8(&bytes), "{bytes:?}");
                    assert!(from_utf8(&bytes).is_err() || wrong == 0xc3);
                    bytes[at] = right;
                }
                if at + 1 < len {
                    let (a, b) = (bytes[at], bytes[at + 1]);
                    bytes[at..at + 2].copy_from_slice("ß".as_bytes());
                    assert_eq!(from_utf8(&bytes), std::str::from_utf8(&bytes));
                    bytes[at..at + 2].copy_from_slice(&[a, b]);
                }
            }
        }
    }
}
