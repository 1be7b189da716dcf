//! Repeated appends.

use super::{Subject, append, values_in};
use crate::backend::{Appended, ProducerId};
use crate::error::{ErrorKind, Result};
use crate::record::FrameBuilder;

/// The same append again is dropped and acknowledged, also by another producer of that name.
pub async fn a_repeated_append_is_dropped(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("file").await?;
    append(&mut producer, &place, &["a", "b"], Some(0)).await?;
    let base_offset = subject.end(&place)?;
    for mut again in [producer, subject.producer("file").await?] {
        let appended = append(&mut again, &place, &["a", "b"], Some(0)).await?;
        assert_eq!(appended, Appended { base_offset, added: 0, dropped: 2 });
    }
    assert_eq!(values_in(&subject, &place)?, ["a", "b"]);
    assert_eq!(subject.replay()?.next_sequence(&place, ProducerId::named("file"))?, 2);
    Ok(())
}

/// Of a batch that is there in part, the rest is added.
pub async fn a_partial_repetition_is_completed(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("file").await?;
    append(&mut producer, &place, &["a", "b"], Some(0)).await?;
    let base_offset = subject.end(&place)?;
    let appended = append(&mut producer, &place, &["b", "c", "d"], Some(1)).await?;
    assert_eq!(appended, Appended { base_offset, added: 2, dropped: 1 });
    let base_offset = subject.end(&place)?;
    let appended = append(&mut producer, &place, &["d", "e"], Some(3)).await?;
    assert_eq!(appended, Appended { base_offset, added: 1, dropped: 1 });
    assert_eq!(values_in(&subject, &place)?, ["a", "b", "c", "d", "e"]);
    Ok(())
}

/// Each producer has its own count, and each partition its own.
pub async fn producers_do_not_mix(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 2).await?;
    let other = crate::topic::TopicPartition::new("orders", 1);
    let (mut one, mut two) = (subject.producer("one").await?, subject.producer("two").await?);
    append(&mut one, &place, &["1a"], Some(0)).await?;
    append(&mut two, &place, &["2a"], Some(0)).await?;
    append(&mut one, &other, &["1b"], Some(0)).await?;
    append(&mut one, &place, &["1a"], Some(0)).await?;
    assert_eq!(values_in(&subject, &place)?, ["1a", "2a"]);
    assert_eq!(values_in(&subject, &other)?, ["1b"]);
    let replay = subject.replay()?;
    assert_eq!(replay.next_sequence(&place, ProducerId::named("two"))?, 1);
    assert_eq!(replay.next_sequence(&other, ProducerId::named("two"))?, 0);
    Ok(())
}

/// A sequence may leap; what lies below is then taken for known.
pub async fn gaps_are_accepted(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut producer = subject.producer("file").await?;
    append(&mut producer, &place, &["a"], Some(10)).await?;
    assert_eq!(append(&mut producer, &place, &["b"], Some(5)).await?.dropped, 1);
    append(&mut producer, &place, &["c"], Some(20)).await?;
    assert_eq!(values_in(&subject, &place)?, ["a", "c"]);
    assert_eq!(subject.replay()?.next_sequence(&place, ProducerId::named("file"))?, 21);
    Ok(())
}

/// Two that hold a place for their own: what the second appends where the first has come before is refused, whole.
pub async fn an_append_at_an_offset_goes_there_or_nowhere(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let (mut one, mut two) = (subject.producer("one").await?, subject.producer("two").await?);
    let frame = |values: &[&str]| {
        let mut frame = FrameBuilder::new();
        values.iter().for_each(|value| frame.push(None, Some(value.as_bytes()), 0));
        frame
    };
    assert_eq!(one.append_at(&place, &mut frame(&["a", "b"]), 0).await?.base_offset, 0);
    for offset in [0, 1, 3] {
        match two.append_at(&place, &mut frame(&["c"]), offset).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            Ok(appended) => panic!("appended where the end was not: {appended:?}"),
        }
    }
    assert_eq!(two.append_at(&place, &mut frame(&["c"]), 2).await?.base_offset, 2);
    assert_eq!(values_in(&subject, &place)?, ["a", "b", "c"]);
    Ok(())
}

/// Without a name or without a sequence nothing is dropped.
pub async fn anonymous_appends_are_kept(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    let mut anonymous = subject.producer("").await?;
    let mut named = subject.producer("file").await?;
    for _ in 0..2 {
        append(&mut anonymous, &place, &["a"], Some(0)).await?;
        append(&mut named, &place, &["b"], None).await?;
    }
    assert_eq!(values_in(&subject, &place)?, ["a", "b", "a", "b"]);
    assert_eq!(subject.replay()?.next_sequence(&place, ProducerId::named("file"))?, 0);
    Ok(())
}

/// What is known of producers survives the backend's end.
pub async fn repetitions_are_known_after_reopening(mut subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 1).await?;
    append(&mut subject.producer("file").await?, &place, &["a", "b"], Some(0)).await?;
    subject.reopen()?;
    assert_eq!(subject.replay()?.next_sequence(&place, ProducerId::named("file"))?, 2);
    let appended = append(&mut subject.producer("file").await?, &place, &["b", "c"], Some(1)).await?;
    assert_eq!((appended.added, appended.dropped), (1, 1));
    assert_eq!(values_in(&subject, &place)?, ["a", "b", "c"]);
    Ok(())
}
