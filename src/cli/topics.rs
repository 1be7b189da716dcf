//! `topics`: what topics there are, and how far each partition goes.

use serde_json::{Value, json};

use super::args::TopicsArgs;
use super::context::{Context, Store};
use super::failure::Done;
use super::output::{Column, grouped, safe};
use super::values::Values;
use crate::backend::Topic;
use crate::record::DynamicSchema;
use crate::topic::TopicPartition;

pub(super) async fn run(context: &mut Context, args: &TopicsArgs) -> Done {
    let store = context.open_existing()?;
    match &args.name {
        Some(name) => {
            if !args.set.is_empty() {
                let mut settings = store.topic(name).await?.spec.settings;
                args.set.iter().try_for_each(|text| settings.set(text))?;
                store.replay.set_topic(name, &settings).await?;
            }
            one(context, &store, name).await
        }
        None => list(context, &store, args.internal).await,
    }
}

async fn list(context: &mut Context, store: &Store, internal: bool) -> Done {
    let columns = [
        Column::text("name"),
        Column::number("partitions"),
        Column::number("offsets"),
        Column::text("key"),
        Column::text("format"),
        Column::text("schema"),
    ];
    let topics = store.topics().await?;
    let hidden = topics.iter().filter(|topic| topic.spec.internal).count();
    let mut rows = Vec::new();
    for topic in topics.iter().filter(|topic| internal || !topic.spec.internal) {
        let values = Values::of(topic, store.replay.clone())?;
        rows.push(vec![
            topic.spec.name.as_ref().into(),
            topic.spec.partitions.into(),
            count(store, topic)?.into(),
            topic.spec.key_field.as_deref().map_or(Value::Null, Value::from),
            topic.spec.format.unwrap_or_default().to_string().into(),
            values.schema.map_or(Value::Null, |schema| schema.name().into()),
        ]);
    }
    context.out.list(&columns, &rows, "there are no topics yet")?;
    if hidden > 0 && !internal && !context.out.json && !context.out.quiet {
        let note = format!("\n{hidden} internal (changelogs, repartition topics); --internal shows them");
        context.out.line(&note)?;
    }
    Ok(())
}

/// Offsets that the topic has. Of a compacted topic fewer records than that are there.
fn count(store: &Store, topic: &Topic) -> Done<u64> {
    let mut count = 0;
    for partition in 0..topic.spec.partitions {
        let offsets = store.replay.offsets(&TopicPartition::new(topic.spec.name.clone(), partition))?;
        count += offsets.end - offsets.start;
    }
    Ok(count)
}

async fn one(context: &mut Context, store: &Store, name: &str) -> Done {
    let topic = store.topic(name).await?;
    let mut schemas = Vec::new();
    for schema in &topic.schemas {
        let parsed = DynamicSchema::parse_named(name, &schema.json)?;
        schemas.push((parsed.name(), format!("{:016x}", schema.fingerprint)));
    }
    let mut partitions = Vec::new();
    for partition in 0..topic.spec.partitions {
        let offsets = store.replay.offsets(&TopicPartition::new(topic.spec.name.clone(), partition))?;
        partitions.push(vec![
            Value::from(partition),
            offsets.start.into(),
            offsets.end.into(),
            offsets.durable.into(),
            (offsets.end - offsets.start).into(),
        ]);
    }
    let settings = topic.spec.settings.list();
    let format = topic.spec.format.unwrap_or_default();
    let names = ["partition", "start", "end", "durable", "offsets"];
    if context.out.json {
        let partitions: Vec<Value> = partitions
            .into_iter()
            .map(|row| Value::Object(names.iter().map(|name| (*name).to_owned()).zip(row).collect()))
            .collect();
        let schemas: Vec<Value> =
            schemas.into_iter().map(|(name, fingerprint)| json!({"name": name, "fingerprint": fingerprint})).collect();
        let settings: serde_json::Map<String, Value> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect();
        let value = json!({
            "name": name, "key": topic.spec.key_field.as_deref(), "settings": settings, "format": format.to_string(),
            "internal": topic.spec.internal, "schemas": schemas, "partitions": partitions,
        });
        return Ok(context.out.json_pretty(&value)?);
    }
    let key = topic.spec.key_field.as_deref().unwrap_or("-");
    context.out.line(&format!("topic      {}", safe(name)))?;
    context.out.line(&format!("offsets    {}", grouped(count(store, &topic)?)))?;
    context.out.line(&format!("key        {}", safe(key)))?;
    context.out.line(&format!("format     {format}"))?;
    for (i, (name, value)) in settings.iter().enumerate() {
        let label = if i == 0 { "settings" } else { "" };
        context.out.line(&format!("{label:<11}{name}={value}"))?;
    }
    for (schema, fingerprint) in &schemas {
        context.out.line(&format!("schema     {} ({fingerprint})", safe(schema)))?;
    }
    context.out.line("")?;
    Ok(context.out.table(&names.map(Column::number), &partitions)?)
}

/// A setting's value as JSON: a number where it is one.
fn plain(value: &str) -> Value {
    value.parse::<u64>().map_or_else(|_| value.into(), Value::from)
}
