//! Values that may be older than the type that reads them: what tables store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::{HashMap, HashMapExt};

use super::decoder::{compile, foreign, not_told, outside};
use super::plan::Plan;
use super::{DecodeError, DynamicSchema, Input, RecordSchema, SchemaLookup, Value, incompatibilities};

/// What to do about state that cannot be read.
const HELP: &str = "change the schema so that it can read the other, go back to the one that wrote the values, or run \
                    `reset` to drop the state and compute it again";

/// By the reader's and the writer's fingerprint.
type Plans = HashMap<(u64, u64), Result<Arc<Plan>, String>>;

/// The schemas that stored values were written with, and how each is resolved. A clone shares what is known.
#[derive(Clone)]
pub struct StoredSchemas(Arc<Inner>);

struct Inner {
    lookup: Option<Arc<dyn SchemaLookup>>,
    plans: Mutex<Plans>,
}

impl fmt::Debug for StoredSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSchemas").finish_non_exhaustive()
    }
}

impl StoredSchemas {
    /// Asks `lookup` for schemas other than a type's own.
    pub fn new(lookup: Arc<dyn SchemaLookup>) -> Self {
        Self(Arc::new(Inner { lookup: Some(lookup), plans: Mutex::default() }))
    }

    /// Knows none: every value was written with the type's own schema.
    pub fn none() -> Self {
        Self(Arc::new(Inner { lookup: None, plans: Mutex::new(HashMap::new()) }))
    }

    /// Reads a wire value, whatever schema wrote it.
    #[inline]
    pub fn decode<V: Value>(&self, wire: &[u8]) -> Result<V, DecodeError> {
        match foreign::<V>(wire) {
            None => V::decode_value(wire),
            Some((own, fingerprint, datum)) => {
                let plan = self.plan(own, fingerprint)?;
                let mut input = Input::after_header(datum);
                input.follow(&plan);
                V::resolve_value(&mut input, plan.root())
            }
        }
    }

    fn plan(&self, own: &RecordSchema, fingerprint: u64) -> Result<Arc<Plan>, DecodeError> {
        let mut plans = self.0.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = plans.get(&(own.fingerprint, fingerprint)) {
            return known.clone().map_err(outside);
        }
        let json = self.json(own, fingerprint)?;
        let plan = compile(own, fingerprint, &json).map(Arc::new).map_err(|why| format!("{why}; {HELP}"));
        plans.insert((own.fingerprint, fingerprint), plan.clone());
        plan.map_err(outside)
    }

    fn json(&self, own: &RecordSchema, fingerprint: u64) -> Result<Arc<str>, DecodeError> {
        let found = match &self.0.lookup {
            Some(lookup) => lookup.schema(fingerprint).map_err(|error| not_told(fingerprint, error))?,
            None => None,
        };
        found.ok_or_else(|| {
            outside(format!(
                "written with schema {fingerprint:016x}, which the changelog does not know, not with {} ({:016x}); go \
                 back to the schema that wrote the values, or run `reset` to drop the state and compute it again",
                own.name, own.fingerprint
            ))
        })
    }

    /// Whether every value that a schema may have written can be read by a type; if not, the error names the field,
    /// the rule and what can be done. Where a schema cannot be looked up now, it says that.
    pub fn check(&self, own: &RecordSchema, fingerprint: u64) -> Result<(), DecodeError> {
        if fingerprint == own.fingerprint {
            return Ok(());
        }
        let json = self.json(own, fingerprint)?;
        let parse =
            |name: &str, json: &str| DynamicSchema::parse_named(name, json).map_err(|error| outside(error.to_string()));
        let writer = parse(&format!("schema {fingerprint:016x}"), &json)?;
        let problems = incompatibilities(&writer, &parse(own.name, own.json)?);
        let Some(first) = problems.first() else { return Ok(()) };
        let more = match problems.len() {
            1 => String::new(),
            many => format!(", and {} more", many - 1),
        };
        Err(outside(format!(
            "written with {} ({fingerprint:016x}), which cannot be read as {} ({:016x}): {first}{more}; {HELP}",
            writer.name(),
            own.name,
            own.fingerprint
        )))
    }
}
