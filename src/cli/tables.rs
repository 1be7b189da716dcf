//! `tables`: what the tables hold as of the last commit, also while a worker runs.

use serde_json::Value;

use super::args::TablesArgs;
use super::context::{Context, Store, unknown};
use super::failure::{Done, Failure};
use super::output::{Column, counted, safe};
use super::values::{hex, text_or_hex};
use crate::agent::AgentDef;
use crate::error::Result;
use crate::plan::{changelog_name, stored_schemas};
use crate::record::{DynamicSchema, StoredSchemas, avro_to_json, split_single_object};
use crate::table::{TableDef, TableSnapshot};
use crate::topic::{TopicPartition, partition_of};
use crate::worker::table_view;

/// A table with the agent that writes it.
struct Found {
    agent: &'static AgentDef,
    /// Its place among the agent's tables.
    place: usize,
    def: TableDef,
}

pub(super) async fn run(context: &mut Context, args: &TablesArgs) -> Done {
    let tables = all(context);
    let Some(name) = &args.name else { return list(context, &tables).await };
    let Some(table) = tables.iter().find(|table| table.def.name == name) else {
        return Err(unknown("table", name, tables.iter().map(|table| table.def.name)));
    };
    match &args.key {
        Some(key) => one(context, table, key).await,
        None => rows(context, table, args.limit).await,
    }
}

fn all(context: &Context) -> Vec<Found> {
    context
        .agents()
        .into_iter()
        .flat_map(|agent| {
            agent.tables.iter().enumerate().map(move |(place, table)| Found { agent, place, def: table() })
        })
        .collect()
}

async fn list(context: &mut Context, tables: &[Found]) -> Done {
    let columns = [
        Column::text("name"),
        Column::number("keys"),
        Column::text("agent"),
        Column::text("output"),
        Column::text("help"),
    ];
    let store = context.open_existing().ok();
    let mut rows = Vec::new();
    for table in tables {
        let keys = match &store {
            Some(store) => match count(context, store, table).await {
                Ok(keys) => Value::from(keys),
                Err(error) => {
                    tracing::warn!(table = table.def.name, error = %safe(&error.to_string()), "its keys cannot be counted");
                    Value::Null
                }
            },
            None => Value::from(0),
        };
        rows.push(vec![
            table.def.name.into(),
            keys,
            table.agent.name.into(),
            table.def.output.map_or(Value::Null, Value::from),
            table.def.help.trim().into(),
        ]);
    }
    let none = format!("app {} has no tables: give an agent one with table = NAME_OF_THE_STATIC", context.app.name());
    Ok(context.out.list(&columns, &rows, &none)?)
}

async fn count(context: &Context, store: &Store, table: &Found) -> Result<u64> {
    let mut keys = 0;
    for snapshot in snapshots(context, store, table).await? {
        for row in snapshot.iter() {
            row?;
            keys += 1;
        }
    }
    Ok(keys)
}

async fn one(context: &mut Context, table: &Found, key: &str) -> Done {
    let store = context.open_existing()?;
    let raw = table.def.parse_key(key)?;
    let snapshots = snapshots(context, &store, table).await?;
    let place = partition_of(&raw, snapshots.len().max(1) as u32) as usize;
    let stored = match snapshots.get(place) {
        Some(snapshot) => snapshot.get(&raw)?,
        None => None,
    };
    let Some(stored) = stored else {
        return Err(Failure::new(format!("table {} has no key {key}", table.def.name))
            .help(format!("`{} tables {}` shows which keys it has", context.program, table.def.name)));
    };
    let value = Shown::of(context, &store, table)?.value(&table.def, &raw, &stored)?;
    Ok(context.out.json_pretty(&value)?)
}

async fn rows(context: &mut Context, table: &Found, limit: usize) -> Done {
    let store = context.open_existing()?;
    let snapshots = snapshots(context, &store, table).await?;
    let shown = Shown::of(context, &store, table)?;
    let limit = if limit == 0 { usize::MAX } else { limit };
    // Each partition is sorted: the first rows of all are among the first rows of each.
    let mut first = Vec::new();
    let mut keys = 0_u64;
    for snapshot in &snapshots {
        for (at, row) in snapshot.iter().enumerate() {
            let row = row?;
            keys += 1;
            if at < limit {
                first.push(row);
            }
        }
    }
    first.sort_by_cached_key(|(raw, _)| sort_key(&table.def, raw));
    first.truncate(limit);
    let mut objects = Vec::new();
    for (raw, stored) in &first {
        objects.push((table.def.key_text(raw), shown.value(&table.def, raw, stored)?));
    }
    if context.out.json {
        let objects = objects.into_iter().map(|(key, value)| serde_json::json!({"key": key, "value": value}));
        return Ok(context.out.json_pretty(&Value::Array(objects.collect()))?);
    }
    if objects.is_empty() {
        return Ok(context.out.line(&format!("table {} is empty", table.def.name))?);
    }
    let (columns, cells) = in_columns(objects);
    context.out.table(&columns, &cells)?;
    let more = keys - first.len() as u64;
    if more > 0 {
        let note = format!("\n{} more; --limit 0 shows all {}", counted(more, "row"), counted(keys, "row"));
        context.out.line(&note)?;
    }
    Ok(())
}

/// Numbers sort as numbers do, text as its bytes.
fn sort_key(def: &TableDef, raw: &[u8]) -> (Option<i64>, Vec<u8>) {
    let number = if def.is_signed() { def.key_text(raw).parse().ok() } else { None };
    (number, raw.to_vec())
}

/// A column for the key and one for each field; a field that repeats the key is left out.
fn in_columns(rows: Vec<(String, Value)>) -> (Vec<Column>, Vec<Vec<Value>>) {
    let Some(Value::Object(first)) = rows.first().map(|(_, value)| value) else {
        let cells = rows.into_iter().map(|(key, value)| vec![key.into(), value]).collect();
        return (vec![Column::text("key"), Column::text("value")], cells);
    };
    let repeats = |name: &str| {
        rows.iter().all(|(key, value)| value.get(name).is_some_and(|value| value.as_str() == Some(key.as_str())))
    };
    let names: Vec<String> = first.keys().filter(|name| !repeats(name)).cloned().collect();
    let mut columns = vec![Column::text("key")];
    columns.extend(names.iter().map(|name| {
        // Decimals are text in JSON.
        let number = rows.iter().all(|(_, value)| match value.get(name) {
            Some(Value::String(text)) => text.parse::<f64>().is_ok(),
            other => other.is_none_or(|value| value.is_number() || value.is_null()),
        });
        Column::of(name.clone(), number)
    }));
    let cells = rows
        .iter()
        .map(|(key, value)| {
            let mut row = vec![Value::from(key.as_str())];
            row.extend(names.iter().map(|name| value.get(name).cloned().unwrap_or(Value::Null)));
            row
        })
        .collect();
    (columns, cells)
}

/// Every partition of a table as of its last commit; none before the agent's first start.
async fn snapshots(context: &Context, store: &Store, table: &Found) -> Result<Vec<TableSnapshot>> {
    let changelog = changelog_name(context.app.name(), table.agent.name);
    let topics = store.backend.topics().await?;
    let Some(topic) = topics.iter().find(|topic| *topic.spec.name == *changelog) else { return Ok(Vec::new()) };
    let schemas = stored_schemas(store.replay.clone(), &changelog);
    (0..topic.spec.partitions)
        .map(|partition| {
            let folder = context.state_dir().join(table.def.name).join(partition.to_string());
            let place = TopicPartition::new(changelog.as_str(), partition);
            table_view(&table.def, table.place, &folder, &*store.replay, &place, &schemas)
        })
        .collect()
}

/// How a table's values are shown.
struct Shown {
    form: Form,
    schemas: StoredSchemas,
}

enum Form {
    Record(DynamicSchema),
    Plain(String),
}

impl Shown {
    fn of(context: &Context, store: &Store, table: &Found) -> Result<Self> {
        let def = &table.def;
        let form = match def.schema {
            Some(schema) => Form::Record(DynamicSchema::parse_named(schema.name, schema.json)?),
            // The layout of a table of plain values is the name of their type.
            None => Form::Plain(def.layout()),
        };
        let changelog = changelog_name(context.app.name(), table.agent.name);
        Ok(Self { form, schemas: stored_schemas(store.replay.clone(), &changelog) })
    }

    fn value(&self, def: &TableDef, raw: &[u8], stored: &[u8]) -> Result<Value, Failure> {
        let wire = def.value_wire(raw, stored, &self.schemas)?;
        match &self.form {
            Form::Record(schema) => {
                let datum = split_single_object(&wire).map_or(wire.as_slice(), |(_, datum)| datum);
                avro_to_json(schema, datum).map_err(|error| {
                    Failure::new(format!("cannot show key {} of table {}: {error}", def.key_text(raw), def.name))
                })
            }
            Form::Plain(type_name) => Ok(plain(type_name, &wire)),
        }
    }
}

/// A plain value by the name of its type.
fn plain(type_name: &str, wire: &[u8]) -> Value {
    let number = match type_name {
        "i32" => wire.try_into().ok().map(|bytes| Value::from(i32::from_be_bytes(bytes))),
        "i64" => wire.try_into().ok().map(|bytes| Value::from(i64::from_be_bytes(bytes))),
        "f32" => wire.try_into().ok().map(|bytes| Value::from(f32::from_be_bytes(bytes))),
        "f64" => wire.try_into().ok().map(|bytes| Value::from(f64::from_be_bytes(bytes))),
        "alloc::vec::Vec<u8>" => Some(hex(wire).into()),
        _ => None,
    };
    number.unwrap_or_else(|| text_or_hex(wire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_repeats_the_key_is_no_column() {
        let row = |key: &str, total: &str| {
            let mut value = serde_json::Map::new();
            value.insert("customer".into(), key.into());
            value.insert("total".into(), total.into());
            (key.to_owned(), Value::Object(value))
        };
        let (columns, cells) = in_columns(vec![row("a", "1.50"), row("b", "2.00")]);
        assert_eq!(columns.len(), 2);
        assert_eq!(cells, [[Value::from("a"), "1.50".into()], [Value::from("b"), "2.00".into()]]);
    }

    #[test]
    fn plain_values_are_shown_by_their_type() {
        assert_eq!(plain("i64", &(-5_i64).to_be_bytes()), Value::from(-5));
        assert_eq!(plain("alloc::string::String", b"x"), Value::from("x"));
        assert_eq!(plain("alloc::vec::Vec<u8>", b"x"), Value::from("0x78"));
    }
}
