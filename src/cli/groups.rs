//! `groups`: how far each agent has come.

use serde_json::Value;

use super::context::Context;
use super::failure::Done;
use super::output::{Column, counted};
use crate::topic::TopicPartition;

pub(super) async fn run(context: &mut Context) -> Done {
    let store = context.open_existing()?;
    let plan = context.preview(&store).await?;
    let columns = [
        Column::text("agent"),
        Column::text("topic"),
        Column::number("partition"),
        Column::number("position"),
        Column::number("end"),
        Column::number("lag"),
    ];
    let mut rows = Vec::new();
    let mut total = 0;
    let topics = store.topics().await?;
    for agent in &plan.agents {
        for (topic, _) in &agent.sources {
            if !topics.iter().any(|have| have.spec.name == *topic) {
                continue;
            }
            for partition in 0..agent.partitions {
                let place = TopicPartition::new(topic.clone(), partition);
                let offsets = store.replay.offsets(&place)?;
                let position = store.replay.position(&agent.group, &place)?;
                let lag = offsets.end.saturating_sub(position.unwrap_or(offsets.start).max(offsets.start));
                total += lag;
                rows.push(vec![
                    agent.def.name.into(),
                    topic.as_ref().into(),
                    partition.into(),
                    position.map_or(Value::Null, Value::from),
                    offsets.end.into(),
                    lag.into(),
                ]);
            }
        }
    }
    context.out.list(&columns, &rows, "no topic of the app's agents exists yet")?;
    if !context.out.json && !rows.is_empty() && !context.out.quiet {
        let note = match total {
            0 => "\neverything is processed".to_owned(),
            _ => format!("\n{} to be processed", counted(total, "record")),
        };
        context.out.line(&note)?;
    }
    Ok(())
}
