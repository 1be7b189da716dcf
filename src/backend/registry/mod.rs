//! A schema registry with Confluent's API: it gives schemas numbers, and gives schemas for numbers.
//!
//! The calls of [`Registry`] block, for some seconds at most. What its errors mean stands at each kind: one of
//! [`ErrorKind::Io`](crate::error::ErrorKind) may pass.

mod enrol;
mod http;
mod options;
mod transport;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use gretchen_schema::{Schemas, Source};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::http::Http;
pub use self::options::{Login, RegistryOptions, SubjectNaming};
use crate::error::{Error, ErrorKind, Result};
use crate::record::DynamicSchema;

/// Schemas that one may refer to, those that they refer to among them.
const MAX_REFERENCES: usize = 200;

/// Levels of references that refer to others.
const MAX_LEVELS: usize = 32;

/// A client of a registry. Clones talk over the same connections.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    options: RegistryOptions,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// A type that a schema names and another subject defines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The type's full name.
    pub name: String,
    /// The subject that defines it.
    pub subject: String,
    /// The version of that subject.
    pub version: u32,
}

/// The text of a schema, with what it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SchemaText {
    /// The schema as it was registered.
    pub schema: String,
    /// What it is; Avro where nothing is said.
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    /// Types that it names and others define.
    #[serde(default, deserialize_with = "or_none")]
    pub references: Vec<Reference>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// The subject.
    pub subject: String,
    /// The number of the version, from 1.
    pub version: u32,
    /// The number of the schema, which values carry.
    pub id: u32,
    /// The schema.
    #[serde(flatten)]
    pub text: SchemaText,
}

/// A list that may be `null`.
fn or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Reference>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl SchemaText {
    /// The text of an Avro schema.
    pub fn new(schema: impl Into<String>, references: Vec<Reference>) -> Self {
        Self { schema: schema.into(), kind: None, references }
    }

    fn body(&self) -> Value {
        match self.references.is_empty() {
            true => json!({"schema": self.schema}),
            false => json!({"schema": self.schema, "references": self.references}),
        }
    }
}

impl Registry {
    /// A client for the registry of these options; nobody is asked yet.
    pub fn new(options: RegistryOptions) -> Result<Self> {
        Ok(Self(Arc::new(Inner { http: Http::new(&options)?, options })))
    }

    /// What it was told.
    pub fn options(&self) -> &RegistryOptions {
        &self.0.options
    }

    /// The registry for messages, with the setting that names it.
    pub fn name(&self) -> String {
        format!("the schema registry at {} (registry)", self.0.options.url)
    }

    /// The schema of a number.
    pub fn schema(&self, id: u32) -> Result<SchemaText> {
        self.read(self.0.http.get(&format!("/schemas/ids/{id}"))?)
    }

    /// All subjects.
    pub fn subjects(&self) -> Result<Vec<String>> {
        self.read(self.0.http.get("/subjects")?)
    }

    /// The versions of a subject, oldest first.
    pub fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        self.read(self.0.http.get(&format!("/subjects/{}/versions", escaped(subject)))?)
    }

    /// A version of a subject, or the latest.
    pub fn version(&self, subject: &str, version: Option<u32>) -> Result<Registered> {
        let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
        self.read(self.0.http.get(&format!("/subjects/{}/versions/{version}", escaped(subject)))?)
    }

    /// Makes a schema a version of the subject, unless it is one already, and returns its number.
    fn add(&self, subject: &str, text: &SchemaText) -> Result<u32> {
        #[derive(Deserialize)]
        struct Given {
            id: u32,
        }
        let given: Given =
            self.read(self.0.http.post(&format!("/subjects/{}/versions", escaped(subject)), &text.body())?)?;
        Ok(given.id)
    }

    /// The version of the subject that a schema is.
    pub fn find(&self, subject: &str, text: &SchemaText) -> Result<Registered> {
        self.read(self.0.http.post(&format!("/subjects/{}", escaped(subject)), &text.body())?)
    }

    /// What new versions of a subject must be to older ones, e.g. `BACKWARD`; without a subject what holds where a subject
    /// says nothing else.
    pub fn compatibility(&self, subject: Option<&str>) -> Result<String> {
        let global = "/config".to_owned();
        let path = subject.map_or(global, |subject| format!("/config/{}?defaultToGlobal=true", escaped(subject)));
        let answer = self.0.http.get(&path)?;
        let level = answer.get("compatibilityLevel").or_else(|| answer.get("compatibility")).and_then(Value::as_str);
        level.map(str::to_owned).ok_or_else(|| self.unreadable(&answer, "no compatibility is in it"))
    }

    /// Sets that.
    pub fn set_compatibility(&self, subject: Option<&str>, level: &str) -> Result<()> {
        let global = "/config".to_owned();
        let path = subject.map_or(global, |subject| format!("/config/{}", escaped(subject)));
        self.0.http.put(&path, &json!({"compatibility": level})).map(drop)
    }

    /// The whole schema, every type that it refers to in it. `name` is what errors call it.
    pub fn whole(&self, name: &str, text: &SchemaText) -> Result<DynamicSchema> {
        self.check_kind(name, text)?;
        if text.references.is_empty() {
            return DynamicSchema::parse_named(name, &text.schema);
        }
        let mut found = Vec::new();
        self.collect(name, &text.references, 0, &mut BTreeSet::new(), &mut found)?;
        let others = found.iter().map(|(name, text)| Source { name, text });
        let sources: Vec<Source<'_>> = std::iter::once(Source { name, text: &text.schema }).chain(others).collect();
        let schemas = Schemas::parse(&sources).map_err(|error| Error::new(ErrorKind::Schema, error.to_string()))?;
        DynamicSchema::parse_named(name, &schemas.root_json(0))
    }

    /// The texts of what is referred to, each once, and of what these refer to.
    fn collect(
        &self,
        whose: &str,
        references: &[Reference],
        level: usize,
        seen: &mut BTreeSet<(String, u32)>,
        found: &mut Vec<(String, String)>,
    ) -> Result<()> {
        for Reference { subject, version, .. } in references {
            if !seen.insert((subject.clone(), *version)) {
                continue;
            }
            if seen.len() > MAX_REFERENCES || level == MAX_LEVELS {
                let message = format!(
                    "{whose} refers to more than {MAX_REFERENCES} schemas, or over more than {MAX_LEVELS} levels"
                );
                return Err(Error::new(ErrorKind::Schema, message));
            }
            let name = format!("version {version} of subject {subject}");
            let registered = self.version(subject, Some(*version)).map_err(|error| match error.kind() {
                // It is the schema that is broken, and not the number that is unknown.
                ErrorKind::NotFound => {
                    let message = format!("{whose} refers to {name}, which is not there");
                    Error::new(ErrorKind::Schema, message).with_source(error)
                }
                _ => error,
            })?;
            self.check_kind(&name, &registered.text)?;
            self.collect(&name, &registered.text.references, level + 1, seen, found)?;
            found.push((name, registered.text.schema));
        }
        Ok(())
    }

    fn check_kind(&self, name: &str, text: &SchemaText) -> Result<()> {
        match text.kind.as_deref() {
            None | Some("AVRO") => Ok(()),
            Some(kind) => {
                Err(Error::new(ErrorKind::Schema, format!("{name} is of the kind {kind}, and only Avro is read")))
            }
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&self, answer: Value) -> Result<T> {
        T::deserialize(&answer).map_err(|error| self.unreadable(&answer, &error.to_string()))
    }

    fn unreadable(&self, answer: &Value, why: &str) -> Error {
        let shown: String = answer.to_string().chars().take(200).collect();
        let message = format!("{} answers what cannot be read ({why}): {shown}", self.name());
        Error::new(ErrorKind::Config, message)
    }
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    let mut out = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_part_of_a_path() {
        assert_eq!(escaped("orders-value_2.x~"), "orders-value_2.x~");
        assert_eq!(escaped("a/b ?ä"), "a%2Fb%20%3F%C3%A4");
    }

    #[test]
    fn answers_of_several_registries_are_read() {
        for text in [
            r#"{"subject": "s", "version": 2, "id": 7, "schema": "\"int\""}"#,
            r#"{"subject": "s", "version": 2, "id": 7, "schema": "\"int\"", "references": null}"#,
            r#"{"subject": "s", "version": 2, "id": 7, "guid": "x", "schemaType": "AVRO", "schema": "\"int\"", "references": []}"#,
        ] {
            let found: Registered = serde_json::from_str(text).unwrap();
            assert_eq!((found.version, found.id, &*found.text.schema), (2, 7, "\"int\""));
            assert!(found.text.references.is_empty());
        }
    }
}
