//! The embedded log: a folder that many processes on one machine append to and read from at once.
//!
//! ```text
//! FORMAT                              the version of this layout
//! doorbell                            wakes readers of other processes
//! topics/<topic>/topic.json           and id, schemas/<fingerprint>.avsc
//! topics/<topic>/<partition>/         <base offset>.log and .index, append.lock, clean.lock, end
//!                                     <base offset>-<end offset>.log of what was compacted
//! groups/<group>/                     sets/<set>/<partition>.lock, members/<member>, positions/<topic>-<partition>
//! drafts/                             topics that are being made or deleted
//! damaged/<number>/                   files as they were before they were repaired
//! time                                what the age of records goes by
//! ```
//!
//! An append holds the partition's lock for as long as the write lasts and publishes the new end in shared memory;
//! a writer that is killed in between has published nothing, and the next append overwrites what it left.

mod append_lock;
mod cleaning;
mod compaction;
mod consumer;
mod descriptors;
mod doorbell;
mod files;
mod index;
mod members;
mod owner;
mod partition;
mod position;
mod producer;
mod reader;
mod recovery;
mod repair;
mod scan;
mod segment;
mod segment_name;
mod shared;
mod survey;
mod sync;
mod time;
mod topic;
mod verify;
mod writer;

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::cleaning::Job;
use self::consumer::LogConsumer;
use self::descriptors::{OpenFiles, PARTITION_FILES, Permit, READER_FILES};
use self::doorbell::Doorbell;
use self::files::{create_folder, file_name, read_if_there, remove_if_there, replace, sync_with_those_above};
use self::index::INDEX_BLOCK;
use self::partition::{Common, Partition};
use self::producer::LogProducer;
use self::reader::LogReader;
pub use self::repair::{Mended, repair};
use self::time::LogTime;
use self::topic::Topics;
pub use self::verify::{Finding, Only, Report, Severity, verify};
use super::{
    AssignmentSet, BATCH_BYTES, Backend, Capabilities, Cleaned, Compaction, Consumer, Need, Offsets, Owner, Producer,
    ProducerId, Reader, Replay, Topic,
};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{MAX_FRAME_LEN, MAX_RECORD_BYTES};
use crate::topic::{TopicPartition, TopicSettings, TopicSpec};

/// The version of the layout that this build writes.
const FORMAT: u32 = 1;

/// What [`Producer::flush`] waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// An `fdatasync`, which concurrent flushes share: records survive a loss of power.
    #[default]
    Fsync,
    /// Nothing: records survive a killed process, and the operating system writes them when it likes.
    /// [`Replay::sync`] and [`Offsets::durable`] still tell the truth.
    Os,
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The folder; created where it is missing.
    pub data_dir: PathBuf,
    /// What a flush waits for.
    pub durability: Durability,
    /// Bytes after which a segment ends.
    pub segment_bytes: u64,
    /// Bytes that a reader reads at once.
    pub read_bytes: usize,
    /// The file system that the folder is on: the machine's own, unless a test simulates one.
    pub disk: Disk,
    /// The most bytes of a record's value, and of its key, that publishers and agents send.
    pub max_record_bytes: usize,
    /// Bytes of a partition's records that publishers put together before they append them.
    pub batch_bytes: usize,
    /// The most bytes of a batch that is appended at once; larger ones that are there are read all the same. At least twice
    /// `max_record_bytes`, and 512 KiB, or 256 KiB and `batch_bytes` if these are more than as many.
    pub max_batch_bytes: usize,
    /// Files that may be open at once; `None` for as many as the system lets the process open, less a quarter.
    pub max_open_files: Option<usize>,
    /// Memory of the one compaction that goes on at a time. Segments of topics that are compacted have no more records than
    /// it can take note of.
    pub compaction_memory_bytes: usize,
    /// Bytes of a segment between two entries of its index. Who checks or repairs a log goes by the usual number.
    #[doc(hidden)]
    pub index_bytes: u64,
}

/// What a batch may have beside its records, for headers.
const HEADERS_ROOM: usize = 256 << 10;

impl LogOptions {
    /// A log in that folder: `fsync`, segments of 128 MiB, reads of 256 KiB, at most 1 MiB a record and 16 MiB a batch.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::default(),
            segment_bytes: 128 << 20,
            read_bytes: 256 << 10,
            disk: Disk::system(),
            max_record_bytes: MAX_RECORD_BYTES,
            batch_bytes: BATCH_BYTES,
            max_batch_bytes: 16 << 20,
            max_open_files: None,
            compaction_memory_bytes: 128 << 20,
            index_bytes: INDEX_BLOCK,
        }
    }
}

/// The embedded log. Clones are handles to the same open folder.
#[derive(Clone, Debug)]
pub struct LogBackend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    topics: Topics,
    common: Arc<Common>,
    partitions: Mutex<HashMap<TopicPartition, Arc<Partition>>>,
}

impl LogBackend {
    /// Opens the folder, and creates it where it is missing.
    pub fn open(options: LogOptions, clock: Clock) -> Result<Self> {
        if options.segment_bytes < 4096 || options.read_bytes < 4096 {
            return Err(Error::new(ErrorKind::Config, "segments and reads of a log take at least 4096 bytes"));
        }
        if options.index_bytes == 0 {
            return Err(Error::new(ErrorKind::Config, "entries of an index are at least a byte apart"));
        }
        if options.max_batch_bytes > MAX_FRAME_LEN {
            let message = format!("a batch has at most {MAX_FRAME_LEN} bytes, not {}", options.max_batch_bytes);
            return Err(Error::new(ErrorKind::Config, message));
        }
        // The record that closes a batch may have the largest key and the largest value. A commit closes its own at the usual
        // number.
        let least = (options.batch_bytes.max(BATCH_BYTES).saturating_add(HEADERS_ROOM))
            .saturating_add(options.max_record_bytes.saturating_mul(2));
        if options.max_batch_bytes < least {
            let LogOptions { max_batch_bytes, max_record_bytes, batch_bytes, .. } = options;
            let message = format!(
                "max_batch_bytes = {max_batch_bytes} is too little beside max_record_bytes = {max_record_bytes} and \
                 batch_bytes = {batch_bytes}: a batch may have {least} bytes; raise the first to that, or lower the others"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
        let disk = &options.disk;
        create_folder(disk, &options.data_dir)?;
        let format = options.data_dir.join("FORMAT");
        let is_new = !has_format(disk, &format)?;
        let topics = Topics::open(disk, &options.data_dir)?;
        if is_new {
            // The file comes last: where it is, the folders above the topics are durable, whoever made them.
            sync_with_those_above(disk, &options.data_dir)?;
            replace(disk, &format, format!("{FORMAT}\n").as_bytes())?;
        }
        let files = OpenFiles::new(options.max_open_files);
        let bell = Doorbell::open(disk, &options.data_dir)?;
        let boot = disk.boot();
        let time = LogTime::new(disk.clone(), options.data_dir.join("time"), clock.clone(), boot);
        let common = Arc::new(Common { options, bell, boot, files, time, compacting: Arc::new(Semaphore::new(1)) });
        Ok(Self(Arc::new(Inner { clock, topics, common, partitions: Mutex::default() })))
    }

    fn disk(&self) -> &Disk {
        &self.0.common.options.disk
    }

    fn partitions(&self) -> MutexGuard<'_, HashMap<TopicPartition, Arc<Partition>>> {
        self.0.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, place: &TopicPartition) -> Result<Arc<Partition>> {
        if let Some(open) = self.partitions().get(place) {
            return Ok(Arc::clone(open));
        }
        let opened = self.open_anew(place)?;
        // Whoever opened it at the same time was first; locks are per descriptor, so that opening twice is harmless.
        Ok(match self.partitions().entry(place.clone()) {
            Entry::Occupied(first) => Arc::clone(first.get()),
            Entry::Vacant(vacant) => Arc::clone(vacant.insert(opened)),
        })
    }

    fn open_anew(&self, place: &TopicPartition) -> Result<Arc<Partition>> {
        let open = || {
            let folder = self.0.topics.partition_folder(&place.topic, place.partition)?;
            let settings = self.0.topics.read(&place.topic)?.spec.settings;
            let permit = self.permit(PARTITION_FILES)?;
            Partition::open(Arc::clone(&self.0.common), place.clone(), folder, &settings, permit)
        };
        open().map_err(|error| error.at(place))
    }

    async fn open_partition(&self, place: &TopicPartition) -> Result<Arc<Partition>> {
        if let Some(open) = self.partitions().get(place) {
            return Ok(Arc::clone(open));
        }
        let (backend, place) = (self.clone(), place.clone());
        self.disk().blocking(move || backend.partition(&place)).await
    }

    /// Leave to open files; closes partitions that nobody uses where there are too many.
    fn permit(&self, count: usize) -> Result<Permit> {
        let files = &self.0.common.files;
        if let Some(permit) = files.take(count) {
            return Ok(permit);
        }
        // One that has failed stays open: opening it anew would forget that.
        self.partitions().retain(|_, open| Arc::strong_count(open) > 1 || open.page.has_failed());
        files.take(count).ok_or_else(|| files.exhausted())
    }

    fn group_folder(&self, group: &str) -> Result<PathBuf> {
        Ok(self.0.common.options.data_dir.join("groups").join(file_name("group", group)?))
    }

    /// Closes this process's partitions of a topic; refuses where somebody reads or writes one.
    fn close_topic(&self, name: &str) -> Result<()> {
        let mut partitions = self.partitions();
        let in_use = |(place, open): (&TopicPartition, &Arc<Partition>)| {
            (&*place.topic == name && Arc::strong_count(open) > 1).then_some(place.partition)
        };
        if let Some(partition) = partitions.iter().find_map(in_use) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("partition {partition} of topic {name} is in use; stop its readers and writers first"),
            ));
        }
        partitions.retain(|place, _| &*place.topic != name);
        Ok(())
    }
}

#[async_trait]
impl Backend for LogBackend {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            replay: true,
            durable: true,
            shared: true,
            deduplicates: true,
            survives_power_loss: self.0.common.options.durability == Durability::Fsync,
            transactions: false,
            shares_each_set: true,
            standbys: false,
            max_record_bytes: self.0.common.options.max_record_bytes,
            batch_bytes: self.0.common.options.batch_bytes,
        }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        let (topics, spec) = (self.0.topics.clone(), spec.clone());
        self.disk().blocking(move || topics.create(&spec)).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        let topics = self.0.topics.clone();
        self.disk().blocking(move || topics.list()).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        Ok(Box::new(LogProducer::new(self.clone(), id)))
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        let folder = self.group_folder(group)?;
        Ok(Box::new(LogConsumer::join(self.disk().clone(), folder, sets, self.0.clock.clone())?))
    }

    fn check_room(&self, need: Need) -> Result<()> {
        let dir = &self.0.common.options.data_dir;
        let Some(room) = self.disk().room(dir) else { return Ok(()) };
        let kept = kept_free(room.total, need);
        if room.free >= kept {
            return Ok(());
        }
        let message = format!(
            "{} KiB are free where {} is, and the last {} KiB are kept for what makes room; make room on that disk",
            room.free >> 10,
            dir.display(),
            kept >> 10
        );
        Err(Error::new(ErrorKind::Full, message))
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

/// Bytes of a disk of so many that must be free before that is written. Nothing could be processed any more on a disk that
/// publishers have filled to the last byte: a commit needs room, and without it nothing is ever let go.
fn kept_free(total: u64, need: Need) -> u64 {
    let most = (total / 8).min(64 << 20);
    match need {
        Need::Publish => most,
        Need::Commit => most / 2,
        Need::Drain => most / 4,
    }
}

#[async_trait]
impl Replay for LogBackend {
    fn reader(&self, place: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        let partition = self.partition(place)?;
        let permit = self.permit(READER_FILES).map_err(|error| error.at(place))?;
        Ok(Box::new(LogReader::new(partition, from, permit)?))
    }

    fn offsets(&self, place: &TopicPartition) -> Result<Offsets> {
        Ok(self.partition(place)?.offsets())
    }

    async fn sync(&self, place: &TopicPartition, up_to: u64) -> Result<()> {
        let partition = self.open_partition(place).await?;
        if partition.offsets().durable >= up_to {
            return Ok(());
        }
        partition.sync_to(partition.end().pos).await
    }

    fn next_sequence(&self, place: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.partition(place)?.next_sequence(producer)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.0.topics.read(name)
    }

    fn topic_id(&self, name: &str) -> Result<Option<Arc<str>>> {
        self.0.topics.id(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        let schemas = self.0.topics.read(topic)?.schemas;
        Ok(schemas.into_iter().find(|schema| schema.fingerprint == fingerprint).map(|schema| schema.json))
    }

    fn position(&self, group: &str, place: &TopicPartition) -> Result<Option<u64>> {
        position::known(self.disk(), &position::position_path(&self.group_folder(group)?, place)?)
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        consumer::owners(self.disk(), &self.group_folder(group)?, set)
    }

    fn forget(&self, group: &str, place: &TopicPartition) -> Result<()> {
        let folder = self.group_folder(group)?;
        match members::count(self.disk(), &folder)? {
            0 => remove_if_there(self.disk(), &position::position_path(&folder, place)?),
            running => Err(Error::new(
                ErrorKind::Conflict,
                format!("group {group} has {running} running members; stop them first"),
            )
            .at(place)),
        }
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        let (topics, name, settings) = (self.0.topics.clone(), name.to_owned(), *settings);
        let topic = self.disk().blocking(move || topics.set(&name, &settings)).await?;
        for (_, partition) in self.partitions().iter().filter(|(place, _)| place.topic == topic.spec.name) {
            partition.limits.set(&self.0.common, &topic.spec.settings);
        }
        Ok(topic)
    }

    async fn clean(&self, place: &TopicPartition, thorough: bool) -> Result<Cleaned> {
        self.clean_partition(place, Job::Settings { thorough }).await
    }

    async fn hold_cleaning(&self, place: &TopicPartition) -> Result<Option<Box<dyn Any + Send>>> {
        let partition = self.opened(place).await?;
        let held = self.disk().blocking(move || cleaning::hold(&partition)).await?;
        Ok(held.map(|held| Box::new(held) as Box<dyn Any + Send>))
    }

    async fn delete_before(&self, place: &TopicPartition, offset: u64) -> Result<Cleaned> {
        self.clean_partition(place, Job::Before(offset)).await
    }

    async fn compact(
        &self,
        place: &TopicPartition,
        before: u64,
        rules: Box<dyn Compaction>,
        thorough: bool,
    ) -> Result<Cleaned> {
        self.clean_partition(place, Job::Compact { before, rules, thorough }).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.close_topic(name)?;
        let (topics, name) = (self.0.topics.clone(), name.to_owned());
        let groups = self.0.common.options.data_dir.join("groups");
        let disk = self.disk().clone();
        let delete = move || {
            // Another topic of that name must not begin where this one was read to.
            topics.delete(&name, |partitions| position::remove_topic(&disk, &groups, &name, partitions))
        };
        self.disk().blocking(delete).await
    }
}

/// Whether the folder says that it is a log of a format that this build reads.
fn has_format(disk: &Disk, path: &std::path::Path) -> Result<bool> {
    let Some(have) = read_if_there(disk, path)? else { return Ok(false) };
    let text = String::from_utf8_lossy(&have);
    match text.trim().parse::<u32>() {
        Ok(format) if format <= FORMAT => Ok(true),
        Ok(format) => Err(Error::newer_format(&path.display(), format, FORMAT)),
        Err(_) => Err(Error::new(
            ErrorKind::Corrupt,
            format!("{} says {:?}, not a version; is this the data folder of a log?", path.display(), text.trim()),
        )),
    }
}
