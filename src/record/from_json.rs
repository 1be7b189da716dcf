//! People's JSON, and rows of CSV, to Avro.

use std::cell::Cell;
use std::str::FromStr;

use gretchen_schema::{Definition, Field, Logical, Schemas, Type, did_you_mean, latin1_bytes};
use rust_decimal::Decimal;
use serde_json::{Map, Value};

use super::codec::{Codec, write_bytes, write_long};
use super::logical::{self, MAX_PRECISION, shortest, unscaled, write_decimal_fixed};
use super::to_json::check_written;
use super::{DynamicSchema, EncodeError, big_decimal};

type Encoded = Result<(), EncodeError>;

/// Appends the bare datum of a JSON value as people write it; on an error `out` is as it was.
///
/// Dates, times and timestamps are ISO text (or the integer that Avro writes), decimals a number or a text such as
/// `"29.33"`, UUIDs text, bytes and fixed a text with one character below U+0100 for each byte as in Avro's own JSON,
/// and optional fields the plain value or null. Of a wider union the first branch that the value fits is taken. A
/// field that is missing takes its default; a field that is unknown is an error.
pub fn json_to_avro(schema: &DynamicSchema, value: &Value, out: &mut Vec<u8>) -> Encoded {
    let before = out.len();
    let writer = Writer { schemas: schema.schemas(), attempts_left: Cell::new(MAX_ATTEMPTS) };
    let result = writer.write(schema.root(), value, out);
    if result.is_err() {
        out.truncate(before);
    }
    result.map_err(rooted)
}

/// Appends the bare datum of a row whose headers name a record's fields; on an error `out` is as it was.
///
/// Cells are written as in [`json_to_avro`], without quotes; arrays, maps and records are JSON. An empty cell is null
/// where the field is optional, the empty text where it is a string, and an error elsewhere.
pub fn csv_row_to_avro(
    schema: &DynamicSchema,
    headers: &csv::StringRecord,
    row: &csv::StringRecord,
    out: &mut Vec<u8>,
) -> Encoded {
    let fields = schema.record_fields();
    let mut object = Map::new();
    for (index, header) in headers.iter().enumerate() {
        let Some(field) = fields.iter().find(|field| field.name == header) else {
            return Err(unknown_field(schema.schemas(), schema.root(), fields, header));
        };
        let Some(cell) = row.get(index) else {
            return Err(EncodeError::new("the row has no cell for this column").within(header));
        };
        let value = cell_to_json(&field.ty, cell).map_err(|error| error.within(header))?;
        object.insert(header.to_owned(), value);
    }
    json_to_avro(schema, &Value::Object(object), out)
}

fn rooted(mut error: EncodeError) -> EncodeError {
    if error.field.is_empty() {
        error.field.push('-');
    }
    error
}

fn cell_to_json(ty: &Type, cell: &str) -> Result<Value, EncodeError> {
    if let Type::Union(branches) = ty {
        if cell.is_empty() && branches.contains(&Type::Null) {
            return Ok(Value::Null);
        }
        return match ty.as_optional() {
            Some((_, inner)) => cell_to_json(inner, cell),
            None => Ok(serde_json::from_str(cell).unwrap_or_else(|_| Value::String(cell.to_owned()))),
        };
    }
    let text = || Value::String(cell.to_owned());
    let json = |what: &str| serde_json::from_str(cell).map_err(|_| EncodeError::new(format!("{cell:?} is not {what}")));
    match ty {
        Type::Null if cell.is_empty() => Ok(Value::Null),
        Type::String | Type::Bytes | Type::Named(_) if !cell.starts_with('{') => Ok(text()),
        _ if cell.is_empty() => Err(EncodeError::new("the cell is empty; write a value or make the field optional")),
        Type::Logical(Logical::Decimal { .. } | Logical::BigDecimal | Logical::Date | Logical::Uuid) => Ok(text()),
        Type::Logical(_) => Ok(cell.parse::<i64>().map_or_else(|_| text(), Value::from)),
        Type::Boolean => cell
            .parse()
            .map(Value::Bool)
            .map_err(|_| EncodeError::new(format!("{cell:?} is no boolean; write true or false"))),
        Type::Int | Type::Long => cell
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| EncodeError::new(format!("{cell:?} is no whole number of 64 bits"))),
        Type::Float | Type::Double => Ok(json("a number").unwrap_or_else(|_| text())),
        Type::String | Type::Bytes => Ok(text()),
        _ => json("JSON"),
    }
}

#[cold]
fn unknown_field(schemas: &Schemas, ty: &Type, fields: &[Field], name: &str) -> EncodeError {
    let hint = did_you_mean(name, fields.iter().map(|field| field.name.as_str()));
    EncodeError::new(format!("{} has no such field{hint}", schemas.type_name(ty))).within(name)
}

/// Branches of unions that may be tried in vain for one value: those of unions in unions' records multiply.
const MAX_ATTEMPTS: u32 = 100_000;

struct Writer<'a> {
    schemas: &'a Schemas,
    attempts_left: Cell<u32>,
}

impl Writer<'_> {
    /// Recursion ends where the value does, and `serde_json` bounds its depth.
    fn write(&self, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Encoded {
        match ty {
            Type::Null if value.is_null() => {}
            Type::Boolean => out.push(u8::from(value.as_bool().ok_or_else(|| self.wrong(ty, value, "true or false"))?)),
            Type::Int => {
                let int = value.as_i64().and_then(|value| i32::try_from(value).ok());
                write_long(int.ok_or_else(|| self.wrong(ty, value, "a whole number of 32 bits"))?.into(), out);
            }
            Type::Long => {
                write_long(value.as_i64().ok_or_else(|| self.wrong(ty, value, "a whole number of 64 bits"))?, out);
            }
            Type::Float => {
                let double = self.float(ty, value)?;
                let float = double as f32;
                // Infinity is written as such, not as a number that is too large.
                if float.is_infinite() && double.is_finite() {
                    return Err(self.wrong(ty, value, "a number of 32 bits"));
                }
                out.extend_from_slice(&float.to_le_bytes());
            }
            Type::Double => out.extend_from_slice(&self.float(ty, value)?.to_le_bytes()),
            Type::String => {
                write_bytes(value.as_str().ok_or_else(|| self.wrong(ty, value, "a text"))?.as_bytes(), out);
            }
            Type::Bytes => write_bytes(&self.bytes(ty, value)?, out),
            Type::Array(items) => self.array(ty, items, value, out)?,
            Type::Map(values) => self.map(ty, values, value, out)?,
            Type::Union(branches) => self.union(ty, branches, value, out)?,
            Type::Named(id) => match &self.schemas.get(*id).definition {
                Definition::Record(fields) => self.record(ty, fields, value, out)?,
                Definition::Enum { symbols, .. } => self.symbol(ty, symbols, value, out)?,
                Definition::Fixed { size, logical: Some(logical) } => {
                    self.logical(ty, *logical, Some(*size), value, out)?;
                }
                Definition::Fixed { size, logical: None } => {
                    let bytes = self.bytes(ty, value)?;
                    if bytes.len() != *size {
                        return Err(EncodeError::new(format!("{} bytes where {size} are needed", bytes.len())));
                    }
                    out.extend_from_slice(&bytes);
                }
            },
            Type::Logical(logical) => self.logical(ty, *logical, None, value, out)?,
            Type::Null => return Err(self.wrong(ty, value, "null")),
        }
        Ok(())
    }

    #[cold]
    fn wrong(&self, ty: &Type, value: &Value, what: &str) -> EncodeError {
        let mut shown = value.to_string();
        if let Some((cut, _)) = shown.char_indices().nth(80) {
            shown.truncate(cut);
            shown.push('…');
        }
        EncodeError::new(format!("{shown} does not fit {}; write {what}", self.schemas.type_name(ty)))
    }

    fn float(&self, ty: &Type, value: &Value) -> Result<f64, EncodeError> {
        match value {
            Value::String(text) if text == "NaN" => Ok(f64::NAN),
            Value::String(text) if text == "Infinity" => Ok(f64::INFINITY),
            Value::String(text) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
            other => other.as_f64().ok_or_else(|| self.wrong(ty, value, "a number, \"NaN\" or \"Infinity\"")),
        }
    }

    fn bytes(&self, ty: &Type, value: &Value) -> Result<Vec<u8>, EncodeError> {
        value
            .as_str()
            .and_then(latin1_bytes)
            .ok_or_else(|| self.wrong(ty, value, "a text with one character below U+0100 for each byte"))
    }

    fn array(&self, ty: &Type, items: &Type, value: &Value, out: &mut Vec<u8>) -> Encoded {
        let values = value.as_array().ok_or_else(|| self.wrong(ty, value, "a list"))?;
        if !values.is_empty() {
            write_long(values.len() as i64, out);
        }
        for (index, value) in values.iter().enumerate() {
            self.write(items, value, out).map_err(|error| error.within(&format!("[{index}]")))?;
        }
        out.push(0);
        Ok(())
    }

    fn map(&self, ty: &Type, items: &Type, value: &Value, out: &mut Vec<u8>) -> Encoded {
        let values = value.as_object().ok_or_else(|| self.wrong(ty, value, "an object"))?;
        if !values.is_empty() {
            write_long(values.len() as i64, out);
        }
        for (key, value) in values {
            write_bytes(key.as_bytes(), out);
            self.write(items, value, out).map_err(|error| error.within(&format!("[{key:?}]")))?;
        }
        out.push(0);
        Ok(())
    }

    fn union(&self, ty: &Type, branches: &[Type], value: &Value, out: &mut Vec<u8>) -> Encoded {
        let before = out.len();
        let mut only = None;
        for (index, branch) in branches.iter().enumerate() {
            if value.is_null() != matches!(branch, Type::Null) {
                continue;
            }
            write_long(index as i64, out);
            match self.write(branch, value, out) {
                Ok(()) => return Ok(()),
                Err(error) => only = Some(error),
            }
            out.truncate(before);
            match self.attempts_left.get().checked_sub(1) {
                Some(left) => self.attempts_left.set(left),
                None => return Err(EncodeError::new("too many branches of unions to try; make their fields differ")),
            }
        }
        match only {
            // With one branch besides null, its own error says most.
            Some(error) if ty.as_optional().is_some() => Err(error),
            _ => Err(self.wrong(ty, value, "a value of one of its types")),
        }
    }

    fn record(&self, ty: &Type, fields: &[Field], value: &Value, out: &mut Vec<u8>) -> Encoded {
        let values = value.as_object().ok_or_else(|| self.wrong(ty, value, "an object"))?;
        if let Some(name) = values.keys().find(|name| !fields.iter().any(|field| field.name == **name)) {
            return Err(unknown_field(self.schemas, ty, fields, name));
        }
        for field in fields {
            let result = match (values.get(&field.name), &field.default) {
                (Some(value), _) => self.write(&field.ty, value, out),
                (None, Some(default)) => self
                    .schemas
                    .encode_default(&field.ty, default, out)
                    .ok_or_else(|| EncodeError::new("its default does not fit; write a value")),
                (None, None) => Err(EncodeError::new(format!(
                    "missing, and the schema has no default; write {}",
                    self.schemas.type_name(&field.ty)
                ))),
            };
            result.map_err(|error| error.within(&field.name))?;
        }
        Ok(())
    }

    fn symbol(&self, ty: &Type, symbols: &[String], value: &Value, out: &mut Vec<u8>) -> Encoded {
        let symbol = value.as_str().ok_or_else(|| self.wrong(ty, value, "one of its symbols"))?;
        match symbols.iter().position(|known| known == symbol) {
            Some(index) => write_long(index as i64, out),
            None => {
                let hint = did_you_mean(symbol, symbols.iter().map(String::as_str));
                let name = self.schemas.type_name(ty);
                return Err(EncodeError::new(format!("{symbol:?} is no symbol of {name}{hint}")));
            }
        }
        Ok(())
    }

    fn logical(&self, ty: &Type, logical: Logical, fixed: Option<usize>, value: &Value, out: &mut Vec<u8>) -> Encoded {
        match (logical, fixed) {
            (Logical::Decimal { precision, scale }, size) if precision > MAX_PRECISION => {
                let unscaled = big_decimal::unscaled_bytes(&self.big_decimal(ty, value)?, precision, scale)?;
                match size {
                    Some(size) => big_decimal::write_fixed(&unscaled, size, out)?,
                    None => write_bytes(&unscaled, out),
                }
                Ok(())
            }
            (Logical::BigDecimal, _) => big_decimal::BigDecimal::encode(&self.big_decimal(ty, value)?, out),
            (Logical::Duration, _) => self.text::<logical::Duration>(ty, value, "a duration such as \"P1M2DT3S\"", out),
            (Logical::Decimal { precision, scale }, size) => {
                let decimal = decimal(value)?.ok_or_else(|| self.wrong(ty, value, "a decimal such as \"29.33\""))?;
                let unscaled = unscaled(&decimal, precision, scale)?;
                match size {
                    Some(size) => write_decimal_fixed(unscaled, size, out)?,
                    None => write_bytes(shortest(&unscaled.to_be_bytes()), out),
                }
                Ok(())
            }
            (Logical::Date, _) => self.text::<logical::Date>(ty, value, "a date such as \"2024-02-29\"", out),
            (Logical::TimeMillis, _) => self.text::<logical::TimeMillis>(ty, value, "a time such as \"12:30:00\"", out),
            (Logical::TimeMicros, _) => self.text::<logical::TimeMicros>(ty, value, "a time such as \"12:30:00\"", out),
            (Logical::TimestampMillis, _) => self.text::<logical::TimestampMillis>(ty, value, TIMESTAMP, out),
            (Logical::TimestampMicros, _) => self.text::<logical::TimestampMicros>(ty, value, TIMESTAMP, out),
            (Logical::TimestampNanos, _) => self.text::<logical::TimestampNanos>(ty, value, TIMESTAMP, out),
            (Logical::LocalTimestampMillis, _) => self.text::<logical::LocalTimestampMillis>(ty, value, LOCAL, out),
            (Logical::LocalTimestampMicros, _) => self.text::<logical::LocalTimestampMicros>(ty, value, LOCAL, out),
            (Logical::LocalTimestampNanos, _) => self.text::<logical::LocalTimestampNanos>(ty, value, LOCAL, out),
            (Logical::Uuid, None) => self.text::<logical::UuidText>(ty, value, "a UUID", out),
            (Logical::Uuid, Some(_)) => self.text::<logical::UuidFixed>(ty, value, "a UUID", out),
        }
    }

    fn big_decimal(&self, ty: &Type, value: &Value) -> Result<bigdecimal::BigDecimal, EncodeError> {
        let text = decimal_text(value)?;
        let decimal = text.and_then(|text| text.parse().ok());
        decimal.ok_or_else(|| self.wrong(ty, value, "a decimal such as \"29.33\""))
    }

    /// A text that the type parses, or the integer underneath.
    fn text<C: Codec<Owned: FromStr>>(&self, ty: &Type, value: &Value, what: &str, out: &mut Vec<u8>) -> Encoded {
        let Some(text) = value.as_str() else {
            let base = match ty.primitive_name() {
                "int" => Type::Int,
                "long" => Type::Long,
                _ => return Err(self.wrong(ty, value, what)),
            };
            let start = out.len();
            self.write(&base, value, out).map_err(|_| self.wrong(ty, value, what))?;
            return check_written(self.schemas, ty, &out[start..]);
        };
        match text.parse() {
            Ok(parsed) => C::encode(&parsed, out),
            Err(_) => Err(self.wrong(ty, value, what)),
        }
    }
}

const TIMESTAMP: &str = "a timestamp such as \"2024-02-29T12:30:00Z\"";
const LOCAL: &str = "a date and time such as \"2024-02-29T12:30:00\"";

/// Digits that every decimal keeps on its way through a double.
const EXACT_DIGITS: usize = 15;

fn decimal(value: &Value) -> Result<Option<Decimal>, EncodeError> {
    let Some(text) = decimal_text(value)? else { return Ok(None) };
    Ok(Decimal::from_str_exact(&text).or_else(|_| Decimal::from_scientific(&text)).ok())
}

/// The digits of a decimal as they were written.
fn decimal_text(value: &Value) -> Result<Option<String>, EncodeError> {
    Ok(Some(match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => {
            let text = number.to_string();
            let digits = text.split(['e', 'E']).next().unwrap_or_default().trim_start_matches(['-', '0', '.']);
            if number.is_f64() && digits.chars().filter(char::is_ascii_digit).count() > EXACT_DIGITS {
                let message =
                    format!("{text} has more digits than a number in JSON keeps; write it as a text in quotes");
                return Err(EncodeError::new(message));
            }
            text
        }
        _ => return Ok(None),
    }))
}
