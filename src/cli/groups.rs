//! `groups`: how far each agent has come, and who works on it.

use serde_json::Value;

use super::context::Context;
use super::failure::Done;
use super::output::{Column, counted};
use crate::backend::Owner;
use crate::topic::TopicPartition;
use crate::worker::partition_set;

pub(super) async fn run(context: &mut Context) -> Done {
    let store = context.open_existing()?;
    let plan = context.preview(&store).await?;
    let with_standbys = store.backend.capabilities().standbys;
    let mut columns = vec![
        Column::text("agent"),
        Column::text("topic"),
        Column::number("partition"),
        Column::number("position"),
        Column::number("end"),
        Column::number("lag"),
        Column::number("owner"),
        Column::text("state"),
    ];
    if with_standbys {
        columns.push(Column::text("standbys"));
    }
    let mut rows = Vec::new();
    let (mut total, mut has_holes) = (0, false);
    let topics = store.topics().await?;
    for agent in &plan.agents {
        for (topic, _) in &agent.sources {
            let Some(spec) = topics.iter().map(|have| &have.spec).find(|spec| spec.name == *topic) else { continue };
            let owners = store.replay.owners(&agent.group, &partition_set(agent))?;
            let standbys = store.replay.standbys(&agent.group, &partition_set(agent))?;
            for partition in 0..agent.partitions {
                let place = TopicPartition::new(topic.clone(), partition);
                let offsets = store.replay.offsets(&place)?;
                let position = store.replay.position(&agent.group, &place)?;
                let lag = offsets.end.saturating_sub(position.unwrap_or(offsets.start).max(offsets.start));
                let owner = owners.get(partition as usize).copied().flatten();
                total += lag;
                has_holes |= lag > 0 && spec.settings.cleanup.compacts();
                let mut row = vec![
                    agent.def.name.into(),
                    topic.as_ref().into(),
                    partition.into(),
                    position.map_or(Value::Null, Value::from),
                    offsets.end.into(),
                    lag.into(),
                    owner.map_or(Value::Null, |owner| owner.process.into()),
                    owner.map_or(Value::Null, |owner| state(owner).into()),
                ];
                if with_standbys {
                    let warm = standbys.get(partition as usize).into_iter().flatten();
                    let warm: Vec<String> = warm.map(u32::to_string).collect();
                    row.push(if warm.is_empty() { Value::Null } else { warm.join(" ").into() });
                }
                rows.push(row);
            }
        }
    }
    context.out.list(&columns, &rows, "no topic of the app's agents exists yet")?;
    if !context.out.json && !rows.is_empty() && !context.out.quiet {
        let note = match total {
            0 => "\neverything is processed".to_owned(),
            // Offsets are what is counted, and in a compacted topic not every one still has its record.
            _ if has_holes => format!("\nat most {} to be processed", counted(total, "record")),
            _ => format!("\n{} to be processed", counted(total, "record")),
        };
        context.out.line(&note)?;
    }
    Ok(())
}

/// How an owner is, as far as it can be seen from here.
fn state(owner: Owner) -> &'static str {
    match owner.stopped {
        Some(true) => "stopped",
        Some(false) => "running",
        None => "unknown",
    }
}
