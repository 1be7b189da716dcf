//! Every limit just below it, at it and just above it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::{Backend, ProducerId, Reader, Replay};
use gretchen::clock::Clock;
use gretchen::error::{ErrorKind, Result};
use gretchen::plan::Plan;
use gretchen::publish::Publisher;
use gretchen::record::{FrameBuilder, Frames, MAX_RECORD_BYTES, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::testing::TestApp;
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};
use gretchen::worker::{self, WorkerOptions};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::cli::{bad, csv, good, order, run};

fn options(folder: &Path) -> LogOptions {
    LogOptions { durability: Durability::Os, ..LogOptions::new(folder) }
}

async fn open(options: LogOptions, partitions: u32) -> LogBackend {
    let backend = LogBackend::open(options, Clock::system()).unwrap();
    backend.create_topic(&TopicSpec::new("orders", partitions)).await.unwrap();
    backend
}

fn place(partition: u32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// A frame of one record that has as many bytes as asked for.
fn frame_of(len: usize) -> FrameBuilder {
    let mut value = len - 80 - 1 - 3;
    loop {
        let mut frame = FrameBuilder::new();
        frame.push(None, Some(&vec![7; value]), 0);
        if frame.len() == len {
            return frame;
        }
        value = value + len - frame.len();
    }
}

async fn append(backend: &LogBackend, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()> {
    backend.producer(ProducerId::ANONYMOUS).await?.append(to, frame, None).await.map(drop)
}

#[tokio::test]
async fn records_that_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(LogOptions { max_record_bytes: 1_000, ..options(folder.path()) }, 1).await;
    let backend: Arc<dyn Backend> = Arc::new(log.clone());
    let mut publisher = Publisher::open(&backend, "orders", None).await.unwrap();
    for (key, value, fits) in [(999, 999, true), (1_000, 1_000, true), (1_001, 1, false), (1, 1_001, false)] {
        let pushed = publisher.push(Some(&vec![1; key]), Some(&vec![2; value]), 0).await;
        assert_eq!(
            pushed.as_ref().err().map(|error| error.kind()),
            (!fits).then_some(ErrorKind::Limit),
            "{key} {value}"
        );
        if let Err(error) = pushed {
            assert!(error.message().contains("max_record_bytes allows 1000"), "{error}");
        }
    }
    publisher.flush().await.unwrap();
    assert_eq!(log.offsets(&place(0)).unwrap().end, 2);
}

#[test]
fn records_that_are_sent_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let send =
        |len: usize| ["send".to_owned(), "plain".to_owned(), "x".repeat(len), "--max-record-bytes=100".to_owned()];
    for len in [99, 100] {
        good(dir, &send(len).each_ref().map(String::as_str));
    }
    let said = bad(dir, &send(101).each_ref().map(String::as_str), 1);
    assert!(said.contains("too large for topic plain: its value has 101 bytes"), "{said}");
    std::fs::write(dir.join("rows.jsonl"), format!("{:?}\n", "x".repeat(101))).unwrap();
    let said = bad(dir, &["send", "plain", "--file", "rows.jsonl", "--max-record-bytes=100"], 1);
    assert!(said.contains("its value has 103 bytes, and max_record_bytes allows 100"), "{said}");
}

/// A row as long as may be is read, and one of a byte more is not: of a file without ends of lines no more is taken into
/// memory.
#[test]
fn rows_of_a_file_that_is_sent() {
    check_rows(64 << 20, None);
    check_rows(5_000, Some("--max-row-bytes=5000"));
}

fn check_rows(limit: usize, flag: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut files = 0;
    let mut sent = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        files += 1;
        let producer = format!("file {files}");
        let args = ["send", "shop-orders", "--file", name, "--producer", &producer];
        run(dir, &args.into_iter().chain(flag).collect::<Vec<_>>())
    };
    let padded = |len: usize| format!("{}{}\n", order("a", 1), " ".repeat(len - order("a", 1).len()));
    for len in [limit - 1, limit] {
        let (code, _, said) = sent("rows.jsonl", &padded(len));
        assert_eq!(code, 0, "{said}");
    }
    let first = order("a", 1);
    let (code, _, said) = sent("rows.jsonl", &format!("{first}\n{}{first}\n", padded(limit + 1)));
    let too_long = format!("the row is longer than max_row_bytes = {limit} allows; raise it, or correct the file");
    assert!(code == 1 && said.contains(&format!("rows.jsonl:2: {too_long}")), "{said}");

    // A row whose name is too long for a record is read, too, or that could not be said.
    let row = |len: usize| format!("{}1,{},1997-01-01,1,2.50", csv(0..1), "c".repeat(len - 20));
    assert_eq!(row(100).lines().last().unwrap().len(), 100);
    for (len, fits) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
        for end in ["\n", "\r\n"] {
            let (code, _, said) = sent("rows.csv", &(row(len) + end));
            let why = match fits {
                true if len < MAX_RECORD_BYTES => "",
                true => "max_record_bytes allows",
                false => &format!("rows.csv:3: {too_long}"),
            };
            assert!(said.contains(why), "{len} {end:?}: {said}");
            assert_eq!(code, i32::from(!why.is_empty()), "{len} {end:?}: {said}");
        }
    }
    // Far behind the limit nothing is read.
    let (code, _, said) = sent("rows.csv", &row(2 * limit));
    assert!(code == 1 && said.contains(&format!("rows.csv:3: {too_long}")), "{said}");
}

#[agent(topic = "lengths", output = "texts", on_error = skip)]
async fn write_out(len: i64) -> Result<String> {
    Ok("x".repeat(usize::try_from(len).unwrap_or(0)))
}

/// What an agent puts out is its record's affair: the policy decides.
#[test]
fn records_that_an_agent_puts_out() {
    let mut app = TestApp::new(App::new("limits").agent::<write_out>()).unwrap();
    let limit = MAX_RECORD_BYTES as i64;
    for len in [limit - 1, limit, limit + 1, 5] {
        app.send_keyed("lengths", len.to_string(), &len).unwrap();
    }
    let mut lengths: Vec<usize> = app.recv_all::<String>("texts").unwrap().iter().map(String::len).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [5, MAX_RECORD_BYTES - 1, MAX_RECORD_BYTES]);
}

#[tokio::test]
async fn batches() {
    let folder = tempfile::tempdir().unwrap();
    // The least with the largest record.
    const LIMIT: usize = (512 << 10) + 2 * 1_000;
    let options = |max_batch_bytes| LogOptions { max_batch_bytes, max_record_bytes: 1_000, ..options(folder.path()) };
    let backend = open(options(LIMIT), 1).await;
    for (len, fits) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
        let appended = append(&backend, &place(0), &mut frame_of(len)).await;
        assert_eq!(appended.err().map(|error| error.kind()), (!fits).then_some(ErrorKind::Limit), "{len}");
    }
    drop(backend);
    // What is there is read whatever the limit is now.
    let least = LogOptions { max_record_bytes: 16, ..options((512 << 10) + 32) };
    let backend = open(least, 1).await;
    let (mut reader, mut frames) = (backend.reader(&place(0), 0).unwrap(), Frames::default());
    while reader.read(&mut frames).unwrap() {}
    assert_eq!(reader.position(), 2);
    let ends = [((64 << 20) - 1, true), (64 << 20, true), ((64 << 20) + 1, false)];
    for (most, opens) in [(LIMIT - 1, false), (LIMIT, true), (LIMIT + 1, true)].into_iter().chain(ends) {
        assert_eq!(LogBackend::open(options(most), Clock::system()).is_ok(), opens, "{most}");
    }
}

/// A batch that is as long as it is to be is appended at once, and a shorter one waits.
#[tokio::test]
async fn records_that_are_put_together() {
    const BATCH: usize = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let log = open(LogOptions { batch_bytes: BATCH, ..options(folder.path()) }, 1).await;
    let backend: Arc<dyn Backend> = Arc::new(log.clone());
    for (len, end) in [(BATCH - 1, 0), (BATCH, 2), (BATCH + 1, 3)] {
        let mut publisher = Publisher::open(&backend, "orders", None).await.unwrap();
        let value = frame_of(len).records().next().unwrap().value.unwrap().to_vec();
        publisher.push(None, Some(&value), 0).await.unwrap();
        assert_eq!(log.offsets(&place(0)).unwrap().end, end, "{len}");
        publisher.flush().await.unwrap();
    }
    // A batch must be long enough for it, with the largest record at its end.
    let least = |batch_bytes: usize| (256 << 10) + batch_bytes.max(256 << 10) + 2 * 1_000;
    for batch_bytes in [BATCH, 256 << 10, (256 << 10) + 1, 1 << 20] {
        for (max_batch_bytes, opens) in [(least(batch_bytes) - 1, false), (least(batch_bytes), true)] {
            let options =
                LogOptions { max_record_bytes: 1_000, batch_bytes, max_batch_bytes, ..options(folder.path()) };
            assert_eq!(LogBackend::open(options, Clock::system()).is_ok(), opens, "{batch_bytes} {max_batch_bytes}");
        }
    }
}

/// A batch is closed when it has 256 KiB; the record that does it may be the largest that there can be.
#[tokio::test]
async fn a_batch_takes_the_largest_record_where_it_was_nearly_full() {
    const RECORD: usize = 300_000;
    let folder = tempfile::tempdir().unwrap();
    let limits =
        LogOptions { max_record_bytes: RECORD, max_batch_bytes: (512 << 10) + 2 * RECORD, ..options(folder.path()) };
    let log = open(limits, 1).await;
    let backend: Arc<dyn Backend> = Arc::new(log.clone());
    let mut publisher = Publisher::open(&backend, "orders", None).await.unwrap();
    publisher.push(Some(b"a"), Some(&vec![1; (256 << 10) - 100]), 0).await.unwrap();
    publisher.push(Some(&vec![1; RECORD]), Some(&vec![2; RECORD]), 0).await.unwrap();
    let (mut reader, mut frames) = (log.reader(&place(0), 0).unwrap(), Frames::default());
    assert!(reader.read(&mut frames).unwrap());
    let lengths: Vec<usize> = frames.iter().map(|frame| frame.header.len).collect();
    assert!(matches!(lengths[..], [len] if len > (256 << 10) - 100 + 2 * RECORD), "{lengths:?}");
}

static LETTERS: Table<String, String> = Table::new("letters");

#[agent(topic = "lengths", table = LETTERS)]
async fn keep_letters(len: i64, mut letters: TableMut<'_, String, String>) -> Result<()> {
    letters.set("key", "x".repeat(usize::try_from(len).unwrap_or(0)))
}

/// Calls of [`waits`] that have begun and not ended.
static BEGUN: AtomicUsize = AtomicUsize::new(0);
static GO_ON: Semaphore = Semaphore::const_new(0);

#[agent(topic = "orders", concurrency = 1000)]
async fn waits(_text: String) {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    GO_ON.acquire().await.unwrap().forget();
    BEGUN.fetch_sub(1, Ordering::SeqCst);
}

/// Of records that are a batch each as many are begun, and no more.
#[tokio::test]
async fn batches_that_are_worked_on_at_once() {
    const RECORDS: usize = 12;
    for limit in [3, 4, 5] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(LogOptions { read_bytes: 4096, ..options(folder.path()) }, 1).await;
        let backend: Arc<dyn Backend> = Arc::new(log);
        let app = App::new("limits").agent::<waits>();
        let plan = Plan::make(app.name(), &app.agents(), &*backend, 1).await.unwrap();
        for _ in 0..RECORDS {
            let mut publisher = Publisher::open(&backend, "orders", None).await.unwrap();
            let mut text = Vec::new();
            "x".repeat(5_000).encode_value(&mut text).unwrap();
            publisher.push(None, Some(&text), 1).await.unwrap();
            publisher.flush().await.unwrap();
        }
        let (stop, stopped) = watch::channel(false);
        let (said, _events) = mpsc::unbounded_channel();
        let options = WorkerOptions { concurrent_batches: limit, threads: 1, ..WorkerOptions::default() };
        let clock = Clock::system();
        let worker = tokio::spawn({
            let (clock, backend) = (clock.clone(), backend.clone());
            async move { worker::run(&plan, backend, options, clock, stopped, said).await }
        });
        while BEGUN.load(Ordering::SeqCst) < limit {
            clock.sleep(Duration::from_millis(2)).await;
        }
        clock.sleep(Duration::from_millis(100)).await;
        assert_eq!(BEGUN.load(Ordering::SeqCst), limit);
        // Where the oldest batch is done another is begun.
        GO_ON.add_permits(RECORDS);
        while BEGUN.load(Ordering::SeqCst) + GO_ON.available_permits() > 0 {
            clock.sleep(Duration::from_millis(2)).await;
        }
        stop.send(true).unwrap();
        worker.await.unwrap().unwrap();
    }
}

/// A table's value has a frame of its own where it is so large; one that is a byte too large stops its partition.
#[test]
fn values_of_tables() {
    const LIMIT: usize = 700_000;
    /// How long the largest frame of the changelog is with a value of so many letters.
    fn largest_frame(letters: i64) -> Result<usize> {
        let folder = tempfile::tempdir().unwrap();
        let log = || LogOptions { max_batch_bytes: LIMIT, max_record_bytes: 50_000, ..options(folder.path()) };
        let session = Session::open(App::new("limits").agent::<keep_letters>(), log(), 1)?;
        session.publish("lengths", "lengths", [(b"key".to_vec(), letters)])?;
        session.process()?;
        assert_eq!(session.table(&LETTERS)?[0].1.len() as i64, letters);
        drop(session);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let backend = LogBackend::open(log(), Clock::system())?;
        let topics = runtime.block_on(backend.topics())?;
        let changelog = topics.iter().find(|topic| topic.spec.internal).unwrap().spec.name.clone();
        let (mut reader, mut frames) = (backend.reader(&TopicPartition::new(changelog, 0), 0)?, Frames::default());
        let mut largest = 0;
        while reader.read(&mut frames)? {
            largest = frames.iter().map(|frame| frame.header.len).max().unwrap_or(0).max(largest);
        }
        Ok(largest)
    }
    let some = 600_000;
    let limit = some + (LIMIT - largest_frame(some).unwrap()) as i64;
    for (letters, frame) in [(limit - 1, LIMIT - 1), (limit, LIMIT)] {
        assert_eq!(largest_frame(letters).unwrap(), frame);
    }
    let error = largest_frame(limit + 1).unwrap_err();
    assert!(error.to_string().contains("max_batch_bytes allows 700000"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(LogOptions { read_bytes: 10_000, ..options(folder.path()) }, 3).await;
    for (partition, len) in [(0, 4_999), (1, 5_000), (2, 5_001)] {
        for _ in 0..4 {
            append(&backend, &place(partition), &mut frame_of(len)).await.unwrap();
        }
        let mut frames = Frames::default();
        let mut reader = backend.reader(&place(partition), 1).unwrap();
        assert!(reader.read(&mut frames).unwrap());
        // Two frames are within the limit, or exactly as long, or one byte too long.
        assert_eq!(frames.iter().count(), if len <= 5_000 { 2 } else { 1 }, "{len}");
        assert!(frames.bytes.capacity() <= 40_000, "{}", frames.bytes.capacity());
    }
    // A frame that is larger than the limit is read alone.
    append(&backend, &place(0), &mut frame_of(30_000)).await.unwrap();
    let mut reader = backend.reader(&place(0), 4).unwrap();
    let mut frames = Frames::default();
    assert!(reader.read(&mut frames).unwrap());
    assert_eq!((frames.iter().count(), reader.position()), (1, 5));
    for (bytes, opens) in [(4_095, false), (4_096, true), (4_097, true)] {
        let options = LogOptions { read_bytes: bytes, ..options(folder.path()) };
        assert_eq!(LogBackend::open(options, Clock::system()).is_ok(), opens, "{bytes}");
    }
}

/// Files of partitions that this process has open.
fn open_files(folder: &Path) -> usize {
    let topics = folder.canonicalize().unwrap().join("topics");
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|path| path.starts_with(&topics))
        .count()
}

#[tokio::test]
async fn files_that_are_open() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(options(folder.path()), 4).await);
    // A partition takes four and a reader one; each is in use as long as its reader lives.
    for (most, fits) in [(9, false), (10, true), (11, true)] {
        let backend = open(LogOptions { max_open_files: Some(most), ..options(folder.path()) }, 4).await;
        let first = backend.reader(&place(0), 0).unwrap();
        let second = backend.reader(&place(1), 0);
        assert!(open_files(folder.path()) <= most);
        assert_eq!(second.as_ref().err().map(|error| error.kind()), (!fits).then_some(ErrorKind::Limit), "{most}");
        drop((first, second));
        // Partitions that nobody uses are closed where others are wanted.
        let readers: Vec<Box<dyn Reader>> =
            (2..4).map_while(|partition| backend.reader(&place(partition), 0).ok()).collect();
        assert_eq!(readers.len(), if fits { 2 } else { 1 }, "{most}");
        for partition in 0..4 {
            // Where the second reader was refused, its partition makes room for another.
            assert_eq!(backend.offsets(&place(partition)).is_ok(), !fits || partition >= 2, "{most} {partition}");
            assert!(open_files(folder.path()) <= most);
        }
    }
}

/// What a compaction must take note of at once is a segment.
#[tokio::test]
async fn records_of_a_segment_that_is_compacted() {
    let settings = TopicSettings::parse(["cleanup=compact"]).unwrap();
    // Half of the memory is for records aside, an eighth of the places stays free, and there is to be room for two.
    let most = (1 << 14) / 8 * 7 / 2_u64;
    for (records, segments) in [(most - 1, 1), (most, 1), (most + 1, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { compaction_memory_bytes: 1 << 20, ..options(folder.path()) };
        let backend = LogBackend::open(options, Clock::system()).unwrap();
        for (topic, settings) in [("orders", settings), ("plain", TopicSettings::default())] {
            backend.create_topic(&TopicSpec { settings, ..TopicSpec::new(topic, 1) }).await.unwrap();
            let place = TopicPartition::new(topic, 0);
            for piece in [records / 2, records - records / 2 - 1, 1] {
                let mut frame = FrameBuilder::new();
                (0..piece).for_each(|_| frame.push(Some(b"key"), Some(b"value"), 0));
                append(&backend, &place, &mut frame).await.unwrap();
            }
            let names = std::fs::read_dir(folder.path().join(format!("topics/{topic}/0"))).unwrap();
            let count = names.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "log"));
            assert_eq!(count.count(), if topic == "orders" { segments } else { 1 }, "{records} in {topic}");
        }
    }
}
