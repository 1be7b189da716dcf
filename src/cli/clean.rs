//! `clean`: lets old records go now, as workers do in the background.

use serde_json::{Value, json};

use super::args::CleanArgs;
use super::context::{Context, Store};
use super::failure::Done;
use super::output::{Column, grouped};
use crate::backend::Cleaned;
use crate::topic::TopicPartition;
use crate::worker::clean_changelog;

pub(super) async fn run(context: &mut Context, args: &CleanArgs) -> Done {
    let store = context.open_existing()?;
    let mut rows = Vec::new();
    let mut all = Cleaned::default();
    for (topic, cleaned) in clean(context, &store, args.topic.as_deref()).await? {
        all += cleaned;
        if cleaned != Cleaned::default() {
            rows.push((topic, cleaned));
        }
    }
    if context.out.json {
        let topics: Vec<Value> = rows
            .iter()
            .map(|(topic, cleaned)| {
                json!({
                    "topic": topic, "deleted": cleaned.deleted_records, "compacted": cleaned.compacted_records,
                    "freed_bytes": cleaned.freed_bytes,
                })
            })
            .collect();
        return Ok(context.out.json_pretty(&json!(topics))?);
    }
    if rows.is_empty() {
        return Ok(context.out.line("nothing is old enough to go; `topics NAME` shows what a topic lets go")?);
    }
    let columns =
        [Column::text("topic"), Column::number("deleted"), Column::number("compacted"), Column::number("freed bytes")];
    let cells = |(topic, cleaned): &(String, Cleaned)| {
        vec![
            topic.clone().into(),
            cleaned.deleted_records.into(),
            cleaned.compacted_records.into(),
            cleaned.freed_bytes.into(),
        ]
    };
    context.out.table(&columns, &rows.iter().map(cells).collect::<Vec<_>>())?;
    Ok(context.out.line(&format!("\n{} bytes are free again", grouped(all.freed_bytes)))?)
}

/// Cleans the topics, one or all; returns what has gone from each.
async fn clean(context: &Context, store: &Store, only: Option<&str>) -> Done<Vec<(String, Cleaned)>> {
    let topics = match only {
        Some(name) => vec![store.topic(name).await?],
        None => store.topics().await?,
    };
    let plan = context.preview(store).await?;
    let mut done = Vec::new();
    for spec in topics.iter().map(|topic| &topic.spec) {
        let mut sum = Cleaned::default();
        let agent = plan.agents.iter().find(|agent| agent.changelog == spec.name);
        for partition in 0..spec.partitions {
            sum += match agent {
                Some(agent) => clean_changelog(agent, partition, &context.state_dir(), &*store.replay).await?,
                None => store.replay.clean(&TopicPartition::new(spec.name.clone(), partition), true).await?,
            };
        }
        done.push((spec.name.to_string(), sum));
    }
    Ok(done)
}
