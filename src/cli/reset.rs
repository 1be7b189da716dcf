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
use crate::backend::{Offsets, Topic};
use crate::error::ErrorKind;
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
    /// Agents that are not reset, and a topic of each that is put out to once more.
    readers: Vec<(&'static str, Arc<str>)>,
    /// Whether one of the agents is in the app.
    any_works: bool,
}

/// The commit with which an agent begins: its partition, and the offset in each of its topics.
type FirstCommit = (Arc<AgentPlan>, u32, BTreeMap<String, u64>);

/// Where an agent begins in a partition.
struct Start {
    agent: Arc<AgentPlan>,
    place: TopicPartition,
    was: Option<u64>,
    to: u64,
}

pub(super) async fn run(context: &mut Context, args: &ResetArgs) -> Done {
    let store = context.open_existing()?;
    if !context.is_kafka() && args.start.shift_by.is_some() {
        return Err(goes_with_commits("")
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
        for Start { agent, place, to, .. } in &doomed.starts {
            store.replay.set_position(&agent.group, place, *to)?;
        }
    }
    for (agent, partition, positions) in &doomed.commits {
        let now_ms = context.clock.now_ms();
        begin_at(&*store.backend, &*store.replay, agent, *partition, positions.clone(), now_ms).await?;
    }
    if !context.out.json {
        let what = match (doomed.any_works, doomed.starts.is_empty(), args.goes_back()) {
            (false, ..) => "nobody works on their topics any more",
            (_, true, _) => "the agents process their topics from the start, and put their outputs out again",
            (_, false, true) => {
                "the agents process their topics from these positions on, those not listed from the start, and put their \
                 outputs out again"
            }
            (_, false, false) => "the agents process their topics from these positions on",
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

/// On a log nothing tells where an agent is once it is reset.
fn goes_with_commits(in_topic: &str) -> Failure {
    Failure::usage(format!(
        "where agents on a log are{in_topic} is part of what they commit, and is dropped with it: they cannot go on from there"
    ))
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

impl ResetArgs {
    fn is_input(&self, topic: &str) -> bool {
        self.input_topics.iter().any(|have| have == topic)
    }

    fn is_intermediate(&self, topic: &str) -> bool {
        self.intermediate_topics.iter().any(|have| have == topic)
    }

    /// Whether records that were processed may be processed again, where a file does not say of each partition what is meant.
    fn goes_back(&self) -> bool {
        let start = &self.start;
        !start.to_latest && start.from_file.is_none() && start.shift_by.is_none_or(|offsets| offsets < 0)
    }
}

/// Where agents begin.
struct Starts<'a> {
    context: &'a Context,
    args: &'a ResetArgs,
    store: &'a Store,
    from_file: &'a mut Option<OffsetsFile>,
}

impl Starts<'_> {
    /// Where an agent begins in a partition if not at the start, and where it was.
    fn start_of(&mut self, agent: &AgentPlan, place: &TopicPartition) -> Done<Option<(Option<u64>, u64)>> {
        let (args, replay) = (self.args, &self.store.replay);
        let Offsets { start, end, .. } = replay.offsets(place)?;
        let was = replay.position(&agent.group, place)?;
        let since = |time_ms| Ok::<_, Failure>(replay.offset_at(place, time_ms)?.unwrap_or(end));
        let to = if let Some(offset) = self.from_file.as_mut().and_then(|file| file.find(place)) {
            offset
        } else if args.is_intermediate(&place.topic) {
            end
        } else if let Some(file) = self.from_file {
            return Err(file.lacks(place));
        } else if !args.input_topics.is_empty() && !args.is_input(&place.topic) {
            if !self.context.is_kafka() {
                return Err(goes_with_commits(&format!(" in {}", place.topic))
                    .help(format!("name {} with --input-topics or --intermediate-topics, too", place.topic)));
            }
            match self.known(agent, place, was)? {
                Some(was) => was,
                None => return Ok(None),
            }
        } else if args.start.to_latest {
            end
        } else if let Some(offset) = args.start.to_offset {
            offset
        } else if let Some(time) = args.start.to_datetime {
            since(time.as_millisecond())?
        } else if let Some(ago) = args.start.by_duration {
            let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            since(self.context.clock.now_ms().saturating_sub(ago_ms))?
        } else if let Some(offsets) = args.start.shift_by {
            self.known(agent, place, was)?.unwrap_or(start).saturating_add_signed(offsets)
        } else {
            return Ok(None);
        };
        Ok(Some((was, to.clamp(start, end))))
    }

    /// Where an agent is; `None` if it has not begun. A broker forgets the positions of groups that have been away for long.
    fn known(&self, agent: &AgentPlan, place: &TopicPartition, was: Option<u64>) -> Done<Option<u64>> {
        let changelog = TopicPartition::new(agent.changelog.clone(), place.partition);
        let has_begun = || match self.store.replay.offsets(&changelog) {
            Ok(offsets) => Ok(offsets.end > 0),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        if was.is_none() && has_begun()? {
            return Err(Failure::new(format!(
                "group {} has no position in {place} from which it could go on",
                agent.group
            ))
            .help("say where it begins, with --from-file or another option"));
        }
        Ok(was)
    }
}

/// Where one of the agents puts out what another reads, nobody but the user knows whether all that is there is to be processed
/// again, or only what comes again.
fn check_chains(args: &ResetArgs, agents: &[&Arc<AgentPlan>], topics: &[Topic]) -> Done {
    if !args.goes_back() {
        return Ok(());
    }
    let said = |topic: &str| args.is_input(topic) || args.is_intermediate(topic);
    let internal = |name: &str| topics.iter().any(|topic| *topic.spec.name == *name && topic.spec.internal);
    for writer in agents {
        for topic in writer.destinations.iter().map(|to| &to.topic).filter(|topic| !said(topic) && !internal(topic)) {
            if let Some(reader) = agents.iter().find(|agent| reads(agent, topic)) {
                let message = format!(
                    "agents {} and {} are reset, and the one puts out to {topic} what the other reads: what it puts out again \
                     would count twice beside what is there",
                    writer.def.name, reader.def.name
                );
                return Err(Failure::usage(message).help(format!(
                    "say with --intermediate-topics {topic} that it begins behind the last record there, or with --input-topics, \
                     and the names of the other topics that are to be processed again, that it processes all of it"
                )));
            }
        }
    }
    Ok(())
}

/// Agents that are not reset and get something once more, each with one of the topics; what they make of it goes on to others.
fn readers_of(plan: &Plan, reset: &[&Arc<AgentPlan>]) -> Vec<(&'static str, Arc<str>)> {
    let topics_of = |agent: &AgentPlan| agent.destinations.iter().map(|to| to.topic.clone()).collect::<Vec<_>>();
    let mut again: BTreeSet<Arc<str>> = reset.iter().flat_map(|agent| topics_of(agent)).collect();
    let mut left: Vec<_> =
        plan.agents.iter().filter(|agent| !reset.iter().any(|other| other.def.name == agent.def.name)).collect();
    let mut readers = Vec::new();
    let source_of = |agent: &AgentPlan, again: &BTreeSet<Arc<str>>| {
        agent.sources.iter().map(|(topic, _)| topic.clone()).find(|topic| again.contains(topic))
    };
    while let Some(place) = left.iter().position(|agent| source_of(agent, &again).is_some()) {
        let agent = left.remove(place);
        readers.extend(source_of(agent, &again).map(|topic| (agent.def.name, topic)));
        again.extend(topics_of(agent));
    }
    readers
}

fn reads(agent: &AgentPlan, topic: &str) -> bool {
    agent.sources.iter().any(|(source, _)| **source == *topic)
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
    let reset: Vec<&Arc<AgentPlan>> =
        plan.agents.iter().filter(|agent| names.iter().any(|name| name == agent.def.name)).collect();
    for topic in args.input_topics.iter().chain(&args.intermediate_topics) {
        if !reset.iter().any(|agent| reads(agent, topic)) {
            return Err(Failure::new(format!("none of the agents that are reset reads topic {topic}")));
        }
    }
    check_chains(args, &reset, &topics)?;
    if args.goes_back() {
        doomed.readers = readers_of(plan, &reset);
    }
    let mut starts = Starts { context, args, store, from_file };
    for agent in &reset {
        // Topics that the app has made for itself are gone, and begin at their start.
        for topic in topics.iter().filter(|topic| !topic.spec.internal && reads(agent, &topic.spec.name)) {
            for partition in 0..topic.spec.partitions {
                let place = TopicPartition::new(topic.spec.name.clone(), partition);
                if let Some((was, to)) = starts.start_of(agent, &place)? {
                    doomed.starts.push(Start { agent: Arc::clone(agent), place, was, to });
                }
            }
        }
    }
    for name in &names {
        let planned = reset.iter().find(|agent| agent.def.name == name);
        let group = planned.map_or_else(|| group_name(app, name), |agent| agent.group.clone());
        for topic in topics
            .iter()
            .filter(|topic| !topic.spec.internal || doomed.topics.iter().any(|gone| **gone == *topic.spec.name))
        {
            for partition in 0..topic.spec.partitions {
                let place = TopicPartition::new(topic.spec.name.clone(), partition);
                let known = store.replay.position(&group, &place)?.is_some();
                // Asking to forget the first tells whether a worker runs, whatever was published.
                if known || partition == 0 {
                    doomed.positions.push((group.clone(), place.clone(), known));
                }
            }
        }
    }
    doomed.any_works = !reset.is_empty();
    if !context.is_kafka() {
        for agent in reset {
            doomed.commits.extend(first_commits(store, agent, &doomed.starts, &exists)?);
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
    let starts: Vec<&Start> = starts.iter().filter(|start| start.agent.def.name == agent.def.name).collect();
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
            .map(|Start { agent, place, was, to }| {
                json!({
                    "agent": agent.def.name, "group": agent.group, "topic": *place.topic, "partition": place.partition,
                    "was": was, "position": to,
                })
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
    for Start { agent, place, was, to } in &doomed.starts {
        let was = was.map_or_else(|| "nowhere that is known".to_owned(), |was| format!("at {was}"));
        context.out.line(&safe(&format!("  start     {} in {place}: {to}, was {was}", agent.group)))?;
    }
    for (agent, topic) in &doomed.readers {
        let message =
            format!("  agent {agent} is not reset and reads {topic}: what is put out there again counts once more");
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
