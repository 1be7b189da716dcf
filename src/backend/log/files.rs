//! Files and folders: creating them so that they survive, and errors that name them.

use std::io::ErrorKind as IoKind;
use std::path::Path;

use crate::disk::{Disk, DiskFile, Open};
use crate::error::{Error, ErrorKind, Result};

/// An operating-system error about a path.
pub(super) fn io_error(doing: &str, path: &Path, error: impl Into<std::io::Error>) -> Error {
    Error::io(format!("cannot {doing} {}", path.display()), error)
}

/// Creates a folder and those above it, for this user only.
pub(super) fn create_folder(disk: &Disk, path: &Path) -> Result<()> {
    disk.create_folder(path).map_err(|error| io_error("create folder", path, error))
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(disk: &Disk, path: &Path) -> Result<()> {
    disk.sync_folder(path).map_err(|error| io_error("sync folder", path, error))
}

/// Makes a folder and its name durable, and the names of those above it.
pub(super) fn sync_with_those_above(disk: &Disk, path: &Path) -> Result<()> {
    for folder in path.ancestors() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match disk.sync_folder(folder) {
            // Somebody else's, who made it long ago.
            Err(error) if error.kind() == IoKind::PermissionDenied && folder != path => {}
            done => done.map_err(|error| io_error("sync folder", folder, error))?,
        }
    }
    Ok(())
}

/// Opens a file for reading and writing, and creates it where it is missing.
pub(super) fn open_or_create(disk: &Disk, path: &Path) -> Result<DiskFile> {
    disk.open(path, Open::OrCreate).map_err(|error| io_error("open", path, error))
}

/// Opens a file that may be missing.
pub(super) fn open_if_there(disk: &Disk, path: &Path) -> Result<Option<DiskFile>> {
    match disk.open(path, Open::Existing) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == IoKind::NotFound => Ok(None),
        Err(error) => Err(io_error("open", path, error)),
    }
}

/// Reads a file that may be missing.
pub(super) fn read_if_there(disk: &Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == IoKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Removes a file that may be missing.
pub(super) fn remove_if_there(disk: &Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != IoKind::NotFound => Err(io_error("remove", path, error)),
        _ => Ok(()),
    }
}

/// Writes a file that is not there yet, durably but for its name.
pub(super) fn write_new(disk: &Disk, path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        let file = disk.open(path, Open::New)?;
        file.write_all_at(content, 0)?;
        file.sync_all()
    };
    write().map_err(|error| io_error("write", path, error))
}

/// Replaces a file as a whole, durably: a reader and a crash find the old content or the new.
pub(super) fn replace(disk: &Disk, path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let draft = folder.join(format!(".{}", disk.unique_name()));
    let before = read_if_there(disk, path)?;
    let write = || {
        let file = disk.open(&draft, Open::New)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        disk.rename(&draft, path)
    };
    write().map_err(|error| {
        // The draft is of no use; what matters is why the file could not be written.
        let _ = disk.remove(&draft);
        io_error("write", path, error)
    })?;
    sync_folder(disk, folder).inspect_err(|_| {
        // Left there it would count for whoever looks next, and might be gone after a loss of power.
        if let Some(before) = &before {
            let put_back = disk.open(&draft, Open::New).and_then(|file| {
                file.write_all_at(before, 0)?;
                // A name may survive a loss of power without what it leads to.
                file.sync_all()
            });
            let _ = put_back.and_then(|()| disk.rename(&draft, path));
        } else {
            let _ = disk.remove(path);
        }
    })
}

/// The names in a folder; none where it is missing.
pub(super) fn names_in(disk: &Disk, path: &Path) -> Result<Vec<String>> {
    match disk.names(path) {
        Ok(names) => Ok(names),
        Err(error) if error.kind() == IoKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("list", path, error)),
    }
}

/// Whether the file still has a name.
pub(super) fn is_linked(file: &DiskFile, path: &Path) -> Result<bool> {
    file.is_linked().map_err(|error| io_error("look at", path, error))
}

/// Takes a lock that nobody else holds; `false` when somebody does.
pub(super) fn try_lock(file: &DiskFile, path: &Path) -> Result<bool> {
    file.try_lock().map_err(|error| io_error("lock", path, error))
}

/// Waits for the lock: on a thread that may block only.
pub(super) fn lock(file: &DiskFile, path: &Path) -> Result<()> {
    file.lock().map_err(|error| io_error("lock", path, error))
}

/// Takes a lock that others may hold too.
pub(super) fn lock_shared(file: &DiskFile, path: &Path) -> Result<()> {
    file.lock_shared().map_err(|error| io_error("lock", path, error))
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
