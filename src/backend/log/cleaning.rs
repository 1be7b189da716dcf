//! Old records go: whole segments by age, by size and because nobody needs them, and single records by compaction.
//!
//! One process at a time cleans a partition, the holder of its `clean.lock`. Only segments that nobody writes to and
//! that are durable are touched. A reader that has a segment open reads it to its end, deleted or not.

use std::sync::Arc;

use super::LogBackend;
use super::compaction::{self, Scope};
use super::files::{io_error, names_in, open_or_create, remove_if_there, try_lock};
use super::index::index_path;
use super::partition::Partition;
use super::position;
use super::segment::{Ends, Segment, SegmentHeader};
use super::segment_name::{SegmentName, SegmentNames};
use crate::backend::compaction::LastOfKey;
use crate::backend::{Cleaned, Compaction, LastOffsets};
use crate::disk::{DiskFile, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{TopicPartition, TopicSettings, TopicSpec};

/// What is to go.
pub(super) enum Job {
    /// What the topic's settings let go.
    Settings {
        /// Compacts however little has come.
        thorough: bool,
    },
    /// Everything before an offset.
    Before(u64),
    /// What the caller's rules say.
    Compact {
        /// Only records before this offset.
        before: u64,
        rules: Box<dyn Compaction>,
        /// Compacts however little has come.
        thorough: bool,
    },
}

/// A segment that nobody writes to and that is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) name: SegmentName,
    pub(super) header: SegmentHeader,
    /// Where the next segment begins.
    pub(super) ends: Ends,
    /// When the last record had been appended; `None` where it is not known.
    pub(super) closed_ms: Option<i64>,
    /// Bytes of its file.
    pub(super) bytes: u64,
}

impl LogBackend {
    pub(super) async fn clean_partition(&self, place: &TopicPartition, job: Job) -> Result<Cleaned> {
        let spec = self.0.topics.read(&place.topic)?.spec;
        if matches!(job, Job::Settings { .. }) && (spec.internal || !spec.settings.lets_go()) {
            return Ok(Cleaned::default());
        }
        let partition = self.opened(place).await?;
        partition.limits.set(&self.0.common, &spec.settings);
        let (rolled, roll_ms) = (Arc::clone(&partition), spec.settings.roll_ms());
        let roll = move || {
            let now = rolled.common.time.look()?;
            roll_ms.map_or(Ok(false), |roll_ms| rolled.roll_if_older(roll_ms, now))
        };
        if matches!(job, Job::Settings { .. }) {
            self.disk().blocking(roll).await?;
        }
        partition.sync_to(partition.end().segment_start).await?;
        // One after another, however many tasks have checkpoints at once: each may take the memory that is for all.
        let compacts = matches!(job, Job::Compact { .. }) || spec.settings.cleanup.compacts();
        let turn = match compacts {
            true => Arc::clone(&self.0.common.compacting).acquire_owned().await.ok(),
            false => None,
        };
        let groups = self.0.common.options.data_dir.join("groups");
        let clean = move || {
            // Only what goes by its age needs to be told the time by all means.
            let now = match job {
                Job::Settings { .. } => partition.common.time.look()?,
                Job::Before(_) | Job::Compact { .. } => partition.common.time.note()?,
            };
            let cleaner = Cleaner { partition: &partition, spec: &spec, now };
            let cleaned = cleaner.run(job, &groups);
            drop(turn);
            cleaned.map_err(|error| error.at(&partition.place))
        };
        self.disk().blocking(clean).await
    }

    /// A partition. One that was not open does not stay so: who has a partition open keeps it from being deleted.
    pub(super) async fn opened(&self, place: &TopicPartition) -> Result<Arc<Partition>> {
        let open = self.partitions().get(place).map(Arc::clone);
        match open {
            Some(open) => Ok(open),
            None => {
                let (backend, place) = (self.clone(), place.clone());
                self.disk().blocking(move || backend.open_anew(&place)).await
            }
        }
    }
}

/// The right to clean a partition; `None` where somebody else does.
pub(super) fn hold(partition: &Partition) -> Result<Option<Unlock<DiskFile>>> {
    let path = partition.folder.join("clean.lock");
    let file = open_or_create(partition.disk(), &path)?;
    Ok(try_lock(&file, &path)?.then(|| Unlock(file)))
}

/// One partition that is being cleaned.
struct Cleaner<'a> {
    partition: &'a Arc<Partition>,
    spec: &'a TopicSpec,
    now: i64,
}

impl Cleaner<'_> {
    fn run(&self, job: Job, groups: &std::path::Path) -> Result<Cleaned> {
        let Some(_lock) = hold(self.partition)? else { return Ok(Cleaned::default()) };
        self.partition.check_usable()?;
        self.tidy()?;
        let settings = &self.spec.settings;
        match job {
            Job::Before(offset) => {
                let closed = self.closed()?;
                let going = closed.iter().take_while(|segment| segment.ends.offset <= offset).count();
                self.delete(&closed[..going])
            }
            Job::Compact { before, rules, thorough } => self.compact(before, rules, thorough),
            Job::Settings { thorough } => {
                let mut cleaned = Cleaned::default();
                if settings.cleanup.deletes() {
                    let closed = self.closed()?;
                    let going = self.expired(&closed, settings);
                    self.warn_groups(&closed[..going], groups)?;
                    cleaned += self.delete(&closed[..going])?;
                }
                if settings.cleanup.compacts() {
                    let last = self.closed()?.last().map_or(0, |last| last.ends.offset);
                    let rules = LastOfKey::new(LastOffsets::default(), last.saturating_sub(1));
                    cleaned += self.compact(last, Box::new(rules), thorough)?;
                }
                Ok(cleaned)
            }
        }
    }

    /// Removes what somebody left who was killed here.
    fn tidy(&self) -> Result<()> {
        let (disk, folder) = (self.partition.disk(), &self.partition.folder);
        let drafts = names_in(disk, folder)?;
        for name in drafts.iter().filter(|name| name.ends_with(".draft") && name.contains('-')) {
            remove_if_there(disk, &folder.join(name))?;
        }
        let replaced = SegmentNames::list(disk, folder)?.replaced;
        if replaced.is_empty() {
            return Ok(());
        }
        // Who was killed may not have come to sync the name of what took their place, and a loss of power could leave
        // neither.
        self.partition.sync_names()?;
        for name in &replaced {
            remove_segment(self.partition, *name)?;
        }
        self.partition.sync_names()
    }

    fn closed(&self) -> Result<Vec<Closed>> {
        let (disk, folder) = (self.partition.disk(), &self.partition.folder);
        let (end, durable) = (self.partition.end(), self.partition.page.durable().0);
        let mut segments = Vec::new();
        for name in SegmentNames::list(disk, folder)?.live {
            // One that a killed writer left has not been published.
            if name.base > end.segment_base {
                break;
            }
            let Some(segment) = Segment::open(disk, folder, name)? else {
                let message = format!("somebody removes files from {}; stop it and try again", folder.display());
                return Err(Error::new(ErrorKind::Conflict, message));
            };
            segments.push((name, segment.header(), segment.len()?));
        }
        let mut closed = Vec::new();
        for (i, (name, header, bytes)) in segments.iter().enumerate() {
            let Some((_, next, _)) = segments.get(i + 1) else { break };
            let ends = Ends { offset: next.base, pos: next.start };
            if header.ends.is_some_and(|said| said != ends) {
                let message = format!("{} does not end where the next segment begins", name.path(folder).display());
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            if ends.pos > durable {
                break;
            }
            let mut later = segments[i + 1..].iter().map(|(_, header, _)| header.created_ms);
            let closed_ms = later.find(|created| *created != 0);
            closed.push(Closed { name: *name, header: *header, ends, closed_ms, bytes: *bytes });
        }
        Ok(closed)
    }

    /// How many of the oldest segments are too old, or are not needed for the bytes that are to stay.
    fn expired(&self, closed: &[Closed], settings: &TopicSettings) -> usize {
        let by_age = settings.retention_ms.map_or(0, |most| {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            let is_old = |closed_ms: Option<i64>| closed_ms.is_some_and(|at| self.now.saturating_sub(at) >= most);
            closed.iter().take_while(|segment| is_old(segment.closed_ms)).count()
        });
        let by_bytes = settings.retention_bytes.map_or(0, |most| {
            let end = self.partition.end();
            let mut left = end.pos - end.segment_start + closed.iter().map(|segment| segment.bytes).sum::<u64>();
            let is_spare = |segment: &&Closed| {
                left -= segment.bytes;
                left >= most
            };
            closed.iter().take_while(is_spare).count()
        });
        by_age.max(by_bytes)
    }

    /// Deletes segments, the oldest first, so that a crash leaves those after some offset.
    fn delete(&self, going: &[Closed]) -> Result<Cleaned> {
        let (Some(first), Some(last)) = (going.first(), going.last()) else { return Ok(Cleaned::default()) };
        // Readers that begin now must not look for what is about to go.
        self.partition.page.raise_start(last.ends.offset);
        let mut cleaned = Cleaned { deleted_records: last.ends.offset - first.name.base, ..Cleaned::default() };
        // One name after another: a loss of power must not take a later one and leave one before, nor what somebody
        // removed last who was killed before the sync.
        self.partition.sync_names()?;
        for segment in going {
            remove_segment(self.partition, segment.name)?;
            self.partition.sync_names()?;
            cleaned.freed_bytes += segment.bytes;
        }
        tracing::info!(topic = %self.partition.place.topic, partition = self.partition.place.partition,
            start = last.ends.offset, records = cleaned.deleted_records, bytes = cleaned.freed_bytes,
            "deleted old records");
        Ok(cleaned)
    }

    /// Says whose records go although they have not been read.
    fn warn_groups(&self, going: &[Closed], groups: &std::path::Path) -> Result<()> {
        let (Some(last), disk) = (going.last(), self.partition.disk()) else { return Ok(()) };
        for group in names_in(disk, groups)? {
            let path = position::position_path(&groups.join(&group), &self.partition.place)?;
            if let Some(position) = position::known(disk, &path)?
                && position < last.ends.offset
            {
                tracing::warn!(topic = %self.partition.place.topic, partition = self.partition.place.partition, group,
                    position, start = last.ends.offset,
                    "the topic's retention deletes records that the group has not read");
            }
        }
        Ok(())
    }

    fn compact(&self, before: u64, mut rules: Box<dyn Compaction>, thorough: bool) -> Result<Cleaned> {
        rules.limit_memory(self.partition.common.options.compaction_memory_bytes);
        let mut closed = self.closed()?;
        closed.retain(|segment| segment.ends.offset <= before);
        let scope = Scope {
            partition: self.partition,
            thorough,
            now: self.now,
            tombstones_ms: i64::try_from(self.spec.settings.tombstones_ms()).unwrap_or(i64::MAX),
        };
        compaction::compact(&scope, &closed, rules)
    }
}

/// Removes a segment and its index.
pub(super) fn remove_segment(partition: &Partition, name: SegmentName) -> Result<()> {
    let (disk, path) = (partition.disk(), name.path(&partition.folder));
    remove_if_there(disk, &index_path(&path))?;
    disk.remove(&path).map_err(|error| io_error("remove", &path, error))
}
