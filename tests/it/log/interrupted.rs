//! A process that ends between any two calls to the file system, in everything that changes more than one file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use gretchen::backend::log::{LogBackend, LogOptions, Only, repair, verify};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::disk::{self, Disk, FileSystem, Open, OpenFile, Room, SharedPage};
use gretchen::record::FrameBuilder;
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

use super::cleaning::{Seen, append, read_from, segments, small, topic};
use crate::support::copy;

/// The machine's file system for a process that ends at some call that changes something.
#[derive(Debug)]
struct Ending {
    disk: Disk,
    left: Arc<AtomicI64>,
}

#[derive(Debug)]
struct EndingFile {
    file: Box<dyn OpenFile>,
    left: Arc<AtomicI64>,
}

/// Unwinds as a killed process would stop: no error is handled.
fn step(left: &AtomicI64) {
    if left.fetch_sub(1, Ordering::SeqCst) <= 0 {
        std::panic::resume_unwind(Box::new("the process ends here"));
    }
}

impl FileSystem for Ending {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn OpenFile>> {
        if how != Open::Existing {
            step(&self.left);
        }
        let file = FileSystem::open(&*self.disk, path, how)?;
        Ok(Box::new(EndingFile { file, left: self.left.clone() }))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        step(&self.left);
        self.disk.create_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        step(&self.left);
        self.disk.sync_folder(path)
    }
    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.names(path)
    }
    fn is_folder(&self, path: &Path) -> bool {
        self.disk.is_folder(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        step(&self.left);
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        step(&self.left);
        self.disk.remove(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        step(&self.left);
        self.disk.remove_folder(path)
    }
    fn unique_name(&self) -> String {
        self.disk.unique_name()
    }
    fn room(&self, path: &Path) -> Option<Room> {
        self.disk.room(path)
    }
    fn boot(&self) -> Option<[u64; 2]> {
        self.disk.boot()
    }
    fn is_system(&self) -> bool {
        self.disk.is_system()
    }
    fn beside(&self, work: disk::Work) {
        FileSystem::beside(&*self.disk, work);
    }
    fn keep(&self, what: disk::Kept) {
        self.disk.keep(what);
    }
}

impl OpenFile for EndingFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(into, at)
    }
    fn read_spare_at(&self, into: &mut Vec<u8>, at: u64) -> io::Result<usize> {
        self.file.read_spare_at(into, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        step(&self.left);
        self.file.write_at(bytes, at)
    }
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        step(&self.left);
        self.file.set_len(len)
    }
    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        step(&self.left);
        self.file.allocate(at, len)
    }
    fn sync_data(&self) -> io::Result<()> {
        step(&self.left);
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        step(&self.left);
        self.file.sync_all()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }
    fn lock_shared(&self) -> io::Result<()> {
        self.file.lock_shared()
    }
    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
    fn is_linked(&self) -> io::Result<bool> {
        self.file.is_linked()
    }
    fn map(&self) -> io::Result<Arc<dyn SharedPage>> {
        self.file.map()
    }
}

fn plain(folder: &Path) -> LogBackend {
    LogBackend::open(small(folder), Clock::system()).unwrap()
}

/// Sixty records of nine keys in a dozen segments, appended two days ago.
async fn template(settings: &[&str]) -> (tempfile::TempDir, TopicPartition, Vec<Seen>) {
    const DAYS: i64 = 2 * 24 * 60 * 60 * 1000;
    let folder = tempfile::tempdir().unwrap();
    let then = Clock::manual(Clock::system().now_ms() - DAYS);
    let backend = LogBackend::open(small(folder.path()), then).unwrap();
    let place = topic(&backend, settings).await;
    for i in 0..60 {
        let value = (i % 11 != 3).then(|| format!("{i} {}", "v".repeat(600)));
        append(&backend, &place, &[(format!("key {}", i % 9), value)]).await;
    }
    let all = read_from(&backend, &place, 0);
    // Clocks that are made by hand have a start of the machine of their own.
    std::fs::remove_file(folder.path().join("time")).unwrap();
    (folder, place, all)
}

/// What a process is at when it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Roll,
    RetentionBySize,
    RetentionByTime,
    DeleteBefore,
    Compaction,
    Settings,
    Creation,
    Deletion,
}

/// A batch that ends a segment.
fn batch() -> FrameBuilder {
    let mut frame = FrameBuilder::new();
    (0..5).for_each(|i| frame.push(Some(b"batch"), Some(format!("{i} {}", "b".repeat(700)).as_bytes()), 0));
    frame
}

fn spec() -> TopicSpec {
    let schema = Some(gretchen::topic::TopicSchema { fingerprint: 7, json: "\"string\"".into() });
    TopicSpec { schema, ..TopicSpec::new("fresh", 3) }
}

impl Work {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::RetentionBySize => &["retention_bytes=9000"],
            Self::RetentionByTime => &["retention_ms=1d"],
            Self::Compaction => &["cleanup=compact"],
            _ => &[],
        }
    }

    async fn run(self, backend: LogBackend) -> gretchen::error::Result<()> {
        let place = TopicPartition::new("orders", 0);
        match self {
            Self::Roll => {
                let name = ProducerId::named("batch");
                for sequence in (0..20).step_by(5) {
                    let mut producer = backend.producer(name).await?;
                    producer.append(&place, &mut batch(), Some(sequence)).await?;
                    producer.flush().await?;
                }
                Ok(())
            }
            Self::RetentionBySize | Self::RetentionByTime | Self::Compaction => {
                backend.clean(&place, true).await.map(drop)
            }
            Self::DeleteBefore => backend.delete_before(&place, 33).await.map(drop),
            Self::Settings => {
                let settings = TopicSettings::parse(["retention_ms=1d"])?;
                backend.set_topic("orders", &settings).await.map(drop)
            }
            Self::Creation => backend.create_topic(&spec()).await.map(drop),
            Self::Deletion => backend.delete_topic("orders").await,
        }
    }

    /// What may be there after an end at any step, and after the work was done again.
    async fn check(self, folder: &Path, all: &[Seen]) {
        let place = TopicPartition::new("orders", 0);
        let backend = plain(folder);
        let again = |backend: LogBackend| async move { self.run(backend).await.unwrap() };
        match self {
            Self::Roll => {
                let have = read_from(&backend, &place, 0);
                assert_eq!(have[..all.len()], *all);
                assert_eq!((have.len() - all.len()) % 5, 0, "a batch is there whole or not at all");
                again(backend.clone()).await;
                assert_eq!(read_from(&backend, &place, 0).len(), all.len() + 20);
            }
            Self::RetentionBySize | Self::RetentionByTime | Self::DeleteBefore => {
                let (least, begins) = match self {
                    Self::RetentionBySize => (8, 40..56),
                    // The last segment is closed now, and what is in it is no older than that.
                    Self::RetentionByTime => (1, 54..60),
                    _ => (26, 27..34),
                };
                let have = read_from(&backend, &place, 0);
                assert!(all.ends_with(&have) && have.len() >= least, "{} records are left", have.len());
                again(backend.clone()).await;
                let have = read_from(&backend, &place, 0);
                let start = backend.offsets(&place).unwrap().start;
                assert_eq!(have, all[start as usize..]);
                assert!(begins.contains(&start), "it begins at {start}");
            }
            Self::Compaction => {
                check_compacted(&backend, &place, all);
                let fewer = read_from(&backend, &place, 0).len();
                again(backend.clone()).await;
                check_compacted(&backend, &place, all);
                let have = read_from(&backend, &place, 0);
                assert!(have.len() <= fewer && have.len() < 30, "{} records are left", have.len());
                let names = std::fs::read_dir(folder.join("topics/orders/0")).unwrap();
                let names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
                assert!(!names.iter().any(|name| name.ends_with(".draft")), "{names:?}");
                // None is left that another has taken the place of.
                let bounds = |name: &String| {
                    let name = name.trim_end_matches(".log");
                    let (base, end) = name.split_once('-').unwrap_or((name, name));
                    (base.parse::<u64>().unwrap(), end.parse::<u64>().unwrap())
                };
                let bounds: Vec<_> = segments(folder).iter().map(bounds).collect();
                assert!(bounds.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{bounds:?}");
            }
            Self::Settings => {
                let settings = backend.topic("orders").unwrap().spec.settings;
                assert!([None, Some(24 * 60 * 60 * 1000)].contains(&settings.retention_ms));
                again(backend.clone()).await;
                assert_eq!(backend.topic("orders").unwrap().spec.settings.retention_ms, Some(24 * 60 * 60 * 1000));
                assert_eq!(read_from(&backend, &place, 0), all);
            }
            Self::Creation => {
                let there = backend.topics().await.unwrap().iter().any(|topic| &*topic.spec.name == "fresh");
                if there {
                    let topic = backend.topic("fresh").unwrap();
                    assert!(topic.spec.partitions == 3 && topic.schemas.len() <= 1);
                }
                again(backend.clone()).await;
                let topic = backend.topic("fresh").unwrap();
                assert_eq!((topic.spec.partitions, topic.schemas.len()), (3, 1));
                assert_eq!(backend.offsets(&TopicPartition::new("fresh", 2)).unwrap(), Default::default());
                assert_eq!(read_from(&backend, &place, 0), all);
            }
            Self::Deletion => {
                if backend.topic("orders").is_ok() {
                    assert_eq!(read_from(&backend, &place, 0), all);
                    again(backend.clone()).await;
                }
                assert!(backend.topic("orders").is_err());
                backend.create_topic(&TopicSpec::new("orders", 1)).await.unwrap();
                assert_eq!(read_from(&backend, &place, 0), []);
                assert_eq!(backend.position("somebody", &place).unwrap(), None);
            }
        }
        // The next to open the folder removes what was left.
        assert_eq!(std::fs::read_dir(folder.join("drafts")).unwrap().count(), 0);
        // Work goes on.
        let before = backend.offsets(&place).unwrap().end;
        append(&backend, &place, &[("more".to_owned(), Some("record".to_owned()))]).await;
        backend.sync(&place, before + 1).await.unwrap();
        drop(backend);
        let backend = plain(folder);
        assert_eq!(read_from(&backend, &place, before).len(), 1);
    }
}

/// Nothing but what was appended, and the last of every key that is no tombstone.
fn check_compacted(backend: &LogBackend, place: &TopicPartition, all: &[Seen]) {
    let have = read_from(backend, place, 0);
    assert!(have.is_sorted_by_key(|(offset, ..)| *offset) && have.iter().all(|seen| all.contains(seen)));
    for key in 0..9 {
        let key = Some(format!("key {key}"));
        let last = |list: &[Seen]| list.iter().rfind(|seen| seen.1 == key).cloned();
        assert_eq!(last(&have), last(all), "{key:?}");
    }
}

/// Does the work in processes that end at the first, the second, … call that changes something, each on a copy of the
/// same folder. Ends with a process that gets through.
async fn end_at_every_step(work: Work) {
    let (template, _, all) = template(work.settings()).await;
    // Somebody has read some of it.
    let groups = template.path().join("groups/somebody/positions");
    std::fs::create_dir_all(&groups).unwrap();
    let mut position = 17_u64.to_le_bytes().to_vec();
    position.extend_from_slice(&crc32c::crc32c(&position).to_le_bytes());
    position.extend_from_slice(&[0; 4]);
    std::fs::write(groups.join("orders-0"), position).unwrap();
    for steps in 0.. {
        assert!(steps < 2000, "it never ends");
        let folder = tempfile::tempdir().unwrap();
        copy(template.path(), folder.path());
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let disk = Disk::new(Arc::new(Ending { disk: Disk::system(), left: left.clone() }));
        let options = LogOptions { disk, ..small(folder.path()) };
        let backend = LogBackend::open(options, Clock::system()).unwrap();
        left.store(steps, Ordering::SeqCst);
        let done = matches!(tokio::spawn(work.run(backend.clone())).await, Ok(Ok(())));
        left.store(0, Ordering::SeqCst);
        drop(backend);
        work.check(folder.path(), &all).await;
        if done {
            println!("{work:?}: {steps} steps");
            assert!(steps > 3, "nothing was done");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_roll_ends_at_any_step() {
    end_at_every_step(Work::Roll).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_ends_at_any_step() {
    end_at_every_step(Work::RetentionBySize).await;
    end_at_every_step(Work::RetentionByTime).await;
    end_at_every_step(Work::DeleteBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_ends_at_any_step() {
    end_at_every_step(Work::Compaction).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_creation_of_a_topic_ends_at_any_step() {
    end_at_every_step(Work::Creation).await;
    end_at_every_step(Work::Settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deletion_of_a_topic_ends_at_any_step() {
    end_at_every_step(Work::Deletion).await;
}

/// Whoever repairs has the partition alone, so that no backend is open. What a loss of power does to it is found out in
/// [`crate::sim`].
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_ends_at_any_step() {
    const LOST: [u64; 3] = [17, 19, 31];
    let (template, place, all) = template(&[]).await;
    plain(template.path()).sync(&place, all.len() as u64).await.unwrap();
    let partition = template.path().join("topics/orders/0");
    let names = segments(template.path());
    let mut damaged = 0;
    for name in &names {
        let path = partition.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        for lost in LOST {
            let value = format!("{lost} vvv");
            if let Some(at) = bytes.windows(value.len()).position(|window| window == value.as_bytes()) {
                bytes[at] ^= 1;
                damaged += 1;
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(damaged, LOST.len());
    let left: Vec<Seen> = all.iter().filter(|(offset, ..)| !LOST.contains(offset)).cloned().collect();
    for steps in 0.. {
        assert!(steps < 2000, "it never ends");
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        copy(template.path(), folder);
        let ending = Ending { disk: Disk::system(), left: Arc::new(AtomicI64::new(steps)) };
        let options = LogOptions { disk: Disk::new(Arc::new(ending)), ..small(folder) };
        let ended = std::thread::spawn(move || repair(&options, Only::default())).join();
        let check_copies = || {
            for name in &names {
                let was = std::fs::read(partition.join(name)).unwrap();
                let now = std::fs::read(folder.join("topics/orders/0").join(name)).unwrap();
                let repairs = std::fs::read_dir(folder.join("damaged")).into_iter().flatten();
                let mut copies = repairs.map(|entry| entry.unwrap().path().join("orders-0").join(name));
                let is_kept = copies.any(|copy| std::fs::read(copy).is_ok_and(|copy| copy == was));
                assert!(now == was || is_kept, "after {steps} steps {name} is nowhere as it was");
            }
        };
        check_copies();
        let mended = repair(&small(folder), Only::default()).unwrap();
        assert!(mended.iter().all(|one| one.done), "{mended:#?}");
        check_copies();
        assert_eq!(verify(&small(folder), Only::default()).unwrap().findings, [], "after {steps} steps");
        let backend = plain(folder);
        assert_eq!(read_from(&backend, &place, 0), left, "after {steps} steps");
        append(&backend, &place, &[("more".to_owned(), Some("record".to_owned()))]).await;
        let end = backend.offsets(&place).unwrap().end;
        assert_eq!(end, all.len() as u64 + 1, "after {steps} steps");
        if matches!(ended, Ok(Ok(_))) {
            println!("repair: {steps} steps");
            assert!(steps > 20, "nothing was done in {steps} steps");
            return;
        }
    }
}
