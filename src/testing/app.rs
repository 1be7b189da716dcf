//! An app in one process, in memory, deterministic, under a clock that the test turns.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use crate::agent::IntoKey;
use crate::app::App;
use crate::backend::memory::MemoryBackend;
use crate::backend::{Backend, ProducerId, Replay, WireLayer};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, changelog_name, stored_schemas, topic_schema};
use crate::record::{DynamicSchema, FrameBuilder, Frames, Key, Record, StoredSchemas, Value, key_of};
use crate::table::{Table, TableState};
use crate::topic::{TopicPartition, TopicSpec, partition_of};
use crate::worker::{CommitVisitor, Context, Mark, Signals, TaskRun, WorkerOptions, walk};

/// The moment at which a test's clock begins: 2024-01-01T00:00:00Z, in milliseconds since 1970.
pub const START_MS: i64 = 1_704_067_200_000;

/// Turns of the tasks without anything to do, after which nothing is under way any more.
const QUIET_TURNS: usize = 32;

/// How long agents may be busy with something outside of the app, such as a timer of tokio's.
const PATIENCE: Duration = Duration::from_secs(30);

/// The app under test. There is no schema registry: in memory the schemas of topics whose format is `confluent` have numbers of
/// the topic's own, and no setting is read. Every call returns when all agents have nothing left to do.
pub struct TestApp {
    app: App,
    runtime: Runtime,
    /// Where everything is, in the forms that the topics have on the wire.
    memory: Arc<dyn Backend>,
    /// The same as the app sees it.
    backend: Arc<dyn Backend>,
    replay: Arc<dyn Replay>,
    clock: Clock,
    options: WorkerOptions,
    partitions: u32,
    running: Option<Running>,
    received: BTreeMap<TopicPartition, u64>,
}

struct Running {
    tasks: LocalSet,
    idle: Vec<Arc<AtomicBool>>,
    failures: Rc<RefCell<Vec<Error>>>,
    // A task whose signal is dropped ends without a commit.
    _stop: watch::Sender<bool>,
    _progress: mpsc::UnboundedReceiver<(TopicPartition, u64)>,
}

/// A record that an app put out, with its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Received<V> {
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The record; `None` is a tombstone.
    pub value: Option<V>,
    /// Event time, milliseconds since 1970.
    pub timestamp: i64,
    /// Names and values.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl TestApp {
    /// The app with one partition a topic.
    pub fn new(app: App) -> Result<Self> {
        Self::with_partitions(app, 1)
    }

    /// The app with several partitions a topic.
    pub fn with_partitions(app: App, partitions: u32) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::io("cannot start a runtime", error))?;
        let clock = Clock::manual(START_MS);
        let memory = MemoryBackend::new(clock.clone());
        let replay = Arc::new(memory.clone());
        let memory: Arc<dyn Backend> = Arc::new(memory);
        let mut this = Self {
            app,
            runtime,
            backend: memory.clone(),
            memory,
            replay,
            clock,
            options: WorkerOptions::default(),
            partitions,
            running: None,
            received: BTreeMap::new(),
        };
        this.start()?;
        Ok(this)
    }

    /// Bounds the memory of each table partition, in bytes, so that a test sees eviction. Restarts the app.
    pub fn table_memory_bytes(&mut self, bytes: usize) -> Result<()> {
        self.options.table_memory_bytes = bytes;
        self.crash_and_restart()
    }

    fn start(&mut self) -> Result<()> {
        let agents = self.app.agents();
        let layer = WireLayer::new(self.memory.clone(), self.app.formats().clone());
        self.backend = Arc::new(layer.with_settings(self.app.topic_settings().clone()));
        if let Some(replay) = self.backend.replay() {
            self.replay = replay;
        }
        let plan = self.runtime.block_on(Plan::make(self.app.name(), &agents, &*self.backend, self.partitions))?;
        let tasks = LocalSet::new();
        let (stop, stopped) = watch::channel(false);
        let (progress, progress_of_all) = mpsc::unbounded_channel();
        let failures = Rc::new(RefCell::new(Vec::new()));
        let mut idle = Vec::new();
        for agent in &plan.agents {
            for partition in 0..agent.partitions {
                let busy = Arc::new(AtomicBool::new(false));
                idle.push(busy.clone());
                let signals = Signals::new(stopped.clone(), busy.clone(), Arc::new(AtomicU64::new(0)), Arc::default());
                let context = Context {
                    membership: None,
                    backend: self.backend.clone(),
                    clock: self.clock.clone(),
                    options: self.options.clone(),
                    helpers: self.runtime.handle().clone(),
                    progress: progress.clone(),
                };
                let (agent, failures) = (agent.clone(), failures.clone());
                tasks.spawn_local(async move {
                    let result = match TaskRun::open(context, signals, agent, partition).await {
                        Ok(Some(task)) => task.run().await,
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    };
                    busy.store(true, Ordering::SeqCst);
                    failures.borrow_mut().extend(result.err());
                });
            }
        }
        self.running = Some(Running { tasks, idle, failures, _stop: stop, _progress: progress_of_all });
        self.settle()
    }

    /// Lets the agents work until they have nothing left to do. An agent that failed for good is this call's error.
    pub fn settle(&mut self) -> Result<()> {
        let Some(running) = &self.running else { return Ok(()) };
        let system = Clock::system();
        let began = system.moment();
        let quiet = running.tasks.block_on(&self.runtime, async {
            let mut turns = 0;
            while turns < QUIET_TURNS {
                tokio::task::yield_now().await;
                if running.idle.iter().all(|idle| idle.load(Ordering::SeqCst)) {
                    turns += 1;
                    continue;
                }
                turns = 0;
                if system.moment().since(began) > PATIENCE {
                    return false;
                }
                if system.moment().since(began) > Duration::from_millis(100) {
                    // Something outside of the app takes its time.
                    system.sleep(Duration::from_millis(1)).await;
                }
            }
            true
        });
        if let Some(error) = running.failures.borrow_mut().pop() {
            return Err(error);
        }
        if quiet {
            Ok(())
        } else {
            Err(Error::new(ErrorKind::Agent, format!("agents are still busy after {PATIENCE:?}")))
        }
    }

    /// Appends a record to a topic at the clock's time, keyed by the field that the topic is keyed by, if there is one.
    pub fn send<R: Record>(&mut self, topic: &str, record: &R) -> Result<()> {
        let topics = self.runtime.block_on(self.backend.topics())?;
        let field = topics.iter().find(|have| *have.spec.name == *topic).and_then(|found| found.spec.key_field.clone());
        let key = match field {
            Some(field) => {
                let unfit = |error| {
                    Error::new(ErrorKind::Encode, format!("the record does not fit topic {topic}")).with_source(error)
                };
                let mut datum = Vec::new();
                record.encode(&mut datum).map_err(unfit)?;
                let schema = DynamicSchema::parse(<R as Record>::SCHEMA.json)?;
                key_of(&schema, &datum, &field).map_err(|error| {
                    Error::new(
                        ErrorKind::Key,
                        format!("topic {topic} is keyed by {field}, which the record does not have"),
                    )
                    .with_source(error)
                })?
            }
            None => None,
        };
        self.append(topic, key.as_deref(), Some(record), self.clock.now_ms())
    }

    /// Appends a value to a topic under a key, at the clock's time.
    pub fn send_keyed<V: Value>(&mut self, topic: &str, key: impl IntoKey, value: &V) -> Result<()> {
        self.append(topic, Some(&key.into_key()), Some(value), self.clock.now_ms())
    }

    /// Appends a tombstone.
    pub fn send_tombstone(&mut self, topic: &str, key: impl IntoKey) -> Result<()> {
        self.append::<i64>(topic, Some(&key.into_key()), None, self.clock.now_ms())
    }

    /// Appends bytes as they are, as another program would write them, in whatever format the topic has.
    pub fn send_raw(&mut self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<()> {
        self.append_bytes(self.memory.clone(), topic, key, value, self.clock.now_ms())
    }

    fn append<V: Value>(&mut self, topic: &str, key: Option<&[u8]>, value: Option<&V>, timestamp: i64) -> Result<()> {
        let mut wire = Vec::new();
        if let Some(value) = value {
            value.encode_value(&mut wire).map_err(|error| {
                Error::new(ErrorKind::Encode, format!("the record does not fit topic {topic}")).with_source(error)
            })?;
            if let Some(schema) = V::SCHEMA {
                // The topic keeps the schema of whatever it holds.
                let spec = TopicSpec {
                    schema: Some(topic_schema(schema)),
                    ..TopicSpec::new(topic, self.partitions_of(topic)?)
                };
                self.runtime.block_on(self.backend.create_topic(&spec))?;
            }
        }
        self.append_bytes(self.backend.clone(), topic, key, value.is_some().then_some(&wire), timestamp)
    }

    fn append_bytes(
        &mut self,
        backend: Arc<dyn Backend>,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        timestamp: i64,
    ) -> Result<()> {
        let partition = key.map_or(0, |key| partition_of(key, self.partitions_of(topic).unwrap_or(1)));
        let mut frame = FrameBuilder::new();
        frame.push(key, value, timestamp);
        self.runtime.block_on(async {
            let mut producer = backend.producer(ProducerId::ANONYMOUS).await?;
            producer.append(&TopicPartition::new(topic, partition), &mut frame, None).await
        })?;
        Ok(())
    }

    fn partitions_of(&self, topic: &str) -> Result<u32> {
        let topics = self.runtime.block_on(self.backend.topics())?;
        let found = topics.iter().find(|have| *have.spec.name == *topic);
        Ok(found.map_or(self.partitions, |topic| topic.spec.partitions))
    }

    /// The next record that was put out to a topic, in order within a partition; `None` when there is none.
    pub fn recv<V: Value>(&mut self, topic: &str) -> Result<Option<V>> {
        while let Some(received) = self.recv_event::<V>(topic)? {
            if received.value.is_some() {
                return Ok(received.value);
            }
        }
        Ok(None)
    }

    /// All records that were put out to a topic and not received yet.
    pub fn recv_all<V: Value>(&mut self, topic: &str) -> Result<Vec<V>> {
        let mut all = Vec::new();
        while let Some(value) = self.recv(topic)? {
            all.push(value);
        }
        Ok(all)
    }

    /// The next record, or tombstone, that was put out to a topic.
    pub fn recv_event<V: Value>(&mut self, topic: &str) -> Result<Option<Received<V>>> {
        self.settle()?;
        for partition in 0..self.partitions_of(topic)? {
            let place = TopicPartition::new(topic, partition);
            let from = self.received.get(&place).copied().unwrap_or(0);
            let mut frames = Frames::default();
            if !self.replay.reader(&place, from)?.read(&mut frames)? {
                continue;
            }
            for frame in frames.iter() {
                if let Some(record) = frame.records().find(|record| record.offset >= from) {
                    self.received.insert(place.clone(), record.offset + 1);
                    let value = record.value.map(V::decode_value).transpose().map_err(|error| {
                        Error::new(ErrorKind::Decode, "cannot read what was put out")
                            .with_source(error)
                            .at(&place)
                            .at_offset(record.offset)
                    })?;
                    return Ok(Some(Received {
                        key: record.key.map(<[u8]>::to_vec),
                        value,
                        timestamp: record.timestamp,
                        headers: record.headers.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
                    }));
                }
            }
        }
        Ok(None)
    }

    /// Moves the clock on, and lets the agents work.
    pub fn advance(&mut self, time: Duration) -> Result<()> {
        self.settle()?;
        self.clock.advance(time);
        self.settle()
    }

    /// Sets the wall time forward or back, as somebody may do with the machine's clock: no time passes by it.
    pub fn jump_ms(&mut self, ms: i64) -> Result<()> {
        self.settle()?;
        self.clock.jump(ms);
        self.settle()
    }

    /// The clock's time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Ends everything as `kill -9` would and starts again: what was not committed is processed again.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.running = None;
        self.start()
    }

    /// [`TestApp::crash_and_restart`] with another version of the app, on what the first left behind.
    pub fn restart_as(&mut self, app: App) -> Result<()> {
        self.app = app;
        self.crash_and_restart()
    }

    /// A table as of its last commit.
    pub fn table<K: Key, V: Value, S: TableState<K, V>>(
        &mut self,
        table: &'static Table<K, V, S>,
    ) -> Result<TestTable<K, V, S>> {
        self.settle()?;
        let agents = self.app.agents();
        let found = agents.iter().find_map(|def| {
            let place = def.tables.iter().position(|have| have().name == table.name())?;
            Some((def.name, place))
        });
        let Some((agent, place)) = found else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("no agent of app {} names table {}", self.app.name(), table.name()),
            ));
        };
        let changelog = changelog_name(self.app.name(), agent);
        let mut contents = Contents { place, stored: BTreeMap::new() };
        for partition in 0..self.partitions_of(&changelog)? {
            let place = TopicPartition::new(changelog.as_str(), partition);
            let end = self.replay.offsets(&place)?.end;
            walk(&*self.replay, &place, 0, end, &mut contents)?;
        }
        let schemas = stored_schemas(self.replay.clone(), &changelog);
        Ok(TestTable { table, stored: contents.stored, schemas })
    }
}

struct Contents {
    place: usize,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl CommitVisitor for Contents {
    fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
        if table == self.place {
            match stored {
                Some(stored) => self.stored.insert(key.to_vec(), stored.to_vec()),
                None => self.stored.remove(key),
            };
        }
        Ok(())
    }

    fn mark(&mut self, _: Mark, _: u64) -> Result<()> {
        Ok(())
    }
}

/// What a table holds, as of a commit.
#[derive(Debug)]
pub struct TestTable<K: 'static, V: 'static, S: 'static> {
    table: &'static Table<K, V, S>,
    stored: BTreeMap<Vec<u8>, Vec<u8>>,
    schemas: StoredSchemas,
}

impl<K: Key, V: Value, S: TableState<K, V>> TestTable<K, V, S> {
    /// The value of a key.
    pub fn get(&self, key: &K::Ref) -> Result<Option<V>> {
        let mut raw = Vec::new();
        K::encode_key(key, &mut raw)
            .map_err(|error| Error::new(ErrorKind::Key, "the key cannot be encoded").with_source(error))?;
        self.stored.get(&raw).map(|stored| self.value(&raw, stored)).transpose()
    }

    /// Every key with its value, in the order of the keys' bytes.
    pub fn all(&self) -> Result<Vec<(K, V)>> {
        let key = |raw: &[u8]| {
            K::decode_key(raw).map_err(|error| Error::new(ErrorKind::Decode, "cannot read a key").with_source(error))
        };
        self.stored.iter().map(|(raw, stored)| Ok((key(raw)?, self.value(raw, stored)?))).collect()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.stored.len()
    }

    /// Whether it holds no key.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    fn value(&self, raw: &[u8], stored: &[u8]) -> Result<V> {
        let wire = self.table.def().value_wire(raw, stored, &self.schemas)?;
        V::decode_value(&wire).map_err(|error| Error::new(ErrorKind::Decode, "cannot read a value").with_source(error))
    }
}
