//! Values: what a topic or a table holds, on the wire.

use std::fmt;

use super::codec::{Codec, Nested};
use super::plain::not_utf8;
use super::plan::no_plan;
use super::{
    DecodeError, EncodeError, Input, Plain, Record, RecordSchema, SINGLE_OBJECT_HEADER_LEN, SINGLE_OBJECT_MARKER, Step,
    looks_like,
};

/// What a topic or a table can hold as a value: a record in single-object encoding, or a plain value
/// (big-endian numbers, UTF-8, bytes as they are: what Kafka's own serializers write).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a topic or a table",
    note = "values are records from `gretchen::records!(…)`, or plain `String`, `Vec<u8>`, `i32`, `i64`, `f32`, `f64`"
)]
pub trait Value: Sized + Clone + fmt::Debug + Send + 'static {
    /// The value with everything borrowed from the bytes that it is read from.
    type View<'a>;

    /// The schema, for records.
    const SCHEMA: Option<&'static RecordSchema>;

    /// What it is, for plain values.
    const PLAIN: Option<Plain> = None;

    /// Appends the value as it goes on the wire.
    fn encode_value(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads a wire value that was written with this type's own schema. Every byte must be consumed.
    fn decode_value(wire: &[u8]) -> Result<Self, DecodeError>;

    /// The same without copying.
    fn view_value(wire: &[u8]) -> Result<Self::View<'_>, DecodeError>;

    /// Copies what a view borrows.
    fn own(view: &Self::View<'_>) -> Self;

    /// Reads a datum that another schema wrote; only records have one.
    #[doc(hidden)]
    fn resolve_value(input: &mut Input<'_>, step: &Step) -> Result<Self, DecodeError> {
        let _ = step;
        Err(no_plan(input))
    }

    /// The same without copying.
    #[doc(hidden)]
    fn resolve_value_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Self::View<'a>, DecodeError> {
        let _ = step;
        Err(no_plan(input))
    }
}

/// The fingerprint in a single-object header, and the datum behind it.
#[inline]
pub fn split_single_object(wire: &[u8]) -> Option<(u64, &[u8])> {
    let (header, datum) = wire.split_first_chunk::<SINGLE_OBJECT_HEADER_LEN>()?;
    let [a, b, fingerprint @ ..] = *header;
    ([a, b] == SINGLE_OBJECT_MARKER).then_some((u64::from_le_bytes(fingerprint), datum))
}

#[cold]
fn not_own_schema<R: Record>(wire: &[u8]) -> DecodeError {
    let reason = match split_single_object(wire) {
        Some((fingerprint, _)) => format!(
            "written with schema {fingerprint:016x}, not with {} ({:016x})",
            R::SCHEMA.name,
            R::SCHEMA.fingerprint
        ),
        None => {
            let hint = match looks_like(wire) {
                None => "if the topic's values have no header, set its format to bare with App::format".to_owned(),
                Some(what) if what.contains("Confluent") => format!(
                    "it looks like {what}, of schema {}: set the topic's format to confluent with App::format or, if it \
                     is, add the schema of that number, or name the registry that has it (registry)",
                    wire.get(1..5).map_or(0, |id| id.iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte)))
                ),
                Some(what) => format!("it looks like {what}, and must be made a record first, e.g. by `send`"),
            };
            let (name, fingerprint) = (R::SCHEMA.name, R::SCHEMA.fingerprint);
            format!(
                "no single-object header (C3 01 and a fingerprint) where {name} ({fingerprint:016x}) is wanted; {hint}"
            )
        }
    };
    DecodeError::at_field("-", 0, reason)
}

#[cold]
pub(crate) fn left_over(position: usize, bytes: usize) -> DecodeError {
    DecodeError::at_field("-", position, format!("{bytes} bytes are left over after the last field"))
}

impl<R: Record> Value for R {
    type View<'a> = <R as Record>::View<'a>;
    const SCHEMA: Option<&'static RecordSchema> = Some(<R as Record>::SCHEMA);

    #[inline]
    fn encode_value(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(&SINGLE_OBJECT_MARKER);
        out.extend_from_slice(&<R as Record>::SCHEMA.fingerprint.to_le_bytes());
        self.encode(out)
    }

    #[inline(always)]
    fn decode_value(wire: &[u8]) -> Result<Self, DecodeError> {
        let Some((fingerprint, datum)) = split_single_object(wire) else { return Err(not_own_schema::<R>(wire)) };
        if fingerprint != <R as Record>::SCHEMA.fingerprint {
            return Err(not_own_schema::<R>(wire));
        }
        let mut input = Input::after_header(datum);
        let value = R::decode(&mut input)?;
        if !input.rest().is_empty() {
            return Err(left_over(input.position(), input.rest().len()));
        }
        Ok(value)
    }

    #[inline(always)]
    fn view_value(wire: &[u8]) -> Result<Self::View<'_>, DecodeError> {
        let Some((fingerprint, datum)) = split_single_object(wire) else { return Err(not_own_schema::<R>(wire)) };
        if fingerprint != <R as Record>::SCHEMA.fingerprint {
            return Err(not_own_schema::<R>(wire));
        }
        let mut input = Input::after_header(datum);
        let view = R::view(&mut input)?;
        if !input.rest().is_empty() {
            return Err(left_over(input.position(), input.rest().len()));
        }
        Ok(view)
    }

    #[inline]
    fn own(view: &Self::View<'_>) -> Self {
        R::from_view(view)
    }

    #[inline]
    fn resolve_value(input: &mut Input<'_>, step: &Step) -> Result<Self, DecodeError> {
        let value = Nested::<R, 0>::resolve(input, step)?;
        check_end(input)?;
        Ok(value)
    }

    #[inline]
    fn resolve_value_view<'a>(input: &mut Input<'a>, step: &'a Step) -> Result<Self::View<'a>, DecodeError> {
        let view = Nested::<R, 0>::resolve_view(input, step)?;
        check_end(input)?;
        Ok(view)
    }
}

#[inline]
fn check_end(input: &Input<'_>) -> Result<(), DecodeError> {
    match input.rest().len() {
        0 => Ok(()),
        bytes => Err(left_over(input.position(), bytes)),
    }
}

impl Value for String {
    type View<'a> = &'a str;
    const SCHEMA: Option<&'static RecordSchema> = None;
    const PLAIN: Option<Plain> = Some(Plain::Text);

    fn encode_value(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn decode_value(wire: &[u8]) -> Result<Self, DecodeError> {
        Self::view_value(wire).map(str::to_owned)
    }

    fn view_value(wire: &[u8]) -> Result<&str, DecodeError> {
        std::str::from_utf8(wire).map_err(not_utf8)
    }

    fn own(view: &&str) -> Self {
        (*view).to_owned()
    }
}

impl Value for Vec<u8> {
    type View<'a> = &'a [u8];
    const SCHEMA: Option<&'static RecordSchema> = None;
    const PLAIN: Option<Plain> = Some(Plain::Bytes);

    fn encode_value(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(self);
        Ok(())
    }

    fn decode_value(wire: &[u8]) -> Result<Self, DecodeError> {
        Ok(wire.to_vec())
    }

    fn view_value(wire: &[u8]) -> Result<&[u8], DecodeError> {
        Ok(wire)
    }

    fn own(view: &&[u8]) -> Self {
        view.to_vec()
    }
}

macro_rules! number_value {
    ($($type:ty as $plain:ident),*) => {$(
        impl Value for $type {
            type View<'a> = Self;
            const SCHEMA: Option<&'static RecordSchema> = None;
            const PLAIN: Option<Plain> = Some(Plain::$plain);

            fn encode_value(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&self.to_be_bytes());
                Ok(())
            }

            fn decode_value(wire: &[u8]) -> Result<Self, DecodeError> {
                wire.try_into().map(Self::from_be_bytes).map_err(|_| Plain::$plain.wrong_length(wire.len()))
            }

            fn view_value(wire: &[u8]) -> Result<Self, DecodeError> {
                Self::decode_value(wire)
            }

            fn own(view: &Self) -> Self {
                *view
            }
        }
    )*};
}

number_value!(i32 as Int, i64 as Long, f32 as Float, f64 as Double);
