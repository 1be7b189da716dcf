//! Does a default fit its type?

use std::cell::Cell;

use serde_json::Value;

use crate::{Definition, Field, MAX_DEPTH, Schemas, Type, did_you_mean, meanings};

/// The bytes that Avro's JSON writes as text: one character below U+0100 a byte.
pub fn latin1_bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// Why `value` cannot be the default of a field of this type, if it cannot.
pub(crate) fn problem(schemas: &Schemas, ty: &Type, value: &Value) -> Option<String> {
    Checker { schemas, left: Cell::new(MAX_DEFAULT_VALUES) }.problem(ty, value)
}

struct Checker<'a> {
    schemas: &'a Schemas,
    /// Values that may still be looked at: a union's default may fit any branch, and those of unions within multiply.
    left: Cell<u32>,
}

impl Checker<'_> {
    fn problem(&self, ty: &Type, value: &Value) -> Option<String> {
        let schemas = self.schemas;
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Some("the default is too large; write a smaller one".to_owned()),
        }
        let wrong = |what: &str| Some(format!("default {value} does not fit {}: write {what}", schemas.type_name(ty)));
        match ty {
            Type::Null => (!value.is_null()).then(|| wrong("null")).flatten(),
            Type::Boolean => (!value.is_boolean()).then(|| wrong("true or false")).flatten(),
            Type::Float | Type::Double => (!value.is_number()).then(|| wrong("a number")).flatten(),
            Type::String => (!value.is_string()).then(|| wrong("a text in quotes")).flatten(),
            Type::Int | Type::Long | Type::Bytes | Type::Logical(_) => match ty.primitive_name() {
                "int" if value.as_i64().and_then(|value| i32::try_from(value).ok()).is_none() => {
                    wrong("a whole number of 32 bits")
                }
                "long" if value.as_i64().is_none() => wrong("a whole number of 64 bits"),
                "bytes" if value.as_str().and_then(latin1_bytes).is_none() => {
                    wrong("a text with one character below U+0100 for each byte, e.g. \"\\u00ff\"")
                }
                "string" if !value.is_string() => wrong("a text in quotes"),
                _ => None,
            },
            Type::Array(items) => match value {
                Value::Array(values) => values.iter().find_map(|value| self.problem(items, value)),
                _ => wrong("a list in brackets, e.g. []"),
            },
            Type::Map(items) => match value {
                Value::Object(values) => values.values().find_map(|value| self.problem(items, value)),
                _ => wrong("an object in braces, e.g. {}"),
            },
            // Since 1.12 a default may be of any branch.
            Type::Union(branches) => branches
                .iter()
                .all(|branch| self.problem(branch, value).is_some())
                .then(|| wrong("a value of one of the union's types"))
                .flatten(),
            Type::Named(id) => match &schemas.get(*id).definition {
                Definition::Record(fields) => self.record_problem(ty, fields, value),
                Definition::Enum { symbols, .. } => match value.as_str() {
                    Some(symbol) if symbols.iter().any(|known| known == symbol) => None,
                    Some(symbol) => Some(format!(
                        "default {symbol:?} is no symbol of {}{}",
                        schemas.type_name(ty),
                        did_you_mean(symbol, symbols.iter().map(String::as_str))
                    )),
                    None => wrong("one of its symbols in quotes"),
                },
                Definition::Fixed { size, .. } => {
                    let bytes = value.as_str().and_then(latin1_bytes);
                    (bytes.map(|bytes| bytes.len()) != Some(*size))
                        .then(|| wrong(&format!("a text of {size} characters below U+0100, one for each byte")))
                        .flatten()
                }
            },
        }
    }

    fn record_problem(&self, ty: &Type, fields: &[Field], value: &Value) -> Option<String> {
        let schemas = self.schemas;
        let Value::Object(values) = value else {
            return Some(format!("default {value} does not fit {}: write an object in braces", schemas.type_name(ty)));
        };
        if let Some(unknown) = values.keys().find(|key| !fields.iter().any(|field| field.name == **key)) {
            return Some(format!("default names {unknown:?}, which is no field of {}", schemas.type_name(ty)));
        }
        fields.iter().find_map(|field| match values.get(&field.name) {
            Some(value) => self.problem(&field.ty, value),
            None if field.default.is_some() => None,
            None => Some(format!("default of {} lacks field {:?}", schemas.type_name(ty), field.name)),
        })
    }
}

impl Schemas {
    /// The bare datum of a default; `None` where it does not fit the type. Parsed schemas hold none that does not.
    pub fn encode_default(&self, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Option<()> {
        DefaultWriter::new(self).write(ty, value, out, MAX_DEPTH)
    }

    /// What [`encode_default`](Self::encode_default) says, and why the default means nothing, if it does not.
    pub(crate) fn check_default(&self, ty: &Type, value: &Value) -> Option<Option<String>> {
        let mut writer = DefaultWriter::new(self);
        writer.write(ty, value, &mut Vec::new(), MAX_DEPTH).map(|()| writer.meaningless)
    }
}

/// Values that one default may have: a default may name defaults, and those others.
const MAX_DEFAULT_VALUES: u32 = 100_000;

struct DefaultWriter<'a> {
    schemas: &'a Schemas,
    values_left: u32,
    checker: Checker<'a>,
    /// What is wrong with the first value that is none of its logical type.
    meaningless: Option<String>,
}

impl<'a> DefaultWriter<'a> {
    fn new(schemas: &'a Schemas) -> Self {
        let checker = Checker { schemas, left: Cell::new(MAX_DEFAULT_VALUES) };
        Self { schemas, values_left: MAX_DEFAULT_VALUES, checker, meaningless: None }
    }

    fn write(&mut self, ty: &Type, value: &Value, out: &mut Vec<u8>, depth: usize) -> Option<()> {
        self.values_left = self.values_left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let schemas = self.schemas;
        if let (None, Some(logical)) = (&self.meaningless, schemas.logical(ty)) {
            self.meaningless = meanings::problem(logical, matches!(ty, Type::Named(_)), value);
        }
        match ty {
            Type::Union(branches) => {
                let index = branches.iter().position(|branch| self.checker.problem(branch, value).is_none())?;
                write_long(out, index as i64);
                self.write(&branches[index], value, out, depth)?;
            }
            Type::Array(items) => {
                let values = value.as_array()?;
                if !values.is_empty() {
                    write_long(out, values.len() as i64);
                }
                values.iter().try_for_each(|value| self.write(items, value, out, depth))?;
                out.push(0);
            }
            Type::Map(items) => {
                let values = value.as_object()?;
                if !values.is_empty() {
                    write_long(out, values.len() as i64);
                }
                for (key, value) in values {
                    write_bytes(out, key.as_bytes());
                    self.write(items, value, out, depth)?;
                }
                out.push(0);
            }
            Type::Named(id) => match &schemas.get(*id).definition {
                Definition::Record(fields) => {
                    let values = value.as_object()?;
                    for field in fields {
                        let value = values.get(&field.name).or(field.default.as_ref())?;
                        self.write(&field.ty, value, out, depth)?;
                    }
                }
                Definition::Enum { symbols, .. } => {
                    let symbol = value.as_str()?;
                    write_long(out, symbols.iter().position(|known| known == symbol)? as i64);
                }
                Definition::Fixed { .. } => out.extend_from_slice(&latin1_bytes(value.as_str()?)?),
            },
            primitive => match primitive.primitive_name() {
                "null" => {}
                "boolean" => out.push(u8::from(value.as_bool()?)),
                "int" | "long" => write_long(out, value.as_i64()?),
                "float" => out.extend_from_slice(&(value.as_f64()? as f32).to_le_bytes()),
                "double" => out.extend_from_slice(&value.as_f64()?.to_le_bytes()),
                "bytes" => write_bytes(out, &latin1_bytes(value.as_str()?)?),
                _ => write_bytes(out, value.as_str()?.as_bytes()),
            },
        }
        Some(())
    }
}

fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
