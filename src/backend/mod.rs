//! Backends: what stores records and hands them out.
//!
//! A backend is one small trait with a producer and a consumer, [`Capabilities`] beside it, and [`Replay`] for what
//! can be read again by position. Backends know nothing of agents and tables, nor of each other.

mod compaction;
mod copies;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod log;
mod meaning;
pub mod memory;
pub mod registry;
mod repeat;
mod secret;
mod share;
mod vigil;
mod wire;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(crate) use self::meaning::check_same_meaning;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, Frames};
use crate::topic::{TopicPartition, TopicSchema, TopicSettings, TopicSpec};

#[cfg(test)]
pub(crate) use compaction::segment_records;
pub use compaction::{Compaction, LastOffsets, Stays};
pub use copies::{CAUGHT_UP, Copies, Standby};
pub use secret::{Secret, is_secret, without_secrets};
pub use wire::{WireLayer, plain_of};

/// What a backend can do; the conformance suite and the plan choose by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Records stay and can be read again from an offset.
    pub replay: bool,
    /// Records survive the end of the process.
    pub durable: bool,
    /// Several processes can use it at once.
    pub shared: bool,
    /// Appends of a named producer with a known sequence are dropped.
    pub deduplicates: bool,
    /// Commits wait until what they cover survives a loss of power. A log that is set to `os` says no: its commits
    /// survive the end of any process, not that of the machine.
    pub survives_power_loss: bool,
    /// What a task puts out, its state and its positions are committed together by [`Backend::transactions`]. Offsets
    /// then have holes, where the marks of transactions stand, and [`Producer::append_at`] is not there.
    pub transactions: bool,
    /// Members of a group share out each set by itself, so that a newcomer gets its part of every one. Where a broker shares
    /// out all partitions together, it may get all of one set and none of another.
    pub shares_each_set: bool,
    /// Members of a group keep warm copies of each other's state, and a unit goes to one that has a copy.
    pub standbys: bool,
    /// The most bytes of a record's value, and of its key, that [`Publisher`](crate::publish::Publisher) and agents send.
    pub max_record_bytes: usize,
    /// Bytes of a partition's records that [`Publisher`](crate::publish::Publisher) puts together before it appends them.
    pub batch_bytes: usize,
}

/// What [`Capabilities::batch_bytes`] are unless somebody sets them.
pub(crate) const BATCH_BYTES: usize = 256 << 10;

/// A topic as it exists.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its properties.
    pub spec: TopicSpec,
    /// Every schema that its records were written with, oldest first.
    pub schemas: Vec<TopicSchema>,
}

/// Who appends. A named producer's sequences are remembered, so that a repeated append is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerId(pub u64);

impl ProducerId {
    /// A producer without a name: nothing is remembered.
    pub const ANONYMOUS: Self = Self(0);

    /// The producer of that name. The number is FNV-1a of the name, part of the stored format.
    pub fn named(name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        Self(hash.max(1))
    }
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record that was added (the partition's end if none was).
    pub base_offset: u64,
    /// Records that were added.
    pub added: u32,
    /// Records that the partition had already from this producer, and that were dropped.
    pub dropped: u32,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Offset of the oldest record that is still there.
    pub start: u64,
    /// Offset that the next record will get.
    pub end: u64,
    /// Offset up to which records survive a loss of power.
    pub durable: u64,
}

/// What has gone from a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Offsets that went with their segments: as many as records, where no compaction had taken some away.
    pub deleted_records: u64,
    /// Records that compaction took away.
    pub compacted_records: u64,
    /// Bytes that are free again.
    pub freed_bytes: u64,
}

impl std::ops::AddAssign for Cleaned {
    fn add_assign(&mut self, other: Self) {
        self.deleted_records += other.deleted_records;
        self.compacted_records += other.compacted_records;
        self.freed_bytes += other.freed_bytes;
    }
}

/// A set of partition numbers that is shared out among the members of a group, unit by unit.
///
/// Topics that are read together (co-partitioned) form one set, so that partition 3 of each has the same owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentSet {
    /// Names the set within the group; part of the stored format.
    pub name: String,
    /// Units 0 to `partitions` - 1.
    pub partitions: u32,
    /// The topics whose partitions these are. A backend whose broker shares out topics needs them; the others go by the
    /// name.
    pub topics: Vec<Arc<str>>,
}

/// One unit of an [`AssignmentSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit {
    /// Index of the set in the order in which the consumer named them.
    pub set: usize,
    /// Number of the partition.
    pub partition: u32,
}

/// The process that owns a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number.
    pub process: u32,
    /// Whether a signal has stopped it; `None` where that cannot be seen.
    pub stopped: Option<bool>,
}

/// A unit that is kept from those who would work on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withheld {
    /// The unit.
    pub unit: Unit,
    /// Who holds it; `None` when a member that should take it does not.
    pub owner: Option<Owner>,
    /// For how long this member has seen it so.
    pub time: Duration,
}

/// What a consumer learns about its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assignment {
    /// These units are this member's now, and nobody else's.
    Gained(Vec<Unit>),
    /// These units are wanted elsewhere: stop, commit, then [`Consumer::release`] each.
    Wanted(Vec<Unit>),
    /// These units are gone already; whatever is uncommitted must be dropped.
    Lost(Vec<Unit>),
    /// These units, and no others, are to be kept warm by this member. Told before what is gained by the same change.
    Standbys(Vec<Standby>),
    /// Nothing has changed, for too long: an operator should know who works on these units, or rather does not.
    Withheld(Vec<Withheld>),
}

/// What is to be written, in the order in which it is held up while a disk fills: first what asks for more work, last what
/// lets records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Records from outside.
    Publish,
    /// A task's commit.
    Commit,
    /// The commit of a task whose input goes with it.
    Drain,
}

/// A store of topics.
#[async_trait]
pub trait Backend: Send + Sync + fmt::Debug {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Creates a topic, or returns the one that exists if its partitions and key agree; adds the schema to those
    /// that the topic keeps.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic>;

    /// All topics, by name.
    async fn topics(&self) -> Result<Vec<Topic>>;

    /// A producer; one task or thread uses it at a time.
    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>>;

    /// Joins a group.
    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>>;

    /// Joins a group as a member who has copies of state, where [`Capabilities::standbys`] says that it makes a difference.
    async fn consumer_with(
        &self,
        group: &str,
        sets: &[AssignmentSet],
        _copies: Arc<Copies>,
    ) -> Result<Box<dyn Consumer>> {
        self.consumer(group, sets).await
    }

    /// Access by position, where the backend has it.
    fn replay(&self) -> Option<Arc<dyn Replay>>;

    /// An error of kind [`ErrorKind::Full`](crate::error::ErrorKind) when what is left of the disk is kept for others.
    fn check_room(&self, _need: Need) -> Result<()> {
        Ok(())
    }

    /// A topic's name as the store itself has it, for what others keep under it.
    fn native_name(&self, topic: &str) -> String {
        topic.to_owned()
    }

    /// Tells that values of this schema will be written to the topic, so that one that nobody may write is known before
    /// the first of them.
    async fn announce(&self, _topic: &Arc<str>, _schema: &TopicSchema) -> Result<()> {
        Ok(())
    }

    /// Commits by transaction, where [`Capabilities::transactions`] says that the backend has them.
    fn transactions(&self) -> Option<Arc<dyn Transactions>> {
        None
    }
}

/// What proves to a backend's transactions that somebody is a member of a group.
#[derive(Clone)]
pub struct Membership(Arc<dyn Any + Send + Sync>);

impl Membership {
    /// A proof of the backend's own.
    pub fn new(proof: impl Any + Send + Sync) -> Self {
        Self(Arc::new(proof))
    }

    /// The proof, for the backend that it is of.
    pub fn proof<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").finish_non_exhaustive()
    }
}

/// Opens transactions.
#[async_trait]
pub trait Transactions: Send + Sync + fmt::Debug {
    /// Takes over the transactions of that name. Whoever had them before is shut out: what it has on its way is ended, and
    /// whatever it does later is refused. When this returns, what had been committed under the name can be read.
    async fn open(&self, name: &str) -> Result<Box<dyn Transaction>>;

    /// Whether a commit counts whole or not at all. Otherwise a part of one may count that never ended.
    fn count_whole(&self) -> bool {
        true
    }
}

/// Commits of one owner, one after another: each counts whole or not at all, for every reader of what is committed.
///
/// An error of the kind [`Unsettled`](crate::error::ErrorKind) leaves it open whether the commit counts. Then this is of no
/// use any more: who opens the transactions anew finds out.
#[async_trait]
pub trait Transaction: Send {
    /// Begins one. What the one before appended and did not commit must have been committed or given up.
    async fn begin(&mut self) -> Result<()>;

    /// Adds the records of a frame to it. They need not be written when this returns; `frame` keeps its records.
    async fn append(&mut self, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()>;

    /// What is appended from here on must not be found without what was appended before. Where all of it counts at once, that
    /// is so without a wait.
    async fn put_behind(&mut self) -> Result<()>;

    /// Commits what was appended, together with the group's positions: for each partition the offset to be read next.
    /// Returns for each partition that something was appended to the offset of the last record. `number` counts the
    /// owner's commits; see [`Replay::commit_of_position`].
    ///
    /// Not cancel-safe: where it is dropped nobody knows what became of the commit.
    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
        number: u64,
    ) -> Result<Vec<(TopicPartition, u64)>>;
}

/// Appends records.
#[async_trait]
pub trait Producer: Send {
    /// Appends the records of `frame`, all or none, and returns once they are written: readers see them, a killed
    /// process does not lose them, a loss of power may.
    ///
    /// With a `sequence`, the number of the frame's first record in the producer's own count for this partition,
    /// records that the partition already has from this producer are dropped. `frame` keeps its records.
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended>;

    /// Appends as [`Producer::append`] does, but only where `offset` is the partition's end. If somebody else has
    /// appended meanwhile nothing is written, and the error's kind is [`ErrorKind::Conflict`](crate::error::ErrorKind):
    /// this is what keeps two owners of a changelog apart.
    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended>;

    /// Makes everything that this producer appended durable, as far as the backend's setting asks for it.
    async fn flush(&mut self) -> Result<()>;
}

/// A member of a group.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for a change of this member's share. Cancel-safe.
    async fn assignment(&mut self) -> Result<Assignment>;

    /// Gives back a unit whose work has stopped.
    async fn release(&mut self, unit: Unit) -> Result<()>;

    /// Publishes how far the group has come in a partition: the next offset to read. For people and for plain
    /// consumers; a worker's own truth is its commit.
    fn ack(&self, partition: &TopicPartition, position: u64) -> Result<()>;

    /// Asks for the units to be shared out again, because a copy that was awaited has caught up.
    async fn share_out_again(&mut self) -> Result<()> {
        Ok(())
    }

    /// Gives everything back and leaves the group.
    async fn leave(&mut self) -> Result<()>;

    /// How long a member may stay at one record before it has to leave the group, so that others go on; `None` for ever.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// What proves to the backend's transactions that this is a member, where it has them.
    fn membership(&self) -> Option<Membership> {
        None
    }
}

/// Reads one partition in order of offsets.
#[async_trait]
pub trait Reader: Send {
    /// Replaces what `into` holds by the next whole frames, about 256 KiB or at least one; `false` when there is
    /// nothing new. The first frame may begin before the position: skip its records below it.
    ///
    /// Where the records are elsewhere it waits until they have come, or until it is known that there are none.
    fn read(&mut self, into: &mut Frames) -> Result<bool>;

    /// As [`Reader::read`], without any waiting: `None` when it is not known whether there is something new.
    fn read_now(&mut self, into: &mut Frames) -> Result<Option<bool>> {
        self.read(into).map(Some)
    }

    /// Waits until [`Reader::read`] may find something. Cancel-safe; may wake for nothing.
    async fn ready(&mut self) -> Result<()>;

    /// The offset that is read next. It may pass over offsets that no record has, also when nothing is read.
    fn position(&self) -> u64;
}

/// Access by position.
#[async_trait]
pub trait Replay: Send + Sync + fmt::Debug {
    /// Reads a partition from an offset on.
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>>;

    /// Where a partition begins and ends.
    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets>;

    /// Whether readers see only what a transaction has committed: then everything in a changelog counts, without a mark.
    fn reads_committed(&self) -> bool {
        false
    }

    /// Makes the partition durable up to that offset, if it is not yet.
    async fn sync(&self, partition: &TopicPartition, up_to: u64) -> Result<()>;

    /// The sequence after the last that the partition has from a producer.
    fn next_sequence(&self, partition: &TopicPartition, producer: ProducerId) -> Result<u64>;

    /// How far a group has come in a partition, as its members published it.
    fn position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>>;

    /// Which process owns each unit of a group's set, for people; `None` where nobody does or it is not known.
    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>>;

    /// The processes that keep a warm copy of each unit, for people, where [`Capabilities::standbys`] says that there may be
    /// some.
    fn standbys(&self, _group: &str, set: &AssignmentSet) -> Result<Vec<Vec<u32>>> {
        Ok(vec![Vec::new(); set.partitions as usize])
    }

    /// Forgets how far a group has come in a partition. Refused while the group has members.
    fn forget(&self, group: &str, partition: &TopicPartition) -> Result<()>;

    /// Sets how far a group has come in a partition, so that its members begin there. Refused while the group has members,
    /// and where positions are part of what was committed: there a commit sets them.
    fn set_position(&self, group: &str, partition: &TopicPartition, _position: u64) -> Result<()> {
        let message = format!("positions of group {group} are part of its commits; they can be dropped, not set");
        Err(Error::new(ErrorKind::Unsupported, message).at(partition))
    }

    /// The offset of the first record of that time or later; `None` where all are older. Reads all before it, unless the
    /// backend knows better.
    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<Option<u64>> {
        let Offsets { start, end, .. } = self.offsets(partition)?;
        let mut reader = self.reader(partition, start)?;
        let mut frames = Frames::default();
        while reader.position() < end && reader.read(&mut frames)? {
            let mut records = frames.iter().flat_map(|frame| frame.records());
            if let Some(found) = records.find(|record| record.offset >= start && record.timestamp >= timestamp_ms) {
                return Ok(Some(found.offset));
            }
        }
        Ok(None)
    }

    /// Whether a group's position in a partition is what [`Replay::set_position`] made of it, and nobody has committed since.
    fn position_was_set(&self, _group: &str, _partition: &TopicPartition) -> Result<bool> {
        Ok(false)
    }

    /// The number of the commit that a group's position in a partition is part of, where what was committed counts whole and
    /// the backend keeps that.
    fn commit_of_position(&self, _group: &str, _partition: &TopicPartition) -> Result<Option<u64>> {
        Ok(None)
    }

    /// A topic as it is now.
    fn topic(&self, name: &str) -> Result<Topic>;

    /// What tells a topic from one of the same name that was deleted before, where the backend has that: every topic that is
    /// made gets another.
    fn topic_id(&self, _name: &str) -> Result<Option<Arc<str>>> {
        Ok(None)
    }

    /// The whole schema, as JSON, of that fingerprint among those that a topic keeps.
    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>>;

    /// What is known of a value of the topic beyond its bytes, for whoever could not read it.
    fn remark(&self, _topic: &str, _value: &[u8]) -> Option<String> {
        None
    }

    /// Changes what becomes of a topic's old records.
    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic>;

    /// Lets those records of a partition go that its topic's settings let go. Only one process at a time is at it; where
    /// another is, nothing is done. Topics that an app made for itself are cleaned by it, with the two calls below.
    ///
    /// Compaction waits until as much has come as was left the last time; not if it is `thorough`.
    async fn clean(&self, _partition: &TopicPartition, _thorough: bool) -> Result<Cleaned> {
        Ok(Cleaned::default())
    }

    /// Holds up whoever would clean a partition, as long as what it returns lives; `None` where somebody is at it.
    async fn hold_cleaning(&self, _partition: &TopicPartition) -> Result<Option<Box<dyn Any + Send>>> {
        Ok(Some(Box::new(())))
    }

    /// Deletes the records before an offset that nobody needs any more, as far as whole segments hold nothing else.
    async fn delete_before(&self, _partition: &TopicPartition, _offset: u64) -> Result<Cleaned> {
        Ok(Cleaned::default())
    }

    /// Compacts the records before an offset by rules of the caller's own, in whole segments that nobody writes to.
    /// Offsets stay as they are, and readers pass over those whose records are gone.
    async fn compact(
        &self,
        _partition: &TopicPartition,
        _before: u64,
        _rules: Box<dyn Compaction>,
        _thorough: bool,
    ) -> Result<Cleaned> {
        Ok(Cleaned::default())
    }

    /// Deletes a topic with all its records.
    async fn delete_topic(&self, name: &str) -> Result<()>;
}
