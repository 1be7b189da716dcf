//! Which process holds the lock of a unit, for people: the kernel knows, and tells nobody.

use std::path::Path;

use super::files::{open_if_there, read_if_there, try_lock};
use crate::backend::Owner;
use crate::disk::{Disk, DiskFile, Unlock};
use crate::error::Result;

/// Notes this process as the owner in a lock file that it has locked.
pub(super) fn note(file: &DiskFile) {
    let number = format!("{}\n", std::process::id());
    // Owning does not depend on it: a full disk must not keep a partition from being taken.
    let _ = file.set_len(0).and_then(|()| file.write_all_at(number.as_bytes(), 0));
}

/// The process that holds a lock file, if one does.
pub(super) fn owner(disk: &Disk, path: &Path) -> Result<Option<Owner>> {
    let Some(file) = open_if_there(disk, path)? else { return Ok(None) };
    if try_lock(&file, path)? {
        // Nobody has it; whoever wants it in this moment comes back.
        drop(Unlock(file));
        return Ok(None);
    }
    let noted = read_if_there(disk, path)?.and_then(|noted| String::from_utf8(noted).ok());
    // Between taking the lock and noting itself the owner has no number yet.
    let process = noted.and_then(|noted| noted.trim().parse().ok());
    Ok(process.map(|process| Owner { process, stopped: is_stopped(process) }))
}

/// Whether a signal has stopped a process; `None` where it cannot be seen, as from another container.
fn is_stopped(process: u32) -> Option<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before the state may hold spaces and parentheses.
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    Some(matches!(state, 'T' | 't'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::log::files::open_or_create;

    #[test]
    fn a_lock_that_is_held_names_its_process() {
        let (disk, folder) = (Disk::system(), tempfile::tempdir().unwrap());
        let path = folder.path().join("0.lock");
        let owner = || owner(&disk, &path).unwrap();
        assert_eq!(owner(), None, "there is no file");
        let file = open_or_create(&disk, &path).unwrap();
        assert!(try_lock(&file, &path).unwrap());
        let file = Unlock(file);
        assert_eq!(owner(), None, "it is not noted yet");
        note(&file.0);
        assert_eq!(owner(), Some(Owner { process: std::process::id(), stopped: Some(false) }));
        drop(file);
        assert_eq!(owner(), None, "what is noted is of a former owner");
    }
}
