//! The agent that the plan puts before one whose topic is keyed by something else.

use std::future::poll_fn;

use super::def::AgentFuture;
use super::task::Task;
use crate::record::{FieldType, HasField, Key, Record};

/// A field that records can be keyed by; its bytes are those of [`crate::record::Key`].
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot be a key",
    note = "key by a string, int, long, bytes or uuid field, or an optional one of those"
)]
pub trait KeyField: FieldType {
    /// What a table that is grouped by the field is keyed by.
    type Key: Key;

    /// The key's bytes, or `None` where the field is null.
    fn key_bytes<'s>(view: Self::View<'s>, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]>;
}

impl KeyField for String {
    type Key = Self;

    #[inline]
    fn key_bytes<'s>(view: &'s str, _: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        Some(view.as_bytes())
    }
}

impl KeyField for bytes::Bytes {
    type Key = Vec<u8>;

    #[inline]
    fn key_bytes<'s>(view: &'s [u8], _: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        Some(view)
    }
}

impl KeyField for i32 {
    type Key = Self;

    #[inline]
    fn key_bytes(view: i32, scratch: &mut Vec<u8>) -> Option<&[u8]> {
        scratch.clear();
        scratch.extend_from_slice(&view.to_be_bytes());
        Some(scratch)
    }
}

impl KeyField for i64 {
    type Key = Self;

    #[inline]
    fn key_bytes(view: i64, scratch: &mut Vec<u8>) -> Option<&[u8]> {
        scratch.clear();
        scratch.extend_from_slice(&view.to_be_bytes());
        Some(scratch)
    }
}

impl KeyField for uuid::Uuid {
    type Key = Self;

    fn key_bytes(view: uuid::Uuid, scratch: &mut Vec<u8>) -> Option<&[u8]> {
        scratch.clear();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        scratch.extend_from_slice(view.hyphenated().encode_lower(&mut text).as_bytes());
        Some(scratch)
    }
}

impl<T: KeyField> KeyField for Option<T> {
    type Key = T::Key;

    #[inline]
    fn key_bytes<'s>(view: Option<T::View<'s>>, scratch: &'s mut Vec<u8>) -> Option<&'s [u8]> {
        view.and_then(|view| T::key_bytes(view, scratch))
    }
}

/// Puts every record, as it is, into the agent's output topic under the key that the field `F` holds.
pub fn rekey<R, const F: u64>(task: Task) -> AgentFuture
where
    R: Record + HasField<F>,
    <R as HasField<F>>::Type: KeyField,
{
    Box::pin(async move {
        let mut input = task.input::<R>()?;
        let mut scratch = Vec::new();
        let shared = &task.0;
        loop {
            poll_fn(|cx| input.poll_step(cx)).await;
            let Some((raw, decoder)) = input.current() else { continue };
            let (Some(value), Some(&destination)) = (raw.value, shared.outputs.first()) else { continue };
            let unreadable = match decoder.view(value) {
                Ok(view) => {
                    let field = R::get(&view);
                    match <R as HasField<F>>::Type::key_bytes(field, &mut scratch) {
                        Some(key) => {
                            let headers: Vec<(&str, &[u8])> = raw.headers.iter().collect();
                            let mut outbox = shared.outbox.borrow_mut();
                            outbox.push(destination, Some(key), Some(value), raw.timestamp, &headers);
                            if outbox.is_full() {
                                shared.commit_due.set(true);
                            }
                        }
                        None => shared.drop_unkeyed(raw.offset),
                    }
                    continue;
                }
                Err(error) => error,
            };
            return Err(decoder.explained(unreadable, value).into());
        }
    })
}
