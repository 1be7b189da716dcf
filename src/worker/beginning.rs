//! Where a task begins that has committed nothing: a first commit that holds its positions and nothing else.

use std::collections::BTreeMap;

use super::mark::Mark;
use crate::backend::{Backend, ProducerId, Replay};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// Lets a task begin at these offsets, one for each topic that it reads, where positions are part of commits. Its changelog
/// has to be empty; it is made where it is missing.
///
/// Returns once that survives what a commit survives.
pub(crate) async fn begin_at(
    backend: &dyn Backend,
    replay: &dyn Replay,
    plan: &AgentPlan,
    partition: u32,
    positions: BTreeMap<String, u64>,
    now_ms: i64,
) -> Result<()> {
    backend.create_topic(&plan.changelog_spec()).await?;
    let changelog = TopicPartition::new(plan.changelog.clone(), partition);
    let mut ids = BTreeMap::new();
    // A topic of which nothing is passed over may be any, and may be missing yet.
    for (topic, at) in positions.iter().filter(|(_, at)| **at > 0) {
        ids.extend(replay.topic_id(topic)?.map(|id| (topic.clone(), id.to_string())));
        // What is passed over must not get lost under a position that is kept: others would take its place.
        replay.sync(&TopicPartition::new(topic.as_str(), partition), *at).await?;
    }
    let mark = Mark {
        commit: 1,
        positions,
        stream_time: i64::MIN,
        tables: plan.tables.iter().map(|table| table.name.to_owned()).collect(),
        layouts: plan.tables.iter().map(|table| table.fixed_layout()).collect(),
        ids,
        ..Mark::default()
    };
    let json = serde_json::to_vec(&mark).map_err(|error| {
        Error::new(ErrorKind::Encode, "cannot write where an agent begins").with_source(error).at(&changelog)
    })?;
    let mut frame = FrameBuilder::new();
    frame.push(Some(&[mark.tag()]), Some(&json), now_ms);
    let appended = backend.producer(ProducerId::ANONYMOUS).await?.append_at(&changelog, &mut frame, 0).await?;
    replay.sync(&changelog, appended.base_offset + u64::from(appended.added)).await
}
