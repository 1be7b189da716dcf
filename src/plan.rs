//! The plan: every agent with its topics, partitions and tables, checked against the backend before a record flows.

mod formats;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use self::formats::{Formats, check_bare, check_formats};
use crate::agent::{AgentDef, Destination, OnError, OutputDef, Shape};
use crate::backend::{Backend, Replay, Topic, check_same_meaning};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{RecordSchema, SchemaLookup, StoredSchemas};
use crate::table::TableDef;
use crate::topic::{Cleanup, TopicSchema, TopicSettings, TopicSpec, check_name};

/// One agent as it will run.
pub struct AgentPlan {
    /// The agent.
    pub def: &'static AgentDef,
    /// The consumer group whose members share the agent's partitions: app and agent, or what the agent says.
    pub group: String,
    /// Number of partitions of every topic that it reads.
    pub partitions: u32,
    /// The topics that it reads, repartition topics in the place of those keyed otherwise.
    pub sources: Vec<(Arc<str>, Arc<dyn SchemaLookup>)>,
    /// Those of its sources that were made for it: a record in them that it has committed is needed no more.
    pub repartitions: Vec<Arc<str>>,
    /// The topic of its commits.
    pub changelog: Arc<str>,
    /// The schemas that its tables' values were written with, kept with the changelog.
    pub stored: StoredSchemas,
    /// The topics that it writes.
    pub destinations: Vec<Destination>,
    /// Places of its outputs among the destinations.
    pub outputs: Vec<usize>,
    /// Place of its dead-letter topic among the destinations.
    pub dead_letters: Option<usize>,
    /// Its tables.
    pub tables: Vec<TableDef>,
    /// For each table the place of its output topic among the destinations.
    pub table_outputs: Vec<Option<usize>>,
    /// The records' keys are the tables' keys.
    pub keyed: bool,
}

impl AgentPlan {
    /// The topic of its commits as it has to be.
    pub(crate) fn changelog_spec(&self) -> TopicSpec {
        changelog_spec(self.changelog.clone(), self.partitions)
    }
}

/// Everything that a worker of the app does.
pub struct Plan {
    /// The app's name.
    pub app: String,
    /// The agents, those that feed repartition topics among them.
    pub agents: Vec<Arc<AgentPlan>>,
}

/// The name of the topic that holds an agent's commits.
pub fn changelog_name(app: &str, agent: &str) -> String {
    format!("{app}-{agent}-changelog")
}

/// That topic as it has to be.
fn changelog_spec(name: Arc<str>, partitions: u32) -> TopicSpec {
    let settings = TopicSettings { cleanup: Cleanup::Compact, ..TopicSettings::default() };
    TopicSpec { settings, internal: true, ..TopicSpec::new(name, partitions) }
}

/// The consumer group of an agent that says nothing else.
pub fn group_name(app: &str, agent: &str) -> String {
    format!("{app}.{agent}")
}

/// The consumer group of an agent.
fn group_of(app: &str, def: &AgentDef) -> String {
    def.group.map_or_else(|| group_name(app, def.name), str::to_owned)
}

/// Looks a topic's schemas up where the topic keeps them.
struct TopicSchemas {
    replay: Arc<dyn Replay>,
    topic: Arc<str>,
    /// The topic that its records come from as they are, which keeps their schemas.
    origin: Option<Arc<str>>,
    known: Mutex<BTreeMap<u64, Arc<str>>>,
}

impl SchemaLookup for TopicSchemas {
    fn schema(&self, fingerprint: u64) -> Result<Option<Arc<str>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(schema) = known.get(&fingerprint) {
            return Ok(Some(schema.clone()));
        }
        let find = |topic: &Arc<str>| match self.replay.schema(topic, fingerprint) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found,
        };
        let mut schema = find(&self.topic)?;
        if let (None, Some(origin)) = (&schema, &self.origin) {
            schema = find(origin)?;
        }
        if let Some(schema) = &schema {
            known.insert(fingerprint, schema.clone());
        }
        Ok(schema)
    }

    fn remark(&self, wire: &[u8]) -> Option<String> {
        self.replay.remark(self.origin.as_ref().unwrap_or(&self.topic), wire)
    }
}

/// The schemas that a topic keeps, for decoders.
pub fn topic_schemas(replay: Arc<dyn Replay>, topic: &str) -> Arc<dyn SchemaLookup> {
    Arc::new(TopicSchemas { replay, topic: topic.into(), origin: None, known: Mutex::default() })
}

/// The same of a topic that stands in for another: its records keep the schemas that they were written with.
fn stand_in_schemas(replay: &Arc<dyn Replay>, topic: &Arc<str>, origin: &str) -> Arc<dyn SchemaLookup> {
    let origin = (**topic != *origin).then(|| origin.into());
    Arc::new(TopicSchemas { replay: replay.clone(), topic: topic.clone(), origin, known: Mutex::default() })
}

/// The schemas that the values of an agent's tables were written with.
pub fn stored_schemas(replay: Arc<dyn Replay>, changelog: &str) -> StoredSchemas {
    StoredSchemas::new(topic_schemas(replay, changelog))
}

/// Makes the plan. All problems are reported at once, each with the file and line of its agent.
struct Planner<'a> {
    app: &'a str,
    partitions: u32,
    topics: BTreeMap<Arc<str>, TopicSpec>,
    /// The schemas of the topics that exist.
    schemas: BTreeMap<Arc<str>, Vec<TopicSchema>>,
    existing: BTreeSet<Arc<str>>,
    /// Topics that an agent writes to.
    put_out: BTreeSet<Arc<str>>,
    /// Schemas that agents write with, to be kept beside the topics whatever else was written there.
    written: Vec<(Arc<str>, TopicSchema)>,
    problems: Vec<String>,
}

impl Plan {
    /// Plans the agents and creates the topics that are missing, with `partitions` partitions where nothing else is
    /// known.
    pub async fn make(app: &str, agents: &[&'static AgentDef], backend: &dyn Backend, partitions: u32) -> Result<Self> {
        let (planner, drafts, replay) = Planner::draft_all(app, agents, backend, partitions).await?;
        planner.report()?;
        let mut formats = Formats::new();
        for spec in planner.topics.values() {
            let kept = backend.create_topic(spec).await?;
            formats.insert(spec.name.clone(), kept.spec.format.unwrap_or_default());
        }
        for agent in agents {
            check_formats(agent, &formats)?;
        }
        for (topic, schema) in &planner.written {
            if let Some(spec) = planner.topics.get(topic) {
                let kept = backend.create_topic(&TopicSpec { schema: Some(schema.clone()), ..spec.clone() }).await?;
                check_bare(&kept, schema)?;
                backend.announce(topic, schema).await?;
            }
        }
        planner.warn_of_orphans(agents);
        Ok(planner.plan(drafts, &replay))
    }

    /// The plan as it would be: creates nothing and reports no problem, so that what is there can be looked at and
    /// dropped.
    pub(crate) async fn preview(
        app: &str,
        agents: &[&'static AgentDef],
        backend: &dyn Backend,
        partitions: u32,
    ) -> Result<Self> {
        let (planner, drafts, replay) = Planner::draft_all(app, agents, backend, partitions).await?;
        Ok(planner.plan(drafts, &replay))
    }
}

/// The agents in such an order that whoever writes to a topic comes before those that read it: then it is known what the
/// topic is keyed by. In a circle the first agent begins.
fn producers_first(agents: &[&'static AgentDef]) -> Vec<&'static AgentDef> {
    let mut left = agents.to_vec();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |def: &AgentDef| left.iter().any(|other| other.name != def.name && feeds(other, def));
        let next = left.iter().position(|def| !waits(def)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

/// Whether an agent writes to a topic that the other reads.
fn feeds(from: &AgentDef, to: &AgentDef) -> bool {
    let dead_letters = match from.on_error {
        OnError::DeadLetter(topic) => Some(topic),
        _ => None,
    };
    let tables = from.tables.iter().filter_map(|table| table().output);
    tables
        .chain(dead_letters)
        .chain(from.outputs.iter().map(|output| output.topic))
        .any(|topic| to.topics.contains(&topic))
}

/// An agent whose sources are known.
struct Draft {
    def: &'static AgentDef,
    sources: Vec<Arc<str>>,
    outputs: Vec<Arc<str>>,
    tables: Vec<TableDef>,
    keyed: bool,
}

impl<'a> Planner<'a> {
    async fn draft_all(
        app: &'a str,
        agents: &[&'static AgentDef],
        backend: &dyn Backend,
        partitions: u32,
    ) -> Result<(Self, Vec<Draft>, Arc<dyn Replay>)> {
        let replay = backend.replay().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this backend cannot be read again by position, so agents cannot commit on it",
            )
        })?;
        let mut topics = BTreeMap::new();
        let mut schemas = BTreeMap::new();
        for Topic { spec, schemas: known } in backend.topics().await? {
            schemas.insert(spec.name.clone(), known);
            topics.insert(spec.name.clone(), spec);
        }
        let existing = topics.keys().cloned().collect();
        let mut planner = Self {
            app,
            partitions,
            topics,
            schemas,
            existing,
            put_out: BTreeSet::new(),
            written: Vec::new(),
            problems: Vec::new(),
        };
        planner.check_names(agents);
        let drafts = planner.draft(agents);
        Ok((planner, drafts, replay))
    }

    fn plan(&self, drafts: Vec<Draft>, replay: &Arc<dyn Replay>) -> Plan {
        let agents = drafts.into_iter().map(|draft| Arc::new(self.finish(draft, replay))).collect();
        Plan { app: self.app.to_owned(), agents }
    }

    fn problem(&mut self, def: &AgentDef, what: impl std::fmt::Display) {
        self.problems.push(format!("{}:{}: agent {}: {what}", def.file, def.line, def.name));
    }

    fn report(&self) -> Result<()> {
        match self.problems.as_slice() {
            [] => Ok(()),
            [one] => Err(Error::new(ErrorKind::Plan, one.clone())),
            many => Err(Error::new(ErrorKind::Plan, format!("{} problems:\n  {}", many.len(), many.join("\n  ")))),
        }
    }

    fn check_names(&mut self, agents: &[&'static AgentDef]) {
        if agents.is_empty() {
            self.problems.push(format!(
                "app {} has no agents: put #[agent(topic = \"…\")] on an async fn; an agent in a library that main never names \
                 must be listed, App::new({:?}).agent::<name_of_the_function>()",
                self.app, self.app
            ));
        }
        if let Err(error) = check_name(self.app) {
            self.problems.push(error.message().to_owned());
        }
        let mut names = BTreeMap::new();
        let (mut tables, mut groups) = (BTreeMap::new(), BTreeMap::new());
        for def in agents {
            if let Some(first) = names.insert(def.name, *def) {
                self.problem(
                    def,
                    format!(
                        "the name is taken by {}:{}; give one of them another with name = \"…\"",
                        first.file, first.line
                    ),
                );
            }
            let group = group_of(self.app, def);
            if let Some(first) = groups.insert(group.clone(), *def).filter(|first| first.name != def.name) {
                self.problem(
                    def,
                    format!(
                        "group {group} is that of agent {} ({}:{}): agents of a group would share the partitions and not all see \
                         every record; give one of them another with group = \"…\"",
                        first.name, first.file, first.line
                    ),
                );
            }
            for table in def.tables {
                let table = table();
                if let Some(first) = tables.insert(table.name, *def) {
                    let first: &AgentDef = first;
                    self.problem(
                        def,
                        format!(
                            "table {} is written by agent {} ({}:{}) already; a table has one writer",
                            table.name, first.name, first.file, first.line
                        ),
                    );
                }
            }
        }
    }

    fn draft(&mut self, agents: &[&'static AgentDef]) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for def in producers_first(agents) {
            let mut sources = Vec::new();
            for topic in def.topics {
                self.source_topic(def, topic);
                sources.push(self.keyed_source(def, topic, &mut drafts));
            }
            let partitions: BTreeSet<u32> =
                sources.iter().filter_map(|topic| self.topics.get(topic)).map(|spec| spec.partitions).collect();
            if partitions.len() > 1 {
                let list: Vec<String> = sources
                    .iter()
                    .filter_map(|topic| self.topics.get(topic))
                    .map(|spec| format!("{} has {}", spec.name, spec.partitions))
                    .collect();
                self.problem(def, format!("its topics must have the same number of partitions: {}", list.join(", ")));
            }
            let tables: Vec<TableDef> = def.tables.iter().map(|table| table()).collect();
            self.outputs(def, &sources, &tables);
            self.changelog(def, &sources);
            let changelog: Arc<str> = changelog_name(self.app, def.name).into();
            let stored = tables.iter().filter_map(TableDef::stored_schema);
            self.written.extend(stored.map(|schema| (changelog.clone(), topic_schema(schema))));
            drafts.push(Draft {
                def,
                sources,
                outputs: def.outputs.iter().map(|output| output.topic.into()).collect(),
                tables,
                keyed: def.key.is_some() || !def.tables.is_empty(),
            });
        }
        drafts
    }

    /// The topic as the agent names it, to be created if it is missing.
    fn source_topic(&mut self, def: &AgentDef, topic: &str) {
        if let Err(error) = check_name(topic) {
            self.problem(def, error.message());
        }
        if let (Some(schema), Some(known)) = (def.input, self.schemas.get(topic))
            && let Err(error) = check_same_meaning(topic, known, &topic_schema(schema))
        {
            self.problem(def, error.message());
        }
        let partitions = self.partitions;
        let spec = self.topics.entry(topic.into()).or_insert_with(|| TopicSpec::new(topic, partitions));
        // What another agent puts out is keyed as it says; anything else by what its first reader asks for.
        if !self.existing.contains(topic) && !self.put_out.contains(topic) && spec.key_field.is_none() {
            spec.key_field = def.key.map(|key| key.field.into());
        }
        if let (Some(schema), None) = (def.input, &spec.schema) {
            spec.schema = Some(topic_schema(schema));
        }
    }

    /// The topic itself, or the repartition topic that stands in for it where it is keyed by something else.
    fn keyed_source(&mut self, def: &'static AgentDef, topic: &str, drafts: &mut Vec<Draft>) -> Arc<str> {
        let Some(key) = def.key else { return topic.into() };
        let Some(spec) = self.topics.get(topic).cloned() else { return topic.into() };
        if spec.key_field.as_deref() == Some(key.field) {
            return spec.name;
        }
        let rekey = rekey_def(def, topic, self.app);
        let name: Arc<str> = rekey.outputs.first().map_or_else(|| topic.into(), |output| output.topic.into());
        let repartition = TopicSpec {
            key_field: Some(key.field.into()),
            internal: true,
            format: None,
            ..TopicSpec { name: name.clone(), settings: TopicSettings::default(), ..spec }
        };
        let found = self.topics.entry(name.clone()).or_insert(repartition).key_field.clone();
        if found.as_deref() != Some(key.field) {
            let message = format!(
                "topic {name} holds its records by {}, and the agent asks for {}: run `reset --agent {}` to drop what it \
                 has made of them",
                found.as_deref().unwrap_or("no field"),
                key.field,
                def.name
            );
            self.problem(def, message);
        }
        self.changelog(rekey, &[topic.into()]);
        drafts.push(Draft {
            def: rekey,
            sources: vec![topic.into()],
            outputs: vec![name.clone()],
            tables: Vec::new(),
            keyed: false,
        });
        name
    }

    fn outputs(&mut self, def: &AgentDef, sources: &[Arc<str>], tables: &[TableDef]) {
        let mut wanted: Vec<(&str, Option<&'static RecordSchema>, bool)> = Vec::new();
        wanted.extend(def.outputs.iter().map(|output| (output.topic, output.schema, output.keeps_key)));
        wanted.extend(tables.iter().filter_map(|table| Some((table.output?, table.schema, true))));
        if let OnError::DeadLetter(topic) = def.on_error {
            wanted.push((topic, None, true));
        }
        let source = sources.first().and_then(|topic| self.topics.get(topic)).cloned();
        for (topic, schema, keeps_key) in wanted {
            if let Err(error) = check_name(topic) {
                self.problem(def, error.message());
            }
            if def.topics.contains(&topic) {
                self.problem(def, format!("it writes to its own topic {topic}, which would never end"));
            }
            let partitions = source.as_ref().map_or(self.partitions, |source| source.partitions);
            // An output with the key of its record is keyed by that field where it has one of that name.
            let key = source.as_ref().filter(|_| keeps_key).and_then(|source| source.key_field.clone());
            let key =
                key.filter(|key| schema.is_some_and(|schema| schema.fields.iter().any(|field| *field.name == **key)));
            self.put_out.insert(topic.into());
            let spec = self
                .topics
                .entry(topic.into())
                .or_insert_with(|| TopicSpec { key_field: key, ..TopicSpec::new(topic, partitions) });
            if let Some(schema) = schema.map(topic_schema) {
                self.written.push((spec.name.clone(), schema.clone()));
                spec.schema.get_or_insert(schema);
            }
        }
    }

    fn changelog(&mut self, def: &AgentDef, sources: &[Arc<str>]) {
        let name: Arc<str> = changelog_name(self.app, def.name).into();
        let Some(source) = sources.first().and_then(|topic| self.topics.get(topic)) else { return };
        let partitions = source.partitions;
        if let Err(error) = check_name(&name) {
            self.problem(def, error.message());
        }
        if let Some(changelog) = self.topics.get(&name) {
            let had = changelog.partitions;
            if had != partitions {
                self.problem(
                    def,
                    format!(
                        "its topics have {partitions} partitions and its changelog {name} has {had}: the number cannot change under \
                         existing state; drop the state with `reset --agent {}` and process the topics again",
                        def.name
                    ),
                );
            }
        }
        let spec = changelog_spec(name.clone(), partitions);
        let topic = self.topics.entry(name).or_insert_with(|| spec.clone());
        if !topic.internal {
            // Somebody else has made it. What a changelog has to be is asked for all the same.
            (topic.internal, topic.settings) = (spec.internal, spec.settings);
        }
    }

    fn warn_of_orphans(&self, agents: &[&'static AgentDef]) {
        for name in &self.existing {
            let agent = name
                .strip_prefix(self.app)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|rest| rest.strip_suffix("-changelog"));
            if let Some(agent) = agent
                && !agents.iter().any(|def| def.name == agent || agent.starts_with(&format!("{}-rekey", def.name)))
            {
                tracing::warn!(agent, changelog = %name, "this agent is not in the app any more; its state stays until `reset --agent {agent}` drops it");
            }
        }
    }

    fn finish(&self, draft: Draft, replay: &Arc<dyn Replay>) -> AgentPlan {
        let mut destinations: Vec<Destination> = Vec::new();
        let mut place_of = |topic: Arc<str>| {
            destinations.iter().position(|to| to.topic == topic).unwrap_or_else(|| {
                let first = destinations.last().map_or(0, |last| last.first + last.partitions);
                let partitions = self.topics.get(&topic).map_or(self.partitions, |spec| spec.partitions);
                destinations.push(Destination { topic, partitions, first });
                destinations.len() - 1
            })
        };
        let outputs = draft.outputs.into_iter().map(&mut place_of).collect();
        let table_outputs = draft.tables.iter().map(|table| table.output.map(|topic| place_of(topic.into()))).collect();
        let dead_letters = match draft.def.on_error {
            OnError::DeadLetter(topic) => Some(place_of(topic.into())),
            _ => None,
        };
        let is_internal = |topic: &&Arc<str>| self.topics.get(*topic).is_some_and(|spec| spec.internal);
        AgentPlan {
            repartitions: draft.sources.iter().filter(is_internal).cloned().collect(),
            def: draft.def,
            group: group_of(self.app, draft.def),
            partitions: draft
                .sources
                .first()
                .and_then(|topic| self.topics.get(topic))
                .map_or(self.partitions, |spec| spec.partitions),
            sources: draft
                .sources
                .into_iter()
                .zip(draft.def.topics)
                .map(|(topic, origin)| {
                    let schemas = stand_in_schemas(replay, &topic, origin);
                    (topic, schemas)
                })
                .collect(),
            changelog: changelog_name(self.app, draft.def.name).into(),
            stored: stored_schemas(replay.clone(), &changelog_name(self.app, draft.def.name)),
            destinations,
            outputs,
            dead_letters,
            tables: draft.tables,
            table_outputs,
            keyed: draft.keyed,
        }
    }
}

/// A generated schema as a topic keeps it.
pub fn topic_schema(schema: &RecordSchema) -> TopicSchema {
    TopicSchema { fingerprint: schema.fingerprint, json: schema.json.into() }
}

/// The agent that feeds the repartition topic of another. Definitions live as long as the process; each is made once.
fn rekey_def(def: &'static AgentDef, topic: &str, app: &str) -> &'static AgentDef {
    static MADE: Mutex<BTreeMap<(String, String, String), &'static AgentDef>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry((app.to_owned(), def.name.to_owned(), topic.to_owned())).or_insert_with(|| {
        let several = def.topics.len() > 1;
        let name = if several { format!("{}-rekey-{topic}", def.name) } else { format!("{}-rekey", def.name) };
        let output = if several {
            format!("{app}-{}-{topic}-repartition", def.name)
        } else {
            format!("{app}-{}-repartition", def.name)
        };
        let topics: Vec<&'static str> = def.topics.iter().copied().filter(|have| *have == topic).collect();
        Box::leak(Box::new(AgentDef {
            name: name.leak(),
            help: "Puts records into partitions by the key that an agent asks for.",
            topics: topics.leak(),
            key: None,
            tables: &[],
            outputs: vec![OutputDef { topic: output.leak(), schema: def.input, plain: None, keeps_key: false }].leak(),
            group: None,
            concurrency: 1,
            shape: Shape::Rekey,
            start: def.key.map_or(def.start, |key| key.start_rekey),
            ..*def
        }))
    })
}
