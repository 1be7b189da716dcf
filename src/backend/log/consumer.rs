//! A member of a group whose units are owned by kernel locks: a killed process's units are free at once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::files::{create_folder, file_name, open_or_create, try_lock};
use super::members::Member;
use super::{owner, position};
use crate::backend::share::{Holding, fair_share};
use crate::backend::vigil::{Others, Vigil, kept_back};
use crate::backend::{Assignment, AssignmentSet, Consumer, Owner, Unit};
use crate::clock::{Clock, Moment};
use crate::disk::{Disk, DiskFile, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// How often a member looks at who else is there.
const LOOK: Duration = Duration::from_millis(100);

/// How often it looks at who keeps units back.
const LOOK_AT_OWNERS: Duration = Duration::from_secs(1);

/// A member of a group.
#[derive(Debug)]
pub(super) struct LogConsumer {
    disk: Disk,
    folder: PathBuf,
    clock: Clock,
    member: Option<Member>,
    /// The folder of each set's lock files.
    sets: Vec<PathBuf>,
    holding: Holding<Unlock<DiskFile>>,
    looked: Option<Moment>,
    vigil: Vigil,
    looked_at_owners: Moment,
    positions: Mutex<HashMap<TopicPartition, (PathBuf, DiskFile)>>,
}

impl LogConsumer {
    pub(super) fn join(disk: Disk, folder: PathBuf, sets: &[AssignmentSet], clock: Clock) -> Result<Self> {
        create_folder(&disk, &folder.join("positions"))?;
        let mut folders = Vec::with_capacity(sets.len());
        for set in sets {
            let of = set_folder(&folder, set)?;
            create_folder(&disk, &of)?;
            folders.push(of);
        }
        let member = Some(Member::join(&disk, &folder, sets)?);
        let holding = Holding::new(sets);
        Ok(Self {
            disk,
            folder,
            looked_at_owners: clock.moment(),
            clock,
            member,
            sets: folders,
            holding,
            looked: None,
            vigil: Vigil::default(),
            positions: Mutex::default(),
        })
    }

    /// Moves towards the fair share.
    fn balance(&mut self) -> Result<Option<Assignment>> {
        let Some(member) = &self.member else {
            return Err(Error::new(ErrorKind::Closed, format!("this member has left {}", self.folder.display())));
        };
        let standing = member.standing(&self.folder)?;
        let share = fair_share(self.holding.units(), standing.members, standing.rank);
        let moved = self.holding.towards(share, |unit| {
            let path = lock_path(&self.sets[unit.set], unit.partition);
            let file = open_or_create(&self.disk, &path)?;
            Ok(try_lock(&file, &path)?.then(|| {
                owner::note(&file);
                Unlock(file)
            }))
        })?;
        if moved.is_some() {
            return Ok(moved);
        }
        let now = self.clock.moment();
        if now.since(self.looked_at_owners) < LOOK_AT_OWNERS {
            return Ok(None);
        }
        self.looked_at_owners = now;
        let others = self.holding.others();
        let others: Others = others.map(|unit| Ok((unit, self.owner(unit)?))).collect::<Result<_>>()?;
        let most = fair_share(self.holding.units(), standing.members, 0);
        let named = self.vigil.look(kept_back(others, self.holding.kept() < share, most), now);
        Ok((!named.is_empty()).then_some(Assignment::Withheld(named)))
    }

    fn owner(&self, unit: Unit) -> Result<Option<Owner>> {
        owner::owner(&self.disk, &lock_path(&self.sets[unit.set], unit.partition))
    }
}

/// The folder of a set's lock files.
fn set_folder(group_folder: &Path, set: &AssignmentSet) -> Result<PathBuf> {
    Ok(group_folder.join("sets").join(file_name("set", &set.name)?))
}

fn lock_path(set_folder: &Path, partition: u32) -> PathBuf {
    set_folder.join(format!("{partition}.lock"))
}

/// Which process owns each unit of a set.
pub(super) fn owners(disk: &Disk, group_folder: &Path, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
    let folder = set_folder(group_folder, set)?;
    (0..set.partitions).map(|partition| owner::owner(disk, &lock_path(&folder, partition))).collect()
}

#[async_trait]
impl Consumer for LogConsumer {
    async fn assignment(&mut self) -> Result<Assignment> {
        loop {
            if let Some(looked) = self.looked {
                let since = self.clock.moment().since(looked);
                if since < LOOK {
                    self.clock.sleep(LOOK - since).await;
                }
            }
            self.looked = Some(self.clock.moment());
            // Nothing is awaited from here on, so that a unit which was taken is reported.
            if let Some(assignment) = self.balance()? {
                return Ok(assignment);
            }
        }
    }

    async fn release(&mut self, unit: Unit) -> Result<()> {
        self.holding.release(unit).map(drop)
    }

    fn ack(&self, partition: &TopicPartition, to: u64) -> Result<()> {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, file)) = positions.get(partition) {
            return position::write(file, path, to);
        }
        let path = position::position_path(&self.folder, partition)?;
        let file = open_or_create(&self.disk, &path)?;
        position::write(&file, &path, to)?;
        positions.insert(partition.clone(), (path, file));
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        self.holding.release_all();
        self.member.take().map_or(Ok(()), Member::leave)
    }
}
