//! How a worker takes partitions and gives them back, by the word of a group that the test speaks for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gretchen::agent;
use gretchen::agent::Event;
use gretchen::app::App;
use gretchen::backend::memory::MemoryBackend;
use gretchen::backend::{
    Assignment, AssignmentSet, Backend, Capabilities, Consumer, Copies, Offsets, Owner, Producer, ProducerId, Reader,
    Replay, Standby, Topic, Unit,
};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, Error, ErrorKind, Result};
use gretchen::plan::{Plan, changelog_name};
use gretchen::record::FrameBuilder;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec, partition_of};
use gretchen::worker::{self, Standing, Summary, WorkerEvent, WorkerOptions};
use tempfile::TempDir;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

const APP: &str = "handover";
const AGENT: &str = "dwells";
const PARTITIONS: u32 = 2;

/// How long a member of the group may stay at one record.
const MAY_STAY: Duration = Duration::from_secs(60);

/// Time that passes before a test fails; that of a clock which is turned by hand goes by much faster.
const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: u32 = 600;

/// What holds agents up at a word that ends with a number, and how many have come to each.
static DOORS: [Semaphore; 4] = [const { Semaphore::const_new(0) }; 4];
static CAME: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

static SEEN: Table<String, i64> = Table::new("handover-seen");

#[agent(topic = "words", table = SEEN)]
async fn dwells(word: Event<String>, mut seen: TableMut<'_, String, i64>) -> std::result::Result<(), BoxError> {
    if let Some(door) = word.value.chars().last().and_then(|last| last.to_digit(10)) {
        CAME[door as usize].fetch_add(1, Ordering::SeqCst);
        DOORS[door as usize].acquire().await?.forget();
    }
    if word.value.starts_with("fails") {
        return Err("this word is not liked".into());
    }
    seen.set(&key_of(word.partition), 1)?;
    Ok(())
}

/// A key of that partition.
fn key_of(partition: u32) -> String {
    (0..).map(|i| format!("k{i}")).find(|key| partition_of(key.as_bytes(), PARTITIONS) == partition).unwrap()
}

fn unit(partition: u32) -> Unit {
    Unit { set: 0, partition }
}

fn units(partitions: &[u32]) -> Vec<Unit> {
    partitions.iter().copied().map(unit).collect()
}

fn standbys(partitions: &[u32]) -> Assignment {
    Assignment::Standbys(partitions.iter().map(|it| Standby { unit: unit(*it), awaited: false }).collect())
}

/// A question that is asked of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    TopicId,
    Offsets,
    Reader,
}

/// How it is with the question that nobody answers.
#[derive(Debug, PartialEq, Eq)]
enum Silence {
    Nothing,
    /// The next who asks waits.
    Of(Question),
    /// Somebody waits.
    Met,
}

/// A backend in memory with the groups of one that has standbys. The test speaks for the group.
#[derive(Clone, Debug)]
struct Spoken {
    inner: MemoryBackend,
    group: Arc<Mutex<Group>>,
    silence: Arc<(Mutex<Silence>, Condvar)>,
}

#[derive(Debug, Default)]
struct Group {
    /// Whoever has joined, one after another.
    members: Vec<mpsc::UnboundedSender<Assignment>>,
    released: Vec<u32>,
    /// Names that tasks have taken to append by.
    tasks: Vec<ProducerId>,
}

impl Spoken {
    fn answer(&self, question: Question) -> Result<()> {
        let failed = |_| Error::new(ErrorKind::Closed, "a test has failed");
        let mut silence = self.silence.0.lock().map_err(failed)?;
        if *silence == Silence::Of(question) {
            *silence = Silence::Met;
            self.silence.1.notify_all();
            while *silence == Silence::Met {
                silence =
                    self.silence.1.wait(silence).map_err(|_| Error::new(ErrorKind::Closed, "a test has failed"))?;
            }
        }
        Ok(())
    }

    fn set_silence(&self, silence: Silence) {
        *self.silence.0.lock().unwrap() = silence;
        self.silence.1.notify_all();
    }
}

#[async_trait]
impl Backend for Spoken {
    fn capabilities(&self) -> Capabilities {
        Capabilities { standbys: true, ..self.inner.capabilities() }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        self.inner.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.inner.topics().await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        self.group.lock().unwrap().tasks.push(id);
        self.inner.producer(id).await
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.consumer_with(group, sets, Arc::default()).await
    }

    async fn consumer_with(&self, _: &str, _: &[AssignmentSet], _: Arc<Copies>) -> Result<Box<dyn Consumer>> {
        let (sender, changes) = mpsc::unbounded_channel();
        self.group.lock().unwrap().members.push(sender);
        Ok(Box::new(Member { backend: self.clone(), changes }))
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

struct Member {
    backend: Spoken,
    changes: mpsc::UnboundedReceiver<Assignment>,
}

#[async_trait]
impl Consumer for Member {
    async fn assignment(&mut self) -> Result<Assignment> {
        match self.changes.recv().await {
            Some(change) => Ok(change),
            None => std::future::pending().await,
        }
    }

    async fn release(&mut self, unit: Unit) -> Result<()> {
        self.backend.group.lock().unwrap().released.push(unit.partition);
        Ok(())
    }

    fn ack(&self, _: &TopicPartition, _: u64) -> Result<()> {
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        Ok(())
    }

    fn patience(&self) -> Option<Duration> {
        Some(MAY_STAY)
    }
}

#[async_trait]
impl Replay for Spoken {
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        self.answer(Question::Reader)?;
        Replay::reader(&self.inner, partition, from)
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets> {
        self.answer(Question::Offsets)?;
        self.inner.offsets(partition)
    }

    async fn sync(&self, partition: &TopicPartition, up_to: u64) -> Result<()> {
        self.inner.sync(partition, up_to).await
    }

    fn next_sequence(&self, partition: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.inner.next_sequence(partition, producer)
    }

    fn position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.inner.position(group, partition)
    }

    fn owners(&self, _: &str, _: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        Ok(Vec::new())
    }

    fn forget(&self, group: &str, partition: &TopicPartition) -> Result<()> {
        self.inner.forget(group, partition)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.topic(name)
    }

    fn topic_id(&self, _: &str) -> Result<Option<Arc<str>>> {
        self.answer(Question::TopicId)?;
        Ok(None)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        self.inner.schema(topic, fingerprint)
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.inner.set_topic(name, settings).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.inner.delete_topic(name).await
    }
}

/// A worker, and the group that it is a member of.
struct Stage {
    clock: Clock,
    backend: Spoken,
    stop: watch::Sender<bool>,
    events: mpsc::UnboundedReceiver<WorkerEvent>,
    work: JoinHandle<Summary>,
    _folder: TempDir,
}

impl Stage {
    async fn new() -> Self {
        let clock = Clock::manual(0);
        let backend = Spoken {
            inner: MemoryBackend::new(clock.clone()),
            group: Arc::default(),
            silence: Arc::new((Mutex::new(Silence::Nothing), Condvar::new())),
        };
        let app = App::new(APP).agent::<dwells>();
        let plan = Plan::make(APP, &app.agents(), &backend, PARTITIONS).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let state_dir = Some(folder.path().to_owned());
        let options = WorkerOptions { state_dir, threads: 1, standby: 1, ..WorkerOptions::default() };
        let (stop, stopped) = watch::channel(false);
        let (sender, events) = mpsc::unbounded_channel();
        let (shared, time): (Arc<dyn Backend>, _) = (Arc::new(backend.clone()), clock.clone());
        let work =
            tokio::spawn(async move { worker::run(&plan, shared, options, time, stopped, sender).await.unwrap() });
        let stage = Self { clock, backend, stop, events, work, _folder: folder };
        stage.joined(1).await;
        stage
    }

    /// Appends a word to a partition.
    async fn say(&self, partition: u32, word: &str) {
        let mut frame = FrameBuilder::new();
        frame.push(Some(key_of(partition).as_bytes()), Some(word.as_bytes()), 0);
        let mut producer = self.backend.inner.producer(ProducerId::ANONYMOUS).await.unwrap();
        producer.append(&TopicPartition::new("words", partition), &mut frame, None).await.unwrap();
    }

    /// What the group tells the member that has joined last.
    fn tell(&self, change: Assignment) {
        self.backend.group.lock().unwrap().members.last().unwrap().send(change).unwrap();
    }

    async fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        let wait = async {
            while !is_so(self) {
                Clock::system().sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    /// The worker has joined so often.
    async fn joined(&self, times: usize) {
        self.wait_until(|stage| stage.backend.group.lock().unwrap().members.len() == times).await;
    }

    /// Agents have come to that door.
    async fn came(&self, door: usize) {
        self.wait_until(|_| CAME[door].load(Ordering::SeqCst) > 0).await;
    }

    fn released(&self) -> Vec<u32> {
        let mut released = self.backend.group.lock().unwrap().released.clone();
        released.sort();
        released
    }

    /// How many tasks have begun on a partition.
    fn tasks(&self, partition: u32) -> usize {
        let name = ProducerId::named(&format!("{}/{partition}", changelog_name(APP, AGENT)));
        self.backend.group.lock().unwrap().tasks.iter().filter(|id| **id == name).count()
    }

    /// Waits for an event while no time passes.
    async fn event(&mut self, is: impl Fn(&WorkerEvent) -> bool) -> WorkerEvent {
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap()
    }

    async fn started(&mut self, partition: u32) {
        self.event(|event| matches!(event, WorkerEvent::Started { partition: it, .. } if *it == partition)).await;
    }

    async fn standby(&mut self, partition: u32, standing: Standing) {
        let is = |event: &WorkerEvent| matches!(event, WorkerEvent::Standby { partition: it, standing: now, .. } if (*it, *now) == (partition, standing));
        self.event(is).await;
    }

    /// Lets time pass until an event comes.
    async fn later(&mut self, is: impl Fn(&WorkerEvent) -> bool) -> WorkerEvent {
        for _ in 0..STEPS {
            self.clock.advance(Duration::from_secs(1));
            Clock::system().sleep(Duration::from_millis(5)).await;
            while let Ok(event) = self.events.try_recv() {
                if is(&event) {
                    return event;
                }
            }
        }
        panic!("what is waited for does not come");
    }

    /// The worker leaves the group because of the first record of a partition.
    async fn left(&mut self, stuck: u32) {
        let left = self.later(|event| matches!(event, WorkerEvent::Left { .. })).await;
        let WorkerEvent::Left { agent, partition, offset, time, .. } = left else { unreachable!() };
        assert_eq!((agent, partition, offset), (AGENT, stuck, 0));
        assert!(time >= MAY_STAY, "{time:?}");
    }

    async fn end(self) -> Summary {
        self.stop.send(true).unwrap();
        tokio::time::timeout(PATIENCE, self.work).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wanted_partition_is_given_back_also_when_its_last_record_fails() {
    const DOOR: usize = 0;
    let mut stage = Stage::new().await;
    stage.say(0, &format!("fails{DOOR}")).await;
    stage.tell(Assignment::Gained(units(&[0, 1])));
    stage.came(DOOR).await;
    stage.started(1).await;
    stage.tell(Assignment::Wanted(units(&[0, 1])));
    stage.event(|event| matches!(event, WorkerEvent::Stopped { partition: 1, .. })).await;
    DOORS[DOOR].add_permits(1);
    stage.event(|event| matches!(event, WorkerEvent::Failed { partition: 0, .. })).await;
    stage.wait_until(|stage| stage.released() == [0, 1]).await;

    // The worker goes on, and takes what it is given.
    stage.tell(Assignment::Gained(units(&[1])));
    stage.started(1).await;
    assert_eq!(stage.end().await.failed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_agent_whose_partition_was_lost_and_came_back_is_named_and_left() {
    const DOOR: usize = 1;
    let mut stage = Stage::new().await;
    stage.say(0, &format!("waits{DOOR}")).await;
    stage.tell(Assignment::Gained(units(&[0])));
    stage.came(DOOR).await;
    stage.tell(Assignment::Lost(units(&[0])));
    stage.tell(Assignment::Gained(units(&[0])));
    // What is told is heard one after another, so that both have been heard then.
    stage.tell(Assignment::Gained(units(&[1])));
    stage.started(1).await;
    let stuck = stage.later(|event| matches!(event, WorkerEvent::Stuck { .. })).await;
    assert!(matches!(stuck, WorkerEvent::Stuck { partition: 0, offset: 0, .. }), "{stuck:?}");
    stage.left(0).await;

    DOORS[DOOR].add_permits(1);
    stage.joined(2).await;
    DOORS[DOOR].add_permits(1);
    stage.tell(Assignment::Gained(units(&[0])));
    stage.started(0).await;
    assert_eq!(stage.tasks(0), 2, "one began while the worker was no member");
    assert_eq!(stage.end().await.stuck, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_waited_for_its_standby_is_not_begun_after_the_worker_has_left() {
    const DOOR: usize = 2;
    let mut stage = Stage::new().await;
    stage.backend.set_silence(Silence::Of(Question::Offsets));
    stage.tell(standbys(&[1]));
    stage.wait_until(|stage| *stage.backend.silence.0.lock().unwrap() == Silence::Met).await;
    stage.say(0, &format!("waits{DOOR}")).await;
    stage.tell(Assignment::Gained(units(&[1, 0])));
    stage.came(DOOR).await;
    stage.left(0).await;

    stage.backend.set_silence(Silence::Nothing);
    stage.standby(1, Standing::Closed).await;
    DOORS[DOOR].add_permits(1);
    stage.joined(2).await;
    DOORS[DOOR].add_permits(1);
    stage.tell(Assignment::Gained(units(&[0])));
    stage.started(0).await;
    assert_eq!(stage.tasks(1), 0, "it began while the worker was no member");
    stage.tell(Assignment::Gained(units(&[1])));
    stage.started(1).await;
    assert_eq!(stage.end().await.stuck, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_gets_no_answer_holds_up_no_other() {
    for question in [Question::TopicId, Question::Offsets, Question::Reader] {
        let mut stage = Stage::new().await;
        stage.tell(standbys(&[0]));
        stage.standby(0, Standing::CaughtUp).await;
        stage.backend.set_silence(Silence::Of(question));
        stage.tell(standbys(&[0, 1]));
        stage.wait_until(|stage| *stage.backend.silence.0.lock().unwrap() == Silence::Met).await;
        stage.tell(Assignment::Gained(units(&[0])));
        stage.standby(0, Standing::Closed).await;
        stage.started(0).await;
        stage.backend.set_silence(Silence::Nothing);
        assert_eq!(stage.end().await.stuck, 0, "{question:?}");
    }
}
