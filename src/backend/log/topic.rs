//! Topics: a folder each, with `topic.json`, the schemas and a folder for every partition.
//!
//! The file `id` tells a topic from one of the same name that was deleted: a line of text that no other topic has, and a line
//! with the CRC-32C of that. Topics of the first releases have none, which tells them from those that are made now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{
    create_folder, io_error, lock, lock_shared, names_in, open_or_create, read_if_there, replace, sync_folder,
    try_lock, write_new,
};
use super::partition::users_path;
use crate::backend::{Topic, check_same_meaning, plain_of};
use crate::disk::{Disk, DiskFile, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::topic::{Numbering, TopicSchema, TopicSettings, TopicSpec, WireFormat, check_name, check_spec};

/// The newest version of `topic.json` that this build writes: it says who gives the numbers in the topic's values, and
/// releases before would read and write them as if nobody had.
const FORMAT: u32 = 4;

/// The version of a topic that holds plain values of a kind, of which releases before know nothing.
const VALUES_FORMAT: u32 = 3;

/// The version of a topic that may hold compacted segments, or of which it is said when records go.
const SETTINGS_FORMAT: u32 = 2;

/// The version of a topic that is as the first releases knew it: its partitions hold no compacted segment, which they
/// would take for none, and nothing is said of when records go.
const PLAIN_FORMAT: u32 = 1;

/// `topic.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    name: String,
    partitions: u32,
    key_field: Option<String>,
    /// What becomes of old records.
    #[serde(flatten)]
    settings: TopicSettings,
    internal: bool,
    /// `single-object` where nothing is said.
    #[serde(default)]
    wire: WireFormat,
    /// Who gives the numbers in Confluent headers, where somebody has written one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbering>,
    /// Fingerprints, oldest first; each names a file.
    schemas: Vec<String>,
    /// The CRC-32C of each of those files; a release that kept none left it out.
    #[serde(default)]
    schema_checks: BTreeMap<String, String>,
    /// The CRC-32C of everything else in here, written as JSON without spaces; a release that kept none left it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<String>,
}

impl Stored {
    /// What `check` should say.
    fn computed_check(&self) -> Result<String> {
        let bare = Self { check: None, ..self.clone() };
        let json = serde_json::to_vec(&bare)
            .map_err(|error| Error::new(ErrorKind::Encode, "cannot write topic.json").with_source(error))?;
        Ok(check_of(&json))
    }
}

/// The id of topics without a file that says it.
const NO_ID: &str = "none";

/// The content of a new topic's file `id`.
fn new_id(disk: &Disk) -> String {
    let id = disk.unique_name();
    format!("{id}\n{}\n", check_of(id.as_bytes()))
}

fn check_of(bytes: &[u8]) -> String {
    format!("{:08x}", crc32c::crc32c(bytes))
}

/// What every version of `topic.json` says.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

/// The topics of a data folder.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    disk: Disk,
    folder: PathBuf,
    /// Where topics are made before they get their name, and go before they are deleted.
    drafts: PathBuf,
    /// Held shared by whoever has a draft.
    drafts_lock: PathBuf,
}

impl Topics {
    pub(super) fn open(disk: &Disk, data_dir: &Path) -> Result<Self> {
        let topics = Self::of(disk, data_dir);
        create_folder(disk, &topics.folder)?;
        create_folder(disk, &topics.drafts)?;
        topics.tidy_drafts()?;
        Ok(topics)
    }

    /// The same, to look at them only: nothing is created.
    pub(super) fn of(disk: &Disk, data_dir: &Path) -> Self {
        Self {
            disk: disk.clone(),
            folder: data_dir.join("topics"),
            drafts: data_dir.join("drafts"),
            drafts_lock: data_dir.join("drafts.lock"),
        }
    }

    /// Removes what somebody left who was killed while a topic was made or deleted, unless somebody is at it.
    fn tidy_drafts(&self) -> Result<()> {
        if names_in(&self.disk, &self.drafts)?.is_empty() {
            return Ok(());
        }
        let file = open_or_create(&self.disk, &self.drafts_lock)?;
        if !try_lock(&file, &self.drafts_lock)? {
            return Ok(());
        }
        let _unlock = Unlock(&file);
        // Who was killed may not have come to make it durable that a topic is gone. A loss of power would bring it back then,
        // with some of its files or none.
        sync_folder(&self.disk, &self.folder)?;
        for name in names_in(&self.disk, &self.drafts)? {
            let path = self.drafts.join(name);
            self.disk.remove_folder(&path).map_err(|error| io_error("remove", &path, error))?;
        }
        Ok(())
    }

    /// Keeps others from taking a draft for what somebody left.
    fn hold_drafts(&self) -> Result<Unlock<DiskFile>> {
        let file = open_or_create(&self.disk, &self.drafts_lock)?;
        lock_shared(&file, &self.drafts_lock)?;
        Ok(Unlock(file))
    }

    fn topic_folder(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.folder.join(name))
    }

    /// The folder of a partition of an existing topic.
    pub(super) fn partition_folder(&self, name: &str, partition: u32) -> Result<PathBuf> {
        let folder = self.topic_folder(name)?;
        let path = folder.join(partition.to_string());
        if self.disk.is_folder(&path) {
            return Ok(path);
        }
        let Some(stored) = read_stored(&self.disk, &folder)? else {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist; create it first")));
        };
        let message = format!("topic {name} has partitions 0 to {}, not {partition}", stored.partitions - 1);
        Err(Error::new(ErrorKind::NotFound, message))
    }

    /// Creates a topic or returns the one that exists, with the schema added.
    pub(super) fn create(&self, spec: &TopicSpec) -> Result<Topic> {
        check_spec(spec)?;
        let folder = self.topic_folder(&spec.name)?;
        if !self.disk.is_folder(&folder) {
            self.create_folder_of(&folder, spec)?;
        }
        let mut existing = self.read(&spec.name)?;
        if existing.spec.numbers.is_none() && spec.numbers.is_some() {
            self.set_numbers(&folder, spec.numbers)?;
            existing = self.read(&spec.name)?;
        }
        existing.spec.check_fits(spec)?;
        if let Some(schema) = &spec.schema {
            check_same_meaning(&spec.name, &existing.schemas, schema)?;
        }
        match &spec.schema {
            Some(schema) if existing.schemas.iter().all(|have| have.fingerprint != schema.fingerprint) => {
                self.add_schema(&folder, schema)?;
                self.read(&spec.name)
            }
            _ => Ok(existing),
        }
    }

    /// Makes the whole folder under another name, so that it is there whole or not at all.
    fn create_folder_of(&self, folder: &Path, spec: &TopicSpec) -> Result<()> {
        let disk = &self.disk;
        let _held = self.hold_drafts()?;
        let draft = self.drafts.join(disk.unique_name());
        create_folder(disk, &draft.join("schemas"))?;
        for partition in 0..spec.partitions {
            create_folder(disk, &draft.join(partition.to_string()))?;
        }
        let stored = Stored {
            format: match (plain_of(spec.format.unwrap_or_default()), spec.settings.is_plain()) {
                _ if spec.numbers.is_some() => FORMAT,
                (Some(_), _) => VALUES_FORMAT,
                (None, true) => PLAIN_FORMAT,
                (None, false) => SETTINGS_FORMAT,
            },
            name: spec.name.to_string(),
            partitions: spec.partitions,
            key_field: spec.key_field.as_deref().map(str::to_owned),
            settings: spec.settings,
            internal: spec.internal,
            wire: spec.format.unwrap_or_default(),
            numbers: spec.numbers,
            schemas: Vec::new(),
            schema_checks: BTreeMap::new(),
            check: None,
        };
        // Its name becomes durable with that of `topic.json`.
        write_new(disk, &draft.join("id"), new_id(disk).as_bytes())?;
        write_stored(disk, &draft, &stored)?;
        match disk.rename(&draft, folder) {
            Ok(()) => sync_folder(disk, &self.folder).inspect_err(|_| {
                // Left there it would count for whoever asks next, and might be gone after a loss of power. The draft goes
                // when it is durable that it is one, or with those of killed processes.
                let _ = disk
                    .rename(folder, &draft)
                    .and_then(|()| disk.sync_folder(&self.folder))
                    .and_then(|()| disk.remove_folder(&draft));
            }),
            // Somebody else was faster.
            Err(_) if disk.is_folder(folder) => {
                disk.remove_folder(&draft).map_err(|error| io_error("remove", &draft, error))
            }
            Err(error) => Err(io_error("create", folder, error)),
        }
    }

    /// Says whose the numbers in the topic's values are, unless somebody was faster.
    fn set_numbers(&self, folder: &Path, numbers: Option<Numbering>) -> Result<()> {
        change(&self.disk, folder, |stored| {
            if stored.numbers.is_none() {
                stored.numbers = numbers;
                stored.format = FORMAT;
            }
        })
    }

    /// Adds a schema durably.
    fn add_schema(&self, folder: &Path, schema: &TopicSchema) -> Result<()> {
        let name = format!("{:016x}", schema.fingerprint);
        let disk = &self.disk;
        let mut failed = Ok(());
        change(disk, folder, |stored| {
            if !stored.schemas.contains(&name) {
                failed = replace(disk, &schema_path(folder, &name), schema.json.as_bytes());
                if failed.is_ok() {
                    stored.schema_checks.insert(name.clone(), check_of(schema.json.as_bytes()));
                    stored.schemas.push(name);
                }
            }
        })?;
        failed
    }

    /// Changes what becomes of old records.
    pub(super) fn set(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.read(name)?.spec.check_settable()?;
        let folder = self.topic_folder(name)?;
        change(&self.disk, &folder, |stored| {
            if stored.settings != *settings {
                stored.format = stored.format.max(SETTINGS_FORMAT);
                stored.settings = *settings;
            }
        })?;
        self.read(name)
    }

    pub(super) fn read(&self, name: &str) -> Result<Topic> {
        let folder = self.topic_folder(name)?;
        let Some(stored) = read_stored(&self.disk, &folder)? else {
            return Err(Error::new(ErrorKind::NotFound, format!("topic {name} does not exist")));
        };
        let mut schemas = Vec::with_capacity(stored.schemas.len());
        for name in &stored.schemas {
            schemas.push(read_schema(&self.disk, &folder, name, stored.schema_checks.get(name))?);
        }
        let spec = TopicSpec {
            name: stored.name.into(),
            partitions: stored.partitions,
            key_field: stored.key_field.map(Into::into),
            schema: schemas.last().cloned(),
            settings: stored.settings,
            internal: stored.internal,
            format: Some(stored.wire),
            numbers: stored.numbers,
        };
        Ok(Topic { spec, schemas })
    }

    /// What tells a topic from others that had its name. A file that is damaged or cannot be read says nothing, nor does one of
    /// another form.
    pub(super) fn id(&self, name: &str) -> Result<Option<Arc<str>>> {
        let (id, path) = match self.read_id(name) {
            Err(error) if error.kind() == ErrorKind::Io => {
                tracing::warn!(%error, "the topic's id counts as not known");
                return Ok(None);
            }
            read => read?,
        };
        if id.is_none() {
            tracing::warn!(file = %path.display(), "the topic's id is damaged and counts as not known");
        }
        Ok(id)
    }

    /// The same without a word, and the file that says it.
    pub(super) fn read_id(&self, name: &str) -> Result<(Option<Arc<str>>, PathBuf)> {
        let path = self.topic_folder(name)?.join("id");
        let Some(bytes) = read_if_there(&self.disk, &path)? else { return Ok((Some(NO_ID.into()), path)) };
        let text = String::from_utf8_lossy(&bytes);
        let (id, check) = text.split_once('\n').unwrap_or_default();
        let is_whole = check.strip_suffix('\n') == Some(&*check_of(id.as_bytes()));
        Ok((is_whole.then(|| id.into()), path))
    }

    /// All topics, by name.
    pub(super) fn list(&self) -> Result<Vec<Topic>> {
        let mut topics = Vec::new();
        for name in names_in(&self.disk, &self.folder)? {
            match self.read(&name) {
                Ok(topic) => topics.push(topic),
                // Deleted since the folder was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(topics)
    }

    /// Deletes a topic that nobody has open. `forget` is called for its number of partitions when nothing stands in the
    /// way any more, and before the topic is gone.
    pub(super) fn delete(&self, name: &str, forget: impl FnOnce(u32) -> Result<()>) -> Result<()> {
        let topic = self.read(name)?;
        let folder = self.topic_folder(name)?;
        let mut held = Vec::<Unlock<DiskFile>>::new();
        for partition in 0..topic.spec.partitions {
            let path = users_path(&folder.join(partition.to_string()));
            // A partition that was never opened has no user, but may get one now.
            let users = open_or_create(&self.disk, &path)?;
            if !try_lock(&users, &path)? {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("partition {partition} of topic {name} is in use; stop its readers and writers first"),
                ));
            }
            held.push(Unlock(users));
        }
        forget(topic.spec.partitions)?;
        let _held = self.hold_drafts()?;
        let grave = self.drafts.join(self.disk.unique_name());
        self.disk.rename(&folder, &grave).map_err(|error| io_error("delete", &folder, error))?;
        sync_folder(&self.disk, &self.folder)?;
        self.disk.remove_folder(&grave).map_err(|error| io_error("remove", &grave, error))
    }
}

/// Notes that the partitions of a topic may hold compacted segments from now on, so that releases that do not know
/// them refuse the topic.
pub(super) fn note_compaction(disk: &Disk, topic_folder: &Path) -> Result<()> {
    if read_stored(disk, topic_folder)?.is_some_and(|stored| stored.format < SETTINGS_FORMAT) {
        change(disk, topic_folder, |stored| stored.format = SETTINGS_FORMAT)?;
    }
    Ok(())
}

/// Changes `topic.json`, one after another, and durably.
fn change(disk: &Disk, folder: &Path, change: impl FnOnce(&mut Stored)) -> Result<()> {
    let path = folder.join("topic.lock");
    let held = open_or_create(disk, &path)?;
    lock(&held, &path)?;
    let Some(mut stored) = read_stored(disk, folder)? else {
        return Err(Error::new(ErrorKind::NotFound, format!("{} was deleted meanwhile", folder.display())));
    };
    let before = serde_json::to_vec(&stored).ok();
    change(&mut stored);
    if serde_json::to_vec(&stored).ok() == before { Ok(()) } else { write_stored(disk, folder, &stored) }
}

fn schema_path(folder: &Path, name: &str) -> PathBuf {
    folder.join("schemas").join(format!("{name}.avsc"))
}

fn read_schema(disk: &Disk, folder: &Path, name: &str, check: Option<&String>) -> Result<TopicSchema> {
    let path = schema_path(folder, name);
    let damaged = || Error::new(ErrorKind::Corrupt, format!("{} is missing or damaged", path.display()));
    let bytes = read_if_there(disk, &path)?.filter(|bytes| check.is_none_or(|check| *check == check_of(bytes)));
    let json = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(damaged)?;
    let fingerprint = u64::from_str_radix(name, 16).map_err(|_| damaged())?;
    Ok(TopicSchema { fingerprint, json: Arc::from(json) })
}

fn read_stored(disk: &Disk, folder: &Path) -> Result<Option<Stored>> {
    let path = folder.join("topic.json");
    let Some(bytes) = read_if_there(disk, &path)? else { return Ok(None) };
    let damaged = |error| Error::new(ErrorKind::Corrupt, format!("{} is damaged", path.display())).with_source(error);
    // What a newer release says besides may be anything.
    let Version { format } = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(Error::newer_format(&path.display(), format, FORMAT));
    }
    let stored: Stored = serde_json::from_slice(&bytes).map_err(damaged)?;
    if let Some(check) = &stored.check
        && *check != stored.computed_check()?
    {
        let message = format!("{} is damaged: its check does not hold", path.display());
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(Some(stored))
}

fn write_stored(disk: &Disk, folder: &Path, stored: &Stored) -> Result<()> {
    let stored = Stored { check: Some(stored.computed_check()?), ..stored.clone() };
    let json = serde_json::to_vec_pretty(&stored)
        .map_err(|error| Error::new(ErrorKind::Encode, "cannot write topic.json").with_source(error))?;
    replace(disk, &folder.join("topic.json"), &json)
}
