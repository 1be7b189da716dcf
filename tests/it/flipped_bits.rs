//! Single bits flipped in indexes, metadata and the stores of tables: what is read is right, or there is an error that
//! says where.
//!
//! `GRETCHEN_BITS=100000` sets how many bits are flipped: half of them in indexes, a fifth in a store, the others in
//! metadata. Without it every fiftieth is in a store, which takes the longest to open.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gretchen::app::App;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, Consumer, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::error::{Error, Result};
use gretchen::record::{FrameBuilder, Frames};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{Cleanup, TopicPartition, TopicSpec};
use gretchen::{agent, records};
use tempfile::TempDir;

use crate::log::every_bit::quick_folder;
use crate::support::Random;

records!("schemas/order.avsc");

use shop::Order;

/// Number of orders of each customer, and the sum of what they paid.
static SPENT: Table<String, i64> = Table::new("spent");

#[agent(topic = "orders", key = customer, table = SPENT)]
async fn add_up(order: Order, mut spent: TableMut<'_, String, i64>) -> Result<()> {
    spent.update(&order.customer, |sum| *sum += order.order_id)?;
    Ok(())
}

/// Bits that are flipped in all.
fn bits() -> usize {
    asked().unwrap_or(20_000)
}

fn asked() -> Option<usize> {
    std::env::var("GRETCHEN_BITS").ok().map(|bits| bits.parse().unwrap())
}

/// Those of them in stores.
fn bits_of_stores() -> usize {
    asked().map_or(bits() / 50, |bits| bits / 5)
}

/// Runs `check` for as many numbers as asked for, on every processor; `make` is called once by each thread.
fn on_all_processors<T>(count: usize, make: impl Fn() -> T + Sync, check: impl Fn(&T, &mut Random) -> bool + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let refused: usize = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (make, check) = (&make, &check);
                scope.spawn(move || {
                    let made = make();
                    let mut random = Random::numbered(thread as u64);
                    (0..count.div_ceil(threads)).filter(|_| !check(&made, &mut random)).count()
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{count} bits were flipped: {refused} times there was an error, otherwise everything was right");
}

fn flip(path: &Path, bit: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).unwrap();
}

/// An error must say what it is about.
fn is_clear(error: &Error, folder: &Path, what: &str) {
    let text = error.to_string();
    let names = [folder.to_str().unwrap(), "orders", "spent", "add_up"];
    assert!(names.iter().any(|name| text.contains(name)), "{what}: {error:?}");
}

#[test]
fn an_index_with_a_flipped_bit_leads_nowhere_else() {
    const RECORDS: u64 = 120;
    let make = || {
        let folder = quick_folder();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let options = LogOptions { segment_bytes: 2 << 20, ..LogOptions::new(folder.path()) };
        let backend = LogBackend::open(options, Clock::system()).unwrap();
        runtime.block_on(async {
            backend.create_topic(&TopicSpec::new("orders", 1)).await.unwrap();
            let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
            for number in 0..RECORDS {
                let mut frame = FrameBuilder::new();
                let mut value = number.to_le_bytes().to_vec();
                value.resize(40_000, number as u8);
                frame.push(None, Some(&value), 0);
                producer.append(&TopicPartition::new("orders", 0), &mut frame, None).await.unwrap();
            }
        });
        (folder, backend)
    };
    on_all_processors(bits() / 2, make, |(folder, backend): &(TempDir, LogBackend), random| {
        let partition = folder.path().join("topics/orders/0");
        let indexes: Vec<PathBuf> = fs::read_dir(partition)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "index"))
            .collect();
        assert!(indexes.len() > 1, "{indexes:?}");
        let index = &indexes[random.within(0..indexes.len() as u64) as usize];
        let bit = random.within(0..index.metadata().unwrap().len() * 8);
        flip(index, bit);
        for from in [0, random.within(0..RECORDS), RECORDS - 1] {
            let mut reader = backend.reader(&TopicPartition::new("orders", 0), from).unwrap();
            let mut frames = Frames::default();
            assert!(reader.read(&mut frames).unwrap());
            let record = frames.iter().flat_map(|frame| frame.records()).find(|record| record.offset >= from).unwrap();
            assert_eq!((record.offset, &record.value.unwrap()[..8]), (from, &from.to_le_bytes()[..]), "bit {bit}");
        }
        flip(index, bit);
        true
    });
}

/// A folder with orders and what an agent made of them; every file as it is.
struct Template {
    files: Vec<(PathBuf, Vec<u8>)>,
    ids: Vec<i64>,
    schema: String,
    table: Vec<(String, i64)>,
    /// Records of the agent's changelog.
    commits: usize,
    /// The ids of the topic and of the changelog.
    topic_ids: [Option<Arc<str>>; 2],
}

const CHANGELOG: &str = "shop-add_up-changelog";

const GROUP: &str = "people";

/// Bytes at the end of each of RocksDB's files of states, which say where in it everything else is.
const FOOTER: u64 = 53;

fn template() -> Template {
    let folder = quick_folder();
    let options = LogOptions::new(folder.path());
    let session = Session::open(app(), options.clone(), 1).unwrap();
    let orders: Vec<Order> = (0..300)
        .map(|order_id| Order {
            order_id,
            customer: format!("C{}", order_id % 11),
            ordered_on: "1997-01-01".parse().unwrap(),
            quantity: 1,
            amount: gretchen::prelude::Decimal::new(250, 2),
        })
        .collect();
    session
        .publish("orders", "all", orders.iter().map(|order| (order.customer.clone().into_bytes(), order.clone())))
        .unwrap();
    session.process().unwrap();
    let mut table = session.table(&SPENT).unwrap();
    table.sort();
    drop(session);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (schema, commits, topic_ids) = runtime.block_on(async {
        let backend = LogBackend::open(options, Clock::system()).unwrap();
        let consumer: Box<dyn Consumer> = backend.consumer(GROUP, &[]).await.unwrap();
        consumer.ack(&TopicPartition::new("orders", 0), 77).unwrap();
        let schema = backend.topic("orders").unwrap().schemas[0].json.to_string();
        (
            schema,
            count(&backend, CHANGELOG).unwrap(),
            ["orders", CHANGELOG].map(|topic| backend.topic_id(topic).unwrap()),
        )
    });
    assert!(commits > 11 && topic_ids.iter().all(Option::is_some), "{commits}, {topic_ids:?}");
    let mut files = Vec::new();
    collect(folder.path(), folder.path(), &mut files);
    Template { files, ids: (0..300).collect(), schema, table, commits, topic_ids }
}

/// Reads all records of a topic.
fn count(backend: &LogBackend, topic: &str) -> Result<usize> {
    let mut reader = backend.reader(&TopicPartition::new(topic, 0), 0)?;
    let (mut frames, mut count) = (Frames::default(), 0);
    while reader.read(&mut frames)? {
        count += frames.iter().map(|frame| frame.records().count()).sum::<usize>();
    }
    Ok(count)
}

fn app() -> App {
    App::new("shop").agent::<add_up>()
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push((path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap()));
        }
    }
}

impl Template {
    /// Writes the files below `part` as they were, and removes others there.
    fn restore(&self, root: &Path, part: &str) {
        let mut there = Vec::new();
        if root.join(part).is_dir() {
            collect(root, &root.join(part), &mut there);
        }
        for (path, content) in there {
            match self.files.iter().find(|(have, _)| *have == path) {
                Some((_, sound)) if *sound == content => {}
                Some((_, sound)) => fs::write(root.join(path), sound).unwrap(),
                None => fs::remove_file(root.join(path)).unwrap(),
            }
        }
        for (path, content) in self.files.iter().filter(|(path, _)| path.starts_with(part)) {
            if !root.join(path).exists() {
                fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                fs::write(root.join(path), content).unwrap();
            }
        }
    }

    fn pick(&self, random: &mut Random, wanted: impl Fn(&str) -> bool) -> (PathBuf, u64) {
        let files: Vec<_> =
            self.files.iter().filter(|(path, content)| wanted(path.to_str().unwrap()) && !content.is_empty()).collect();
        let (path, content) = files[random.within(0..files.len() as u64) as usize];
        // Most of a file of reserved space says nothing; what is written is what matters.
        let written = content.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
        (path.clone(), random.within(0..written as u64 * 8))
    }

    fn make(&self) -> TempDir {
        let folder = quick_folder();
        for part in ["topics", "groups", "state"] {
            self.restore(folder.path(), part);
        }
        fs::write(folder.path().join("FORMAT"), "1\n").unwrap();
        folder
    }

    /// Reads everything that the log has; what of it does not work is an error.
    fn read_log(&self, root: &Path, what: &str) -> Result<()> {
        let backend = LogBackend::open(LogOptions::new(root), Clock::system())?;
        let place = TopicPartition::new("orders", 0);
        let topic = backend.topic("orders")?;
        assert_eq!((&*topic.spec.name, topic.spec.partitions), ("orders", 1), "{what}");
        assert_eq!(topic.spec.key_field.as_deref(), Some("customer"), "{what}");
        assert_eq!(topic.schemas.iter().map(|schema| &*schema.json).collect::<Vec<_>>(), [&*self.schema], "{what}");
        assert_eq!(count(&backend, "orders")?, self.ids.len(), "{what}");
        let changelog = backend.topic(CHANGELOG)?;
        assert!(changelog.spec.internal && changelog.spec.settings.cleanup == Cleanup::Compact, "{what}");
        assert_eq!(count(&backend, CHANGELOG)?, self.commits, "{what}");
        for (topic, id) in ["orders", CHANGELOG].into_iter().zip(&self.topic_ids) {
            let have = backend.topic_id(topic)?;
            assert!(have.is_none() || have == *id, "{what}: {topic} has the id {have:?}, and had {id:?}");
        }
        // One that is damaged counts as not known, and the group's task publishes it again.
        let position = backend.position(GROUP, &place)?;
        assert!([Some(77), None].contains(&position), "{what}: {position:?}");
        Ok(())
    }

    /// Flips a bit of a store, and looks at the table, behind a worker or not; whether it could be read.
    fn try_store(&self, root: &Path, path: &Path, bit: u64, work: bool) -> bool {
        let what = format!("bit {bit} of {}, work: {work}", path.display());
        flip(&root.join(path), bit);
        let read = self.read_table(root, work, &what);
        if let Err(error) = &read {
            is_clear(error, root, &what);
        }
        self.restore(root, "state");
        self.restore(root, "topics");
        read.is_ok()
    }

    fn read_table(&self, root: &Path, work: bool, what: &str) -> Result<()> {
        let session = Session::open(app(), LogOptions::new(root), 1)?;
        if work {
            session.process()?;
        }
        let mut table = session.table(&SPENT)?;
        table.sort();
        assert_eq!(table, self.table, "{what}");
        Ok(())
    }
}

#[test]
fn metadata_with_a_flipped_bit_is_refused_or_means_the_same() {
    let template = template();
    let is_metadata = |path: &str| {
        path == "FORMAT"
            || path.starts_with("topics/") && ["/id", ".json", ".avsc", "/end"].iter().any(|end| path.ends_with(end))
            || path.starts_with("groups/people/positions/")
    };
    on_all_processors(
        bits() / 2 - bits_of_stores(),
        || template.make(),
        |folder, random| {
            let root = folder.path();
            let (path, bit) = template.pick(random, is_metadata);
            let what = format!("bit {bit} of {}", path.display());
            flip(&root.join(&path), bit);
            let read = template.read_log(root, &what);
            if let Err(error) = &read {
                is_clear(error, root, &what);
            }
            fs::write(root.join("FORMAT"), "1\n").unwrap();
            template.restore(root, "topics");
            template.restore(root, "groups");
            read.is_ok()
        },
    );
}

#[test]
fn a_store_with_a_flipped_bit_is_refused_or_says_the_same() {
    let template = template();
    assert!(template.files.iter().any(|(path, _)| path.extension().is_some_and(|extension| extension == "sst")));
    on_all_processors(
        bits_of_stores(),
        || template.make(),
        |folder, random| {
            let (path, bit) = template.pick(random, |path| path.starts_with("state/"));
            template.try_store(folder.path(), &path, bit, random.one_in(20))
        },
    );
}

/// Where a database begins to be read, and where each of its files does.
#[test]
fn any_bit_of_what_leads_to_the_rest_of_a_store_is_refused_or_says_the_same() {
    let template = template();
    let named = |name: &str| {
        let is_named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().contains(name);
        let found = template.files.iter().find(|(path, _)| path.starts_with("state") && is_named(path));
        found.map(|(path, content)| (path.clone(), content.len() as u64)).unwrap()
    };
    let [current, manifest, table] = ["CURRENT", "MANIFEST-", ".sst"].map(named);
    let mut bits = Vec::new();
    for ((path, len), from) in [(&current, 0), (&manifest, 0), (&table, table.1 - FOOTER)] {
        bits.extend((from * 8..len * 8).map(|bit| (path, bit)));
    }
    let next = Mutex::new(bits.iter());
    on_all_processors(
        bits.len(),
        || template.make(),
        |folder, _| {
            let Some((path, bit)) = next.lock().unwrap().next().copied() else { return true };
            // A worker opens it in another way than whoever only looks.
            let tried = [false, true].map(|work| template.try_store(folder.path(), path, bit, work));
            tried == [true; 2]
        },
    );
}
