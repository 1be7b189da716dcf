//! `reset`: drops what agents keep, so that they process their topics from the start, or from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::args::ResetArgs;
use super::context::{Context, Store, unknown};
use super::failure::{Done, Failure};
use super::output::safe;
use crate::backend::Offsets;
use crate::plan::{AgentPlan, Plan, changelog_name, group_name};
use crate::topic::TopicPartition;
use crate::worker::begin_at;

/// Everything that goes.
#[derive(Default)]
struct Doomed {
    agents: Vec<String>,
    /// Published positions: group, partition, and whether there is one.
    positions: Vec<(String, TopicPartition, bool)>,
    /// Tables, and the files with positions of agents without one.
    state: Vec<PathBuf>,
    topics: Vec<String>,
    /// Where agents begin that do not begin at the start.
    starts: Vec<Start>,
    /// The same as commits, for a log.
    commits: Vec<FirstCommit>,
    /// Agents that are not reset, and a topic of each that others put out to once more.
    readers: Vec<(&'static str, Arc<str>)>,
}

/// The commit with which an agent begins: its partition, and the offset in each of its topics.
type FirstCommit = (Arc<AgentPlan>, u32, BTreeMap<String, u64>);

/// Where an agent begins in a partition.
struct Start {
    agent: String,
    group: String,
    place: TopicPartition,
    was: Option<u64>,
    to: u64,
    /// Behind the last record because what was put out there comes again.
    behind: bool,
}

pub(super) async fn run(context: &mut Context, args: &ResetArgs) -> Done {
    let store = context.open_existing()?;
    if !context.is_kafka() && (args.start.shift_by.is_some() || !args.input_topics.is_empty()) {
        return Err(Failure::usage(
            "where agents on a log are is part of what they commit, and is dropped with it: they cannot go on from there",
        )
        .help("say where they begin with --to-offset, --to-datetime, --by-duration, --to-latest or --from-file"));
    }
    let mut from_file = args.start.from_file.as_deref().map(OffsetsFile::read).transpose()?;
    let plan = context.preview(&store).await?;
    let doomed = collect(context, &store, &plan, args, &mut from_file).await?;
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
    if context.is_kafka() {
        for Start { group, place, to, .. } in &doomed.starts {
            store.replay.set_position(group, place, *to)?;
        }
    }
    for (agent, partition, positions) in &doomed.commits {
        let now_ms = context.clock.now_ms();
        begin_at(&*store.backend, &*store.replay, agent, *partition, positions.clone(), now_ms).await?;
    }
    if !context.out.json {
        let what = if doomed.starts.is_empty() {
            "the agents process their topics from the start, and put their outputs out again"
        } else if doomed.starts.iter().all(|start| start.behind) {
            "the agents process their topics from the start, and put their outputs out again; what is put out to one of them \
             it processes from these positions on"
        } else {
            "the agents process their topics from these positions on"
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

    fn find(&mut self, place: &TopicPartition) -> Option<u64> {
        let (_, offset, used) = self.offsets.get_mut(place)?;
        *used = true;
        Some(*offset)
    }

    fn lacks(&self, place: &TopicPartition) -> Failure {
        Failure::new(format!("{} does not say where {place} begins", self.path.display()))
            .help(format!("add a line, with 0 for the start: {},{},0", place.topic, place.partition))
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

/// Where agents begin.
struct Starts<'a> {
    args: &'a ResetArgs,
    store: &'a Store,
    now_ms: i64,
    from_file: &'a mut Option<OffsetsFile>,
    /// Topics that agents put out to which are reset.
    written: BTreeSet<Arc<str>>,
}

impl Starts<'_> {
    /// Whether an agent begins behind the last record of a topic, because all that it made of it comes again.
    fn is_behind(&self, topic: &str) -> bool {
        let named = |topics: &[String]| topics.iter().any(|have| have == topic);
        named(&self.args.intermediate_topics) || self.written.contains(topic) && !named(&self.args.input_topics)
    }

    /// Where an agent begins that does not begin at the start, and whether that is behind the last record.
    fn start_of(&mut self, place: &TopicPartition, was: Option<u64>) -> Done<Option<(u64, bool)>> {
        let Offsets { start, end, .. } = self.store.replay.offsets(place)?;
        let args = &self.args.start;
        let since = |time_ms| Ok::<_, Failure>(self.store.replay.offset_at(place, time_ms)?.unwrap_or(end));
        let behind = self.is_behind(&place.topic);
        if let Some(offset) = self.from_file.as_mut().and_then(|file| file.find(place)) {
            return Ok(Some((offset.clamp(start, end), false)));
        }
        let to = if behind {
            end
        } else if !self.args.input_topics.is_empty()
            && !self.args.input_topics.iter().any(|have| **have == *place.topic)
        {
            let Some(was) = was else { return Ok(None) };
            was
        } else if args.to_latest {
            end
        } else if let Some(offset) = args.to_offset {
            offset
        } else if let Some(time) = args.to_datetime {
            since(time.as_millisecond())?
        } else if let Some(ago) = args.by_duration {
            since(self.now_ms.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))?
        } else if let Some(offsets) = args.shift_by {
            was.unwrap_or(start).saturating_add_signed(offsets)
        } else if let Some(file) = &self.from_file {
            return Err(file.lacks(place));
        } else {
            return Ok(None);
        };
        Ok(Some((to.clamp(start, end), behind)))
    }
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
    plan: &Plan,
    args: &ResetArgs,
    from_file: &mut Option<OffsetsFile>,
) -> Done<Doomed> {
    let only = args.agent.as_deref();
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
    let is_reset = |agent: &&Arc<AgentPlan>| names.iter().any(|name| name == agent.def.name);
    let reads = |agent: &AgentPlan, topic: &str| agent.sources.iter().any(|(source, _)| **source == *topic);
    for topic in args.input_topics.iter().chain(&args.intermediate_topics) {
        if !plan.agents.iter().filter(is_reset).any(|agent| reads(agent, topic)) {
            return Err(Failure::new(format!("none of the agents that are reset reads topic {topic}")));
        }
    }
    let written = plan.agents.iter().filter(is_reset).flat_map(|agent| &agent.destinations);
    let written: BTreeSet<Arc<str>> = written.map(|to| to.topic.clone()).collect();
    for agent in plan.agents.iter().filter(|agent| !is_reset(agent)) {
        let again = agent.sources.iter().filter(|(source, _)| written.contains(source));
        doomed.readers.extend(again.map(|(source, _)| (agent.def.name, source.clone())));
    }
    let mut starts = Starts { args, store, now_ms: context.clock.now_ms(), from_file, written };
    for name in &names {
        let planned = plan.agents.iter().find(|agent| agent.def.name == name);
        let group = planned.map_or_else(|| group_name(app, name), |agent| agent.group.clone());
        for topic in topics
            .iter()
            .filter(|topic| !topic.spec.internal || doomed.topics.iter().any(|gone| **gone == *topic.spec.name))
        {
            // Topics that the app has made for itself are gone, and begin at their start.
            let reads = !topic.spec.internal && planned.is_some_and(|agent| reads(agent, &topic.spec.name));
            for partition in 0..topic.spec.partitions {
                let place = TopicPartition::new(topic.spec.name.clone(), partition);
                let known = store.replay.position(&group, &place)?;
                // Asking to forget the first tells whether a worker runs, whatever was published.
                if known.is_some() || partition == 0 {
                    doomed.positions.push((group.clone(), place.clone(), known.is_some()));
                }
                if reads && let Some((to, behind)) = starts.start_of(&place, known)? {
                    let (agent, group) = (name.clone(), group.clone());
                    doomed.starts.push(Start { agent, group, place, was: known, to, behind });
                }
            }
        }
    }
    if !context.is_kafka() {
        for agent in plan.agents.iter().filter(is_reset) {
            doomed.commits.extend(first_commits(store, agent, &doomed.starts, &|topic| exists(topic))?);
        }
    }
    doomed.agents = names;
    Ok(doomed)
}

/// The commits with which an agent begins, if it does not begin at the start everywhere.
fn first_commits(
    store: &Store,
    agent: &Arc<AgentPlan>,
    starts: &[Start],
    exists: &dyn Fn(&str) -> bool,
) -> Done<Vec<FirstCommit>> {
    let starts: Vec<&Start> = starts.iter().filter(|start| start.agent == agent.def.name).collect();
    let partitions = if starts.is_empty() { 0 } else { agent.partitions };
    let positions = |partition| {
        agent.sources.iter().map(move |(topic, _)| TopicPartition::new(topic.clone(), partition)).map(|place| {
            let at = match starts.iter().find(|start| start.place == place) {
                Some(start) => start.to,
                // It goes with the agent's state, and is made anew.
                None if agent.repartitions.contains(&place.topic) || !exists(&place.topic) => 0,
                None => store.replay.offsets(&place)?.start,
            };
            Ok((place.topic.to_string(), at))
        })
    };
    (0..partitions)
        .map(|partition| Ok((agent.clone(), partition, positions(partition).collect::<Done<_>>()?)))
        .collect()
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
            .map(|Start { group, place, was, to, .. }| {
                json!({"group": group, "topic": *place.topic, "partition": place.partition, "was": was, "position": to})
            })
            .collect();
        let readers: Vec<_> =
            doomed.readers.iter().map(|(agent, topic)| json!({"agent": agent, "topic": **topic})).collect();
        let value = json!({
            "agents": doomed.agents, "state": state, "topics": doomed.topics, "positions": positions,
            "starts": starts, "not_reset": readers, "dropped": !dry_run,
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
    for Start { group, place, was, to, behind, .. } in &doomed.starts {
        let was = was.map_or_else(|| "the start".to_owned(), |was| was.to_string());
        let why = if *behind { ", its end, because what was put out there comes again" } else { "" };
        context.out.line(&safe(&format!("  start     {group} in {place}: {to}, was at {was}{why}")))?;
    }
    for (agent, topic) in &doomed.readers {
        let message =
            format!("  agent {agent} is not reset and reads {topic}: it gets once more what is put out there again");
        context.out.line(&safe(&message))?;
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
