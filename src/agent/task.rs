//! A task: one agent on one partition, as the agent's side and the worker's side share it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::def::AgentDef;
use super::failure::chain;
use super::input::Input;
use super::outbox::{Outbox, OutboxMark};
use super::pulse::Pulse;
use super::stream::Output;
use crate::clock::{Clock, Moment};
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::record::{Cursor, Frames, Key, RawRecord, SchemaLookup, Value};
use crate::table::{AnyPartition, AtHand, Table, TableHandle, TableState};

/// Bytes of an error's text that go along with a dead letter: it must not make a record of what no topic takes.
const MOST_ERROR_TEXT: usize = 8 << 10;

/// A topic that a task reads, and the schemas that its records were written with.
#[derive(Clone)]
pub(crate) struct Source {
    /// The topic.
    pub topic: Arc<str>,
    /// Its schemas.
    pub schemas: Arc<dyn SchemaLookup>,
    /// What tells it from one of the same name that was deleted, where its backend has that.
    pub id: Option<Arc<str>>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.topic)
    }
}

/// Records on their way between worker and agent, with the place that the agent has come to.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// The records.
    pub frames: Frames,
    /// Before the first unfinished record.
    pub begin: Cursor,
    /// After the last record that was handed out.
    pub next: Cursor,
    /// Index of the source that they were read from.
    pub source: usize,
    /// Records before it are counted as finished.
    pub counted: Cell<Cursor>,
}

/// What worker and agent share. One thread; no lock on the path of a record.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The agent.
    pub agent: &'static AgentDef,
    /// The number of the partition.
    pub partition: u32,
    /// The topics that are read.
    pub sources: Vec<Source>,
    /// For each source the offset that is read next, as of the last pause between two records.
    pub positions: Vec<Cell<u64>>,
    /// Records on their way to the agent, or back; `None` while the agent has them.
    pub mail: RefCell<Option<Mail>>,
    /// The agent stands between two records and waits for the worker.
    pub waits: Cell<bool>,
    /// The worker wants the agent to pause between two records.
    pub commit_due: Cell<bool>,
    /// When the next commit is due.
    pub commit_at: Cell<Moment>,
    /// Time from one commit to the next.
    pub commit_interval: Duration,
    /// The time.
    pub clock: Clock,
    /// Records finished, aggregated records without a key among them.
    pub finished: Cell<u64>,
    /// Records that had no value or no key where one was needed.
    pub dropped: Cell<u64>,
    /// What the tables know of the record at hand.
    pub at_hand: Rc<AtHand>,
    /// Largest timestamp seen, ms.
    pub stream_time: Cell<i64>,
    /// What was put out since the last commit.
    pub outbox: RefCell<Outbox>,
    /// Places of the agent's outputs among the outbox's destinations; what it returns goes to the first.
    pub outputs: Vec<usize>,
    /// Why the record at hand could not be read.
    pub failure: RefCell<Option<BoxError>>,
    /// The tables that the agent writes.
    pub tables: Vec<Rc<dyn AnyPartition>>,
    /// Whether the records are keyed as the tables are and handed out one by one, so that tables are told their keys ahead.
    pub expects: bool,
    /// Whether what a record did to the tables can be undone.
    pub undo: bool,
    /// Whether what a record put out can be undone.
    pub undoes_outputs: bool,
    /// Whether something is kept before each record: marks to go back to, or its key.
    pub prepares: Cell<bool>,
    /// The outbox before the record at hand.
    pub outbox_mark: Cell<Option<OutboxMark>>,
    /// Whether the key of the record at hand is needed apart from it.
    pub keeps_key: Cell<bool>,
    /// The key of the record at hand.
    pub key: RefCell<Option<Vec<u8>>>,
    /// Who waits for the worker.
    pub waker: RefCell<Option<Waker>>,
    /// Every moment between two polls is between two records: finished ones are complete, others have left no trace.
    pub commits_any_time: Cell<bool>,
    /// Records that were started beside each other and are not put out yet.
    pub in_flight: Cell<usize>,
    /// Buffers whose records may be worked on at once.
    pub concurrent_batches: usize,
    /// Calls of the agent for them that have not ended.
    pub calls: Cell<usize>,
    /// Those of them that wait before they try again.
    pub resting: Cell<usize>,
    /// There was nothing to read when the agent asked for more beside the records that it works on.
    pub starved: Cell<bool>,
    /// What others may see of it.
    pub pulse: Arc<Pulse>,
    /// Place of the dead-letter topic among the outbox's destinations.
    pub dead_letters: Option<usize>,
}

impl Mail {
    /// Whether everything in it is finished.
    pub(crate) fn is_used_up(&self) -> bool {
        let mut rest = self.begin;
        rest.next(&self.frames).is_none()
    }
}

impl Shared {
    /// What tells each source from a topic of the same name that was deleted, as far as that is known.
    pub(crate) fn source_ids(&self) -> BTreeMap<String, String> {
        let of = |source: &Source| Some((source.topic.to_string(), source.id.as_ref()?.to_string()));
        self.sources.iter().filter_map(of).collect()
    }

    /// The record at hand cannot be read: the worker applies the agent's policy. Until then `next` hands out nothing.
    #[cold]
    pub(super) fn fail(&self, error: BoxError) {
        *self.failure.borrow_mut() = Some(error);
        self.waits.set(true);
    }

    /// Counts a record whose key is null where one is needed.
    #[cold]
    pub(super) fn drop_unkeyed(&self, offset: u64) {
        if self.dropped.get() == 0 {
            tracing::warn!(
                agent = self.agent.name,
                partition = self.partition,
                offset,
                "dropped a record whose key field is null; further ones are only counted"
            );
        }
        self.dropped.set(self.dropped.get() + 1);
    }

    /// Passes a failed record over, as the policy `skip` or `dead_letter` says.
    pub(crate) fn pass_over(&self, source: usize, raw: &RawRecord<'_>, error: &BoxError) {
        let topic = &self.sources[source].topic;
        self.dropped.set(self.dropped.get() + 1);
        let Some(destination) = self.dead_letters else {
            tracing::warn!(agent = self.agent.name, %topic, partition = self.partition, offset = raw.offset, %error, "skipped a record that failed");
            return;
        };
        let mut error = chain(&**error);
        if error.len() > MOST_ERROR_TEXT {
            error.truncate(error.floor_char_boundary(MOST_ERROR_TEXT));
            error.push('…');
        }
        tracing::warn!(agent = self.agent.name, %topic, partition = self.partition, offset = raw.offset, %error, "a record that failed goes to the dead-letter topic");
        let partition = self.partition.to_string();
        let offset = raw.offset.to_string();
        let mut headers: Vec<(&str, &[u8])> = raw.headers.iter().collect();
        headers.extend([
            ("gretchen.agent", self.agent.name.as_bytes()),
            ("gretchen.error", error.as_bytes()),
            ("gretchen.topic", topic.as_bytes()),
            ("gretchen.partition", partition.as_bytes()),
            ("gretchen.offset", offset.as_bytes()),
        ]);
        self.outbox.borrow_mut().push(destination, raw.key, raw.value, raw.timestamp, &headers);
    }

    /// Remembers tables and outbox as they are before a record.
    #[inline]
    pub(super) fn mark(&self) {
        if self.undoes_outputs {
            self.outbox_mark.set(Some(self.outbox.borrow().mark()));
        }
        if self.undo {
            for table in &self.tables {
                table.mark();
            }
        }
    }

    /// Undoes what the unfinished record did; there must be one. Tables go back only where [`Shared::undo`] says so.
    pub(crate) fn rollback(&self) {
        if let Some(mark) = self.outbox_mark.take() {
            self.outbox.borrow_mut().rollback(mark);
        }
        if self.undo {
            for table in &self.tables {
                table.rollback();
            }
        }
    }

    /// Publishes how far the records of a buffer are done.
    pub(crate) fn publish(&self, mail: &Mail) {
        let position = &self.positions[mail.source];
        let offset = mail.begin.offset();
        if offset > position.get() {
            // Not every offset has a record: compaction takes some away, and marks of transactions have none.
            let records = mail.begin.records_since(&mail.counted.replace(mail.begin), &mail.frames);
            self.finished.set(self.finished.get() + records);
            position.set(offset);
        }
    }

    /// Whether a commit is due, asking the clock.
    #[inline]
    pub(crate) fn interval_passed(&self) -> bool {
        self.clock.moment() >= self.commit_at.get()
    }

    /// The next commit is due after `time`.
    pub(crate) fn commit_after(&self, time: Duration) {
        self.commit_at.set(self.clock.moment().after(time));
    }
}

/// The agent's side of a task.
#[derive(Clone, Debug)]
pub struct Task(pub(crate) Rc<Shared>);

impl Task {
    /// The records of the agent's topics.
    pub fn input<R: Value>(&self) -> Result<Input<R>> {
        Ok(Input::new(Rc::clone(&self.0)))
    }

    /// A table that the agent writes.
    pub fn table<K, V, S>(&self, table: &'static Table<K, V, S>) -> Result<TableHandle<K, V, S>>
    where
        K: Key,
        V: Value,
        S: TableState<K, V>,
    {
        let place = self.0.agent.tables.iter().position(|def| def().name == table.name());
        match place.and_then(|place| self.0.tables.get(place)) {
            Some(partition) => TableHandle::new(partition.clone()),
            None => Err(Error::new(
                ErrorKind::Plan,
                format!(
                    "agent {} does not name table {}: add `table = …` to its #[agent]",
                    self.0.agent.name,
                    table.name()
                ),
            )),
        }
    }

    /// The topic that the agent names at this place among its outputs, for records that are put out while it runs.
    pub fn output<T: Value>(&self, place: usize) -> Output<T> {
        self.0.keeps_key.set(true);
        self.0.prepares.set(true);
        Output::new(Rc::clone(&self.0), place)
    }
}
