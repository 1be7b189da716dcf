//! Topics.

use super::{Subject, append, kind_of};
use crate::error::{ErrorKind, Result};
use crate::topic::{Cleanup, TopicPartition, TopicSchema, TopicSettings, TopicSpec, WireFormat};

fn schema(fingerprint: u64) -> TopicSchema {
    TopicSchema { fingerprint, json: format!("{{\"type\":\"fixed\",\"name\":\"F\",\"size\":{fingerprint}}}").into() }
}

/// All topics are listed, by name, with what they were created with.
pub async fn topics_are_listed_by_name(subject: Subject) -> Result<()> {
    assert!(subject.backend.topics().await?.is_empty());
    let format = Some(WireFormat::Bare);
    let settings = TopicSettings { cleanup: Cleanup::Compact, retention_ms: Some(5), ..TopicSettings::default() };
    let spec = TopicSpec { settings, internal: true, format, ..TopicSpec::new("b.changes", 3) };
    for spec in [&TopicSpec::new("c", 1), &spec, &TopicSpec::new("a", 2)] {
        subject.backend.create_topic(spec).await?;
    }
    let topics = subject.backend.topics().await?;
    assert_eq!(topics.iter().map(|topic| &*topic.spec.name).collect::<Vec<_>>(), ["a", "b.changes", "c"]);
    assert_eq!(topics[1].spec, spec);
    Ok(())
}

/// Creating a topic again returns it, also without naming its key.
pub async fn an_existing_topic_is_returned(subject: Subject) -> Result<()> {
    let wanted = TopicSpec { key_field: Some("customer".into()), ..TopicSpec::new("orders", 4) };
    let made = TopicSpec { format: Some(WireFormat::SingleObject), ..wanted.clone() };
    assert_eq!(subject.backend.create_topic(&wanted).await?.spec, made);
    assert_eq!(subject.backend.create_topic(&made).await?.spec, made);
    assert_eq!(subject.backend.create_topic(&TopicSpec::new("orders", 4)).await?.spec, made);
    Ok(())
}

/// Another number of partitions, another key or another format is a conflict whose message names both.
pub async fn a_topic_with_other_properties_conflicts(subject: Subject) -> Result<()> {
    let spec = TopicSpec { key_field: Some("customer".into()), ..TopicSpec::new("orders", 4) };
    subject.backend.create_topic(&spec).await?;
    for (other, names) in [
        (TopicSpec { partitions: 7, ..spec.clone() }, ["4", "7"]),
        (TopicSpec { key_field: Some("seller".into()), ..spec.clone() }, ["customer", "seller"]),
        (TopicSpec { format: Some(WireFormat::Bare), ..spec.clone() }, ["single-object", "bare"]),
    ] {
        let Err(error) = subject.backend.create_topic(&other).await else { panic!("{other:?} was accepted") };
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(names.iter().all(|name| error.message().contains(name)), "{error}");
    }
    Ok(())
}

/// Creates a topic with several schemas, some of them repeatedly, and returns what it must keep.
async fn with_schemas(subject: &Subject) -> Result<[TopicSchema; 3]> {
    for fingerprint in [9, 2, 9, u64::MAX, 2] {
        let spec = TopicSpec { schema: Some(schema(fingerprint)), ..TopicSpec::new("orders", 1) };
        subject.backend.create_topic(&spec).await?;
    }
    Ok([schema(9), schema(2), schema(u64::MAX)])
}

/// Every schema that a topic was created with stays, oldest first.
pub async fn schemas_are_kept_in_order(subject: Subject) -> Result<()> {
    let want = with_schemas(&subject).await?;
    let topic = subject.backend.create_topic(&TopicSpec::new("orders", 1)).await?;
    assert_eq!(topic.schemas, want);
    assert_eq!(topic.spec.schema.as_ref(), want.last());
    Ok(())
}

/// A topic's schemas are there after the backend was closed and opened again.
pub async fn schemas_survive_reopening(mut subject: Subject) -> Result<()> {
    let want = with_schemas(&subject).await?;
    subject.reopen()?;
    assert_eq!(subject.backend.topics().await?[0].schemas, want);
    Ok(())
}

/// Names that could be paths, and impossible numbers of partitions, are refused.
pub async fn bad_names_are_refused(subject: Subject) -> Result<()> {
    for name in ["", ".", "..", "a/b", "../a", "a b", "ä"] {
        let created = subject.backend.create_topic(&TopicSpec::new(name, 1)).await;
        assert_eq!(kind_of(created), Some(ErrorKind::Config), "{name:?}");
    }
    for partitions in [0, crate::topic::MAX_PARTITIONS + 1] {
        let created = subject.backend.create_topic(&TopicSpec::new("orders", partitions)).await;
        assert_eq!(kind_of(created), Some(ErrorKind::Config), "{partitions}");
    }
    assert!(subject.backend.topics().await?.is_empty());
    Ok(())
}

/// A topic is deleted with its records and every group's positions in it, once nobody reads it.
pub async fn a_deleted_topic_is_gone(subject: Subject) -> Result<()> {
    let place = subject.topic("orders", 2).await?;
    let mut producer = subject.producer("").await?;
    append(&mut producer, &place, &["a"], None).await?;
    drop(producer);
    let replay = subject.replay()?;
    let member = subject.backend.consumer("app", &[]).await?;
    member.ack(&place, 1)?;
    let reader = replay.reader(&place, 0)?;
    assert_eq!(kind_of(replay.delete_topic("orders").await), Some(ErrorKind::Conflict), "while it is read");
    drop(reader);
    replay.delete_topic("orders").await?;
    assert!(subject.backend.topics().await?.is_empty());
    assert_eq!(kind_of(replay.offsets(&place)), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(replay.delete_topic("orders").await), Some(ErrorKind::NotFound));
    subject.topic("orders", 3).await?;
    assert_eq!(replay.position("app", &place)?, None);
    assert_eq!(replay.offsets(&TopicPartition::new("orders", 2))?.end, 0);
    Ok(())
}
