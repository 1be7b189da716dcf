//! Which process holds a lock, for people. Whoever takes a unit notes itself in its lock file, which tells it in every
//! container; of locks that are taken for moments the kernel keeps a list.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::{open_if_there, read_if_there, try_lock};
use crate::backend::Owner;
use crate::disk::{Disk, DiskFile, Unlock};
use crate::error::Result;

/// How often the kernel's list is looked at before a lock is said to be nobody's who can be seen.
const LOOKS: u32 = 5;

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

/// The process that has a file locked alone, as the kernel says; `None` where it cannot be seen.
pub(super) fn holder(path: &Path) -> Option<Owner> {
    let file = std::fs::metadata(path).ok()?;
    let device = format!("{:02x}:{:02x}", rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    // The list is not read in one moment, and others change it meanwhile: it may once be without a lock that is held.
    let process =
        (0..LOOKS).find_map(|_| holder_in(&std::fs::read_to_string("/proc/locks").ok()?, &device, file.ino()))?;
    Some(Owner { process, stopped: is_stopped(process) })
}

/// Looks for a lock in the kernel's list, whose lines are like `1: FLOCK  ADVISORY  WRITE 4711 fe:00:5358552 0 EOF`; those
/// of processes that wait have an arrow before the kind.
fn holder_in(locks: &str, device: &str, inode: u64) -> Option<u32> {
    let found = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", process, file, ..] = words[..] else { return None };
        let (on, node) = file.rsplit_once(':')?;
        let process = process.parse::<u32>().ok()?;
        (node.parse() == Ok(inode)).then_some((on == device, process))
    });
    // Some file systems give the kernel's list another device than they give to programs.
    found.max_by_key(|(same, _)| *same).map(|(_, process)| process)
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
    fn the_kernel_names_who_has_a_file_locked() {
        let (disk, folder) = (Disk::system(), tempfile::tempdir().unwrap());
        let path = folder.path().join("append.lock");
        let file = Unlock(open_or_create(&disk, &path).unwrap());
        assert_eq!(holder(&path), None);
        assert!(try_lock(&file.0, &path).unwrap());
        assert_eq!(holder(&path), Some(Owner { process: std::process::id(), stopped: Some(false) }));
        drop(file);
        assert_eq!(holder(&path), None);
    }

    #[test]
    fn a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 fe:00:77 0 EOF\n2: FLOCK  ADVISORY  READ 2 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 3 00:1b:77 0 EOF\n4: FLOCK  ADVISORY  WRITE 4 fe:00:77 0 EOF\n\
                     4: -> FLOCK  ADVISORY  WRITE 5 fe:00:77 0 EOF\n5: FLOCK  ADVISORY  WRITE 6 fe:00:78 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:00", 77), Some(4));
        assert_eq!(holder_in(locks, "00:1b", 77), Some(3));
        assert_eq!(holder_in(locks, "00:99", 78), Some(6), "the device is another one for programs");
        assert_eq!(holder_in(locks, "fe:00", 79), None);
    }

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
