//! What agents take beside plain records, and what they may return.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use super::outbox::Emit;
use crate::error::{BoxError, Result};
use crate::record::{EncodeError, Value};

/// A record with everything that came with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<R> {
    /// The record.
    pub value: R,
    /// The key's bytes, if there is a key.
    pub key: Option<Bytes>,
    /// Names and values, in order.
    pub headers: Vec<(String, Bytes)>,
    /// Event time, milliseconds since 1970.
    pub timestamp: i64,
    /// The topic that it was read from.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
}

impl<R> Deref for Event<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.value
    }
}

/// Records that are handed over at once, in order. They are finished, or failed, together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch<R> {
    /// The records, oldest first, at least one.
    pub events: Vec<Event<R>>,
}

impl<R> Deref for Batch<R> {
    type Target = Vec<Event<R>>;

    fn deref(&self) -> &Vec<Event<R>> {
        &self.events
    }
}

impl<R> DerefMut for Batch<R> {
    fn deref_mut(&mut self) -> &mut Vec<Event<R>> {
        &mut self.events
    }
}

impl<R> IntoIterator for Batch<R> {
    type Item = Event<R>;
    type IntoIter = std::vec::IntoIter<Event<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter()
    }
}

/// A record to be put out under a key of its own; a plain record keeps the key of the record that it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyed<R> {
    key: Vec<u8>,
    value: Option<R>,
}

impl<R> Keyed<R> {
    /// `value` under `key`.
    pub fn new(key: impl IntoKey, value: R) -> Self {
        Self { key: key.into_key(), value: Some(value) }
    }

    /// A tombstone: `key` has no value any more.
    pub fn tombstone(key: impl IntoKey) -> Self {
        Self { key: key.into_key(), value: None }
    }
}

/// What can be the key of an output; the bytes are those of [`crate::record::Key`].
pub trait IntoKey {
    /// The key's bytes.
    fn into_key(self) -> Vec<u8>;
}

impl IntoKey for &str {
    fn into_key(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl IntoKey for &String {
    fn into_key(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl IntoKey for String {
    fn into_key(self) -> Vec<u8> {
        self.into_bytes()
    }
}

impl IntoKey for &[u8] {
    fn into_key(self) -> Vec<u8> {
        self.to_vec()
    }
}

impl IntoKey for Vec<u8> {
    fn into_key(self) -> Vec<u8> {
        self
    }
}

impl IntoKey for i32 {
    fn into_key(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

impl IntoKey for i64 {
    fn into_key(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

impl IntoKey for uuid::Uuid {
    fn into_key(self) -> Vec<u8> {
        self.hyphenated().to_string().into_bytes()
    }
}

/// What an agent may return for a record.
#[diagnostic::on_unimplemented(
    message = "an agent cannot return `{Self}`",
    note = "return nothing, a record, `Option`, `Vec` or `Keyed` of one, or a `Result` of those"
)]
pub trait IntoOutputs {
    /// Puts it out.
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError>;
}

impl IntoOutputs for () {
    #[inline]
    fn emit(self, _: &mut Emit<'_>) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<V: Value> IntoOutputs for V {
    #[inline]
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        out.value(&self)
    }
}

impl<V: Value> IntoOutputs for Option<V> {
    #[inline]
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        self.map_or(Ok(()), |value| out.value(&value))
    }
}

impl<V: Value> IntoOutputs for Vec<V> {
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        self.iter().try_for_each(|value| out.value(value))
    }
}

impl<V: Value> IntoOutputs for Keyed<V> {
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        out.keyed(&self.key, self.value.as_ref())
    }
}

impl<V: Value> IntoOutputs for Option<Keyed<V>> {
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        self.map_or(Ok(()), |keyed| keyed.emit(out))
    }
}

impl<V: Value> IntoOutputs for Vec<Keyed<V>> {
    fn emit(self, out: &mut Emit<'_>) -> Result<(), EncodeError> {
        self.into_iter().try_for_each(|keyed| keyed.emit(out))
    }
}

/// What an agent's call came to: outputs, or a `Result` of them.
#[diagnostic::on_unimplemented(
    message = "an agent cannot return `{Self}`",
    note = "return nothing, a record, `Option`, `Vec` or `Keyed` of one, or a `Result` of those"
)]
pub trait Outcome {
    /// The outputs.
    type Outputs: IntoOutputs;

    /// The outputs, or the user's error.
    fn outputs(self) -> Result<Self::Outputs, BoxError>;
}

impl<T: IntoOutputs> Outcome for T {
    type Outputs = T;

    #[inline]
    fn outputs(self) -> Result<T, BoxError> {
        Ok(self)
    }
}

impl<T: IntoOutputs, E: Into<BoxError>> Outcome for Result<T, E> {
    type Outputs = T;

    #[inline]
    fn outputs(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}
