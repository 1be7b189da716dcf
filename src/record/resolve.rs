//! Reading what another schema wrote.

use std::sync::Arc;

use super::{DecodeError, Value};

/// Where the schemas of writers are found.
pub trait SchemaLookup: Send + Sync {
    /// The whole schema, as JSON, that has this fingerprint.
    fn schema(&self, fingerprint: u64) -> Option<Arc<str>>;
}

/// Decodes the values of a topic.
pub struct Decoder<V> {
    lookup: Option<Arc<dyn SchemaLookup>>,
    value: std::marker::PhantomData<fn() -> V>,
}

impl<V: Value> Decoder<V> {
    /// A decoder that asks `lookup` for the schemas of other writers.
    pub fn new(lookup: Option<Arc<dyn SchemaLookup>>) -> Self {
        Self { lookup, value: std::marker::PhantomData }
    }

    /// Asks another topic from now on.
    pub fn set_lookup(&mut self, lookup: &Arc<dyn SchemaLookup>) {
        self.lookup = Some(lookup.clone());
    }

    /// Reads a wire value.
    #[inline]
    pub fn decode(&mut self, wire: &[u8]) -> Result<V, DecodeError> {
        V::decode_value(wire)
    }

    /// Reads a wire value without copying, where its schema is the reader's own.
    #[inline]
    pub fn view<'a>(&'a mut self, wire: &'a [u8]) -> Result<V::View<'a>, DecodeError> {
        V::view_value(wire)
    }
}

impl<V> std::fmt::Debug for Decoder<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}
