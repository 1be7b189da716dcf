//! `reset`: drops what agents keep, so that they process their topics from the start, or from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{ResetArgs, StartArgs};
use super::context::{Context, Store, unknown};
use super::failure::{Done, Failure};
use super::output::safe;
use crate::backend::Offsets;
use crate::plan::{changelog_name, group_name};
use crate::topic::TopicPartition;

/// Everything that goes.
#[derive(Debug, Default)]
struct Doomed {
    agents: Vec<String>,
    /// Published positions: group, partition, and whether there is one.
    positions: Vec<(String, TopicPartition, bool)>,
    /// Tables, and the files with positions of agents without one.
    state: Vec<PathBuf>,
    topics: Vec<String>,
    /// Where agents begin that do not begin at the start: group, partition, where they were, and where they begin.
    starts: Vec<(String, TopicPartition, Option<u64>, u64)>,
}

pub(super) async fn run(context: &mut Context, args: &ResetArgs) -> Done {
    let store = context.open_existing()?;
    let StartArgs { to_latest, to_offset, to_datetime, by_duration, shift_by, from_file } = &args.start;
    let by_time = to_datetime.is_some() || by_duration.is_some();
    let elsewhere = *to_latest || to_offset.is_some() || by_time || shift_by.is_some() || from_file.is_some();
    if elsewhere && !context.is_kafka() {
        return Err(Failure::usage(
            "agents on a log begin at the start of their topics: their positions are part of what they commit",
        )
        .help("leave out the option that says where they begin"));
    }
    let mut from_file = from_file.as_deref().map(OffsetsFile::read).transpose()?;
    let doomed = collect(context, &store, args, &mut from_file).await?;
    if let Some(file) = from_file {
        file.check_used_up()?;
    }
    show(context, &doomed, args.dry_run)?;
    if args.dry_run || doomed.is_empty() {
        return Ok(());
    }
    if !args.force {
        ask(context)?;
    }
    // Positions first: they are refused while a worker runs, and nothing has gone yet.
    for (group, place, _) in &doomed.positions {
        store.replay.forget(group, place).map_err(|error| {
            Failure::new(format!("{error}; nothing was dropped")).help("stop the app's workers, then run reset again")
        })?;
    }
    // State before changelogs: state that is gone is rebuilt, state ahead of its changelog is an error.
    for path in &doomed.state {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(|error| Failure::new(format!("cannot remove {}: {error}", path.display())))?;
    }
    // Stores on other machines are told from those of a new changelog by the id of the old one.
    let mut told_apart = true;
    for topic in &doomed.topics {
        told_apart &= store.replay.topic_id(topic)?.is_some();
        store.replay.delete_topic(topic).await?;
    }
    for (group, place, _, to) in &doomed.starts {
        store.replay.set_position(group, place, *to)?;
    }
    if !context.out.json {
        let what = match doomed.starts.is_empty() {
            true => "the agents process their topics from the start, and put their outputs out again",
            false => "the agents process their topics from these positions on",
        };
        context.out.line(&format!("\ndropped; {what}"))?;
        if context.is_kafka() && !told_apart {
            // A store is known by its place in the changelog, and another one's would be taken for it.
            let folder = format!("state/{}", context.app.name());
            context.out.line(&format!(
                "the brokers give topics no ids (Kafka 2.8 and later do): on every other machine remove {folder} in its data \
                 folder before a worker starts there"
            ))?;
        }
    }
    Ok(())
}

/// Offsets that somebody has written into a file.
struct OffsetsFile {
    path: PathBuf,
    /// With the line, and whether somebody has asked for it.
    offsets: BTreeMap<TopicPartition, (u64, u64, bool)>,
}

impl OffsetsFile {
    fn read(path: &Path) -> Done<Self> {
        let at = |line: u64, why: String| Failure::new(format!("{}:{line}: {why}", path.display()));
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .trim(csv::Trim::All)
            .flexible(true)
            .from_path(path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        let mut offsets = BTreeMap::new();
        for row in rows.records() {
            let row = row.map_err(|error| at(error.position().map_or(0, csv::Position::line), error.to_string()))?;
            let line = row.position().map_or(0, csv::Position::line);
            let numbers = || Some((row.get(1)?.parse::<u32>().ok()?, row.get(2)?.parse::<u64>().ok()?));
            let (Some(topic), Some((partition, offset)), 3) = (row.get(0), numbers(), row.len()) else {
                let have = row.iter().collect::<Vec<_>>().join(",");
                return Err(at(line, format!("{have:?} is not topic,partition,offset")));
            };
            let place = TopicPartition::new(topic, partition);
            if let Some((first, ..)) = offsets.insert(place.clone(), (line, offset, false)) {
                return Err(at(line, format!("line {first} says where {place} begins already")));
            }
        }
        Ok(Self { path: path.to_owned(), offsets })
    }

    fn offset(&mut self, place: &TopicPartition) -> Done<u64> {
        match self.offsets.get_mut(place) {
            Some((_, offset, used)) => {
                *used = true;
                Ok(*offset)
            }
            None => Err(Failure::new(format!("{} does not say where {place} begins", self.path.display()))
                .help(format!("add a line, with 0 for the start: {},{},0", place.topic, place.partition))),
        }
    }

    /// A name that was mistyped is no reason to begin elsewhere.
    fn check_used_up(&self) -> Done {
        match self.offsets.iter().find(|(_, (.., used))| !used) {
            Some((place, (line, ..))) => Err(Failure::new(format!(
                "{}:{line}: none of the agents that are reset reads {place}",
                self.path.display()
            ))),
            None => Ok(()),
        }
    }
}

/// Where an agent begins in a partition.
fn start_of(
    args: &StartArgs,
    from_file: &mut Option<OffsetsFile>,
    store: &Store,
    now_ms: i64,
    place: &TopicPartition,
    was: Option<u64>,
) -> Done<Option<u64>> {
    let Offsets { start, end, .. } = store.replay.offsets(place)?;
    let since = |time_ms| Ok::<_, Failure>(store.replay.offset_at(place, time_ms)?.unwrap_or(end));
    let to = if args.to_latest {
        end
    } else if let Some(offset) = args.to_offset {
        offset
    } else if let Some(time) = args.to_datetime {
        since(time.as_millisecond())?
    } else if let Some(ago) = args.by_duration {
        since(now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))?
    } else if let Some(offsets) = args.shift_by {
        was.unwrap_or(start).saturating_add_signed(offsets)
    } else if let Some(file) = from_file {
        file.offset(place)?
    } else {
        return Ok(None);
    };
    Ok(Some(to.clamp(start, end)))
}

impl Doomed {
    fn is_empty(&self) -> bool {
        self.state.is_empty()
            && self.topics.is_empty()
            && self.starts.is_empty()
            && !self.positions.iter().any(|(_, _, known)| *known)
    }
}

async fn collect(
    context: &Context,
    store: &Store,
    args: &ResetArgs,
    from_file: &mut Option<OffsetsFile>,
) -> Done<Doomed> {
    let only = args.agent.as_deref();
    let plan = context.preview(store).await?;
    let app = context.app.name();
    let topics = store.topics().await?;
    let exists = |name: &str| topics.iter().any(|topic| *topic.spec.name == *name);
    let mut names: Vec<String> = Vec::new();
    let mut doomed = Doomed::default();
    for agent in &plan.agents {
        let name = agent.def.name;
        let owner = context.agents().iter().find(|def| belongs(name, def.name)).map_or(name, |def| def.name);
        if only.is_some_and(|only| only != owner) {
            continue;
        }
        names.push(name.to_owned());
        doomed.state.extend(position_files(context, name));
        doomed.state.extend(agent.tables.iter().map(|table| context.state_dir().join(table.name)));
        doomed.topics.extend(
            agent
                .sources
                .iter()
                .map(|(topic, _)| topic.to_string())
                .filter(|topic| topics.iter().any(|have| *have.spec.name == **topic && have.spec.internal)),
        );
    }
    if let Some(agent) = plan.agents.iter().find(|agent| names.is_empty() && only == Some(agent.def.name)) {
        let owner = context.agents().iter().find(|def| belongs(agent.def.name, def.name)).map_or("", |def| def.name);
        return Err(Failure::new(format!(
            "{} only feeds {owner}, which would then see its records twice",
            agent.def.name
        ))
        .help(format!("reset both: --agent {owner}")));
    }
    // An agent that is in the app no more left its changelog.
    if let Some(gone) = only.filter(|gone| names.is_empty() && exists(&changelog_name(app, gone))) {
        names.push(gone.to_owned());
        doomed.state.extend(position_files(context, gone));
    }
    if let (Some(only), true) = (only, names.is_empty()) {
        let agents = context.agents();
        return Err(unknown("agent", only, agents.iter().map(|def| def.name)));
    }
    // Repartition topics first: a changelog that outlives its topic is an error at the next start, and a topic that
    // outlives the changelog of its feeder would get everything a second time.
    let changelogs: BTreeSet<String> =
        names.iter().map(|name| changelog_name(app, name)).filter(|name| exists(name)).collect();
    doomed.topics.retain(|topic| !changelogs.contains(topic));
    doomed.topics.sort();
    doomed.topics.dedup();
    doomed.topics.extend(changelogs);
    doomed.state.retain(|path| path.exists());
    doomed.state.sort();
    doomed.state.dedup();
    for name in &names {
        let planned = plan.agents.iter().find(|agent| agent.def.name == name);
        let group = planned.map_or_else(|| group_name(app, name), |agent| agent.group.clone());
        for topic in topics
            .iter()
            .filter(|topic| !topic.spec.internal || doomed.topics.iter().any(|gone| **gone == *topic.spec.name))
        {
            // Topics that the app has made for itself are gone, and begin at their start.
            let reads = !topic.spec.internal
                && planned.is_some_and(|agent| agent.sources.iter().any(|(source, _)| *source == topic.spec.name));
            for partition in 0..topic.spec.partitions {
                let place = TopicPartition::new(topic.spec.name.clone(), partition);
                let known = store.replay.position(&group, &place)?;
                // Asking to forget the first tells whether a worker runs, whatever was published.
                if known.is_some() || partition == 0 {
                    doomed.positions.push((group.clone(), place.clone(), known.is_some()));
                }
                if reads {
                    let to = start_of(&args.start, from_file, store, context.clock.now_ms(), &place, known)?;
                    doomed.starts.extend(to.map(|to| (group.clone(), place, known, to)));
                }
            }
        }
    }
    doomed.agents = names;
    Ok(doomed)
}

/// The files of an agent without tables. Its folder may be a table's of the same name, so only they go.
fn position_files(context: &Context, agent: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(context.state_dir().join(agent)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "position")).collect()
}

/// Whether an agent is another, or feeds its repartition topic.
fn belongs(name: &str, owner: &str) -> bool {
    name == owner || name.strip_prefix(owner).is_some_and(|rest| rest == "-rekey" || rest.starts_with("-rekey-"))
}

fn show(context: &mut Context, doomed: &Doomed, dry_run: bool) -> Done {
    let known = doomed.positions.iter().filter(|(_, _, known)| *known);
    let positions: Vec<String> = known.map(|(group, place, _)| format!("{group} in {place}")).collect();
    let state: Vec<String> = doomed.state.iter().map(|folder| folder.display().to_string()).collect();
    if context.out.json {
        let starts: Vec<_> = doomed
            .starts
            .iter()
            .map(|(group, place, was, to)| {
                json!({"group": group, "topic": *place.topic, "partition": place.partition, "was": was, "position": to})
            })
            .collect();
        let value = json!({
            "agents": doomed.agents, "state": state, "topics": doomed.topics, "positions": positions,
            "starts": starts, "dropped": !dry_run,
        });
        return Ok(context.out.json_pretty(&value)?);
    }
    if doomed.is_empty() {
        return Ok(context.out.line("nothing is kept: there is nothing to drop")?);
    }
    context.out.line(if dry_run { "reset would drop" } else { "reset drops" })?;
    let parts: [(&str, &[String]); 3] = [("state   ", &state), ("topic   ", &doomed.topics), ("position", &positions)];
    for (what, names) in parts {
        for name in names {
            context.out.line(&format!("  {what}  {}", safe(name)))?;
        }
    }
    for (group, place, was, to) in &doomed.starts {
        let was = was.map_or_else(|| "the start".to_owned(), |was| was.to_string());
        context.out.line(&safe(&format!("  start     {group} in {place}: {to}, was at {was}")))?;
    }
    Ok(context.out.flush()?)
}

fn ask(context: &mut Context) -> Done {
    if !std::io::stdin().is_terminal() || context.out.json {
        return Err(Failure::usage("reset asks before it drops anything, and there is nobody to ask")
            .help("say --force, or look at it first with --dry-run"));
    }
    context.out.flush()?;
    eprint!("\ndrop all this? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::new(format!("cannot read the answer: {error}")))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was dropped")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feeder_of_a_repartition_topic_belongs_to_its_agent() {
        assert!(belongs("total", "total") && belongs("total-rekey", "total") && belongs("total-rekey-orders", "total"));
        assert!(!belongs("totals", "total") && !belongs("total-rekeyed", "total"));
    }
}
