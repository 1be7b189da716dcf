//! What a worker asks of its backend, and in which order; and what it does not when nobody holds it any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use gretchen::agent;
use gretchen::agent::{Output, Stream};
use gretchen::app::App;
use gretchen::backend::log::LogOptions;
use gretchen::backend::memory::MemoryBackend;
use gretchen::backend::{
    Appended, AssignmentSet, Backend, Capabilities, Consumer, Offsets, Owner, Producer, ProducerId, Reader, Replay,
    Topic,
};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, Error, ErrorKind, Result};
use gretchen::plan::{Plan, changelog_name};
use gretchen::record::{DynamicSchema, FrameBuilder, Frames, Record, SINGLE_OBJECT_MARKER, json_to_avro};
use gretchen::session::Session;
use gretchen::topic::{TopicPartition, TopicSchema, TopicSettings, TopicSpec};
use gretchen::worker::{self, Summary, WorkerEvent, WorkerOptions};
use tokio::sync::{mpsc, watch};

use crate::shop::Order;

const APP: &str = "storage";

/// A commit interval that no test waits for.
const RARE: Duration = Duration::from_secs(60);

/// Time that agents get to finish which will not finish.
const SOON: Duration = Duration::from_millis(100);

/// A backend in memory that claims to survive a loss of power, and notes what is asked of it.
#[derive(Clone, Debug)]
struct Noting {
    inner: MemoryBackend,
    notes: Arc<Mutex<Vec<String>>>,
    /// Appends to this topic fail.
    broken: Arc<AtomicBool>,
    /// So many questions for schemas get no answer.
    untold: Arc<AtomicUsize>,
}

impl Noting {
    fn new() -> Self {
        Self {
            inner: MemoryBackend::new(Clock::system()),
            notes: Arc::default(),
            broken: Arc::default(),
            untold: Arc::default(),
        }
    }

    fn note(&self, what: &str, place: &TopicPartition) {
        self.notes.lock().unwrap().push(format!("{what} {}", place.topic));
    }
}

#[async_trait]
impl Backend for Noting {
    fn capabilities(&self) -> Capabilities {
        Capabilities { survives_power_loss: true, ..self.inner.capabilities() }
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        self.inner.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.inner.topics().await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        Ok(Box::new(NotingProducer { backend: self.clone(), inner: self.inner.producer(id).await? }))
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(group, sets).await
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Replay for Noting {
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        Replay::reader(&self.inner, partition, from)
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets> {
        self.inner.offsets(partition)
    }

    async fn sync(&self, partition: &TopicPartition, up_to: u64) -> Result<()> {
        self.note("sync", partition);
        self.inner.sync(partition, up_to).await
    }

    fn next_sequence(&self, partition: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.inner.next_sequence(partition, producer)
    }

    fn position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.inner.position(group, partition)
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        self.inner.owners(group, set)
    }

    fn forget(&self, group: &str, partition: &TopicPartition) -> Result<()> {
        self.inner.forget(group, partition)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.topic(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        let untold = self.untold.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if untold.is_ok() {
            return Err(Error::new(ErrorKind::Io, "no answer"));
        }
        self.inner.schema(topic, fingerprint)
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.inner.set_topic(name, settings).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.inner.delete_topic(name).await
    }
}

struct NotingProducer {
    backend: Noting,
    inner: Box<dyn Producer>,
}

#[async_trait]
impl Producer for NotingProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        self.backend.note("append", to);
        if &*to.topic == "out" && self.backend.broken.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "this disk is broken"));
        }
        self.inner.append(to, frame, sequence).await
    }

    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended> {
        self.backend.note("append", to);
        self.inner.append_at(to, frame, offset).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner.flush().await
    }
}

/// Options of a worker with one thread.
fn options(commit: Duration, stop_timeout: Duration) -> WorkerOptions {
    WorkerOptions { commit_interval: commit, stop_timeout, threads: 1, ..WorkerOptions::default() }
}

/// A worker on the backend, until it has caught up, has failed, or is `told` to stop.
async fn work(app: App, backend: &Arc<dyn Backend>, options: WorkerOptions, told: impl Future<Output = ()>) -> Summary {
    let plan = Plan::make(APP, &app.agents(), &**backend, 1).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let (events, mut received) = mpsc::unbounded_channel();
    let work = worker::run(&plan, backend.clone(), options, Clock::system(), stopped, events);
    tokio::pin!(work, told);
    loop {
        tokio::select! {
            summary = &mut work => return summary.unwrap(),
            () = &mut told, if !*stop.borrow() => {
                let _ = stop.send(true);
            }
            Some(event) = received.recv() => if matches!(event, WorkerEvent::CaughtUp) {
                let _ = stop.send(true);
            }
        }
    }
}

/// Appends words to the topic `words`.
async fn say(backend: &Arc<dyn Backend>, words: &[&str]) {
    let mut frame = FrameBuilder::new();
    words.iter().for_each(|word| frame.push(Some(b"k"), Some(word.as_bytes()), 0));
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    producer.append(&TopicPartition::new("words", 0), &mut frame, None).await.unwrap();
}

#[agent(topic = "words", output = "out", name = "repeats")]
async fn repeats(word: String) -> String {
    word
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_recovery_makes_durable_what_it_moves_the_sources_first() {
    let noting = Noting::new();
    let backend: Arc<dyn Backend> = Arc::new(noting.clone());
    Plan::make(APP, &App::new(APP).agent::<repeats>().agents(), &*backend, 1).await.unwrap();
    say(&backend, &["a"]).await;
    // The commit is written, its output is not moved.
    noting.broken.store(true, Ordering::SeqCst);
    let summary = work(App::new(APP).agent::<repeats>(), &backend, options(RARE, SOON), std::future::pending()).await;
    assert_eq!(summary.failed, 1);
    noting.broken.store(false, Ordering::SeqCst);
    noting.notes.lock().unwrap().clear();
    work(App::new(APP).agent::<repeats>(), &backend, options(RARE, SOON), std::future::pending()).await;
    let notes = noting.notes.lock().unwrap().clone();
    let changelog = changelog_name(APP, "repeats");
    assert_eq!(
        notes[..3],
        ["sync words".to_owned(), format!("sync {changelog}"), "append out".to_owned()],
        "{notes:?}"
    );
}

#[agent(topic = "orders", output = "out", name = "evolved", on_error = skip)]
async fn evolved(order: Order) -> String {
    order.customer
}

/// A record that cannot be read because nobody answers is not to blame, and no policy passes it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_schema_that_cannot_be_looked_up_is_not_an_unknown_one() {
    let noting = Noting::new();
    let backend: Arc<dyn Backend> = Arc::new(noting.clone());
    let app = || App::new(APP).agent::<evolved>();
    Plan::make(APP, &app().agents(), &*backend, 1).await.unwrap();
    // Somebody writes it with a field more.
    let mut schema: serde_json::Value = serde_json::from_str(Order::SCHEMA.json).unwrap();
    let more = serde_json::json!({"name": "more", "type": "int", "default": 0});
    schema["fields"].as_array_mut().unwrap().push(more);
    let schema = DynamicSchema::parse(&schema.to_string()).unwrap();
    let value = serde_json::json!({"order_id": 1, "customer": "ada", "ordered_on": "1997-01-01", "quantity": 1,
        "amount": "2.50", "more": 7});
    let mut wire = SINGLE_OBJECT_MARKER.to_vec();
    wire.extend_from_slice(&schema.fingerprint().to_le_bytes());
    json_to_avro(&schema, &value, &mut wire).unwrap();
    let spec = backend.topics().await.unwrap().into_iter().find(|topic| &*topic.spec.name == "orders").unwrap().spec;
    let known = TopicSchema { fingerprint: schema.fingerprint(), json: schema.json() };
    backend.create_topic(&TopicSpec { schema: Some(known), ..spec }).await.unwrap();
    let mut frame = FrameBuilder::new();
    frame.push(Some(b"ada"), Some(&wire), 0);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    producer.append(&TopicPartition::new("orders", 0), &mut frame, None).await.unwrap();

    noting.untold.store(1, Ordering::SeqCst);
    let summary = work(app(), &backend, options(RARE, SOON), std::future::pending()).await;
    assert_eq!((summary.failed, put_out(&backend).len()), (1, 0), "it stops before the record");
    let summary = work(app(), &backend, options(RARE, SOON), std::future::pending()).await;
    assert_eq!((summary.failed, put_out(&backend)), (0, vec!["ada".to_owned()]));
}

/// Closed until the test opens it; a word that waits for it keeps its thread.
static GATE: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

static AT_THE_GATE: AtomicBool = AtomicBool::new(false);

#[agent(topic = "words", output = "out", name = "waits")]
async fn waits_at_the_gate(word: String) -> std::result::Result<String, BoxError> {
    if word == "gate" {
        AT_THE_GATE.store(true, Ordering::SeqCst);
        let open = GATE.0.lock().map_err(|_| "a test has failed")?;
        let open = GATE.1.wait_while(open, |open| !*open).map_err(|_| "a test has failed")?;
        drop(open);
        return Err("too late".into());
    }
    Ok(word)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_that_nobody_holds_any_more_commits_nothing_when_it_fails() {
    let noting = Noting::new();
    let backend: Arc<dyn Backend> = Arc::new(noting.clone());
    let app = || App::new(APP).agent::<waits_at_the_gate>();
    Plan::make(APP, &app().agents(), &*backend, 1).await.unwrap();
    say(&backend, &["a", "gate"]).await;
    let at_the_gate = async {
        while !AT_THE_GATE.load(Ordering::SeqCst) {
            Clock::system().sleep(Duration::from_millis(5)).await;
        }
    };
    let summary = work(app(), &backend, options(RARE, SOON), at_the_gate).await;
    assert_eq!(summary.stuck, 1, "it was given up at the gate");

    *GATE.0.lock().unwrap() = true;
    GATE.1.notify_all();
    // The task is gone when nothing of it holds the backend.
    while Arc::strong_count(&backend) > 1 {
        Clock::system().sleep(Duration::from_millis(5)).await;
    }
    let changelog = TopicPartition::new(changelog_name(APP, "waits"), 0);
    let end = noting.offsets(&changelog).unwrap().end;
    assert_eq!(end, 0, "its next owner may be at work, and this one has committed");
}

#[agent(topic = "words", name = "refuses")]
async fn refuses(word: String) -> std::result::Result<(), BoxError> {
    Err(format!("no {word} here").into())
}

#[test]
fn a_session_never_takes_a_failed_partition_for_a_processed_one() {
    // The worker ends by itself when its last partition fails: at that moment its last words may be unread.
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let session = Session::open(App::new(APP).agent::<refuses>(), LogOptions::new(folder.path()), 1).unwrap();
        session.publish("words", "producer", [(b"k".to_vec(), "words".to_owned())]).unwrap();
        let error = session.process().unwrap_err();
        assert!(error.to_string().contains("no words here"), "{error}");
    }
}

/// Records that each of the slow agents has begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

const SLOW: Duration = Duration::from_millis(100);

#[agent(topic = "words", output = "out", name = "awaits")]
async fn awaits(word: String) -> String {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    Clock::system().sleep(SLOW).await;
    word
}

#[agent(topic = "words", output = "out", name = "blocks")]
async fn blocks(word: String) -> String {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    std::thread::park_timeout(SLOW);
    word
}

#[agent(topic = "words", output = "out", name = "spreads", concurrency = 2)]
async fn spreads(word: String) -> String {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    Clock::system().sleep(SLOW).await;
    word
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stop_waits_for_the_record_at_hand_and_not_for_all_that_were_read() {
    let apps = [App::new(APP).agent::<awaits>(), App::new(APP).agent::<blocks>(), App::new(APP).agent::<spreads>()];
    for app in apps {
        let name = app.agents()[0].name;
        let backend: Arc<dyn Backend> = Arc::new(Noting::new());
        Plan::make(APP, &app.agents(), &*backend, 1).await.unwrap();
        say(&backend, &["word"; 200]).await;
        BEGUN.store(0, Ordering::SeqCst);
        let begun = async {
            while BEGUN.load(Ordering::SeqCst) < 2 {
                Clock::system().sleep(Duration::from_millis(5)).await;
            }
        };
        // Twenty records would take the time that they get, and the buffer holds two hundred.
        let options = options(Duration::from_millis(100), SLOW * 20);
        let summary = work(app, &backend, options, begun).await;
        assert_eq!(summary.stuck, 0, "{name}");
        let replay = backend.replay().unwrap();
        let out = replay.offsets(&TopicPartition::new("out", 0)).unwrap().end;
        assert_eq!(out, summary.finished, "{name}: what is finished is put out");
        assert!((1..20).contains(&out), "{name}: {out}");
        let group = gretchen::plan::group_name(APP, name);
        let position = replay.position(&group, &TopicPartition::new("words", 0)).unwrap();
        assert_eq!(position, Some(out), "{name}");
    }
}

/// Records that were ended beside the slow one, and whether that may end.
static ENDED: AtomicUsize = AtomicUsize::new(0);
static MAY_END: AtomicBool = AtomicBool::new(false);

#[agent(topic = "words", output = "out", name = "overtakes", concurrency = 2)]
async fn overtakes(word: String) -> String {
    while word == "slow" && !MAY_END.load(Ordering::SeqCst) {
        Clock::system().sleep(Duration::from_millis(1)).await;
    }
    ENDED.fetch_add(1, Ordering::SeqCst);
    word
}

/// The texts in the topic `out`.
fn put_out(backend: &Arc<dyn Backend>) -> Vec<String> {
    let mut reader = backend.replay().unwrap().reader(&TopicPartition::new("out", 0), 0).unwrap();
    let (mut frames, mut texts) = (Frames::default(), Vec::new());
    while reader.read(&mut frames).unwrap() {
        for record in frames.iter().flat_map(|frame| frame.records().collect::<Vec<_>>()) {
            texts.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn beside_a_slow_record_others_are_ended_and_put_out_after_it() {
    let app = || App::new(APP).agent::<overtakes>();
    let backend: Arc<dyn Backend> = Arc::new(Noting::new());
    Plan::make(APP, &app().agents(), &*backend, 1).await.unwrap();
    let mut words: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    words[3] = "slow".into();
    // Many frames, and a buffer that has to be filled again meanwhile.
    for piece in words.chunks(7) {
        say(&backend, &piece.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let steps = async {
        let clock = Clock::system();
        // Three before it, and as many behind it as may wait for it.
        while ENDED.load(Ordering::SeqCst) < 3 + 2 * 16 - 1 {
            clock.sleep(Duration::from_millis(1)).await;
        }
        while put_out(&backend).len() < 3 {
            clock.sleep(Duration::from_millis(1)).await;
        }
        clock.sleep(Duration::from_millis(50)).await;
        assert_eq!(ENDED.load(Ordering::SeqCst), 3 + 2 * 16 - 1, "no more are begun than may wait");
        assert_eq!(put_out(&backend), words[..3], "nothing is put out before it");
        MAY_END.store(true, Ordering::SeqCst);
        while put_out(&backend).len() < words.len() {
            clock.sleep(Duration::from_millis(1)).await;
        }
    };
    let summary = work(app(), &backend, options(Duration::from_millis(10), SLOW * 20), steps).await;
    assert_eq!((summary.finished, summary.stuck), (200, 0));
    assert_eq!(put_out(&backend), words);
}

/// Puts the words that came together out when none has come for a while.
#[agent(topic = "words", output = "out", name = "gathers")]
async fn gathers(mut words: Stream<String>, mut out: Output<String>) -> std::result::Result<(), BoxError> {
    let mut together = String::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(20), words.next()).await {
            Ok(Some(word)) => together.push_str(&word),
            Ok(None) => return Ok(()),
            Err(_) if together.is_empty() => {}
            Err(_) => out.send_keyed("k", &std::mem::take(&mut together))?,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_may_be_waited_for_with_a_time_out() {
    let app = || App::new(APP).agent::<gathers>();
    let backend: Arc<dyn Backend> = Arc::new(Noting::new());
    Plan::make(APP, &app().agents(), &*backend, 1).await.unwrap();
    say(&backend, &["a", "b"]).await;
    let told = async {
        while put_out(&backend).concat() != "ab" {
            Clock::system().sleep(Duration::from_millis(1)).await;
        }
        say(&backend, &["c"]).await;
        while put_out(&backend).concat() != "abc" {
            Clock::system().sleep(Duration::from_millis(1)).await;
        }
    };
    let plan = Plan::make(APP, &app().agents(), &*backend, 1).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let (events, _received) = mpsc::unbounded_channel();
    let options = options(Duration::from_millis(10), SLOW);
    let work = worker::run(&plan, backend.clone(), options, Clock::system(), stopped, events);
    let told = async {
        told.await;
        let _ = stop.send(true);
    };
    let (summary, ()) = tokio::join!(work, told);
    assert_eq!(summary.unwrap().stuck, 0);
}
