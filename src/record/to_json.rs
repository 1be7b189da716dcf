//! Avro to people's JSON, and the key in a datum.

use gretchen_schema::{Definition, Logical, Schemas, Type, TypeId, did_you_mean};
use serde_json::{Map, Value};

use super::big_decimal;
use super::codec::Codec;
use super::input::level_cost;
use super::logical::{self, MAX_PRECISION, read_decimal};
use super::{DecodeError, DynamicSchema, EncodeError, Input};

/// Types in types, in all, that a value is read through; the records among them are counted by [`Input`] too.
pub(crate) const MAX_LEVELS: usize = 512;

/// A bare datum as JSON for people: the reverse of [`json_to_avro`](super::json_to_avro), decimals as text.
pub fn avro_to_json(schema: &DynamicSchema, datum: &[u8]) -> Result<Value, DecodeError> {
    let mut input = Input::new(datum);
    let value = Reader { schemas: schema.schemas() }.read(schema.root(), &mut input, MAX_LEVELS).map_err(rooted)?;
    check_end(&input)?;
    Ok(value)
}

/// The plain key bytes of a top-level field; `None` where the field is null.
///
/// Text is UTF-8, an int or long big-endian, bytes as they are, a UUID its text: what `Key` writes.
pub fn key_of(schema: &DynamicSchema, datum: &[u8], field: &str) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut input = Input::new(datum);
    for candidate in schema.record_fields() {
        if candidate.name == field {
            return plain_key(schema.schemas(), &candidate.ty, &mut input).map_err(|error| error.within(field));
        }
        skip(schema.schemas(), &candidate.ty, &mut input, MAX_LEVELS).map_err(|error| error.within(&candidate.name))?;
    }
    let hint = did_you_mean(field, schema.record_fields().iter().map(|field| field.name.as_str()));
    Err(DecodeError::new(0, format!("{} has no such field{hint}", schema.name())).within(field))
}

fn rooted(mut error: DecodeError) -> DecodeError {
    if error.field.is_empty() {
        error.field.push('-');
    }
    error
}

pub(crate) fn check_end(input: &Input<'_>) -> Result<(), DecodeError> {
    match input.rest().len() {
        0 => Ok(()),
        left => Err(rooted(input.error(format!("{left} bytes are left over after the last field")))),
    }
}

fn plain_key(schemas: &Schemas, ty: &Type, input: &mut Input<'_>) -> Result<Option<Vec<u8>>, DecodeError> {
    let fixed_uuid = match ty {
        Type::Named(id) => {
            matches!(schemas.get(*id).definition, Definition::Fixed { logical: Some(Logical::Uuid), .. })
        }
        _ => false,
    };
    let cannot = |input: &Input<'_>| {
        let name = schemas.type_name(ty);
        Err(input.error(format!("{name} cannot be a key; keys are string, int, long, bytes or uuid")))
    };
    Ok(Some(match ty {
        Type::Null => return Ok(None),
        Type::Union(branches) => {
            let index = input.read_index(branches.len())?;
            return plain_key(schemas, &branches[index], input);
        }
        Type::Logical(Logical::Decimal { .. } | Logical::BigDecimal) => return cannot(input),
        Type::Logical(Logical::Uuid) => logical::UuidText::decode(input)?.to_string().into_bytes(),
        _ if fixed_uuid => logical::UuidFixed::decode(input)?.to_string().into_bytes(),
        _ => match ty.primitive_name() {
            "string" => input.read_str()?.as_bytes().to_vec(),
            "bytes" => input.read_bytes()?.to_vec(),
            "int" => input.read_int()?.to_be_bytes().to_vec(),
            "long" => input.read_long()?.to_be_bytes().to_vec(),
            _ => return cannot(input),
        },
    }))
}

/// Counts a record as generated codecs do: where its type contains itself, and not the outermost.
pub(crate) fn nested<'a, T>(
    schemas: &Schemas,
    id: TypeId,
    levels_left: usize,
    input: &mut Input<'a>,
    read: impl FnOnce(&mut Input<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    match schemas.is_recursive(id) && levels_left + 1 < MAX_LEVELS {
        true => input.nested(level_cost(0), read),
        false => read(input),
    }
}

#[cold]
fn too_deep(input: &Input<'_>) -> DecodeError {
    input.error(format!("nested deeper than {MAX_LEVELS} levels"))
}

/// Reads over a value, checking it as the type underneath.
pub(crate) fn skip(schemas: &Schemas, ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<(), DecodeError> {
    walk::<false>(schemas, ty, input, depth)
}

/// Reads over a value, checking also that it means something as what its logical types say.
pub(crate) fn check(schemas: &Schemas, ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<(), DecodeError> {
    walk::<true>(schemas, ty, input, depth)
}

/// The same of what was just written.
pub(crate) fn check_written(schemas: &Schemas, ty: &Type, written: &[u8]) -> Result<(), EncodeError> {
    check(schemas, ty, &mut Input::new(written), MAX_LEVELS)
        .map_err(|error| EncodeError { field: error.field.clone(), reason: error.reason.clone() })
}

fn walk<const MEANINGS: bool>(
    schemas: &Schemas,
    ty: &Type,
    input: &mut Input<'_>,
    depth: usize,
) -> Result<(), DecodeError> {
    let depth = depth.checked_sub(1).ok_or_else(|| too_deep(input))?;
    match ty {
        Type::Array(items) => {
            skip_items(schemas.min_len(items), input, |input| walk::<MEANINGS>(schemas, items, input, depth))?;
        }
        Type::Map(values) => skip_items(1 + schemas.min_len(values), input, |input| {
            input.read_str()?;
            walk::<MEANINGS>(schemas, values, input, depth)
        })?,
        Type::Union(branches) => {
            let index = input.read_index(branches.len())?;
            walk::<MEANINGS>(schemas, &branches[index], input, depth)?;
        }
        Type::Named(id) => match &schemas.get(*id).definition {
            Definition::Record(fields) => nested(schemas, *id, depth, input, |input| {
                fields.iter().try_for_each(|field| {
                    walk::<MEANINGS>(schemas, &field.ty, input, depth).map_err(|error| error.within(&field.name))
                })
            })?,
            Definition::Enum { symbols, .. } => drop(input.read_index(symbols.len())?),
            Definition::Fixed { size, logical: Some(logical) } if MEANINGS => {
                drop(read_logical(*logical, Some(*size), input)?);
            }
            Definition::Fixed { size, .. } => drop(input.read_slice(*size)?),
        },
        Type::Null => {}
        Type::Boolean => drop(input.read_bool()?),
        Type::Int => drop(input.read_int()?),
        Type::Long => drop(input.read_long()?),
        Type::Float => drop(input.read_float()?),
        Type::Double => drop(input.read_double()?),
        Type::Bytes => drop(input.read_bytes()?),
        Type::String => drop(input.read_str()?),
        Type::Logical(logical) if MEANINGS => drop(read_logical(*logical, None, input)?),
        Type::Logical(logical) => match logical.base() {
            "int" => drop(input.read_int()?),
            "long" => drop(input.read_long()?),
            "string" => drop(input.read_str()?),
            _ => drop(input.read_bytes()?),
        },
    }
    Ok(())
}

/// Reads every item of every block.
pub(crate) fn skip_items<'a>(
    min_len: usize,
    input: &mut Input<'a>,
    mut item: impl FnMut(&mut Input<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut index = 0_usize;
    loop {
        let block = input.read_block(min_len)?;
        for _ in 0..block.count {
            item(input).map_err(|error| error.within(&format!("[{index}]")))?;
            index += 1;
        }
        input.end_block(&block)?;
        if block.count == 0 {
            return Ok(());
        }
    }
}

struct Reader<'a> {
    schemas: &'a Schemas,
}

impl Reader<'_> {
    fn read(&self, ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<Value, DecodeError> {
        let depth = depth.checked_sub(1).ok_or_else(|| too_deep(input))?;
        Ok(match ty {
            Type::Null => Value::Null,
            Type::Boolean => input.read_bool()?.into(),
            Type::Int => input.read_int()?.into(),
            Type::Long => input.read_long()?.into(),
            Type::Float => float32(input.read_float()?),
            Type::Double => float(input.read_double()?),
            Type::Bytes => latin1(input.read_bytes()?),
            Type::String => input.read_str()?.into(),
            Type::Array(items) => {
                let mut values = Vec::new();
                skip_items(self.schemas.min_len(items), input, |input| {
                    values.push(self.read(items, input, depth)?);
                    Ok(())
                })?;
                Value::Array(values)
            }
            Type::Map(items) => {
                let mut values = Map::new();
                skip_items(1 + self.schemas.min_len(items), input, |input| {
                    let key = input.read_str()?.to_owned();
                    values.insert(key, self.read(items, input, depth)?);
                    Ok(())
                })?;
                Value::Object(values)
            }
            Type::Union(branches) => {
                let index = input.read_index(branches.len())?;
                self.read(&branches[index], input, depth)?
            }
            Type::Named(id) => match &self.schemas.get(*id).definition {
                Definition::Record(fields) => nested(self.schemas, *id, depth, input, |input| {
                    let mut values = Map::new();
                    for field in fields {
                        let value = self.read(&field.ty, input, depth).map_err(|error| error.within(&field.name))?;
                        values.insert(field.name.clone(), value);
                    }
                    Ok(Value::Object(values))
                })?,
                Definition::Enum { symbols, .. } => symbols[input.read_index(symbols.len())?].as_str().into(),
                Definition::Fixed { size, logical: Some(logical) } => read_logical(*logical, Some(*size), input)?,
                Definition::Fixed { size, logical: None } => latin1(input.read_slice(*size)?),
            },
            Type::Logical(logical) => read_logical(*logical, None, input)?,
        })
    }
}

fn read_logical(logical: Logical, fixed: Option<usize>, input: &mut Input<'_>) -> Result<Value, DecodeError> {
    fn text<C: Codec<Owned: ToString>>(input: &mut Input<'_>) -> Result<Value, DecodeError> {
        C::decode(input).map(|value| value.to_string().into())
    }
    match (logical, fixed) {
        (Logical::Decimal { precision, scale }, size) => {
            let bytes = match size {
                Some(size) => input.read_slice(size)?,
                None => input.read_bytes()?,
            };
            Ok(match precision <= MAX_PRECISION {
                true => read_decimal(bytes, precision, scale, input)?.to_string().into(),
                false => big_decimal::read(bytes, precision, scale.into(), input)?.to_string().into(),
            })
        }
        (Logical::BigDecimal, _) => text::<big_decimal::BigDecimal>(input),
        (Logical::Duration, _) => text::<logical::Duration>(input),
        (Logical::Date, _) => text::<logical::Date>(input),
        (Logical::TimeMillis, _) => text::<logical::TimeMillis>(input),
        (Logical::TimeMicros, _) => text::<logical::TimeMicros>(input),
        (Logical::TimestampMillis, _) => text::<logical::TimestampMillis>(input),
        (Logical::TimestampMicros, _) => text::<logical::TimestampMicros>(input),
        (Logical::TimestampNanos, _) => text::<logical::TimestampNanos>(input),
        (Logical::LocalTimestampMillis, _) => text::<logical::LocalTimestampMillis>(input),
        (Logical::LocalTimestampMicros, _) => text::<logical::LocalTimestampMicros>(input),
        (Logical::LocalTimestampNanos, _) => text::<logical::LocalTimestampNanos>(input),
        (Logical::Uuid, None) => text::<logical::UuidText>(input),
        (Logical::Uuid, Some(_)) => text::<logical::UuidFixed>(input),
    }
}

/// JSON has no numbers for what is not finite.
pub(crate) fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            let text = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            Value::String(text.to_owned())
        },
        Value::Number,
    )
}

/// The shortest number that reads back as the same float, not its expansion to a double.
fn float32(value: f32) -> Value {
    float(value.to_string().parse().unwrap_or_else(|_| f64::from(value)))
}

pub(crate) fn latin1(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().copied().map(char::from).collect())
}
