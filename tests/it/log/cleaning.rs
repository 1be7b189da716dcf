//! Old records go, by age, by bytes and by compaction, and nothing else does.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, ProducerId, Reader, Replay};
use gretchen::clock::Clock;
use gretchen::error::ErrorKind;
use gretchen::record::{FrameBuilder, Frames};
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

use super::options;
use crate::cli::good;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const START_MS: i64 = 1_700_000_000_000;

/// A record as it is read: offset, key, value.
pub(super) type Seen = (u64, Option<String>, Option<String>);

/// Segments so small that a few records fill one.
pub(super) fn small(folder: &Path) -> LogOptions {
    LogOptions { segment_bytes: 4096, ..options(folder) }
}

fn open(folder: &Path, clock: &Clock) -> LogBackend {
    LogBackend::open(small(folder), clock.clone()).unwrap()
}

pub(super) async fn topic(backend: &LogBackend, settings: &[&str]) -> TopicPartition {
    let settings = TopicSettings::parse(settings.iter().copied()).unwrap();
    backend.create_topic(&TopicSpec { settings, ..TopicSpec::new("orders", 1) }).await.unwrap();
    TopicPartition::new("orders", 0)
}

/// Appends a frame of records under a name that numbers them.
pub(super) async fn append(backend: &LogBackend, place: &TopicPartition, records: &[(String, Option<String>)]) {
    let mut frame = FrameBuilder::new();
    for (key, value) in records {
        frame.push(Some(key.as_bytes()), value.as_deref().map(str::as_bytes), 0);
    }
    let name = ProducerId::named("test");
    let sequence = backend.next_sequence(place, name).unwrap();
    backend.producer(name).await.unwrap().append(place, &mut frame, Some(sequence)).await.unwrap();
}

/// A record that a segment holds eight of.
fn bulky(i: usize) -> (String, Option<String>) {
    (format!("key {i}"), Some(format!("{i} {}", "x".repeat(440))))
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn drain(reader: &mut dyn Reader) -> Vec<Seen> {
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    while reader.read(&mut frames).unwrap() {
        let records = frames.iter().flat_map(|frame| frame.records());
        seen.extend(records.map(|record| (record.offset, text(record.key), text(record.value))));
    }
    seen
}

pub(super) fn read_from(backend: &LogBackend, place: &TopicPartition, from: u64) -> Vec<Seen> {
    let mut reader = backend.reader(place, from).unwrap();
    let seen = drain(&mut *reader);
    assert_eq!(reader.position(), backend.offsets(place).unwrap().end);
    seen.into_iter().filter(|(offset, ..)| *offset >= from).collect()
}

fn offsets(seen: &[Seen]) -> Vec<u64> {
    seen.iter().map(|(offset, ..)| *offset).collect()
}

/// The segments' files, in order.
pub(super) fn segments(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("topics/orders/0")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    names
}

/// Time passes, a look at it every hour as a worker takes it, and oftener.
async fn pass(backend: &LogBackend, place: &TopicPartition, clock: &Clock, hours: i64) {
    for _ in 0..hours {
        clock.advance(Duration::from_secs(60 * 60));
        backend.clean(place, false).await.unwrap();
    }
}

/// Nobody has cleaned anything before the clock was put right.
#[tokio::test]
async fn a_clock_that_was_slow_while_segments_began_makes_nothing_old() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START_MS - 30 * DAY_MS);
    let backend = open(folder.path(), &clock);
    let place = topic(&backend, &["retention_ms=7d", "segment_ms=1d"]).await;
    for i in 0..40 {
        append(&backend, &place, &[bulky(i)]).await;
    }
    clock.jump(30 * DAY_MS);
    pass(&backend, &place, &clock, 5).await;
    assert_eq!(read_from(&backend, &place, 0).len(), 40);
    // Who was not noted to be wrong is believed.
    let unseen = Clock::manual(START_MS - 30 * DAY_MS);
    std::fs::remove_file(folder.path().join("time")).unwrap();
    drop(backend);
    let backend = open(folder.path(), &unseen);
    unseen.advance(Duration::from_secs(37 * 24 * 60 * 60 + 1));
    backend.clean(&place, false).await.unwrap();
    assert!(read_from(&backend, &place, 0).len() < 40);
}

#[tokio::test]
async fn records_go_by_age_in_whole_segments() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START_MS);
    let backend = open(folder.path(), &clock);
    let place = topic(&backend, &["retention_ms=7d", "segment_ms=1d"]).await;
    // One a day.
    for day in 0..30_u64 {
        append(&backend, &place, &[bulky(day as usize)]).await;
        pass(&backend, &place, &clock, 24).await;
        let start = backend.offsets(&place).unwrap().start;
        // What was appended up to a day before its segment ended stays for seven days from then.
        assert!(start <= (day + 1).saturating_sub(7), "day {day}: begins at {start}");
        assert!(start + 10 >= day, "day {day}: begins at {start}");
        assert_eq!(offsets(&read_from(&backend, &place, 0)), (start..=day).collect::<Vec<_>>());
    }
    // What producers have sent is known although all of it is gone.
    pass(&backend, &place, &clock, 24 * 20).await;
    assert_eq!(backend.offsets(&place).unwrap().start, 30);
    assert_eq!(segments(folder.path()).len(), 1);
    drop(backend);
    let backend = open(folder.path(), &clock);
    assert_eq!(backend.offsets(&place).unwrap().start, 30);
    assert_eq!(backend.next_sequence(&place, ProducerId::named("test")).unwrap(), 30);
    append(&backend, &place, &[bulky(30)]).await;
    assert_eq!(offsets(&read_from(&backend, &place, 0)), [30]);
}

/// A clock that stands a day ahead or behind for hours changes nothing of what goes when.
#[tokio::test]
async fn a_clock_that_jumps_deletes_nothing_early() {
    for jumps in [&[DAY_MS, -DAY_MS][..], &[-DAY_MS, DAY_MS], &[DAY_MS, -2 * DAY_MS, DAY_MS]] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START_MS);
        let backend = open(folder.path(), &clock);
        let place = topic(&backend, &["retention_ms=2d", "segment_ms=1h"]).await;
        let mut started = Vec::new();
        for hour in 0..24 * 6_usize {
            if hour >= 30 && (hour - 30).is_multiple_of(7) {
                clock.jump(jumps.get((hour - 30) / 7).copied().unwrap_or(0));
            }
            append(&backend, &place, &[bulky(hour)]).await;
            // Somebody begins while the clock is wrong.
            let other = open(folder.path(), &clock);
            pass(&other, &place, &clock, 1).await;
            started.push(backend.offsets(&place).unwrap().start);
        }
        let expected: Vec<u64> = (0..24 * 6_u64).map(|hour| (hour + 1).saturating_sub(48)).collect();
        let wrong = started.iter().zip(&expected).position(|(had, want)| had.abs_diff(*want) > 1);
        assert_eq!(wrong, None, "jumps {jumps:?}: {started:?}");
    }
}

#[tokio::test]
async fn records_go_by_bytes_and_the_newest_stay() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let backend = open(folder.path(), &clock);
    let place = topic(&backend, &["retention_bytes=10000"]).await;
    for i in 0..100 {
        append(&backend, &place, &[bulky(i)]).await;
    }
    let before = segments(folder.path()).len();
    let cleaned = backend.clean(&place, false).await.unwrap();
    let start = backend.offsets(&place).unwrap().start;
    assert_eq!(cleaned.deleted_records, start);
    let left: u64 = segments(folder.path())
        .iter()
        .map(|name| folder.path().join("topics/orders/0").join(name).metadata().unwrap().len())
        .sum();
    // The segment that is written has reserved space.
    assert!(segments(folder.path()).len() < before && left > 10_000 && cleaned.freed_bytes > 20_000, "{left}");
    assert_eq!(offsets(&read_from(&backend, &place, 0)), (start..100).collect::<Vec<_>>());
    assert_eq!(backend.clean(&place, false).await.unwrap(), Default::default());
}

/// Without settings nothing ever goes, and what is set can be taken back.
#[tokio::test]
async fn nothing_goes_that_was_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START_MS);
    let backend = open(folder.path(), &clock);
    let place = topic(&backend, &[]).await;
    for i in 0..50 {
        append(&backend, &place, &[bulky(i)]).await;
    }
    pass(&backend, &place, &clock, 24 * 10).await;
    assert_eq!(read_from(&backend, &place, 0).len(), 50);
    backend.set_topic("orders", &TopicSettings::parse(["retention_ms=30d"]).unwrap()).await.unwrap();
    pass(&backend, &place, &clock, 24 * 10).await;
    assert_eq!(read_from(&backend, &place, 0).len(), 50);
    // Another handle is told with the next look.
    let other = open(folder.path(), &clock);
    assert_eq!(other.topic("orders").unwrap().spec.settings.retention_ms, Some(30 * DAY_MS as u64));
    pass(&other, &place, &clock, 24 * 40).await;
    assert_eq!(backend.offsets(&place).unwrap().start, 50);
    assert_eq!(read_from(&backend, &place, 0), []);
}

/// Whoever reads what is deleted under it reads on to the end of its segment, and then behind the gap.
/// Cleans the topic, as who has another handle in this process does or as another process.
async fn clean(backend: &LogBackend, folder: &Path, place: &TopicPartition, elsewhere: bool) {
    if elsewhere {
        let dir = folder.to_str().unwrap();
        good(folder, &["clean", &place.topic, "--data-dir", dir, "--segment-bytes=4096"]);
    } else {
        backend.clean(place, true).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_goes_on_behind_what_is_deleted() {
    for elsewhere in [false, true] {
        goes_on_behind_what_is_deleted(elsewhere).await;
    }
}

async fn goes_on_behind_what_is_deleted(elsewhere: bool) {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path(), &Clock::system()), open(folder.path(), &Clock::system()));
    let place = topic(&one, &["retention_bytes=0"]).await;
    for i in 0..20 {
        append(&one, &place, &[bulky(i)]).await;
    }
    // With handles of their own: one that stands in the first segment, one that has only been put there, one before the last.
    let options = LogOptions { read_bytes: 4096, ..small(folder.path()) };
    let other = LogBackend::open(options, Clock::system()).unwrap();
    let mut standing = other.reader(&place, 0).unwrap();
    let mut frames = Frames::default();
    assert!(standing.read(&mut frames).unwrap());
    let first = standing.position();
    let mut waiting = two.reader(&place, 20).unwrap();
    for i in 20..60 {
        append(&one, &place, &[bulky(i)]).await;
    }
    clean(&one, folder.path(), &place, elsewhere).await;
    let start = two.offsets(&place).unwrap().start;
    assert!(start > 40 && first < start, "{start}");
    let seen = offsets(&drain(&mut *standing));
    let here: Vec<u64> = seen.iter().copied().filter(|offset| *offset < start).collect();
    assert_eq!(here, (first..first + here.len() as u64).collect::<Vec<_>>());
    assert_eq!(seen[here.len()..], (start..60).collect::<Vec<_>>());
    assert_eq!(offsets(&drain(&mut *waiting)), (start..60).collect::<Vec<_>>());
    assert_eq!(offsets(&drain(&mut *two.reader(&place, 3).unwrap())), (start..60).collect::<Vec<_>>());
}

/// What a compacted topic must hold: the last record of every key, as it was appended.
fn last_by_key(all: &[Seen]) -> BTreeMap<String, Seen> {
    all.iter().map(|seen| (seen.1.clone().unwrap(), seen.clone())).collect()
}

/// Random appends, tombstones, compactions and restarts against a plain list of everything.
#[tokio::test]
async fn compaction_keeps_the_last_record_of_every_key() {
    let mut random = crate::support::Random::seeded("log::cleaning::compaction_keeps_the_last_record_of_every_key");
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START_MS);
    let mut backend = open(folder.path(), &clock);
    let place = topic(&backend, &["cleanup=compact", "delete_retention_ms=1h"]).await;
    let mut all: Vec<Seen> = Vec::new();
    let mut compacted = 0;
    for round in 0..60 {
        let mut frame = Vec::new();
        for _ in 0..random.within(1..40) {
            let key = format!("key {}", random.within(0..60));
            let value = (!random.one_in(5))
                .then(|| format!("{} {}", all.len() + frame.len(), "y".repeat(random.within(0..90) as usize)));
            frame.push((key, value));
        }
        append(&backend, &place, &frame).await;
        for (key, value) in frame {
            all.push((all.len() as u64, Some(key), value));
        }
        if random.one_in(3) {
            clock.advance(Duration::from_secs(random.within(0..3000)));
            compacted += backend.clean(&place, random.one_in(2)).await.unwrap().compacted_records;
        }
        if random.one_in(8) {
            drop(backend);
            backend = open(folder.path(), &clock);
        }
        check_compacted(&backend, &place, &all, round);
    }
    assert!(compacted > 300, "{compacted}");
    // When their time is over tombstones go, too, but for those in what is written.
    clock.advance(Duration::from_secs(10_000));
    append(&backend, &place, &[bulky(1), bulky(2), bulky(3), bulky(4), bulky(5), bulky(6), bulky(7), bulky(8)]).await;
    append(&backend, &place, &[bulky(1), bulky(2), bulky(3), bulky(4), bulky(5), bulky(6), bulky(7), bulky(8)]).await;
    backend.clean(&place, true).await.unwrap();
    clock.advance(Duration::from_secs(10_000));
    backend.clean(&place, true).await.unwrap();
    let left = read_from(&backend, &place, 0);
    let tombstones = left.iter().filter(|(.., value)| value.is_none()).count();
    assert_eq!(tombstones, 0, "{left:?}");
}

/// A millisecond before its time a tombstone is there, whoever compacts, and then it is not.
#[tokio::test]
async fn a_tombstone_stays_for_as_long_as_the_topic_says() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START_MS);
    let backend = open(folder.path(), &clock);
    let place = topic(&backend, &["cleanup=compact", "delete_retention_ms=1h"]).await;
    append(&backend, &place, &[("gone".to_owned(), Some("value".to_owned()))]).await;
    append(&backend, &place, &[("gone".to_owned(), None)]).await;
    let tombstones = async || {
        // So that there is something to compact, and what was there is in a segment before the last.
        for i in 0..20 {
            append(&backend, &place, &[bulky(i % 3)]).await;
        }
        backend.clean(&place, true).await.unwrap();
        let there = read_from(&backend, &place, 0);
        assert!(there.iter().all(|(offset, ..)| *offset != 0), "the value is compacted away: {there:?}");
        there.iter().filter(|(.., value)| value.is_none()).count()
    };
    // Its time begins with the compaction that takes away what it deletes.
    assert_eq!(tombstones().await, 1);
    clock.advance(Duration::from_secs(60 * 60) - Duration::from_millis(1));
    assert_eq!(tombstones().await, 1);
    assert_eq!(tombstones().await, 1);
    clock.advance(Duration::from_millis(1));
    assert_eq!(tombstones().await, 0);
}

fn check_compacted(backend: &LogBackend, place: &TopicPartition, all: &[Seen], round: usize) {
    let have = read_from(backend, place, 0);
    assert!(have.is_sorted_by_key(|(offset, ..)| *offset), "round {round}");
    // Nothing is there that was not appended so.
    for seen in &have {
        assert_eq!(*seen, all[seen.0 as usize], "round {round}");
    }
    let (had, wanted) = (last_by_key(&have), last_by_key(all));
    for (key, want) in &wanted {
        match had.get(key) {
            Some(found) => assert_eq!(found, want, "round {round}"),
            // A tombstone may have had its time.
            None => assert_eq!(want.2, None, "round {round}: {key}"),
        }
    }
    // From wherever one begins, one reads the same.
    for from in (0..all.len() as u64).step_by(7) {
        let rest: Vec<Seen> = have.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        assert_eq!(read_from(backend, place, from), rest, "round {round}, from {from}");
    }
}

/// A reader of another process in the midst of what is compacted misses no last record.
#[tokio::test]
async fn a_reader_goes_on_in_what_was_compacted() {
    for elsewhere in [false, true] {
        goes_on_in_what_was_compacted(elsewhere).await;
    }
}

async fn goes_on_in_what_was_compacted(elsewhere: bool) {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path(), &Clock::system());
    let place = topic(&backend, &["cleanup=compact"]).await;
    let record = |i: usize| (format!("key {}", i % 30), Some(format!("{i} {}", "z".repeat(100))));
    for i in 0..300 {
        append(&backend, &place, &[record(i)]).await;
    }
    let options = LogOptions { read_bytes: 4096, ..small(folder.path()) };
    let other = LogBackend::open(options, Clock::system()).unwrap();
    let mut readers: Vec<_> = (0..300).step_by(25).map(|from| (from, other.reader(&place, from).unwrap())).collect();
    let mut frames = Frames::default();
    let mut heads = Vec::new();
    for (from, reader) in &mut readers {
        assert!(reader.read(&mut frames).unwrap());
        let records = frames.iter().flat_map(|frame| frame.records());
        let seen: Vec<Seen> = records
            .map(|record| (record.offset, text(record.key), text(record.value)))
            .filter(|seen| seen.0 >= *from)
            .collect();
        heads.push(seen);
    }
    // Twice, so that segments are put together.
    clean(&backend, folder.path(), &place, elsewhere).await;
    assert!(read_from(&backend, &place, 0).len() < 100);
    for i in 300..400 {
        append(&backend, &place, &[record(i)]).await;
    }
    clean(&backend, folder.path(), &place, elsewhere).await;
    let have = read_from(&backend, &place, 0);
    for ((from, mut reader), mut seen) in readers.into_iter().zip(heads) {
        seen.extend(drain(&mut *reader));
        assert!(seen.is_sorted_by_key(|(offset, ..)| *offset), "from {from}");
        let wanted = have.iter().filter(|(offset, ..)| *offset >= from);
        for want in wanted {
            assert!(seen.contains(want), "from {from}: {want:?} was not read");
        }
    }
}

#[tokio::test]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path(), &Clock::system());
    let place = topic(&backend, &["cleanup=compact"]).await;
    let mut frame = FrameBuilder::new();
    frame.push(Some(b"k"), Some(b"v"), 0);
    frame.push(None, Some(b"v"), 0);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    let error = producer.append(&place, &mut frame, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(
        error.to_string().contains("no record without a key") && error.to_string().contains("topic orders"),
        "{error}"
    );
    assert_eq!(backend.offsets(&place).unwrap().end, 0);
    backend.set_topic("orders", &TopicSettings::default()).await.unwrap();
    producer.append(&place, &mut frame, None).await.unwrap();
    // What was there before stays when the topic is compacted later.
    backend.set_topic("orders", &TopicSettings::parse(["cleanup=compact"]).unwrap()).await.unwrap();
    for i in 0..40 {
        append(&backend, &place, &[(format!("key {}", i % 2), bulky(i).1)]).await;
    }
    backend.clean(&place, true).await.unwrap();
    assert!(read_from(&backend, &place, 0).iter().any(|(_, key, _)| key.is_none()));
}

/// A build that does not know compacted segments must not take them for none.
#[tokio::test]
async fn older_releases_refuse_what_was_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let backend = open(folder.path(), &Clock::system());
    let place = topic(&backend, &["cleanup=compact"]).await;
    let format = || {
        let json = std::fs::read(folder.path().join("topics/orders/topic.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&json).unwrap()["format"].as_u64().unwrap()
    };
    for i in 0..40 {
        append(&backend, &place, &[(format!("key {}", i % 2), bulky(i).1)]).await;
    }
    assert_eq!(format(), 1);
    assert!(backend.clean(&place, true).await.unwrap().compacted_records > 0);
    assert_eq!(format(), 2);
}

/// Damage in what was compacted is an error, wherever it is.
#[tokio::test]
async fn damage_in_a_compacted_segment_is_reported() {
    let template = tempfile::tempdir().unwrap();
    let backend = open(template.path(), &Clock::system());
    let place = topic(&backend, &["cleanup=compact"]).await;
    for i in 0..40 {
        append(&backend, &place, &[(format!("key {}", i % 5), bulky(i).1)]).await;
    }
    backend.clean(&place, true).await.unwrap();
    let whole = read_from(&backend, &place, 0);
    drop(backend);
    let name = segments(template.path()).into_iter().find(|name| name.contains('-')).unwrap();
    let file = format!("topics/orders/0/{name}");
    let bytes = std::fs::read(template.path().join(&file)).unwrap();
    let len = bytes.len() as u64;
    let control_ends = 64 + 8 + u64::from(u32::from_le_bytes(bytes[64..68].try_into().unwrap()));
    for at in (0..len).step_by(61).chain([8, 48, 56]) {
        let folder = tempfile::tempdir().unwrap();
        crate::support::copy(template.path(), folder.path());
        let mut bytes = std::fs::read(folder.path().join(&file)).unwrap();
        bytes[at as usize] ^= 0x10;
        std::fs::write(folder.path().join(&file), bytes).unwrap();
        let backend = open(folder.path(), &Clock::system());
        let read = || {
            let mut reader = backend.reader(&place, 0)?;
            let (mut frames, mut count) = (Frames::default(), 0);
            while reader.read(&mut frames)? {
                count += frames.iter().map(|frame| frame.records().count()).sum::<usize>();
            }
            Ok(count)
        };
        let result: gretchen::error::Result<usize> = read();
        // What is known of producers is of no concern to readers.
        let unharmed = (64..control_ends).contains(&at) && result.as_ref().is_ok_and(|count| *count == whole.len());
        assert!(unharmed || result.is_err(), "byte {at}: {result:?} of {}", whole.len());
    }
}
