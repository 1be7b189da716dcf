//! `log`: what a folder's files hold, and how what is damaged is mended.

use std::path::Path;

use serde_json::{Value, json};

use super::args::{LogCommand, PartitionArg};
use super::context::Context;
use super::failure::{Done, Failure};
use super::output::{Column, counted, grouped, safe};
use crate::backend::log::{Finding, LogOptions, Mended, Only, Report, Severity, repair, verify};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{changelog_name, stored_schemas};
use crate::record::StoredSchemas;
use crate::table::{TableDef, TableSnapshot};
use crate::topic::TopicPartition;
use crate::worker::PositionFile;

pub(super) async fn run(context: &mut Context, command: LogCommand) -> Done {
    match command {
        LogCommand::Verify { partition } => verify_all(context, partition.as_ref()).await,
        LogCommand::Repair { partition } => repair_all(context, partition.as_ref()),
    }
}

/// The log as it is set, which must be there.
fn options(context: &Context) -> Done<LogOptions> {
    let options = context.log_options()?;
    if !options.data_dir.join("topics").is_dir() {
        return Err(Failure::new(format!("there is no log in {}", options.data_dir.display()))
            .help("name another folder with --data-dir"));
    }
    Ok(options)
}

fn only(partition: Option<&PartitionArg>) -> Only<'_> {
    Only {
        topic: partition.map(|partition| partition.topic.as_str()),
        partition: partition.and_then(|partition| partition.number),
    }
}

async fn verify_all(context: &mut Context, partition: Option<&PartitionArg>) -> Done {
    let options = options(context)?;
    let mut report = verify(&options, only(partition))?;
    if partition.is_none() {
        check_state(context, &mut report).await?;
    }
    show(context, &report)?;
    match report.is_damaged() {
        true => Err(Failure::said()),
        false => Ok(()),
    }
}

/// Opens the stores of the app's tables and the positions of agents without one, and compares them with the changelogs.
async fn check_state(context: &Context, report: &mut Report) -> Done {
    // Planning reads the topics; where they are damaged that has been said.
    if report.is_damaged() {
        return Ok(());
    }
    let store = context.open()?;
    let plan = context.preview(&store).await?;
    for agent in &plan.agents {
        let changelog = changelog_name(context.app.name(), agent.def.name);
        let schemas = stored_schemas(store.replay.clone(), &changelog);
        for partition in 0..agent.partitions {
            let place = TopicPartition::new(changelog.as_str(), partition);
            let end = report.ends.iter().find(|(have, _)| *have == place).map_or(0, |(_, end)| *end);
            let agent_dir = context.state_dir().join(agent.def.name);
            let positions = PositionFile::new(Disk::system(), Some(agent_dir.clone()), partition);
            let mut states = vec![(agent_dir.join(positions.name()), positions.load())];
            for table in &agent.tables {
                let dir = context.state_dir().join(table.name).join(partition.to_string());
                let position = check_table(table, &dir, &schemas);
                states.push((dir, position));
            }
            for (file, position) in states {
                let error = match position {
                    Ok(Some(position)) if position > end => Error::new(
                        ErrorKind::State,
                        format!("it covers offset {position} of its changelog, which ends at {end}"),
                    ),
                    Ok(_) => continue,
                    Err(error) => error,
                };
                report.findings.push(Finding {
                    severity: Severity::Damage,
                    topic: Some(place.topic.clone()),
                    partition: Some(partition),
                    file,
                    byte: None,
                    offset: None,
                    what: error.to_string(),
                    advice: "stop the worker and remove it; it is made again from the changelog".to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Reads a whole store, which verifies its checksums; returns the changelog position that it covers.
fn check_table(def: &TableDef, dir: &Path, schemas: &StoredSchemas) -> Result<Option<u64>> {
    let snapshot = TableSnapshot::open(def, dir, schemas)?;
    for row in snapshot.iter() {
        row?;
    }
    snapshot.position()
}

fn finding_json(finding: &Finding) -> Value {
    let severity = match finding.severity {
        Severity::Note => "note",
        Severity::Damage => "damage",
        Severity::Newer => "newer",
    };
    json!({
        "severity": severity, "topic": finding.topic.as_deref(), "partition": finding.partition,
        "file": finding.file.display().to_string(), "byte": finding.byte, "offset": finding.offset,
        "what": finding.what, "advice": finding.advice,
    })
}

fn show(context: &mut Context, report: &Report) -> Done {
    if context.out.json {
        let findings: Vec<Value> = report.findings.iter().map(finding_json).collect();
        let value = json!({
            "partitions": report.partitions, "segments": report.segments, "frames": report.frames,
            "records": report.records, "bytes": report.bytes, "damaged": report.is_damaged(), "findings": findings,
        });
        return Ok(context.out.json_pretty(&value)?);
    }
    if !report.findings.is_empty() {
        let columns =
            ["severity", "topic", "partition", "byte", "offset", "file", "what", "advice"].map(|name| match name {
                "partition" | "byte" | "offset" => Column::number(name),
                _ => Column::text(name),
            });
        let rows: Vec<Vec<Value>> = report
            .findings
            .iter()
            .map(|finding| {
                let cells = finding_json(finding);
                ["severity", "topic", "partition", "byte", "offset", "file", "what", "advice"]
                    .map(|name| cells[name].clone())
                    .to_vec()
            })
            .collect();
        context.out.table(&columns, &rows)?;
        context.out.line("")?;
    }
    let looked_at = format!(
        "{} in {} of {}, {} bytes",
        counted(report.records, "record"),
        counted(report.segments, "segment"),
        counted(report.partitions, "partition"),
        grouped(report.bytes)
    );
    let count = |severity| report.findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let state = match (count(Severity::Damage), count(Severity::Newer)) {
        (0, 0) => "nothing is damaged".to_owned(),
        (0, newer) => format!("{} of a newer release", counted(newer, "finding")),
        (damaged, _) => format!("{} of damage", counted(damaged, "finding")),
    };
    Ok(context.out.line(&format!("{looked_at}: {state}"))?)
}

fn repair_all(context: &mut Context, partition: Option<&PartitionArg>) -> Done {
    let mended = repair(&options(context)?, only(partition))?;
    if context.out.json {
        let values: Vec<Value> = mended
            .iter()
            .map(|one| {
                json!({
                    "topic": &*one.place.topic, "partition": one.place.partition, "file": one.file.display().to_string(),
                    "what": one.what, "copy": one.copy.as_ref().map(|copy| copy.display().to_string()), "done": one.done,
                    "lost_from": one.lost.map(|(from, _)| from), "lost_until": one.lost.map(|(_, until)| until),
                })
            })
            .collect();
        context.out.json_pretty(&Value::Array(values))?;
    } else {
        for one in &mended {
            context.out.line(&safe(&line(one)))?;
        }
        if mended.is_empty() {
            context.out.line("there was nothing to repair")?;
        }
    }
    match mended.iter().all(|one| one.done) {
        true => Ok(()),
        false => Err(Failure::said()),
    }
}

fn line(one: &Mended) -> String {
    let copy = one.copy.as_ref().map_or_else(String::new, |copy| format!(" (as it was: {})", copy.display()));
    format!("{}: {}: {}{copy}", one.place, one.file.display(), one.what)
}
