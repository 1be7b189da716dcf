//! How far a group has come in a partition: 16 bytes, `u64` offset, `u32` crc32c of it and `u32` format, which is 0,
//! little-endian. Not synced: a worker's own truth is its commit.
//!
//! Of another format the checksum is that of the offset and the format, and there may be more bytes.

use std::path::{Path, PathBuf};

use super::files::{file_name, io_error, names_in, read_if_there, remove_if_there};
use crate::disk::{Disk, DiskFile};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// The format of the file.
const FORMAT: u32 = 0;

/// How often a file is read again that was being written.
const READS: usize = 5;

/// The file of a position in a group's folder.
pub(super) fn position_path(group_folder: &Path, place: &TopicPartition) -> Result<PathBuf> {
    Ok(group_folder.join("positions").join(format!("{}-{}", file_name("topic", &place.topic)?, place.partition)))
}

/// Writes a position.
pub(super) fn write(file: &DiskFile, path: &Path, position: u64) -> Result<()> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&position.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..8]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes[12..].copy_from_slice(&FORMAT.to_le_bytes());
    file.write_all_at(&bytes, 0).map_err(|error| io_error("write", path, error))
}

/// Reads a position, if there is one.
pub(super) fn read(disk: &Disk, path: &Path) -> Result<Option<u64>> {
    for _ in 0..READS {
        let Some(bytes) = read_if_there(disk, path)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
        let Some(bytes) = bytes.first_chunk::<16>() else { continue };
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let (offset, check, format) = (crc32c::crc32c(&bytes[..8]), word(8), word(12));
        if format == FORMAT && check == offset {
            return Ok(Some(u64::from_le_bytes(std::array::from_fn(|i| bytes[i]))));
        }
        if format != FORMAT && check == crc32c::crc32c_append(offset, &bytes[12..]) {
            return Err(Error::newer_format(&path.display(), format, FORMAT));
        }
    }
    let message = format!("{} is damaged at byte 0; remove it to forget the position", path.display());
    Err(Error::new(ErrorKind::Corrupt, message))
}

/// The same for whoever can do without: positions are not synced, and a loss of power may have left part of one. The task
/// publishes it again when it starts.
pub(super) fn known(disk: &Disk, path: &Path) -> Result<Option<u64>> {
    read(disk, path).or_else(|error| match error.kind() {
        ErrorKind::Corrupt => {
            tracing::warn!(%error, "the position counts as not known");
            Ok(None)
        }
        _ => Err(error),
    })
}

/// Removes every group's positions in a topic: another of that name begins anew.
pub(super) fn remove_topic(disk: &Disk, groups_folder: &Path, topic: &str, partitions: u32) -> Result<()> {
    for group in names_in(disk, groups_folder)? {
        for partition in 0..partitions {
            let path = position_path(&groups_folder.join(&group), &TopicPartition::new(topic, partition))?;
            remove_if_there(disk, &path)?;
        }
    }
    Ok(())
}
