//! A schema that is known only when the program runs.

use std::sync::Arc;

use gretchen_schema::{Definition, Field, Schemas, Source, Type};

use crate::error::{Error, ErrorKind, Result};

/// Bytes that the text of a schema may have.
const MAX_LEN: usize = 4 << 20;

/// A schema read from its text: what the command line and topics have where there is no generated type.
#[derive(Clone, Debug)]
pub struct DynamicSchema(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    schemas: Schemas,
    json: Arc<str>,
    fingerprint: u64,
}

impl DynamicSchema {
    /// Reads a schema from JSON text; `source` names it in errors, e.g. a file's path.
    ///
    /// The text may come from a stranger: it may have a few million bytes and so many levels.
    pub fn parse_named(source: &str, json: &str) -> Result<Self> {
        if json.len() > MAX_LEN {
            let message = format!("{source}: a schema of {} bytes, where {MAX_LEN} are the most", json.len());
            return Err(Error::new(ErrorKind::Schema, message));
        }
        let schemas = Schemas::parse(&[Source { name: source, text: json }])
            .map_err(|error| Error::new(ErrorKind::Schema, error.to_string()))?;
        let root = schemas.roots().first().cloned().unwrap_or(Type::Null);
        let (json, fingerprint) = (schemas.root_json(0).into(), schemas.fingerprint(&root));
        Ok(Self(Arc::new(Inner { schemas, json, fingerprint })))
    }

    /// Reads a schema from JSON text.
    pub fn parse(json: &str) -> Result<Self> {
        Self::parse_named("schema", json)
    }

    /// CRC-64-AVRO of the canonical form.
    pub fn fingerprint(&self) -> u64 {
        self.0.fingerprint
    }

    /// The Parsing Canonical Form of the specification, which fingerprints are computed of.
    pub fn canonical(&self) -> String {
        self.0.schemas.canonical(self.root())
    }

    /// Its full name, or its type for people where it has none.
    pub fn name(&self) -> String {
        match self.root() {
            Type::Named(id) => self.0.schemas.get(*id).name.clone(),
            other => self.0.schemas.type_name(other),
        }
    }

    /// The whole schema as JSON, every named type defined at its first use, with all attributes, known or not.
    pub fn json(&self) -> Arc<str> {
        Arc::clone(&self.0.json)
    }

    /// Names of a record's fields with their types for people; none where it is no record.
    pub fn fields(&self) -> Vec<(String, String)> {
        self.record_fields().iter().map(|field| (field.name.clone(), self.0.schemas.type_name(&field.ty))).collect()
    }

    pub(crate) fn schemas(&self) -> &Schemas {
        &self.0.schemas
    }

    pub(crate) fn root(&self) -> &Type {
        self.0.schemas.roots().first().unwrap_or(&Type::Null)
    }

    /// The fields of a record, or none.
    pub(crate) fn record_fields(&self) -> &[Field] {
        match self.root() {
            Type::Named(id) => match &self.0.schemas.get(*id).definition {
                Definition::Record(fields) => fields,
                _ => &[],
            },
            _ => &[],
        }
    }
}

impl PartialEq for DynamicSchema {
    fn eq(&self, other: &Self) -> bool {
        self.0.json == other.0.json
    }
}
