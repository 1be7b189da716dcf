//! `verify` and `repair` of what was compacted, where offsets have holes: what is damaged goes, and only that; what was
//! compacted away is neither missed nor counted.

use std::fs;
use std::path::{Path, PathBuf};

use gretchen::backend::log::{LogBackend, LogOptions, Mended, Only, Severity, repair, verify};
use gretchen::backend::{ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::error::ErrorKind;
use gretchen::record::{Frame, FrameHeader};
use gretchen::topic::TopicPartition;
use tempfile::TempDir;

use super::cleaning::{Seen, append, read_from, segments, topic};
use super::every_bit::quick_folder;
use super::options;
use crate::support::copy;

const ALL: Only<'_> = Only { topic: None, partition: None };

/// Records that are appended before the compaction, and behind it.
const RECORDS: usize = 120;
const MORE: usize = 9;

/// Segments of a few frames, so that a compacted one has several, too.
fn large(folder: &Path) -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, ..options(folder) }
}

fn open(folder: &Path) -> LogBackend {
    LogBackend::open(large(folder), Clock::system()).unwrap()
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// A record of one of a few keys that come again and again, or of one that never does.
fn record(i: usize) -> (String, Option<String>) {
    let key = if i.is_multiple_of(3) { format!("key {i}") } else { format!("key {}", i % 11) };
    (key, Some(format!("{i} {}", "x".repeat(70_000))))
}

struct Compacted {
    folder: TempDir,
    /// What is left in it.
    records: Vec<Seen>,
}

/// A partition that was compacted, and appended to behind that; all of it is durable.
async fn compacted() -> Compacted {
    let folder = quick_folder();
    let backend = open(folder.path());
    let place = topic(&backend, &["cleanup=compact"]).await;
    for i in 0..RECORDS {
        append(&backend, &place, &[record(i)]).await;
    }
    assert!(backend.clean(&place, true).await.unwrap().compacted_records > 50);
    for i in RECORDS..RECORDS + MORE {
        append(&backend, &place, &[record(i)]).await;
    }
    backend.sync(&place, (RECORDS + MORE) as u64).await.unwrap();
    let records = read_from(&backend, &place, 0);
    drop(backend);
    Compacted { folder, records }
}

impl Compacted {
    fn copied(&self) -> TempDir {
        let folder = quick_folder();
        copy(self.folder.path(), folder.path());
        folder
    }

    /// The files of compacted segments, by their place below the folder.
    fn files(&self) -> Vec<PathBuf> {
        let names = segments(self.folder.path()).into_iter().filter(|name| name.contains('-'));
        names.map(|name| Path::new("topics/orders/0").join(name)).collect()
    }
}

/// Where each frame of a segment begins, the list of producers first.
fn frames_of(file: &Path) -> Vec<(usize, FrameHeader)> {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut frames) = (64, Vec::new());
    while let Ok(frame) = Frame::parse(&bytes[at..]) {
        frames.push((at, frame.header));
        at += frame.header.len;
    }
    assert_eq!(at, bytes.len());
    frames
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

/// Repairs once nobody uses the log any more: what syncs behind a full segment may do so for a moment.
fn repaired(folder: &Path) -> Vec<Mended> {
    loop {
        match repair(&large(folder), ALL) {
            Err(error) if error.kind() == ErrorKind::Conflict => std::thread::yield_now(),
            mended => return mended.unwrap(),
        }
    }
}

/// Reads it from wherever one may begin, and appends to it.
async fn check(folder: &Path, want: &[Seen], what: &str) {
    let report = verify(&large(folder), ALL).unwrap();
    assert_eq!(report.findings, [], "{what}");
    assert_eq!(report.records, want.len() as u64, "{what}: records are counted, not offsets");
    let backend = open(folder);
    for from in (0..(RECORDS + MORE) as u64).step_by(40) {
        let rest: Vec<Seen> = want.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        assert!(read_from(&backend, &orders(), from) == rest, "{what}, from {from}");
    }
    let known = backend.next_sequence(&orders(), ProducerId::named("test")).unwrap();
    assert_eq!(known, (RECORDS + MORE) as u64, "{what}");
    append(&backend, &orders(), &[record(0)]).await;
    assert_eq!(read_from(&backend, &orders(), known).len(), 1, "{what}");
    // What was taken out is no obstacle to the next compaction.
    backend.clean(&orders(), true).await.unwrap();
    let left = read_from(&backend, &orders(), 0);
    assert!(want.iter().all(|seen| left.contains(seen) || left.iter().any(|later| later.1 == seen.1)), "{what}");
}

#[tokio::test]
async fn holes_are_no_damage() {
    let compacted = compacted().await;
    assert!(compacted.records.len() < RECORDS + MORE - 50);
    let frames = compacted.files().iter().map(|file| frames_of(&compacted.folder.path().join(file)).len()).max();
    assert!(compacted.files().len() > 1 && frames > Some(3), "{frames:?} frames in {:?}", compacted.files());
    assert_eq!(repaired(compacted.folder.path()), []);
    check(compacted.folder.path(), &compacted.records, "as it was").await;
}

#[tokio::test]
async fn any_one_frame_is_taken_out_and_no_other() {
    let compacted = compacted().await;
    for file in compacted.files() {
        for (at, header) in frames_of(&compacted.folder.path().join(&file)) {
            let is_list = header.kind != 0;
            let lost = header.base_offset..if is_list { header.base_offset } else { header.next_offset() };
            let what = format!("byte {at} of {}, offsets {lost:?}", file.display());
            let folder = compacted.copied();
            let path = folder.path().join(&file);
            flip(&path, at + header.len - 1);
            let damaged = fs::read(&path).unwrap();

            let report = verify(&large(folder.path()), ALL).unwrap();
            // An index that leads to the damaged frame is no damage.
            let damage: Vec<_> = report.findings.iter().filter(|one| one.severity == Severity::Damage).collect();
            let [finding] = &damage[..] else { panic!("{what}: {report:#?}") };
            assert_eq!(finding.file, path, "{what}");
            assert_eq!((finding.byte, finding.offset), (Some(at as u64), Some(header.base_offset)), "{what}");
            let said = match lost.end - lost.start {
                0 => "no record is missing".to_owned(),
                1 => format!("the record at offset {} is lost", lost.start),
                _ => format!("the records at offsets {} to {} are lost", lost.start, lost.end - 1),
            };
            assert!(finding.what.contains(&said), "{what}: {finding:?}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "verify changes nothing");

            let mended = repaired(folder.path());
            let of_segment: Vec<_> = mended.iter().filter(|one| one.file == path).collect();
            let [one] = &of_segment[..] else { panic!("{what}: {mended:#?}") };
            assert!(mended.iter().all(|one| one.done), "{what}: {mended:#?}");
            assert_eq!(one.lost, (!is_list).then_some((lost.start, lost.end)), "{what}");
            assert_eq!(fs::read(one.copy.as_ref().unwrap()).unwrap(), damaged, "{what}");
            assert_eq!(fs::metadata(&path).unwrap().len(), damaged.len() as u64, "bytes behind it keep their places");
            let left: Vec<Seen> =
                compacted.records.iter().filter(|(offset, ..)| !lost.contains(offset)).cloned().collect();
            check(folder.path(), &left, &what).await;
        }
    }
}

/// Compaction keeps no word of producers but in the list at the head of each segment: that of the segment behind what was
/// compacted cannot be made again.
#[tokio::test]
async fn a_list_that_nothing_tells_is_not_made_up() {
    let compacted = compacted().await;
    let folder = compacted.folder.path();
    let name = segments(folder).into_iter().find(|name| !name.contains('-')).unwrap();
    let path = folder.join("topics/orders/0").join(name);
    flip(&path, 64 + 81);
    let before = fs::read(&path).unwrap();
    let mended = repaired(folder);
    assert!(mended.len() == 1 && !mended[0].done && mended[0].file == path, "{mended:#?}");
    assert!(fs::read(&path).unwrap() == before);
    assert!(verify(&large(folder), ALL).unwrap().is_damaged());
}

#[tokio::test]
async fn a_header_is_written_anew_where_its_neighbours_tell_it() {
    let compacted = compacted().await;
    for file in compacted.files() {
        // What tells a compacted segment from another, where it begins, and where it ends.
        for at in [8, 24, 48, 56] {
            let what = format!("byte {at} of {}", file.display());
            let folder = compacted.copied();
            let path = folder.path().join(&file);
            let good = fs::read(&path).unwrap();
            flip(&path, at);
            let report = verify(&large(folder.path()), ALL).unwrap();
            assert!(report.findings.iter().any(|one| one.file == path && one.byte == Some(0)), "{what}: {report:#?}");
            let mended = repaired(folder.path());
            assert!(mended.len() == 1 && mended[0].done && mended[0].lost.is_none(), "{what}: {mended:#?}");
            let header = fs::read(&path).unwrap();
            // When it was made nobody knows, and what was durable is known from the segments before.
            assert_eq!((&header[16..32], &header[48..]), (&good[16..32], &good[48..]), "{what}");
            check(folder.path(), &compacted.records, &what).await;
        }
    }
}

#[tokio::test]
async fn an_index_is_made_right() {
    let compacted = compacted().await;
    let folder = compacted.folder.path();
    let backend = open(folder);
    // Who looks for an offset in a segment without an index makes one.
    for from in 0..RECORDS as u64 {
        read_from(&backend, &orders(), from);
    }
    drop(backend);
    let indexes: Vec<PathBuf> =
        compacted.files().iter().map(|file| folder.join(file).with_extension("index")).collect();
    let index = indexes.iter().find(|index| index.is_file()).expect("a segment that is large enough for an index");
    let right = fs::read(index).unwrap();
    assert_eq!(verify(&large(folder), ALL).unwrap().findings, []);
    flip(index, 1);
    let report = verify(&large(folder), ALL).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.severity, &finding.file, finding.byte), (Severity::Note, index, Some(0)));
    assert!(repaired(folder).iter().all(|one| one.done && one.lost.is_none()));
    assert_eq!(fs::read(index).unwrap(), right);
    check(folder, &compacted.records, "the index made anew").await;
}

#[tokio::test]
async fn a_segment_that_is_missing_is_told_from_holes() {
    let compacted = compacted().await;
    let files = compacted.files();
    let folder = compacted.folder.path();
    let (gone, before) = (folder.join(&files[1]), folder.join(&files[0]));
    let (ends, begins) = (frames_of(&gone)[0].1.base_offset, frames_of(&gone).last().unwrap().1.next_offset());
    fs::remove_file(gone).unwrap();
    let report = verify(&large(folder), ALL).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.severity, &finding.file, finding.offset), (Severity::Damage, &before, Some(ends)));
    let said = format!("the next segment begins at {begins}");
    assert!(finding.what.contains(&said), "{finding:?}");
    let mended = repaired(folder);
    assert!(mended.len() == 1 && !mended[0].done && mended[0].what.contains(&said), "{mended:#?}");
}
