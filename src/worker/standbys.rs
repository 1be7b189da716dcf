//! The standbys of one agent on this worker: which it is to keep, and which it keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::partition::Context;
use super::standby::{StandbyStart, StandbyThread, StandbyTold};
use crate::backend::{CAUGHT_UP, Copies, Standby, Unit};
use crate::clock::Moment;
use crate::error::{Error, Result};
use crate::plan::AgentPlan;

/// Names the folder of the tables, however it is reached: workers in one folder hold no copies for each other.
const PLACE_FILE: &str = ".place";

/// How often a member asks for another round while some of its awaited copies have caught up and others have not.
const ROUND_EVERY: Duration = Duration::from_secs(30);

pub(super) struct Standbys {
    plan: Arc<AgentPlan>,
    thread: StandbyThread,
    pub(super) copies: Arc<Copies>,
    /// By partition, and whether the group waits for it.
    wanted: BTreeMap<u32, bool>,
    running: BTreeMap<u32, watch::Sender<bool>>,
    /// Partitions that are this worker's own as soon as their standbys are closed.
    gained: BTreeSet<u32>,
    /// When the group was asked to share out again.
    asked_at: Option<Moment>,
    events: (mpsc::UnboundedSender<StandbyTold>, mpsc::UnboundedReceiver<StandbyTold>),
}

fn unit(partition: u32) -> Unit {
    Unit { set: 0, partition }
}

impl Standbys {
    /// None so far; what is in the folder from before is told.
    pub(super) fn new(plan: Arc<AgentPlan>, context: &Context, thread: StandbyThread) -> Result<Self> {
        let on_disk = cfg!(feature = "rocksdb") && context.backend.capabilities().standbys;
        let keeps = on_disk && !plan.tables.is_empty();
        let copies = match context.options.state_dir.as_ref().filter(|_| keeps) {
            Some(dir) => {
                let copies = Copies::new(context.options.standby, place(dir)?);
                for partition in 0..plan.partitions {
                    if plan.tables.iter().all(|table| dir.join(table.name).join(partition.to_string()).exists()) {
                        copies.set(unit(partition), None);
                    }
                }
                copies
            }
            // Of what is in memory nobody else has any use.
            None => Copies::new(0, uuid::Uuid::new_v4().to_string()),
        };
        Ok(Self {
            plan,
            thread,
            copies: Arc::new(copies),
            wanted: BTreeMap::new(),
            running: BTreeMap::new(),
            gained: BTreeSet::new(),
            asked_at: None,
            events: mpsc::unbounded_channel(),
        })
    }

    /// These are to be kept, and no others.
    pub(super) fn want(&mut self, standbys: &[Standby]) {
        self.wanted = standbys.iter().map(|standby| (standby.unit.partition, standby.awaited)).collect();
        for (partition, stop) in self.running.iter().filter(|(partition, _)| !self.wanted.contains_key(partition)) {
            tracing::debug!(agent = self.plan.def.name, partition, "the standby is wanted no more");
            let _ = stop.send(true);
        }
        // What is left of others ages.
        for (unit, _) in self.copies.all() {
            if !self.wanted.contains_key(&unit.partition) {
                self.copies.set(unit, None);
            }
        }
    }

    /// Begins those that are wanted, where no task has the partition's stores.
    pub(super) fn begin(&mut self, context: &Context, has_task: impl Fn(u32) -> bool) -> Result<()> {
        for partition in self.wanted.keys().copied() {
            if self.running.contains_key(&partition) || self.gained.contains(&partition) || has_task(partition) {
                continue;
            }
            let (stop, stopped) = watch::channel(false);
            self.thread.start(StandbyStart {
                context: context.clone(),
                plan: self.plan.clone(),
                partition,
                copies: self.copies.clone(),
                stop: stopped,
                events: self.events.0.clone(),
            })?;
            self.running.insert(partition, stop);
        }
        Ok(())
    }

    /// A task is to begin on the partition. Whether it must wait until the standby's stores are closed; then
    /// [`Standbys::closed`] says when.
    pub(super) fn holds_up(&mut self, partition: u32) -> bool {
        self.copies.remove(unit(partition));
        let Some(stop) = self.running.get(&partition) else { return false };
        let _ = stop.send(true);
        self.gained.insert(partition);
        true
    }

    /// The partition is not this worker's any more.
    pub(super) fn given_back(&mut self, partition: u32, covered: bool) {
        self.gained.remove(&partition);
        // Whoever has it from now on has written nothing yet.
        self.copies.set(unit(partition), covered.then_some(0));
    }

    /// This worker is no member any more. No partition waits for its standby, which may be at work elsewhere when that is
    /// closed, and no standby is waited for.
    pub(super) fn left(&mut self) {
        for partition in std::mem::take(&mut self.gained) {
            self.copies.set(unit(partition), None);
        }
        self.wanted.values_mut().for_each(|awaited| *awaited = false);
    }

    pub(super) fn waits(&self, partition: u32) -> bool {
        self.gained.contains(&partition)
    }

    /// What one of them has to tell. Cancel-safe.
    pub(super) async fn event(&mut self) -> StandbyTold {
        match self.events.1.recv().await {
            Some(event) => event,
            // There is a sender here.
            None => std::future::pending().await,
        }
    }

    /// The stores of a partition's standby are closed: whether a task waits for that.
    pub(super) fn closed(&mut self, partition: u32) -> bool {
        self.running.remove(&partition);
        let gained = self.gained.remove(&partition);
        if gained {
            self.copies.remove(unit(partition));
        } else if !self.wanted.contains_key(&partition) {
            self.copies.set(unit(partition), None);
        }
        gained
    }

    /// Whether the group should share out again, because it waits for what has caught up; it waits no more when that was said.
    /// Not for each of many: a round asks something of all members.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        let caught_up = |partition: u32| self.copies.behind(unit(partition)).is_some_and(|behind| behind <= CAUGHT_UP);
        let awaited = self.wanted.iter().filter(|(_, awaited)| **awaited).map(|(partition, _)| caught_up(*partition));
        let (some, all) = awaited.fold((false, true), |(some, all), caught_up| (some | caught_up, all & caught_up));
        let long_ago = self.asked_at.is_none_or(|asked_at| now.since(asked_at) >= ROUND_EVERY);
        if !some || !(all || long_ago) {
            return false;
        }
        self.asked_at = Some(now);
        self.wanted.values_mut().for_each(|awaited| *awaited = false);
        true
    }

    /// Stops all, and begins none any more.
    pub(super) fn stop(&mut self) {
        self.wanted.clear();
        self.gained.clear();
        for stop in self.running.values() {
            let _ = stop.send(true);
        }
    }

    /// How many have not closed their stores.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }
}

/// The name of a folder, which it gets when it has none.
fn place(dir: &Path) -> Result<String> {
    let path = dir.join(PLACE_FILE);
    let failed = |path: &Path| {
        let text = format!("cannot name the folder of the tables in {}", path.display());
        move |error| Error::io(text, error)
    };
    if !path.exists() {
        std::fs::create_dir_all(dir).map_err(failed(dir))?;
        let draft: PathBuf = dir.join(format!("{PLACE_FILE}-{}", std::process::id()));
        std::fs::write(&draft, uuid::Uuid::new_v4().to_string()).map_err(failed(&draft))?;
        // Somebody else may have been faster, and its name stays.
        let linked = std::fs::hard_link(&draft, &path);
        std::fs::remove_file(&draft).map_err(failed(&draft))?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(failed(&path)(error)),
            _ => {}
        }
    }
    std::fs::read_to_string(&path).map_err(failed(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_two_have_two() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let name = place(&one.path().join("state")).unwrap();
        assert_eq!(place(&one.path().join("state")).unwrap(), name);
        assert_ne!(place(other.path()).unwrap(), name);
        assert_eq!(std::fs::read_dir(one.path().join("state")).unwrap().count(), 1, "no draft is left");
    }
}
