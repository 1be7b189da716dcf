//! `agents`, `models` and `model`: what the app is made of.

use std::collections::BTreeMap;

use serde_json::Value;

use super::context::{Context, unknown};
use super::failure::Done;
use super::output::{Column, safe};
use crate::agent::OnError;
use crate::config::closest;
use crate::record::RecordSchema;

pub(super) fn agents(context: &mut Context) -> Done {
    let columns = ["name", "topic", "output", "tables", "shape", "source", "help", "on_error"].map(Column::text);
    // For people the help says more than the policy, and a line is short.
    let shown = if context.out.json { columns.len() } else { columns.len() - 1 };
    let mut rows = Vec::new();
    for def in context.agents() {
        let tables: Vec<_> = def.tables.iter().map(|table| table()).collect();
        let mut outputs: Vec<&str> = def.outputs.iter().map(|output| output.topic).collect();
        outputs.extend(tables.iter().filter_map(|table| table.output));
        let on_error = match def.on_error {
            OnError::Fail => "fail".to_owned(),
            OnError::Retry { times, backoff_ms } => format!("retry({times}, {backoff_ms} ms)"),
            OnError::Skip => "skip".to_owned(),
            OnError::DeadLetter(topic) => format!("dead_letter({topic})"),
        };
        rows.push(vec![
            def.name.into(),
            listed(def.topics.iter().copied(), context.out.json),
            listed(outputs.into_iter(), context.out.json),
            listed(tables.iter().map(|table| table.name), context.out.json),
            def.shape.as_str().into(),
            format!("{}:{}", def.file, def.line).into(),
            def.help.trim().into(),
            on_error.into(),
        ]);
    }
    let none = format!(
        "app {} has no agents: put #[agent(topic = \"…\")] on an async fn, or list those of a library with App::agent",
        context.app.name()
    );
    Ok(context.out.list(&columns[..shown], &rows, &none)?)
}

/// Several names: an array for programs, `-` for people where there is none.
fn listed<'a>(names: impl Iterator<Item = &'a str>, json: bool) -> Value {
    let names: Vec<Value> = names.map(Value::from).collect();
    if names.is_empty() && !json { Value::Null } else { Value::Array(names) }
}

pub(super) fn models(context: &mut Context) -> Done {
    let columns = [Column::text("name"), Column::number("fields"), Column::text("fingerprint"), Column::text("help")];
    let rows: Vec<Vec<Value>> = schemas(context)
        .values()
        .map(|schema| {
            let fingerprint = format!("{:016x}", schema.fingerprint);
            vec![schema.name.into(), schema.fields.len().into(), fingerprint.into(), schema.doc.into()]
        })
        .collect();
    Ok(context.out.list(&columns, &rows, "the agents read and write plain values only")?)
}

pub(super) fn model(context: &mut Context, name: &str) -> Done {
    let schemas = schemas(context);
    let found = schemas
        .values()
        .find(|schema| schema.name == name)
        .or_else(|| schemas.values().find(|schema| short(schema.name).eq_ignore_ascii_case(name)));
    let Some(schema) = found else {
        // Whoever left the namespace out meant a short name.
        return Err(match closest(name, schemas.keys().map(|full| short(full))) {
            Some(_) if !name.contains('.') => unknown("model", name, schemas.keys().map(|full| short(full))),
            _ => unknown("model", name, schemas.keys().copied()),
        });
    };
    if !context.out.json {
        let doc = if schema.doc.is_empty() { String::new() } else { format!(": {}", schema.doc) };
        context.out.line(&safe(&format!("{}{doc}", schema.name)))?;
        context.out.line("")?;
    }
    let columns = ["field", "type", "default", "help"].map(Column::text);
    let rows: Vec<Vec<Value>> = schema
        .fields
        .iter()
        .map(|field| {
            vec![field.name.into(), field.type_name.into(), field.default.unwrap_or("*").into(), field.doc.into()]
        })
        .collect();
    context.out.list(&columns, &rows, "it has no fields")?;
    if !context.out.json {
        context.out.line("\n* = required, there is no default")?;
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The records that the app's agents read, keep and write, by full name.
fn schemas(context: &Context) -> BTreeMap<&'static str, &'static RecordSchema> {
    context
        .agents()
        .iter()
        .flat_map(|def| {
            let tables = def.tables.iter().filter_map(|table| table().schema);
            let outputs = def.outputs.iter().filter_map(|output| output.schema);
            def.input.into_iter().chain(tables).chain(outputs)
        })
        .map(|schema| (schema.name, schema))
        .collect()
}
