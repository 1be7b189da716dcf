//! The members of a group: each holds the lock of its file, so that one that was killed is known at once.

use std::path::{Path, PathBuf};

use super::files::{create_folder, io_error, is_linked, names_in, open_if_there, read_if_there, try_lock};
use crate::backend::AssignmentSet;
use crate::disk::{Disk, DiskFile, Open, Unlock};
use crate::error::Result;

/// This member's own file.
#[derive(Debug)]
pub(super) struct Member {
    disk: Disk,
    /// Its name begins with a number above those who were there: who joined first ranks first, and keeps what it has.
    pub(super) name: String,
    path: PathBuf,
    /// What this member reads; members share with those that read the same.
    sets: String,
    _lock: Unlock<DiskFile>,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// How many living members read the same, this one included.
    pub(super) members: usize,
    /// How many of them joined earlier.
    pub(super) rank: usize,
}

fn members_folder(group_folder: &Path) -> PathBuf {
    group_folder.join("members")
}

impl Member {
    pub(super) fn join(disk: &Disk, group_folder: &Path, sets: &[AssignmentSet]) -> Result<Self> {
        let folder = members_folder(group_folder);
        create_folder(disk, &folder)?;
        let sets: String = sets.iter().map(|set| format!("{:?} {}\n", set.name, set.partitions)).collect();
        loop {
            let number = |name: &String| name.split_once('-')?.0.parse::<u64>().ok();
            let last = names_in(disk, &folder)?.iter().filter_map(number).max().unwrap_or(0);
            let name = format!("{:020}-{}", last.saturating_add(1), disk.unique_name());
            let path = folder.join(&name);
            let file = disk.open(&path, Open::New).map_err(|error| io_error("create", &path, error))?;
            // Another member may take the file for a dead one's as long as it is not locked.
            if try_lock(&file, &path)? && is_linked(&file, &path)? {
                file.write_all_at(sets.as_bytes(), 0).map_err(|error| io_error("write", &path, error))?;
                return Ok(Self { disk: disk.clone(), name, path, sets, _lock: Unlock(file) });
            }
        }
    }

    /// Counts the living members that read the same; removes what dead ones left.
    pub(super) fn standing(&self, group_folder: &Path) -> Result<Standing> {
        let mut standing = Standing { members: 1, rank: 0 };
        for (name, sets) in living(&self.disk, group_folder, Some(&self.name))? {
            if sets == self.sets {
                standing.members += 1;
                standing.rank += usize::from(name < self.name);
            }
        }
        Ok(standing)
    }

    /// Removes the file; the lock goes with it.
    pub(super) fn leave(self) -> Result<()> {
        self.disk.remove(&self.path).map_err(|error| io_error("remove", &self.path, error))
    }
}

/// Number of living members.
pub(super) fn count(disk: &Disk, group_folder: &Path) -> Result<usize> {
    Ok(living(disk, group_folder, None)?.len())
}

/// Each living member's name and sets, but for `except`.
fn living(disk: &Disk, group_folder: &Path, except: Option<&str>) -> Result<Vec<(String, String)>> {
    let folder = members_folder(group_folder);
    let mut living = Vec::new();
    for name in names_in(disk, &folder)? {
        if Some(name.as_str()) == except {
            continue;
        }
        let path = folder.join(&name);
        let Some(file) = open_if_there(disk, &path)? else { continue };
        if try_lock(&file, &path)? {
            // Removed under its lock, so that nobody has it for a living one's. It may be gone already.
            let _ = disk.remove(&path);
        } else if let Some(sets) = read_if_there(disk, &path)?.and_then(|sets| String::from_utf8(sets).ok()) {
            living.push((name, sets));
        }
    }
    Ok(living)
}
