//! An app: a name and its agents.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::agent::{Agent, AgentDef, Submitted};
use crate::topic::{TopicSettings, WireFormat};

/// An app: its agents under one name, with a whole command line.
///
/// The agents are those that `#[agent]` and `aggregate!` submitted anywhere in the binary, unless some are listed with
/// [`App::agent`]. An agent in a library crate is only seen if something of that crate is used; listing it is enough.
#[derive(Clone, Debug)]
pub struct App {
    name: String,
    about: Option<String>,
    listed: Vec<&'static AgentDef>,
    formats: BTreeMap<String, WireFormat>,
    settings: BTreeMap<String, TopicSettings>,
}

impl App {
    /// An app of that name. The name is part of the stored format: it names the consumer groups, the changelogs and
    /// the folder of the tables. It follows the rule for topics.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), about: None, listed: Vec::new(), formats: BTreeMap::new(), settings: BTreeMap::new() }
    }

    /// What the app does, for `--help`.
    #[must_use]
    pub fn about(mut self, text: impl Into<String>) -> Self {
        self.about = Some(text.into());
        self
    }

    /// Lists an agent. Once one is listed, only listed ones belong to the app.
    #[must_use]
    pub fn agent<A: Agent>(mut self) -> Self {
        self.listed.push(A::DEF);
        self
    }

    /// What the values of a topic look like on the wire, where it is not single objects. The topic gets it when it is
    /// created and keeps it, so that everything else finds it there.
    #[must_use]
    pub fn format(mut self, topic: impl Into<String>, format: WireFormat) -> Self {
        self.formats.insert(topic.into(), format);
        self
    }

    /// What becomes of a topic's old records. The topic gets it when it is created and keeps it; `topics NAME --set` changes
    /// it later.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>, settings: TopicSettings) -> Self {
        self.settings.insert(topic.into(), settings);
        self
    }

    /// The settings of topics that [`App::topic`] set.
    pub fn topic_settings(&self) -> &BTreeMap<String, TopicSettings> {
        &self.settings
    }

    /// The formats of topics that [`App::format`] set.
    pub fn formats(&self) -> &BTreeMap<String, WireFormat> {
        &self.formats
    }

    /// The app's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the app does, if it says so.
    pub fn about_text(&self) -> Option<&str> {
        self.about.as_deref()
    }

    /// The app's agents, by file and line.
    pub fn agents(&self) -> Vec<&'static AgentDef> {
        let mut agents = self.listed.clone();
        if agents.is_empty() {
            agents.extend(inventory::iter::<Submitted>.into_iter().map(|submitted| submitted.0));
        }
        agents.sort_by_key(|def| (def.file, def.line));
        agents
    }

    /// Runs the command line of this process.
    pub fn main(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// Runs a command line, whose first argument is the program's name.
    pub fn run_with(self, args: impl IntoIterator<Item = OsString>) -> ExitCode {
        crate::cli::main(self, args)
    }
}
