//! `verify` finds what is damaged and says where; `repair` gives up that and nothing else, and keeps what was there.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use gretchen::backend::log::{Finding, LogBackend, LogOptions, Mended, Only, Report, Severity, repair, verify};
use gretchen::backend::{Backend, Consumer, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::error::ErrorKind;
use gretchen::record::{Frame, FrameBuilder, Frames};
use gretchen::topic::{Cleanup, TopicPartition, TopicSpec};

use super::every_bit::quick_folder;
use super::{append, options, orders, segment};

const ALL: Only<'_> = Only { topic: None, partition: None };

fn small(folder: &Path) -> LogOptions {
    LogOptions { segment_bytes: 4096, ..options(folder) }
}

fn open(folder: &Path) -> LogBackend {
    LogBackend::open(small(folder), Clock::system()).unwrap()
}

/// Two segments and a bit, synced as a whole; returns the values, by offset.
async fn sound(folder: &Path) -> Vec<String> {
    let backend = open(folder);
    let place = orders(&backend, 1).await;
    let mut values = Vec::new();
    let mut named = backend.producer(ProducerId::named("shop")).await.unwrap();
    for number in 0..24 {
        let value = format!("{number:03}").repeat(100);
        if number % 5 == 0 {
            let mut frame = FrameBuilder::new();
            frame.push(None, Some(value.as_bytes()), 0);
            named.append(&place, &mut frame, Some(number / 5)).await.unwrap();
        } else {
            append(&backend, &place, &[&value]).await;
        }
        values.push(value);
    }
    backend.sync(&place, 24).await.unwrap();
    values
}

fn read(backend: &LogBackend) -> Vec<(u64, String)> {
    let mut reader = backend.reader(&TopicPartition::new("orders", 0), 0).unwrap();
    let (mut frames, mut values) = (Frames::default(), Vec::new());
    while reader.read(&mut frames).unwrap() {
        for record in frames.iter().flat_map(|frame| frame.records()) {
            values.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
    }
    values
}

fn bases(folder: &Path) -> Vec<u64> {
    let names = fs::read_dir(folder.join("topics/orders/0")).unwrap();
    let mut bases: Vec<u64> =
        names.filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".log")?.parse().ok()).collect();
    bases.sort_unstable();
    bases
}

/// Byte, length, first offset and number of records of each frame.
fn frames_of(folder: &Path, base: u64) -> Vec<(u64, u64, u64, u64)> {
    let bytes = fs::read(segment(folder, base)).unwrap();
    let (mut at, mut frames) = (64, Vec::new());
    while let Ok(frame) = Frame::parse(&bytes[at..]) {
        let header = frame.header;
        frames.push((at as u64, header.len as u64, header.base_offset, u64::from(header.count)));
        at += header.len;
    }
    frames
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn damage(report: &Report) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity == Severity::Damage).collect()
}

/// Repairs once nobody uses the log any more: what syncs behind a full segment may do so for a moment.
fn repaired(options: &LogOptions) -> Vec<Mended> {
    loop {
        match repair(options, ALL) {
            Err(error) if error.kind() == ErrorKind::Conflict => std::thread::yield_now(),
            mended => return mended.unwrap(),
        }
    }
}

fn lost(mended: &[Mended]) -> Vec<(u64, u64)> {
    assert!(mended.iter().all(|one| one.done), "{mended:#?}");
    mended.iter().filter_map(|one| one.lost).collect()
}

#[tokio::test]
async fn any_one_frame_is_taken_out_and_no_other() {
    let template = quick_folder();
    sound(template.path()).await;
    let segments = bases(template.path());
    assert!(segments.len() > 2, "{segments:?}");
    for base in segments {
        // The list of producers, which comes first, is written anew and loses nothing.
        for (at, len, offset, count) in frames_of(template.path(), base) {
            let is_list = at == 64;
            let count = if is_list { 0 } else { count };
            let folder = quick_folder();
            let values = sound(folder.path()).await;
            let path = segment(folder.path(), base);
            flip(&path, at + len - 1);
            let damaged = fs::read(&path).unwrap();

            let report = verify(&small(folder.path()), ALL).unwrap();
            let [finding] = &damage(&report)[..] else { panic!("{report:#?}") };
            assert_eq!((&finding.file, finding.byte, finding.offset), (&path, Some(at), Some(offset)), "{finding:?}");
            assert_eq!(finding.topic.as_deref(), Some("orders"));
            assert_eq!(finding.what.contains(&format!("offset {offset} is lost")), !is_list, "{finding:?}");
            assert_eq!(fs::read(&path).unwrap(), damaged, "verify changes nothing");

            let mended = repaired(&small(folder.path()));
            let want = if is_list { Vec::new() } else { vec![(offset, offset + count)] };
            assert_eq!(lost(&mended), want, "{mended:#?}");
            assert_eq!(fs::read(mended[0].copy.as_ref().unwrap()).unwrap(), damaged);
            let again = verify(&small(folder.path()), ALL).unwrap();
            assert_eq!(again.findings, []);
            assert_eq!(repair(&small(folder.path()), ALL).unwrap(), []);

            let backend = open(folder.path());
            let left: Vec<(u64, String)> =
                (0..).zip(values).filter(|(have, _)| !(offset..offset + count).contains(have)).collect();
            assert_eq!(read(&backend), left, "frame at {at} of {base}");
            let place = TopicPartition::new("orders", 0);
            assert_eq!(append(&backend, &place, &["new"]).await.base_offset, 24);
            for from in [offset, offset + count, 23] {
                let mut reader = backend.reader(&place, from).unwrap();
                let mut frames = Frames::default();
                assert!(reader.read(&mut frames).unwrap());
                let first = frames.iter().flat_map(|frame| frame.records()).find(|record| record.offset >= from);
                assert_eq!(first.unwrap().offset, if is_list || from != offset { from } else { from + count });
            }
            let known = backend.next_sequence(&place, ProducerId::named("shop")).unwrap();
            assert!(known == 5 || (known == 4 && offset == 20), "{known} after the loss of {offset}");
        }
    }
}

/// A frame whose checksum is right counts on beyond the segment that follows, and behind it nothing is right.
#[tokio::test]
async fn offsets_that_reach_into_the_next_segment_are_not_made_up_for() {
    let folder = quick_folder();
    sound(folder.path()).await;
    // Its frame says that what was synced is durable.
    append(&open(folder.path()), &TopicPartition::new("orders", 0), &["one more"]).await;
    let path = segment(folder.path(), 0);
    let next = bases(folder.path())[1];
    let (at, len, ..) = frames_of(folder.path(), 0)[1];
    let mut frame = FrameBuilder::new();
    (0..next + 50).for_each(|_| frame.push(None, Some(b""), 0));
    let frame = frame.seal(0, 0, 0, 0, 0).to_vec();
    assert!(frame.len() < len as usize, "{} bytes", frame.len());
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&frame, at).unwrap();
    let damaged = fs::read(&path).unwrap();

    let report = verify(&small(folder.path()), ALL).unwrap();
    let hole = (at + frame.len() as u64, next + 50);
    let found = |finding: &&Finding| (finding.byte, finding.offset) == (Some(hole.0), Some(hole.1));
    let finding = damage(&report).into_iter().find(found).unwrap_or_else(|| panic!("{report:#?}"));
    assert_eq!(finding.file, path, "{finding:?}");
    assert!(finding.what.ends_with("so nothing tells what is lost"), "{finding:?}");
    let mended = repaired(&small(folder.path()));
    assert!(mended.iter().any(|one| one.file == path && !one.done), "{mended:#?}");
    assert!(mended.iter().all(|one| one.lost.is_none()), "{mended:#?}");
    assert_eq!(fs::read(&path).unwrap(), damaged, "what cannot be mended stays");
}

#[tokio::test]
async fn a_header_is_written_anew_where_the_segment_before_tells_it() {
    let folder = quick_folder();
    let values = sound(folder.path()).await;
    for base in bases(folder.path()) {
        let path = segment(folder.path(), base);
        let good = fs::read(&path).unwrap();
        flip(&path, 20);
        let report = verify(&small(folder.path()), ALL).unwrap();
        assert!(damage(&report).iter().any(|finding| finding.file == path && finding.byte == Some(0)), "{report:#?}");
        assert_eq!(lost(&repaired(&small(folder.path()))), []);
        let mended = fs::read(&path).unwrap();
        // What was durable when it was made is known to be no less than the segment before says.
        assert_eq!((&mended[..8], &mended[16..32], &mended[64..]), (&good[..8], &good[16..32], &good[64..]));
    }
    let read: Vec<String> = read(&open(folder.path())).into_iter().map(|(_, value)| value).collect();
    assert_eq!(read, values);
}

/// What the shared page knows of the end keeps the offsets of what is lost.
#[tokio::test]
async fn a_lost_end_keeps_its_offsets() {
    let folder = quick_folder();
    let values = sound(folder.path()).await;
    let last = *bases(folder.path()).last().unwrap();
    let frames = frames_of(folder.path(), last);
    let (at, _, offset, _) = frames[frames.len() - 2];
    OpenOptions::new().write(true).open(segment(folder.path(), last)).unwrap().set_len(at + 10).unwrap();
    let report = verify(&small(folder.path()), ALL).unwrap();
    let [finding] = &damage(&report)[..] else { panic!("{report:#?}") };
    assert!(finding.what.contains(&format!("the records at offsets {offset} to 23 are lost")), "{finding:?}");
    assert_eq!(lost(&repaired(&small(folder.path()))), [(offset, 24)]);
    let backend = open(folder.path());
    assert_eq!(read(&backend).len() as u64, offset);
    assert_eq!(read(&backend).pop().unwrap().1, values[offset as usize - 1]);
    assert_eq!(append(&backend, &TopicPartition::new("orders", 0), &["new"]).await.base_offset, 24);
}

/// A file that was cut between two frames has no damaged one to show for it.
#[tokio::test]
async fn an_end_that_was_cut_between_frames_is_found() {
    let template = quick_folder();
    sound(template.path()).await;
    let last = *bases(template.path()).last().unwrap();
    for (at, _, offset, _) in frames_of(template.path(), last) {
        let folder = quick_folder();
        let values = sound(folder.path()).await;
        let path = segment(folder.path(), last);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(at).unwrap();
        // What syncs behind a full segment may have it open for a moment, and then it is not recovered.
        let refused = loop {
            let refused = open(folder.path()).reader(&TopicPartition::new("orders", 0), 0).err().unwrap().to_string();
            if !refused.contains("is shorter") {
                break refused;
            }
            std::thread::yield_now();
        };
        assert!(refused.contains(&format!("damaged at byte {at}")), "{refused}");

        let report = verify(&small(folder.path()), ALL).unwrap();
        let [finding] = &damage(&report)[..] else { panic!("{report:#?}") };
        assert_eq!((&finding.file, finding.byte, finding.offset), (&path, Some(at), Some(offset)), "{finding:?}");
        assert!(finding.what.contains(&format!("offsets {offset} to 23 are lost")) || offset == 23, "{finding:?}");
        let mended = repaired(&small(folder.path()));
        assert_eq!(lost(&mended), [(offset, 24)]);
        assert_eq!(verify(&small(folder.path()), ALL).unwrap().findings, []);
        let backend = open(folder.path());
        let left: Vec<(u64, String)> = (0..offset).zip(values).collect();
        assert_eq!(read(&backend), left, "cut at {at}");
        assert_eq!(append(&backend, &TopicPartition::new("orders", 0), &["new"]).await.base_offset, 24);
    }
}

/// A loss of power may leave nothing of a topic that was made and never synced.
#[tokio::test]
async fn a_first_segment_that_was_never_written_is_a_note_and_written() {
    for left in [0, 20, 64, 80] {
        let folder = quick_folder();
        let backend = open(folder.path());
        orders(&backend, 1).await;
        assert_eq!(read(&backend), []);
        drop(backend);
        let path = segment(folder.path(), 0);
        let whole = fs::read(&path).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(left).unwrap();
        file.set_len(4096).unwrap();
        let report = verify(&small(folder.path()), ALL).unwrap();
        let [finding] = &report.findings[..] else { panic!("{report:#?}") };
        assert_eq!((finding.severity, &finding.file), (Severity::Note, &path), "{finding:?}");
        let mended = repaired(&small(folder.path()));
        assert!(mended.len() == 1 && mended[0].done && mended[0].lost.is_none(), "{mended:#?}");
        assert_eq!(fs::read(&path).unwrap()[..whole.len()], whole);
        assert_eq!(verify(&small(folder.path()), ALL).unwrap().findings, []);
        assert_eq!(append(&open(folder.path()), &TopicPartition::new("orders", 0), &["new"]).await.base_offset, 0);
    }
}

#[tokio::test]
async fn a_torn_tail_is_a_note_and_cut() {
    let folder = quick_folder();
    let backend = open(folder.path());
    let place = orders(&backend, 1).await;
    append(&backend, &place, &["a", "b"]).await;
    append(&backend, &place, &["c"]).await;
    drop(backend);
    let (at, len, ..) = *frames_of(folder.path(), 0).last().unwrap();
    flip(&segment(folder.path(), 0), at + len - 1);
    let report = verify(&small(folder.path()), ALL).unwrap();
    let [finding] = &report.findings[..] else { panic!("{report:#?}") };
    assert_eq!((finding.severity, finding.byte, finding.offset), (Severity::Note, Some(at), Some(2)));
    let torn = fs::read(segment(folder.path(), 0)).unwrap();
    let mended = repair(&small(folder.path()), ALL).unwrap();
    assert!(fs::read(mended[0].copy.as_ref().unwrap()).unwrap() == torn && mended[0].lost.is_none(), "{mended:#?}");
    assert_eq!(fs::metadata(segment(folder.path(), 0)).unwrap().len(), at);
    assert_eq!(read(&open(folder.path())).len(), 2);
}

#[tokio::test]
async fn an_index_and_a_position_are_made_right() {
    let folder = quick_folder();
    let options = LogOptions { segment_bytes: 1 << 20, ..options(folder.path()) };
    let backend = LogBackend::open(options.clone(), Clock::system()).unwrap();
    let place = orders(&backend, 1).await;
    for _ in 0..40 {
        append(&backend, &place, &[&"x".repeat(60_000)]).await;
    }
    let consumer: Box<dyn Consumer> = backend.consumer("people", &[]).await.unwrap();
    consumer.ack(&place, 17).unwrap();
    drop((consumer, backend));
    assert_eq!(verify(&options, ALL).unwrap().findings, []);
    let index = segment(folder.path(), 0).with_extension("index");
    let right = fs::read(&index).unwrap();
    flip(&index, 9);
    let position = folder.path().join("groups/people/positions/orders-0");
    flip(&position, 1);
    let report = verify(&options, ALL).unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.severity, finding.file.clone())).collect();
    assert_eq!(found, [(Severity::Note, index.clone()), (Severity::Damage, position.clone())]);
    assert_eq!(lost(&repaired(&options)), []);
    assert_eq!(fs::read(&index).unwrap(), right);
    assert!(!position.exists());
    assert_eq!(verify(&options, ALL).unwrap().findings, []);
}

#[tokio::test]
async fn a_damaged_frame_says_nothing_of_the_index() {
    for number in [1, 9, 20, 33] {
        let folder = quick_folder();
        let options = LogOptions { segment_bytes: 4 << 20, ..options(folder.path()) };
        let backend = LogBackend::open(options.clone(), Clock::system()).unwrap();
        let place = orders(&backend, 1).await;
        for _ in 0..40 {
            append(&backend, &place, &[&"x".repeat(60_000)]).await;
        }
        backend.sync(&place, 40).await.unwrap();
        drop(backend);
        let path = segment(folder.path(), 0);
        assert!(fs::metadata(path.with_extension("index")).unwrap().len() >= 64, "the index has entries on both sides");
        let (at, len, offset, _) = frames_of(folder.path(), 0)[number];
        flip(&path, at + len - 1);
        let report = verify(&options, ALL).unwrap();
        let [finding] = &report.findings[..] else { panic!("{report:#?}") };
        assert_eq!((finding.severity, finding.byte), (Severity::Damage, Some(at)), "offset {offset}");
        repaired(&options);
        assert_eq!(verify(&options, ALL).unwrap().findings, [], "offset {offset}");
    }
}

#[tokio::test]
async fn a_partition_in_use_is_verified_and_not_repaired() {
    let folder = quick_folder();
    sound(folder.path()).await;
    let backend = open(folder.path());
    let place = TopicPartition::new("orders", 0);
    backend.offsets(&place).unwrap();
    let report = verify(&small(folder.path()), ALL).unwrap();
    assert_eq!((report.records, &report.findings[..]), (24, &[][..]));
    flip(&segment(folder.path(), 0), 64 + 80);
    assert!(verify(&small(folder.path()), ALL).unwrap().is_damaged());
    let error = repair(&small(folder.path()), ALL).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    append(&backend, &place, &["goes on"]).await;
    let only = Only { topic: Some("nothing"), partition: None };
    assert_eq!(verify(&small(folder.path()), only).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Writes another position into a segment's header, with a checksum that is right.
fn forge_start(path: &Path, start: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[24..32].copy_from_slice(&start.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..64]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_segment_that_begins_elsewhere_than_the_one_before_ends_is_found() {
    for compacted in [false, true] {
        let folder = quick_folder();
        let backend = open(folder.path());
        let mut spec = TopicSpec::new("orders", 1);
        spec.settings.cleanup = if compacted { Cleanup::Compact } else { Cleanup::Delete };
        backend.create_topic(&spec).await.unwrap();
        let place = TopicPartition::new("orders", 0);
        for number in 0..24_u8 {
            let mut frame = FrameBuilder::new();
            frame.push(Some(&[number % 3]), Some(&[number; 400]), 0);
            let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
            producer.append(&place, &mut frame, None).await.unwrap();
        }
        backend.sync(&place, 24).await.unwrap();
        backend.clean(&place, true).await.unwrap();
        drop(backend);
        let last = segment(folder.path(), *bases(folder.path()).last().unwrap());
        let sound = fs::read(&last).unwrap();
        if compacted {
            // The one behind what was compacted is gone altogether.
            fs::remove_file(&last).unwrap();
            let before = fs::read_dir(folder.path().join("topics/orders/0")).unwrap().count();
            let report = verify(&small(folder.path()), ALL).unwrap();
            let [finding] = &damage(&report)[..] else { panic!("{report:#?}") };
            assert!(finding.what.contains("the segment that follows it"), "{finding:?}");
            assert!(repaired(&small(folder.path())).iter().all(|one| !one.done));
            assert_eq!(fs::read_dir(folder.path().join("topics/orders/0")).unwrap().count(), before);
            fs::write(&last, sound).unwrap();
        }
        forge_start(&last, 1 << 50);

        let report = verify(&small(folder.path()), ALL).unwrap();
        assert!(!damage(&report).is_empty(), "{report:#?}");
        let mended = repaired(&small(folder.path()));
        assert!(mended.iter().any(|one| !one.done), "compacted: {compacted}, {mended:#?}");
        assert!(verify(&small(folder.path()), ALL).unwrap().is_damaged());
    }
}

/// Without some of its changes a state would be wrong without a word.
#[tokio::test]
async fn a_changelog_is_not_repaired() {
    let folder = quick_folder();
    let backend = open(folder.path());
    let mut spec = TopicSpec::new("orders", 1);
    (spec.settings.cleanup, spec.internal) = (Cleanup::Compact, true);
    backend.create_topic(&spec).await.unwrap();
    let place = TopicPartition::new("orders", 0);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    for value in [b"a", b"b", b"c"] {
        // As in a changelog every record has a key.
        let mut frame = FrameBuilder::new();
        frame.push(Some(b"key"), Some(value), 0);
        producer.append(&place, &mut frame, None).await.unwrap();
    }
    drop(producer);
    backend.sync(&place, 3).await.unwrap();
    drop(backend);
    let (at, ..) = frames_of(folder.path(), 0)[2];
    flip(&segment(folder.path(), 0), at + 81);
    let before = fs::read(segment(folder.path(), 0)).unwrap();
    let mended = repair(&small(folder.path()), ALL).unwrap();
    assert!(!mended[0].done && mended[0].what.contains("reset"), "{mended:#?}");
    assert_eq!(fs::read(segment(folder.path(), 0)).unwrap(), before);
}
