//! A store's MANIFEST, checked before RocksDB reads it, which never comes back from some that hold a damaged record. The
//! format is that of RocksDB's logs: blocks of 32 KiB, and in them records of a masked CRC-32C, a length, a type and the
//! bytes.

use std::path::Path;

const BLOCK: usize = 32 << 10;
const HEADER: usize = 7;

/// Types of a whole record, and of the parts of one that lies in several blocks.
const TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// What is wrong with the MANIFEST that a store names, and at which byte, if anything is. What is not there, or cannot be
/// read, is for RocksDB to say.
pub(super) fn damage(dir: &Path) -> Option<String> {
    let current = std::fs::read_to_string(dir.join("CURRENT")).ok()?;
    let name = current.trim_end();
    let bytes = name.starts_with("MANIFEST-").then(|| std::fs::read(dir.join(name)).ok()).flatten()?;
    damaged_at(&bytes).map(|at| format!("{name} is damaged at byte {at}"))
}

/// The byte of the first record that does not hold. One that is cut off at the end is one that is being written.
fn damaged_at(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        let left = BLOCK - at % BLOCK;
        if left < HEADER {
            at += left;
            continue;
        }
        let header = bytes.get(at..at + HEADER)?;
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        if header.iter().all(|byte| *byte == 0) {
            // Nothing was written from here on.
            return None;
        }
        if HEADER + length > left || !TYPES.contains(&header[6]) {
            return Some(at);
        }
        let summed = bytes.get(at + HEADER - 1..at + HEADER + length)?;
        let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if masked(crc32c::crc32c(summed)) != stored {
            return Some(at);
        }
        at += HEADER + length;
    }
    None
}

/// A checksum as RocksDB stores it among bytes that may be summed again.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of its own type and bytes.
    fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let summed = [&[kind], bytes].concat();
        let mut record = masked(crc32c::crc32c(&summed)).to_le_bytes().to_vec();
        record.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        record.extend_from_slice(&summed);
        record
    }

    #[test]
    fn a_flipped_bit_is_found_unless_it_makes_a_record_end_behind_the_file() {
        let records = [record(1, b"first"), record(1, &[7; 300]), record(1, b"last")];
        let sound = records.concat();
        assert_eq!(damaged_at(&sound), None);
        assert_eq!(damaged_at(&sound[..sound.len() - 1]), None, "it is being written");
        assert_eq!(damaged_at(&[&sound[..], &[0; 50]].concat()), None, "nothing was written there");
        let mut from = 0;
        for one in &records {
            for bit in from * 8..(from + one.len()) * 8 {
                let mut hurt = sound.clone();
                hurt[bit / 8] ^= 1 << (bit % 8);
                let length = usize::from(u16::from_le_bytes([hurt[from + 4], hurt[from + 5]]));
                let fits = from + HEADER + length <= sound.len() || HEADER + length > BLOCK - from;
                assert_eq!(damaged_at(&hurt), fits.then_some(from), "bit {bit}");
            }
            from += one.len();
        }
    }

    #[test]
    fn records_go_on_behind_the_end_of_a_block() {
        let mut sound = record(1, &vec![1; BLOCK - HEADER - 3]);
        sound.extend([0; 3]);
        let second = sound.len();
        sound.extend(record(1, b"second"));
        assert_eq!(damaged_at(&sound), None);
        sound[second + HEADER] ^= 1;
        assert_eq!(damaged_at(&sound), Some(second));
    }
}
