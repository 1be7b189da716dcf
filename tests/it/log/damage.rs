//! What is torn is cut, and what is lost is reported.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, Replay};
use gretchen::clock::Clock;
use gretchen::error::ErrorKind;
use gretchen::topic::TopicPartition;

use super::{append, open, options, orders, read, segment};

/// Three frames; returns where each ends.
async fn three_frames(folder: &Path) -> (TopicPartition, Vec<u64>) {
    let backend = open(folder);
    let place = orders(&backend, 1).await;
    let mut ends = Vec::new();
    for values in [&["a", "b"][..], &["c"], &["d", "e", "f"]] {
        append(&backend, &place, values).await;
        let bytes = std::fs::read(segment(folder, 0)).unwrap();
        ends.push(bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1);
    }
    (place, ends)
}

/// As after a restart of the machine: what the shared page says is of another time.
fn forget_boot(folder: &Path) {
    std::fs::remove_file(folder.join("topics/orders/0/end")).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[tokio::test]
async fn a_segment_cut_anywhere_keeps_its_whole_frames() {
    let template = tempfile::tempdir().unwrap();
    let (_, ends) = three_frames(template.path()).await;
    for reboot in [false, true] {
        // Every byte around a frame's end, and some in between.
        let cuts = (ends[0]..=ends[2]).filter(|cut| cut % 13 == 0 || ends.iter().any(|end| end.abs_diff(*cut) < 2));
        for cut in cuts {
            let folder = tempfile::tempdir().unwrap();
            let (place, _) = three_frames(folder.path()).await;
            OpenOptions::new().write(true).open(segment(folder.path(), 0)).unwrap().set_len(cut).unwrap();
            if reboot {
                forget_boot(folder.path());
            }
            let want = ["a", "b", "c", "d", "e", "f"];
            let want = &want[..if cut >= ends[2] {
                6
            } else if cut >= ends[1] {
                3
            } else {
                2
            }];
            let backend = open(folder.path());
            assert_eq!(read(&backend, &place).unwrap(), want, "cut at {cut}");
            assert_eq!(append(&backend, &place, &["new"]).await.base_offset, want.len() as u64);
            drop(backend);
            let backend = open(folder.path());
            assert_eq!(read(&backend, &place).unwrap().len(), want.len() + 1, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn garbage_and_zeroes_behind_the_end_are_cut() {
    let garbage: Vec<u8> = (0..5_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for tail in [&garbage[..], &garbage[..1], &garbage[..79], &[0; 3_000], &[255; 200], &[5; 4_000]] {
        for reboot in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (place, ends) = three_frames(folder.path()).await;
            let file = OpenOptions::new().write(true).open(segment(folder.path(), 0)).unwrap();
            file.set_len(ends[2]).unwrap();
            file.write_all_at(tail, ends[2]).unwrap();
            if reboot {
                forget_boot(folder.path());
            }
            let backend = open(folder.path());
            append(&backend, &place, &["new"]).await;
            assert_eq!(read(&backend, &place).unwrap(), ["a", "b", "c", "d", "e", "f", "new"]);
        }
    }
}

/// A partition whose first segment never reached the disk is empty; one that holds records is not thrown away.
#[tokio::test]
async fn a_first_segment_that_a_loss_of_power_undid_is_made_again() {
    for len in [0, 10, 64, 100, 144, 70_000] {
        let folder = tempfile::tempdir().unwrap();
        let place = orders(&open(folder.path()), 1).await;
        std::fs::write(segment(folder.path(), 0), vec![0; len]).unwrap();
        let backend = open(folder.path());
        append(&backend, &place, &["a"]).await;
        assert_eq!(read(&backend, &place).unwrap(), ["a"], "{len} bytes");
    }
    for damaged in [3, 90] {
        let folder = tempfile::tempdir().unwrap();
        let (place, _) = three_frames(folder.path()).await;
        flip(&segment(folder.path(), 0), damaged);
        let error = open(folder.path()).offsets(&place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

/// Any flipped byte of what was never synced: the frames before it stay, and nothing else.
#[tokio::test]
async fn damage_that_was_not_durable_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let (place, ends) = three_frames(folder.path()).await;
    flip(&segment(folder.path(), 0), ends[0] + 81);
    forget_boot(folder.path());
    assert_eq!(read(&open(folder.path()), &place).unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn damage_below_what_was_durable_is_an_error() {
    for reboot in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (place, ends) = three_frames(folder.path()).await;
        let backend = open(folder.path());
        backend.sync(&place, 6).await.unwrap();
        // This frame says that those before it were durable.
        append(&backend, &place, &["g"]).await;
        drop(backend);
        flip(&segment(folder.path(), 0), ends[0] + 81);
        if reboot {
            forget_boot(folder.path());
        }
        let error = open(folder.path()).offsets(&place).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        let message = error.to_string();
        assert!(message.contains("00000000000000000000.log"), "{message}");
        assert!(message.contains(&format!("byte {}", ends[0])), "{message}");
        assert!(message.contains("topic orders, partition 0, offset 2"), "{message}");
    }
}

/// The shared page knows what was synced even when no later frame says so.
#[tokio::test]
async fn a_lost_tail_that_was_synced_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (place, ends) = three_frames(folder.path()).await;
    open(folder.path()).sync(&place, 6).await.unwrap();
    OpenOptions::new().write(true).open(segment(folder.path(), 0)).unwrap().set_len(ends[1]).unwrap();
    assert_eq!(open(folder.path()).offsets(&place).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn damage_while_it_is_open_is_reported_by_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let (place, ends) = three_frames(folder.path()).await;
    let backend = open(folder.path());
    backend.offsets(&place).unwrap();
    flip(&segment(folder.path(), 0), ends[1] + 81);
    let error = read(&backend, &place).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corrupt, Some(3)), "{error}");
    assert!(error.message().contains(&format!("byte {}", ends[1])), "{error}");
}

#[tokio::test]
async fn segments_are_rolled_and_an_earlier_one_may_be_torn() {
    let small = |folder: &Path| {
        LogBackend::open(LogOptions { segment_bytes: 4096, ..options(folder) }, Clock::system()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let backend = small(folder.path());
    let place = orders(&backend, 1).await;
    let value = "x".repeat(1_000);
    for _ in 0..20 {
        append(&backend, &place, &[&value]).await;
    }
    assert_eq!(read(&backend, &place).unwrap().len(), 20);
    let mut producer = backend.producer(gretchen::backend::ProducerId::named("p")).await.unwrap();
    let mut frame = gretchen::record::FrameBuilder::new();
    frame.push(None, Some(b"p"), 0);
    producer.append(&place, &mut frame, Some(0)).await.unwrap();
    for _ in 0..20 {
        append(&backend, &place, &[&value]).await;
    }
    backend.sync(&place, 41).await.unwrap();
    drop((producer, backend));
    // The producer is known although its frame is in a segment that is not looked at.
    let backend = small(folder.path());
    let id = gretchen::backend::ProducerId::named("p");
    assert_eq!(backend.next_sequence(&place, id).unwrap(), 1);
    assert_eq!(read(&backend, &place).unwrap().len(), 41);
    drop(backend);
    // Synced as a whole: a lost end of a complete segment is damage.
    let first = segment(folder.path(), 0);
    let len = first.metadata().unwrap().len();
    OpenOptions::new().write(true).open(&first).unwrap().set_len(len - 1).unwrap();
    let backend = small(folder.path());
    let error = read(&backend, &place).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// An index is a hint: without it, or with nonsense in it, every offset is found.
#[tokio::test]
async fn an_index_is_rebuilt_or_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 4 << 20, ..options(folder.path()) };
    let backend = LogBackend::open(options, Clock::system()).unwrap();
    let place = orders(&backend, 1).await;
    let value = "y".repeat(50_000);
    for _ in 0..120 {
        append(&backend, &place, &[&value]).await;
    }
    let index = segment(folder.path(), 0).with_extension("index");
    let good = std::fs::read(&index).unwrap();
    assert!(good.len() >= 10 * 16);
    let begins_at = |from: u64| {
        let mut reader = backend.reader(&place, from).unwrap();
        let mut frames = gretchen::record::Frames::default();
        assert!(reader.read(&mut frames).unwrap());
        frames.get(0).unwrap().header.base_offset
    };
    for content in [good.clone(), Vec::new(), vec![1; 4_000], good[16..].to_vec()] {
        std::fs::File::create(&index).unwrap().write_all(&content).unwrap();
        for from in [0, 1, 50, 79, 81, 119] {
            assert_eq!(begins_at(from), from);
        }
    }
    std::fs::remove_file(&index).unwrap();
    assert_eq!(begins_at(30), 30);
    assert_eq!(std::fs::read(&index).unwrap(), good, "the index of a complete segment is made anew");
}
