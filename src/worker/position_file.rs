//! The changelog position of a task without tables: where its recovery begins.
//!
//! A line of text: the position, a checksum, and the changelog's id where it has one. A file of another format than this first
//! one begins with the word `format` and its number.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};

/// The format of the file, which does not say it.
const FORMAT: u32 = 1;

/// A file with a position and its checksum; absent for tasks that are kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct PositionFile {
    disk: Disk,
    dir: Option<PathBuf>,
    partition: u32,
    changelog_id: Option<Arc<str>>,
}

impl PositionFile {
    /// The file of a partition in the agent's folder.
    pub(crate) fn new(disk: Disk, dir: Option<PathBuf>, partition: u32) -> Self {
        Self { disk, dir, partition, changelog_id: None }
    }

    /// The same for a changelog of that id: a position in another one does not count.
    #[must_use]
    pub(crate) fn of_changelog(self, id: Option<Arc<str>>) -> Self {
        Self { changelog_id: id, ..self }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.position", self.partition)
    }

    /// Replaces the position; the file is the old or the new one after any crash.
    pub(crate) fn store(&self, position: u64) -> Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let path = dir.join(self.name());
        let temporary = dir.join(format!("{}.tmp", self.name()));
        let id = self.changelog_id.as_deref();
        let behind = id.map_or_else(String::new, |id| format!(" {id}"));
        let text = format!("{position} {:08x}{behind}\n", check_of(position, id));
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
        if let Some(format) = format_in(&text) {
            return Err(Error::newer_format(&path.display(), format, FORMAT));
        }
        let Some((position, id)) = parsed(&text) else {
            let message = format!("{} is damaged; remove it, and the changelog is read from its start", path.display());
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        match (&self.changelog_id, id) {
            (Some(own), Some(id)) if **own != *id => {
                tracing::warn!(file = %path.display(), id, own = %own, "the position is one in a changelog that was deleted; the one that is there is read from its start");
                Ok(None)
            }
            _ => Ok(Some(position)),
        }
    }
}

/// The checksum of a position, and of the changelog's id behind it.
fn check_of(position: u64, id: Option<&str>) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&position.to_le_bytes()), id.unwrap_or_default().as_bytes())
}

/// The number of the format that a newer release says.
fn format_in(text: &str) -> Option<u32> {
    text.strip_prefix("format ")?.split_ascii_whitespace().next()?.parse().ok()
}

/// The position in a file's text, with the changelog's id where there is one.
fn parsed(text: &str) -> Option<(u64, Option<&str>)> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    let position: u64 = words.next()?.parse().ok()?;
    let check = u32::from_str_radix(words.next()?, 16).ok()?;
    let id = words.next();
    (words.next().is_none() && check_of(position, id) == check).then_some((position, id))
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
    fn a_position_of_a_newer_release_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("3.position"), "format 2 17 of something\n").unwrap();
        let error = PositionFile::new(Disk::system(), Some(dir.path().to_owned()), 3).load().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.message().ends_with("has format 2, this build reads up to 1; use the release that wrote it"),
            "{error}"
        );
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

    #[test]
    fn a_position_in_a_changelog_that_was_deleted_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = || PositionFile::new(Disk::system(), Some(dir.path().to_owned()), 0);
        let of = |id: &str| file().of_changelog(Some(id.into()));
        file().store(7).unwrap();
        assert_eq!(of("one").load().unwrap(), Some(7), "it does not say of which");
        of("one").store(8).unwrap();
        assert_eq!(of("one").load().unwrap(), Some(8));
        assert_eq!(of("two").load().unwrap(), None);
        assert_eq!(file().load().unwrap(), Some(8), "who looks at it from outside does not know of which");
        let path = dir.path().join("0.position");
        let sound = std::fs::read(&path).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut hurt = sound.clone();
            hurt[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, hurt).unwrap();
            match file().load() {
                Ok(position) => assert_eq!(position, Some(8), "bit {bit}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}"),
            }
        }
    }
}
