//! Decoding values whatever schema they were written with.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::plan::Plan;
use super::{
    DecodeError, DynamicSchema, Input, RecordSchema, SINGLE_OBJECT_MARKER, Value, looks_like, split_single_object,
};
use crate::error::Error;

/// Finds the schema that a fingerprint stands for.
pub trait SchemaLookup: Send + Sync {
    /// The full JSON of the schema, if it is known. An error says that nobody could tell.
    fn schema(&self, fingerprint: u64) -> Result<Option<Arc<str>>, Error>;

    /// What else is known of a value that cannot be read.
    fn remark(&self, _wire: &[u8]) -> Option<String> {
        None
    }
}

/// Decodes values of one topic or table.
///
/// A value that was written with the type's own schema goes straight to its codec. For another one the plan that
/// resolves it is compiled once and kept, and the type reads by it, straight from the writer's bytes.
pub struct Decoder<V> {
    lookup: Arc<dyn SchemaLookup>,
    /// For each fingerprint that has come.
    plans: Vec<(u64, Result<Plan, String>)>,
    /// The place among the plans of each fingerprint.
    places: HashMap<u64, usize>,
    /// The place of the plan that was followed last, which most often is the next.
    last: usize,
    values: PhantomData<fn() -> V>,
}

impl<V> fmt::Debug for Decoder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("plans", &self.plans.len()).finish_non_exhaustive()
    }
}

impl<V: Value> Decoder<V> {
    /// A decoder that asks `lookup` for schemas other than the type's own.
    pub fn new(lookup: Arc<dyn SchemaLookup>) -> Self {
        Self { lookup, plans: Vec::new(), places: HashMap::new(), last: 0, values: PhantomData }
    }

    /// Asks another topic from now on. A fingerprint means the same schema everywhere, so the plans stay.
    pub fn set_lookup(&mut self, lookup: &Arc<dyn SchemaLookup>) {
        self.lookup = Arc::clone(lookup);
    }

    /// Reads a wire value.
    #[inline(always)]
    pub fn decode(&mut self, wire: &[u8]) -> Result<V, DecodeError> {
        match foreign::<V>(wire) {
            None => V::decode_value(wire),
            Some((own, fingerprint, datum)) => {
                let plan = self.plan(own, fingerprint)?;
                let mut input = Input::after_header(datum);
                input.follow(plan);
                V::resolve_value(&mut input, plan.root())
            }
        }
    }

    /// The same without copying.
    #[inline(always)]
    pub fn view<'a>(&'a mut self, wire: &'a [u8]) -> Result<V::View<'a>, DecodeError> {
        match foreign::<V>(wire) {
            None => V::view_value(wire),
            Some((own, fingerprint, datum)) => {
                let plan = self.plan(own, fingerprint)?;
                let mut input = Input::after_header(datum);
                input.follow(plan);
                V::resolve_value_view(&mut input, plan.root())
            }
        }
    }

    #[inline]
    fn plan(&mut self, own: &'static RecordSchema, fingerprint: u64) -> Result<&Plan, DecodeError> {
        if self.plans.get(self.last).is_none_or(|(known, _)| *known != fingerprint) {
            self.last = self.place(own, fingerprint)?;
        }
        match &self.plans[self.last].1 {
            Ok(plan) => Ok(plan),
            Err(why) => Err(outside(why.clone())),
        }
    }

    #[inline(never)]
    fn place(&mut self, own: &'static RecordSchema, fingerprint: u64) -> Result<usize, DecodeError> {
        if let Some(known) = self.places.get(&fingerprint) {
            return Ok(*known);
        }
        // A schema that is not known yet may be known later: only an answer is kept.
        let found = self.lookup.schema(fingerprint).map_err(|error| not_told(fingerprint, error))?;
        let json = found.ok_or_else(|| unknown(own, fingerprint))?;
        self.places.insert(fingerprint, self.plans.len());
        self.plans.push((fingerprint, compile(own, fingerprint, &json)));
        Ok(self.plans.len() - 1)
    }

    /// Adds what else is known of the value, and what its datum looks like instead: in a topic of bare values nothing else
    /// tells. For whoever has the error in hand, off the path of records that are well: within `decode` it would cost each
    /// of them.
    #[cold]
    pub(crate) fn explained(&self, mut error: DecodeError, wire: &[u8]) -> DecodeError {
        if let Some(what) = split_single_object(wire).and_then(|(_, datum)| looks_like(datum)) {
            error.reason = format!("{}; the value looks like {what}", error.reason);
        }
        if let Some(remark) = self.lookup.remark(wire) {
            error.reason = format!("{}; {remark}", error.reason);
        }
        error
    }
}

/// The type's schema, and the fingerprint and datum of a value that another schema wrote.
#[inline]
pub(super) fn foreign<V: Value>(wire: &[u8]) -> Option<(&'static RecordSchema, u64, &[u8])> {
    let own = V::SCHEMA?;
    let (fingerprint, datum) = split_single_object(wire)?;
    (fingerprint != own.fingerprint).then_some((own, fingerprint, datum))
}

pub(super) fn compile(own: &RecordSchema, fingerprint: u64, json: &str) -> Result<Plan, String> {
    let name = format!("schema {fingerprint:016x}");
    let writer = DynamicSchema::parse_named(&name, json).map_err(|error| {
        format!("{name} cannot be read: {error}; {} ({:016x}) is wanted", own.name, own.fingerprint)
    })?;
    let reader = DynamicSchema::parse_named(own.name, own.json).map_err(|error| error.to_string())?;
    Plan::compile(&writer, &reader).map_err(|why| {
        format!(
            "written with {} ({fingerprint:016x}), which cannot be read as {} ({:016x}): {why}",
            writer.name(),
            own.name,
            own.fingerprint
        )
    })
}

/// Nobody could tell whether there is such a schema: the value is not to blame.
#[cold]
pub(super) fn not_told(fingerprint: u64, error: Error) -> DecodeError {
    let mut failed = outside(format!("schema {fingerprint:016x}, which wrote it, cannot be looked up"));
    failed.storage = Some(Arc::new(error));
    failed
}

#[cold]
fn unknown(own: &RecordSchema, fingerprint: u64) -> DecodeError {
    outside(format!(
        "written with schema {fingerprint:016x}, which the topic does not know, not with {} ({:016x}); \
         add the writer's schema to the topic",
        own.name, own.fingerprint
    ))
}

#[cold]
pub(super) fn outside(reason: String) -> DecodeError {
    DecodeError::at_field("-", SINGLE_OBJECT_MARKER.len(), reason)
}
