//! The changelog position of a task without tables: where its recovery begins.

use std::path::PathBuf;

use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};

/// A file with a position and its checksum; absent for tasks that are kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct PositionFile {
    disk: Disk,
    dir: Option<PathBuf>,
    partition: u32,
}

impl PositionFile {
    /// The file of a partition in the agent's folder.
    pub(crate) fn new(disk: Disk, dir: Option<PathBuf>, partition: u32) -> Self {
        Self { disk, dir, partition }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.position", self.partition)
    }

    /// Replaces the position; the file is the old or the new one after any crash.
    pub(crate) fn store(&self, position: u64) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(self.name());
        let temporary = dir.join(format!("{}.tmp", self.name()));
        let text = format!("{position} {:08x}\n", crc32c::crc32c(&position.to_le_bytes()));
        let write = || -> std::io::Result<()> {
            self.disk.create_folder(dir)?;
            self.disk.replace(&path, &temporary, text.as_bytes())
        };
        write().map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }

    /// The position, if one was stored.
    pub(crate) fn load(&self) -> Result<Option<u64>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let path = dir.join(self.name());
        let text = match self.disk.read(&path) {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
        };
        let parsed = text.split_once(' ').and_then(|(position, crc)| {
            let position: u64 = position.parse().ok()?;
            let crc = u32::from_str_radix(crc.trim(), 16).ok()?;
            (crc32c::crc32c(&position.to_le_bytes()) == crc).then_some(position)
        });
        parsed.map(Some).ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format!("{} is damaged; remove it, and the changelog is read from its start", path.display()),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_position_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let file = PositionFile::new(Disk::system(), Some(dir.path().to_owned()), 3);
        assert_eq!(file.load().unwrap(), None);
        file.store(17).unwrap();
        assert_eq!(file.load().unwrap(), Some(17));
        let path = dir.path().join("3.position");
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap().replace("17", "18")).unwrap();
        assert_eq!(file.load().unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn no_flipped_bit_makes_it_another_position() {
        let dir = tempfile::tempdir().unwrap();
        let file = PositionFile::new(Disk::system(), Some(dir.path().to_owned()), 0);
        file.store(123_456_789_012).unwrap();
        let path = dir.path().join("0.position");
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut hurt = sound.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, hurt).unwrap();
            match file.load() {
                Ok(position) => assert_eq!(position, Some(123_456_789_012), "bit {bit}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}"),
            }
        }
    }
}
