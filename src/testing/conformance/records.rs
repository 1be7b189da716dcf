//! Records and offsets.

use super::{Subject, append, frame_of, kind_of, read_all, soon, values, values_in};
use crate::backend::Appended;
use crate::error::{ErrorKind, Result};
use crate::record::{FrameBuilder, Frames};
use crate::topic::TopicPartition;

/// Records come back in the order in which they were appended, with offsets that count them.
pub async fn records_come_back_in_order(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 2).await?;
    let mut producer = subject.producer("").await?;
    let first = append(&mut producer, &place, &["a", "b"], None).await?;
    assert_eq!(first, Appended { base_offset: 0, added: 2, dropped: 0 });
    let second = append(&mut producer, &place, &["c"], None).await?;
    assert_eq!(second, Appended { base_offset: 2, added: 1, dropped: 0 });
    let seen = read_all(&mut subject.replay()?.reader(&place, 0)?)?;
    assert_eq!(seen.iter().map(|record| record.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(values(&seen), ["a", "b", "c"]);
    assert!(values_in(&subject, &TopicPartition::new("orders", 1))?.is_empty());
    Ok(())
}

/// Keys, values, tombstones, timestamps before and after, headers: all as they were, and `frame` keeps its records.
pub async fn everything_of_a_record_comes_back(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut frame = FrameBuilder::new();
    frame.push(Some(b"key"), Some(b"value"), 1_700_000_000_000);
    frame.push(Some(b"key"), None, -5);
    frame.push(None, Some(b""), i64::MAX);
    frame.push_with_headers(Some(b""), None, 7, &[("a", b"1"), ("b", b""), ("a", &[0, 255])]);
    let before: Vec<_> = frame.records().map(|record| format!("{record:?}")).collect();
    subject.producer("").await?.append(&place, &mut frame, None).await?;
    let kept: Vec<_> = frame.records().map(|record| format!("{record:?}")).collect();
    assert_eq!(kept, before);
    let mut frames = Frames::default();
    assert!(subject.replay()?.reader(&place, 0)?.read(&mut frames)?);
    let seen: Vec<_> = frames.iter().flat_map(|frame| frame.records().map(|record| format!("{record:?}"))).collect();
    assert_eq!(seen, before);
    Ok(())
}

/// The offsets of a partition follow its appends.
pub async fn offsets_tell_the_end(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let replay = subject.replay()?;
    let empty = replay.offsets(&place)?;
    assert_eq!((empty.start, empty.end, empty.durable), (0, 0, 0));
    append(&mut subject.producer("").await?, &place, &["a", "b"], None).await?;
    let offsets = replay.offsets(&place)?;
    assert_eq!((offsets.start, offsets.end), (0, 2));
    assert!(offsets.durable <= 2);
    Ok(())
}

/// A record larger than any buffer comes back whole, between small ones.
pub async fn a_large_record_comes_back(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("").await?;
    let large: String = (0..3_000_000_u32).map(|i| char::from(b'a' + (i % 23) as u8)).collect();
    append(&mut producer, &place, &["before"], None).await?;
    append(&mut producer, &place, &[&large], None).await?;
    append(&mut producer, &place, &["after"], None).await?;
    let seen = values_in(&subject, &place)?;
    assert_eq!((seen.len(), &*seen[0], &*seen[2]), (3, "before", "after"));
    assert!(seen[1] == large, "the large record differs");
    Ok(())
}

/// A reader begins at any offset, also within a frame and at the end.
pub async fn a_read_begins_in_the_middle(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("").await?;
    for batch in [&["0", "1", "2"][..], &["3"], &["4", "5"]] {
        append(&mut producer, &place, batch, None).await?;
    }
    let replay = subject.replay()?;
    for from in 0..=6 {
        let mut reader = replay.reader(&place, from)?;
        assert_eq!(reader.position(), from);
        let want: Vec<_> = (from..6).map(|value| value.to_string()).collect();
        assert_eq!(values(&read_all(&mut reader)?), want, "from {from}");
        assert_eq!(reader.position(), 6);
    }
    Ok(())
}

/// More than one buffer of batches is read without a hole, from the beginning and from far inside.
pub async fn many_batches_are_read_whole(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("").await?;
    for batch in 0..400_u64 {
        let batch: Vec<_> = (0..25).map(|i| format!("{:0150}", batch * 25 + i)).collect();
        let batch: Vec<_> = batch.iter().map(String::as_str).collect();
        append(&mut producer, &place, &batch, None).await?;
    }
    for from in [0, 1, 4_999, 9_990] {
        let seen = read_all(&mut subject.replay()?.reader(&place, from)?)?;
        assert_eq!(seen.len() as u64, 10_000 - from);
        for ((offset, ..), (value, want)) in seen.iter().zip(values(&seen).into_iter().zip(from..)) {
            assert_eq!((*offset, value), (want, format!("{want:0150}")));
        }
    }
    Ok(())
}

/// A reader at the end finds nothing, and wakes when something is appended; `ready` may be dropped meanwhile.
pub async fn a_reader_waits_for_a_record(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut reader = subject.replay()?.reader(&place, 0)?;
    let mut frames = Frames::default();
    assert!(!reader.read(&mut frames)?);
    let mut producer = subject.producer("").await?;
    for round in 0..20 {
        {
            let dropped = reader.ready();
            assert!(futures::poll!(dropped).is_pending(), "ready at the end of round {round}");
        }
        let (woken, appended) =
            tokio::join!(soon("waking", reader.ready()), append(&mut producer, &place, &["a"], None));
        woken?;
        appended?;
        assert!(reader.read(&mut frames)?, "round {round}");
        assert_eq!(reader.position(), round + 1);
        assert!(!reader.read(&mut frames)?);
    }
    Ok(())
}

/// One append wakes every reader of the partition.
pub async fn many_readers_wake(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let replay = subject.replay()?;
    let mut readers = Vec::new();
    for _ in 0..100 {
        readers.push(replay.reader(&place, 0)?);
    }
    let mut producer = subject.producer("").await?;
    let woken = futures::future::try_join_all(readers.iter_mut().map(|reader| reader.ready()));
    let (woken, appended) =
        tokio::join!(soon("waking 100 readers", woken), append(&mut producer, &place, &["a"], None));
    woken?;
    appended?;
    for mut reader in readers {
        assert_eq!(values(&read_all(&mut reader)?), ["a"]);
    }
    Ok(())
}

/// A topic or partition that does not exist is reported as such.
pub async fn an_unknown_partition_is_not_found(subject: Subject) -> Result<()> {
    subject.topic("orders", 2).await?;
    let replay = subject.replay()?;
    let mut producer = subject.producer("").await?;
    for place in [TopicPartition::new("orders", 2), TopicPartition::new("nothing", 0)] {
        assert_eq!(kind_of(replay.offsets(&place)), Some(ErrorKind::NotFound), "{place}");
        assert_eq!(kind_of(replay.reader(&place, 0)), Some(ErrorKind::NotFound), "{place}");
        assert_eq!(kind_of(append(&mut producer, &place, &["a"], None).await), Some(ErrorKind::NotFound), "{place}");
    }
    Ok(())
}

/// A position beyond the end is an error, not a wait: whoever holds it knows of records that are gone.
pub async fn reading_beyond_the_end_is_refused(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    append(&mut subject.producer("").await?, &place, &["a"], None).await?;
    assert!(subject.replay()?.reader(&place, 1).is_ok());
    assert_eq!(kind_of(subject.replay()?.reader(&place, 2)), Some(ErrorKind::NotFound));
    Ok(())
}

/// What was synced is durable; so is what a flush was waited for, where the backend is set so.
pub async fn a_sync_makes_durable(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("").await?;
    append(&mut producer, &place, &["a", "b"], None).await?;
    producer.flush().await?;
    let replay = subject.replay()?;
    replay.sync(&place, 2).await?;
    assert_eq!(replay.offsets(&place)?.durable, 2);
    append(&mut producer, &place, &["c"], None).await?;
    let syncs = (0..50).map(|_| replay.sync(&place, 3));
    soon("syncing", futures::future::try_join_all(syncs)).await?;
    assert_eq!(replay.offsets(&place)?.durable, 3);
    Ok(())
}

/// An append without records changes nothing.
pub async fn an_empty_append_adds_nothing(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("p").await?;
    append(&mut producer, &place, &["a"], Some(0)).await?;
    let base_offset = subject.end(&place)?;
    for sequence in [None, Some(1)] {
        let appended = producer.append(&place, &mut frame_of(&[]), sequence).await?;
        assert_eq!(appended, Appended { base_offset, added: 0, dropped: 0 });
    }
    assert_eq!(values_in(&subject, &place)?, ["a"]);
    Ok(())
}

/// Records are there after the backend was closed and opened again, and appends go on behind them.
pub async fn records_survive_reopening(mut subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    append(&mut subject.producer("").await?, &place, &["a", "b"], None).await?;
    subject.reopen()?;
    assert_eq!(values_in(&subject, &place)?, ["a", "b"]);
    let appended = append(&mut subject.producer("").await?, &place, &["c"], None).await?;
    assert_eq!(appended.base_offset, 2);
    assert_eq!(values_in(&subject, &place)?, ["a", "b", "c"]);
    Ok(())
}
