//! Files and folders: creating them so that they survive, and locking them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// An operating-system error about a path.
pub(super) fn io_error(doing: &str, path: &Path, error: impl Into<std::io::Error>) -> Error {
    Error::io(format!("cannot {doing} {}", path.display()), error)
}

/// Creates a folder and those above it, for this user only.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| io_error("create folder", path, error))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| io_error("sync folder", path, error))
}

/// Opens a file for reading and writing, and creates it where it is missing. Close-on-exec, as std opens all files.
pub(super) fn open_or_create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| io_error("open", path, error))
}

/// Reads a file that may be missing.
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == IoKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Replaces a file as a whole, durably: a reader and a crash find the old content or the new.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let draft = folder.join(format!(".{}", Uuid::new_v4()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| {
        // The draft is of no use; what matters is why the file could not be written.
        let _ = fs::remove_file(&draft);
        io_error("write", path, error)
    })?;
    sync_folder(folder)
}

/// The names in a folder; none where it is missing.
pub(super) fn names_in(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| io_error("list", path, error))?.file_name();
        names.extend(name.into_string().ok());
    }
    names.sort();
    Ok(names)
}

/// Whether the file still has a name.
pub(super) fn is_linked(file: &File, path: &Path) -> Result<bool> {
    Ok(file.metadata().map_err(|error| io_error("look at", path, error))?.nlink() > 0)
}

/// Takes a lock that nobody else holds; `false` when somebody does.
pub(super) fn try_lock(file: &File, path: &Path) -> Result<bool> {
    match retried(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(io_error("lock", path, error)),
    }
}

/// Waits for the lock: on a thread that may block only.
pub(super) fn lock(file: &File, path: &Path) -> Result<()> {
    retried(|| flock(file, FlockOperation::LockExclusive)).map_err(|error| io_error("lock", path, error))
}

/// Takes a lock that others may hold too.
pub(super) fn lock_shared(file: &File, path: &Path) -> Result<()> {
    retried(|| flock(file, FlockOperation::LockShared)).map_err(|error| io_error("lock", path, error))
}

/// Gives a lock back when dropped.
///
/// Closing the file is not enough: a child process between its fork and its exec has a copy of every descriptor, and
/// the lock would last until that is closed, too.
#[derive(Debug)]
pub(super) struct Unlock<F: AsFd>(pub(super) F);

impl<F: AsFd> Drop for Unlock<F> {
    fn drop(&mut self) {
        // It can fail for a closed descriptor only, and this one is open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn retried(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A text as the name of one file: what could mean something else is written as `%` and two hexadecimal digits.
pub(super) fn file_name(of: &str, text: &str) -> Result<String> {
    let mut name = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => name.push(byte.into()),
            b'.' if i > 0 => name.push('.'),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() || name.len() > 240 {
        return Err(Error::new(ErrorKind::Config, format!("{text:?} cannot name a {of}: use 1 to 240 bytes")));
    }
    Ok(name)
}

/// Runs what may block beside the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down").with_source(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_although_a_copy_of_its_descriptor_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = open_or_create(&path).unwrap();
        assert!(try_lock(&held, &path).unwrap());
        // What a child process has until it begins.
        let copy = held.try_clone().unwrap();
        drop(Unlock(held));
        assert!(try_lock(&open_or_create(&path).unwrap(), &path).unwrap());
        drop(copy);
    }
}
