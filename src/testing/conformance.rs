//! What every backend must do, as a suite to run against one.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use gretchen::{backend::memory::MemoryBackend, clock::Clock, testing::conformance::{self, Subject}};
//! # async fn check() -> gretchen::error::Result<()> {
//! let skipped = conformance::run(async || Ok(Subject::new(Arc::new(MemoryBackend::new(Clock::system()))))).await?;
//! skipped.iter().for_each(|skipped| println!("{skipped}"));
//! # Ok(())
//! # }
//! ```
//!
//! A case fails by a panic that says what differs, or returns the backend's error; the others run all the same. The
//! clock of the backend must move.
//!
//! Cases about what a backend says that it cannot do ([`Capabilities`]) are not run. [`run`] returns them ([`Skipped`])
//! and a backend's own test should hold them against those that it means to be without: none is then left out unnoticed.

mod groups;
mod records;
mod repeats;
mod topics;
mod transactions;

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use crate::backend::{Appended, Backend, Capabilities, Producer, ProducerId, Reader, Replay};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, Frames};
use crate::topic::{TopicPartition, TopicSpec};

pub use self::groups::*;
pub use self::records::*;
pub use self::repeats::*;
pub use self::topics::*;
pub use self::transactions::*;

/// Why a subject that [`Subject::reopened_by`] was not called on cannot be opened again.
const NOT_REOPENED: &str = "nothing says how the backend is opened again";

/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

type Reopen = Box<dyn Fn() -> Result<Arc<dyn Backend>>>;

/// A fresh and empty backend to run one case against.
pub struct Subject {
    backend: Arc<dyn Backend>,
    reopen: Option<Reopen>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("backend", &self.backend).finish_non_exhaustive()
    }
}

impl Subject {
    /// A backend that is empty.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, reopen: None }
    }

    /// Says how to open the same records again after every handle was dropped. What `reopen` owns (a temporary
    /// folder) lives as long as the case.
    #[must_use]
    pub fn reopened_by(mut self, reopen: impl Fn() -> Result<Arc<dyn Backend>> + 'static) -> Self {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// What it can do.
    pub fn capabilities(&self) -> Capabilities {
        self.backend.capabilities()
    }

    /// Drops the backend and opens it again; an error where nobody has said how.
    pub fn reopen(&mut self) -> Result<()> {
        let Some(reopen) = &self.reopen else { return Err(Error::new(ErrorKind::Unsupported, NOT_REOPENED)) };
        // The old handle goes first: a backend may refuse to be opened twice.
        self.backend = Arc::new(crate::backend::memory::MemoryBackend::new(crate::clock::Clock::system()));
        self.backend = reopen()?;
        Ok(())
    }

    /// Access by position; an error where the backend has none.
    pub fn replay(&self) -> Result<Arc<dyn Replay>> {
        self.backend.replay().ok_or_else(|| Error::new(ErrorKind::Unsupported, "the backend cannot read by position"))
    }

    /// The offset after the last record, and after what stands behind it where transactions leave marks.
    fn end(&self, place: &TopicPartition) -> Result<u64> {
        Ok(self.replay()?.offsets(place)?.end)
    }

    async fn topic(&self, name: &str, partitions: u32) -> Result<TopicPartition> {
        self.backend.create_topic(&TopicSpec::new(name, partitions)).await?;
        Ok(TopicPartition::new(name, 0))
    }

    async fn producer(&self, name: &str) -> Result<Box<dyn Producer>> {
        let id = if name.is_empty() { ProducerId::ANONYMOUS } else { ProducerId::named(name) };
        self.backend.producer(id).await
    }
}

/// Cases that were not run, because the backend does not have what they are about. As text it is one line of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The names of the cases.
    pub cases: Vec<&'static str>,
    /// What the backend does not have.
    pub why: &'static str,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}: {}", self.cases.join(", "), self.why)
    }
}

/// What cases need of a backend: `None` where it is there, otherwise why it is not.
struct Lacks {
    /// Each set is shared out by itself.
    own_shares: Option<&'static str>,
    /// Records are read by position.
    replay: Option<&'static str>,
    /// Repeated appends are dropped.
    repeats: Option<&'static str>,
    transactions: Option<&'static str>,
    /// Appends at an offset that is named.
    places: Option<&'static str>,
    /// It can be opened again, with what it held.
    reopening: Option<&'static str>,
}

impl Lacks {
    fn of(subject: &Subject) -> Self {
        let can = subject.capabilities();
        let unless = |has: bool, why: &'static str| (!has).then_some(why);
        let replay = unless(can.replay, "the backend cannot be read by position");
        let repeats = replay.or(unless(can.deduplicates, "the backend does not drop repeated appends"));
        let at_the_end = "the backend commits by transactions and appends only at the end of a partition";
        let durable = unless(can.durable, "the backend's records end with its process");
        Self {
            own_shares: unless(can.shares_each_set, "the backend shares out the partitions of all sets together"),
            replay,
            repeats,
            transactions: replay.or(unless(can.transactions, "the backend has no transactions")),
            places: repeats.or(unless(!can.transactions, at_the_end)),
            reopening: durable.or(unless(subject.reopen.is_some(), NOT_REOPENED)),
        }
    }
}

/// Runs every case that the backend's capabilities ask for, each against a backend that `make` returns; the error names all
/// that failed. Returns those that were not run, in the suite's order.
pub async fn run<F>(make: F) -> Result<Vec<Skipped>>
where
    F: AsyncFn() -> Result<Subject>,
{
    let lacks = Lacks::of(&make().await?);
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    macro_rules! run {
        ($lacking:expr => $($case:ident)*) => {
            match $lacking {
                Some(why) => {
                    let left_out = Skipped { cases: vec![$(stringify!($case)),*], why };
                    tracing::info!("{left_out}");
                    skipped.push(left_out);
                }
                None => { run!($($case)*); }
            }
        };
        ($($case:ident)*) => {$(
            tracing::info!(case = stringify!($case), "conformance");
            let ended = AssertUnwindSafe($case(make().await?)).catch_unwind().await;
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed.push(format!("{}: {error}", stringify!($case))),
                Err(panic) => failed.push(format!("{}: {}", stringify!($case), said(&*panic))),
            }
        )*};
    }
    run!(
        topics_are_listed_by_name an_existing_topic_is_returned a_topic_with_other_properties_conflicts
        schemas_are_kept_in_order bad_names_are_refused
        one_member_gets_every_unit a_second_member_gets_its_share what_a_member_leaves_is_free
        members_with_other_sets_do_not_share groups_are_apart
    );
    run!(lacks.own_shares => each_set_is_shared_out_by_itself);
    run!(lacks.replay =>
        records_come_back_in_order everything_of_a_record_comes_back offsets_tell_the_end
        a_large_record_comes_back a_read_begins_in_the_middle many_batches_are_read_whole
        a_reader_waits_for_a_record many_readers_wake an_unknown_partition_is_not_found
        reading_beyond_the_end_is_refused a_sync_makes_durable an_empty_append_adds_nothing
        a_deleted_topic_is_gone positions_are_kept_and_forgotten
    );
    run!(lacks.repeats =>
        a_repeated_append_is_dropped a_partial_repetition_is_completed producers_do_not_mix
        gaps_are_accepted anonymous_appends_are_kept
    );
    run!(lacks.transactions =>
        a_transaction_counts_whole_and_with_its_positions who_opens_anew_shuts_the_owner_out
        what_was_not_committed_is_never_seen
    );
    run!(lacks.places => an_append_at_an_offset_goes_there_or_nowhere);
    run!(lacks.reopening => schemas_survive_reopening);
    run!(lacks.reopening.or(lacks.replay) => records_survive_reopening);
    run!(lacks.reopening.or(lacks.repeats) => repetitions_are_known_after_reopening);
    if failed.is_empty() {
        return Ok(skipped);
    }
    let message = format!("{} conformance cases failed:\n  {}", failed.len(), failed.join("\n  "));
    Err(Error::new(ErrorKind::Unsupported, message))
}

/// What a case that panicked said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked")
}

/// A record as a case compares it: offset, timestamp, key, value.
type Seen = (u64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A frame of values without keys.
fn frame_of(values: &[&str]) -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    values.iter().for_each(|value| frame.push(None, Some(value.as_bytes()), 1_000));
    frame
}

async fn append(
    producer: &mut Box<dyn Producer>,
    to: &TopicPartition,
    values: &[&str],
    sequence: Option<u64>,
) -> Result<Appended> {
    producer.append(to, &mut frame_of(values), sequence).await
}

/// Everything from an offset on.
fn read_all(reader: &mut Box<dyn Reader>) -> Result<Vec<Seen>> {
    let (mut seen, mut frames) = (Vec::new(), Frames::default());
    let mut from = reader.position();
    while reader.read(&mut frames)? {
        assert!(!frames.is_empty(), "read returned true and no frame");
        for record in frames.iter().flat_map(|frame| frame.records()).filter(|record| record.offset >= from) {
            let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            seen.push((record.offset, record.timestamp, own(record.key), own(record.value)));
        }
        from = reader.position();
    }
    Ok(seen)
}

fn values(seen: &[Seen]) -> Vec<String> {
    let text = |value: &Option<Vec<u8>>| String::from_utf8_lossy(value.as_deref().unwrap_or(b"-")).into_owned();
    seen.iter().map(|(_, _, _, value)| text(value)).collect()
}

fn values_in(subject: &Subject, place: &TopicPartition) -> Result<Vec<String>> {
    Ok(values(&read_all(&mut subject.replay()?.reader(place, 0)?)?))
}

/// Fails a case when something does not happen.
async fn soon<T>(what: &str, happens: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen within {PATIENCE:?}"),
    }
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}
