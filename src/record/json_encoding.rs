//! Avro's own JSON encoding, as the specification and avro-tools have it.
//!
//! Unions are `{"branch": value}` except for null, bytes and fixed are texts with one character below U+0100 for each
//! byte, and logical types are written as their base. [`avro_to_json`](super::avro_to_json) is for people instead.

use gretchen_schema::{Definition, Field, Schemas, Type, did_you_mean, latin1_bytes};
use serde_json::{Map, Value};

use super::codec::{write_bytes, write_long};
use super::to_json::{MAX_LEVELS, check_end, check_written, float, latin1, nested, skip_items};
use super::{DecodeError, DynamicSchema, EncodeError, Input};

type Encoded = Result<(), EncodeError>;

/// A bare datum in the JSON encoding of the specification.
///
/// What is not finite is `"NaN"`, `"Infinity"` or `"-Infinity"`; a float is written as the double that it is, as Java
/// writes it.
pub fn avro_to_json_encoding(schema: &DynamicSchema, datum: &[u8]) -> Result<Value, DecodeError> {
    let mut input = Input::new(datum);
    let value =
        Reader { schemas: schema.schemas() }.read(schema.root(), &mut input, MAX_LEVELS).map_err(|mut error| {
            if error.field.is_empty() {
                error.field.push('-');
            }
            error
        })?;
    check_end(&input)?;
    Ok(value)
}

/// Appends the bare datum of a value in the JSON encoding of the specification; on an error `out` is as it was.
///
/// As in Java, every field must be there, in any order, and no other; defaults are not filled in. What is no value of
/// its logical type, a date after the year 9999, is an error.
pub fn json_encoding_to_avro(schema: &DynamicSchema, value: &Value, out: &mut Vec<u8>) -> Encoded {
    let before = out.len();
    let written = Writer { schemas: schema.schemas() }.write(schema.root(), value, out);
    let result = written.and_then(|()| check_written(schema.schemas(), schema.root(), &out[before..]));
    if result.is_err() {
        out.truncate(before);
    }
    result.map_err(|mut error| {
        if error.field.is_empty() {
            error.field.push('-');
        }
        error
    })
}

/// What names a branch of a union: the full name of a named type, the type's name of others.
fn branch_name<'a>(schemas: &'a Schemas, ty: &'a Type) -> &'a str {
    match ty {
        Type::Named(id) => &schemas.get(*id).name,
        other => other.primitive_name(),
    }
}

struct Reader<'a> {
    schemas: &'a Schemas,
}

impl Reader<'_> {
    fn read(&self, ty: &Type, input: &mut Input<'_>, depth: usize) -> Result<Value, DecodeError> {
        let depth =
            depth.checked_sub(1).ok_or_else(|| input.error(format!("nested deeper than {MAX_LEVELS} levels")))?;
        Ok(match ty {
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
                let branch = &branches[input.read_index(branches.len())?];
                let value = self.read(branch, input, depth)?;
                match branch {
                    Type::Null => value,
                    _ => Value::Object(Map::from_iter([(branch_name(self.schemas, branch).to_owned(), value)])),
                }
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
                Definition::Fixed { size, .. } => latin1(input.read_slice(*size)?),
            },
            primitive => match primitive.primitive_name() {
                "boolean" => input.read_bool()?.into(),
                "int" => input.read_int()?.into(),
                "long" => input.read_long()?.into(),
                "float" => float(f64::from(input.read_float()?)),
                "double" => float(input.read_double()?),
                "bytes" => latin1(input.read_bytes()?),
                "string" => input.read_str()?.into(),
                _ => Value::Null,
            },
        })
    }
}

struct Writer<'a> {
    schemas: &'a Schemas,
}

impl Writer<'_> {
    /// Recursion ends where the value does, and `serde_json` bounds its depth.
    fn write(&self, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Encoded {
        match ty {
            Type::Array(items) => {
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
            Type::Map(items) => {
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
            Type::Union(branches) => self.union(ty, branches, value, out),
            Type::Named(id) => match &self.schemas.get(*id).definition {
                Definition::Record(fields) => self.record(ty, fields, value, out),
                Definition::Enum { symbols, .. } => self.symbol(ty, symbols, value, out),
                Definition::Fixed { size, .. } => {
                    let bytes = self.bytes(ty, value)?;
                    if bytes.len() != *size {
                        return Err(EncodeError::new(format!("{} bytes where {size} are needed", bytes.len())));
                    }
                    out.extend_from_slice(&bytes);
                    Ok(())
                }
            },
            primitive => self.primitive(primitive, value, out),
        }
    }

    fn primitive(&self, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Encoded {
        match ty.primitive_name() {
            "boolean" => out.push(u8::from(value.as_bool().ok_or_else(|| self.wrong(ty, value, "true or false"))?)),
            "int" => {
                let int = value.as_i64().and_then(|value| i32::try_from(value).ok());
                write_long(int.ok_or_else(|| self.wrong(ty, value, "a whole number of 32 bits"))?.into(), out);
            }
            "long" => {
                write_long(value.as_i64().ok_or_else(|| self.wrong(ty, value, "a whole number of 64 bits"))?, out);
            }
            "float" => out.extend_from_slice(&(self.float(ty, value)? as f32).to_le_bytes()),
            "double" => out.extend_from_slice(&self.float(ty, value)?.to_le_bytes()),
            "bytes" => write_bytes(&self.bytes(ty, value)?, out),
            "string" => {
                write_bytes(value.as_str().ok_or_else(|| self.wrong(ty, value, "a text"))?.as_bytes(), out);
            }
            _ if value.is_null() => {}
            _ => return Err(self.wrong(ty, value, "null")),
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
            Value::String(text) if matches!(text.as_str(), "Infinity" | "INF") => Ok(f64::INFINITY),
            Value::String(text) if matches!(text.as_str(), "-Infinity" | "-INF") => Ok(f64::NEG_INFINITY),
            other => other.as_f64().ok_or_else(|| self.wrong(ty, value, "a number, \"NaN\" or \"Infinity\"")),
        }
    }

    fn bytes(&self, ty: &Type, value: &Value) -> Result<Vec<u8>, EncodeError> {
        value
            .as_str()
            .and_then(latin1_bytes)
            .ok_or_else(|| self.wrong(ty, value, "a text with one character below U+0100 for each byte"))
    }

    fn union(&self, ty: &Type, branches: &[Type], value: &Value, out: &mut Vec<u8>) -> Encoded {
        let (name, value) = match value {
            Value::Null => ("null", value),
            Value::Object(one) if one.len() == 1 => match one.iter().next() {
                Some((name, value)) => (name.as_str(), value),
                None => return Err(self.no_branch(ty, branches, value)),
            },
            _ => return Err(self.no_branch(ty, branches, value)),
        };
        match branches.iter().position(|branch| branch_name(self.schemas, branch) == name) {
            Some(index) => {
                write_long(index as i64, out);
                self.write(&branches[index], value, out)
            }
            None => {
                let names = branches.iter().map(|branch| branch_name(self.schemas, branch));
                let hint = did_you_mean(name, names);
                Err(EncodeError::new(format!("{name:?} is no branch of {}{hint}", self.schemas.type_name(ty))))
            }
        }
    }

    #[cold]
    fn no_branch(&self, ty: &Type, branches: &[Type], value: &Value) -> EncodeError {
        let forms: Vec<String> = branches
            .iter()
            .map(|branch| match branch {
                Type::Null => "null".to_owned(),
                other => format!("{{{:?}: …}}", branch_name(self.schemas, other)),
            })
            .collect();
        self.wrong(ty, value, &forms.join(" or "))
    }

    fn record(&self, ty: &Type, fields: &[Field], value: &Value, out: &mut Vec<u8>) -> Encoded {
        let values = value.as_object().ok_or_else(|| self.wrong(ty, value, "an object"))?;
        if let Some(name) = values.keys().find(|name| !fields.iter().any(|field| field.name == **name)) {
            let hint = did_you_mean(name, fields.iter().map(|field| field.name.as_str()));
            let message = format!("{} has no such field{hint}", self.schemas.type_name(ty));
            return Err(EncodeError::new(message).within(name));
        }
        for field in fields {
            let value = values.get(&field.name).ok_or_else(|| {
                EncodeError::new("missing; this encoding needs every field, also those with a default")
                    .within(&field.name)
            })?;
            self.write(&field.ty, value, out).map_err(|error| error.within(&field.name))?;
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
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = r#"{"type": "record", "name": "shop.R", "fields": [
        {"name": "union", "type": ["null", "string", "bytes", {"type": "array", "items": "int"}, {"type": "map",
            "values": "long"}, {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, "R",
            {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 2}},
        {"name": "ratio", "type": "float"}, {"name": "exact", "type": "double"}]}"#;

    fn with(union: Value) -> Value {
        json!({
            "union": union, "amount": "\u{1}\u{ff}", "day": 19_000, "id": "\u{0}\u{e9}", "ratio": 0.5, "exact": 1e300,
        })
    }

    fn there_and_back(value: &Value) -> Value {
        let schema = DynamicSchema::parse(SCHEMA).unwrap();
        let mut datum = Vec::new();
        json_encoding_to_avro(&schema, value, &mut datum).unwrap();
        avro_to_json_encoding(&schema, &datum).unwrap()
    }

    #[test]
    fn every_branch_is_named_as_the_specification_says() {
        for union in [
            json!(null),
            json!({"string": "x"}),
            json!({"bytes": "\u{80}"}),
            json!({"array": [1, 2]}),
            json!({"map": {"a": 1}}),
            json!({"shop.Kind": "B"}),
            json!({"shop.R": with(json!(null))}),
            json!({"long": 5}),
        ] {
            assert_eq!(there_and_back(&with(union.clone())), with(union));
        }
    }

    #[test]
    fn what_is_not_finite_is_text_and_a_float_is_its_double() {
        let mut value = with(json!(null));
        value["ratio"] = json!(0.1);
        value["exact"] = json!("-Infinity");
        let back = there_and_back(&value);
        assert_eq!((&back["ratio"], &back["exact"]), (&json!(0.1_f32 as f64), &json!("-Infinity")));
        value["exact"] = json!("NaN");
        assert_eq!(there_and_back(&value)["exact"], json!("NaN"));
    }

    #[test]
    fn mistakes_are_named_with_their_field() {
        let schema = DynamicSchema::parse(SCHEMA).unwrap();
        let error = |value: Value| {
            let mut out = vec![7];
            let error = json_encoding_to_avro(&schema, &value, &mut out).unwrap_err().to_string();
            assert_eq!(out, [7]);
            error
        };
        assert!(error(with(json!("x"))).contains("field union: \"x\" does not fit"), "{}", error(with(json!("x"))));
        assert!(error(with(json!("x"))).contains("write null or {\"string\": …}"));
        assert!(error(with(json!({"strin": "x"}))).contains("did you mean \"string\"?"));
        assert!(error(with(json!({"Kind": "A"}))).contains("\"Kind\" is no branch of"));
        assert!(error(with(json!({"shop.Kind": "C"}))).contains("no symbol of shop.Kind"));
        let mut value = with(json!(null));
        value["id"] = json!("abc");
        assert!(error(value.clone()).contains("field id: 3 bytes where 2 are needed"));
        value.as_object_mut().unwrap().remove("id");
        assert!(error(value.clone()).contains("field id: missing"));
        value["ix"] = json!(1);
        assert!(error(value).contains("field ix: shop.R has no such field"));
    }
}
