//! Random values, and their bytes.

use serde_json::{Value, json};

use super::Choices;
use super::schema::{Kind, Meaning, Schema, Ty, base};

/// A value; the schema says what it means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Null,
    Boolean(bool),
    /// An int or a long.
    Integer(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Datum>),
    Map(Vec<(String, Datum)>),
    Branch(usize, Box<Datum>),
    /// The place of a symbol.
    Symbol(usize),
    /// As many bytes as its size.
    Fixed(Vec<u8>),
    Record(Vec<Datum>),
}

/// How large values may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Items of an array.
    pub(crate) items: usize,
    /// Entries of a map; more than one come in another order from those who keep them in a hash map.
    pub(crate) entries: usize,
    /// Levels; below them every union is null if it can be, and every list empty.
    pub(crate) depth: usize,
    /// What a default cannot be: a number that JSON has none for, another branch than the first.
    pub(crate) default: bool,
}

impl Limits {
    pub(crate) const EXCHANGED: Self = Self { items: 3, entries: 1, depth: 8, default: false };
    pub(crate) const DEFAULT: Self = Self { items: 1, entries: 1, depth: 4, default: true };
}

/// A value of the type; `None` where it would have no end within the limits.
pub(crate) fn random_datum(choices: &mut Choices<'_>, schema: &Schema, ty: &Ty, limits: &Limits) -> Option<Datum> {
    let mut inner = *limits;
    inner.depth = limits.depth.saturating_sub(1);
    // Twice as deep as was asked for, a value that still has not ended will not end.
    Some(match ty {
        Ty::Primitive(name) => primitive(choices, name, limits),
        Ty::Logical(meaning) => logical(choices, *meaning, None, limits),
        Ty::Array(items) => {
            let count = if limits.depth == 0 { 0 } else { choices.below(limits.items + 1) };
            let items = (0..count).map(|_| random_datum(choices, schema, items, &inner));
            Datum::Array(items.collect::<Option<_>>().unwrap_or_default())
        }
        Ty::Map(values) => {
            let count = if limits.depth == 0 { 0 } else { choices.below(limits.entries + 1) };
            // Sorted, and therefore in the order in which a sorted map is written.
            let entries = (0..count).map(|number| {
                let key = format!("{number}{}", text(choices));
                random_datum(choices, schema, values, &inner).map(|value| (key, value))
            });
            Datum::Map(entries.collect::<Option<_>>().unwrap_or_default())
        }
        Ty::Union(branches) => {
            let chosen = if limits.default { 0 } else { choices.below(branches.len()) };
            let null = branches.iter().position(|branch| *branch == Ty::Primitive("null"));
            let index = null.filter(|_| limits.depth == 0 && !limits.default).unwrap_or(chosen);
            if limits.depth == 0 && null.is_none() && branches.iter().any(|branch| matches!(branch, Ty::Named(_))) {
                let leaf = branches.iter().position(|branch| !matches!(branch, Ty::Named(_)))?;
                return random_datum(choices, schema, &branches[leaf], &inner)
                    .map(|datum| Datum::Branch(leaf, Box::new(datum)));
            }
            Datum::Branch(index, Box::new(random_datum(choices, schema, &branches[index], &inner)?))
        }
        Ty::Named(id) => match &schema.named[*id].kind {
            Kind::Record(_) if limits.depth == 0 && limits.default => return None,
            Kind::Record(fields) => Datum::Record(
                fields
                    .iter()
                    .map(|field| random_datum(choices, schema, &field.ty, &inner))
                    .collect::<Option<Vec<_>>>()?,
            ),
            Kind::Enum { symbols, .. } => Datum::Symbol(choices.below(symbols.len())),
            Kind::Fixed { size, meaning: Some(meaning) } => logical(choices, *meaning, Some(*size), limits),
            Kind::Fixed { size, meaning: None } => Datum::Fixed((0..*size).map(|_| choices.byte()).collect()),
        },
    })
}

fn primitive(choices: &mut Choices<'_>, name: &str, limits: &Limits) -> Datum {
    match name {
        "null" => Datum::Null,
        "boolean" => Datum::Boolean(choices.one_in(2)),
        "int" => Datum::Integer(i64::from(choices.long() as i32)),
        "long" => Datum::Integer(choices.long()),
        "float" => Datum::Float(match choices.below(4) {
            0 => f32::from(choices.byte() as i8) / 4.0,
            1 if !limits.default => choices.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX]),
            _ => Some(f32::from_le_bytes(choices.all())).filter(|value| value.is_finite()).unwrap_or(0.1),
        }),
        "double" => Datum::Double(match choices.below(4) {
            0 => f64::from(choices.byte() as i8) / 4.0,
            1 if !limits.default => choices.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX]),
            _ => Some(f64::from_le_bytes(choices.all())).filter(|value| value.is_finite()).unwrap_or(0.1),
        }),
        "bytes" => Datum::Bytes((0..choices.below(9)).map(|_| choices.byte()).collect()),
        _ => Datum::Text(text(choices)),
    }
}

fn text(choices: &mut Choices<'_>) -> String {
    (0..choices.below(7)).map(|_| choices.pick(&['a', 'Z', '0', ' ', '"', '\\', 'ä', '\u{0}', '€', '🦀'])).collect()
}

/// Within what the meaning allows.
fn logical(choices: &mut Choices<'_>, meaning: Meaning, fixed: Option<usize>, limits: &Limits) -> Datum {
    let mut within = |low: i64, high: i64| {
        let wide = i64::from_le_bytes(choices.all());
        Datum::Integer(low + wide.rem_euclid(high - low + 1))
    };
    match meaning {
        Meaning::Decimal(precision, _) => {
            let limit = 10_i128.pow(1 + choices.below(precision as usize) as u32);
            let unscaled = i128::from_le_bytes(choices.all()) % limit;
            let bytes = unscaled.to_be_bytes();
            match fixed {
                // Sizes are below 16, and the precision fits them.
                Some(size) => Datum::Fixed(bytes[16 - size..].to_vec()),
                None => Datum::Bytes(shortest(&bytes).to_vec()),
            }
        }
        Meaning::Word("uuid", "fixed") => Datum::Fixed(choices.all::<16>().to_vec()),
        Meaning::Word("duration", _) => Datum::Fixed(choices.all::<12>().to_vec()),
        Meaning::Word("big-decimal", _) => {
            let unscaled = i128::from_le_bytes(choices.all()) % 10_i128.pow(choices.below(38) as u32);
            // A zero with places after the point is shown without them.
            let scale = if unscaled == 0 { 0 } else { choices.below(30) };
            let unscaled = unscaled.to_be_bytes();
            let mut bytes = Vec::new();
            long(shortest(&unscaled).len() as i64, &mut bytes);
            bytes.extend_from_slice(shortest(&unscaled));
            long(scale as i64, &mut bytes);
            Datum::Bytes(bytes)
        }
        Meaning::Word("uuid", _) => {
            let hex = choices.all::<16>().map(|byte| format!("{byte:02x}")).concat();
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            Datum::Text(parts.join("-"))
        }
        Meaning::Word("date", "int") => within(-4_371_587, 2_932_896),
        Meaning::Word("time-millis", _) => within(0, 86_399_999),
        Meaning::Word("time-micros", _) => within(0, 86_399_999_999),
        Meaning::Word("timestamp-millis" | "local-timestamp-millis", _) => {
            within(-300_000_000_000_000, 200_000_000_000_000)
        }
        Meaning::Word("timestamp-micros" | "local-timestamp-micros", _) => {
            within(-300_000_000_000_000_000, 200_000_000_000_000_000)
        }
        Meaning::Word(_, base) => primitive(choices, base, limits),
    }
}

fn shortest(bytes: &[u8; 16]) -> &[u8] {
    let redundant = |pair: &[u8]| pair[0] == 0 && pair[1] < 0x80 || pair[0] == 0xff && pair[1] >= 0x80;
    let start = bytes.windows(2).position(|pair| !redundant(pair)).unwrap_or(15);
    &bytes[start..]
}

/// The bytes of a value, lists in one block.
pub(crate) fn encode(schema: &Schema, ty: &Ty, datum: &Datum, out: &mut Vec<u8>) {
    match (datum, ty) {
        (Datum::Boolean(value), _) => out.push(u8::from(*value)),
        (Datum::Integer(value), _) => long(*value, out),
        (Datum::Symbol(place), _) => long(*place as i64, out),
        (Datum::Float(value), _) => out.extend_from_slice(&value.to_le_bytes()),
        (Datum::Double(value), _) => out.extend_from_slice(&value.to_le_bytes()),
        (Datum::Bytes(bytes), _) => {
            long(bytes.len() as i64, out);
            out.extend_from_slice(bytes);
        }
        (Datum::Text(text), _) => {
            long(text.len() as i64, out);
            out.extend_from_slice(text.as_bytes());
        }
        (Datum::Fixed(bytes), _) => out.extend_from_slice(bytes),
        (Datum::Array(items), Ty::Array(of)) => {
            if !items.is_empty() {
                long(items.len() as i64, out);
                items.iter().for_each(|item| encode(schema, of, item, out));
            }
            out.push(0);
        }
        (Datum::Map(entries), Ty::Map(of)) => {
            if !entries.is_empty() {
                long(entries.len() as i64, out);
            }
            for (key, value) in entries {
                long(key.len() as i64, out);
                out.extend_from_slice(key.as_bytes());
                encode(schema, of, value, out);
            }
            out.push(0);
        }
        (Datum::Branch(index, value), Ty::Union(branches)) => {
            long(*index as i64, out);
            encode(schema, &branches[*index], value, out);
        }
        (Datum::Record(values), Ty::Named(id)) => {
            if let Kind::Record(fields) = &schema.named[*id].kind {
                fields.iter().zip(values).for_each(|(field, value)| encode(schema, &field.ty, value, out));
            }
        }
        _ => {}
    }
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = (value as u64) << 1 ^ (value >> 63) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// A value as a schema writes it as a default; `None` where JSON has no number for it.
pub(crate) fn default_json(schema: &Schema, ty: &Ty, datum: &Datum) -> Option<Value> {
    let latin1 = |bytes: &[u8]| json!(bytes.iter().copied().map(char::from).collect::<String>());
    Some(match (datum, ty) {
        (Datum::Null, _) => Value::Null,
        (Datum::Boolean(value), _) => json!(value),
        (Datum::Integer(value), _) => json!(value),
        // Written as the shortest text that is the same float.
        (Datum::Float(value), _) => json!(value.to_string().parse::<f64>().ok().filter(|value| value.is_finite())?),
        (Datum::Double(value), _) => json!(Some(*value).filter(|value| value.is_finite())?),
        (Datum::Bytes(bytes) | Datum::Fixed(bytes), _) => latin1(bytes),
        (Datum::Text(text), _) => json!(text),
        (Datum::Array(items), Ty::Array(of)) => {
            items.iter().map(|item| default_json(schema, of, item)).collect::<Option<Value>>()?
        }
        (Datum::Map(entries), Ty::Map(of)) => entries
            .iter()
            .map(|(key, value)| Some((key.clone(), default_json(schema, of, value)?)))
            .collect::<Option<serde_json::Map<_, _>>>()?
            .into(),
        (Datum::Branch(index, value), Ty::Union(branches)) => default_json(schema, &branches[*index], value)?,
        (Datum::Symbol(place), Ty::Named(id)) => match &schema.named[*id].kind {
            Kind::Enum { symbols, .. } => json!(symbols[*place]),
            _ => return None,
        },
        (Datum::Record(values), Ty::Named(id)) => match &schema.named[*id].kind {
            Kind::Record(fields) => fields
                .iter()
                .zip(values)
                .map(|(field, value)| Some((field.name.clone(), default_json(schema, &field.ty, value)?)))
                .collect::<Option<serde_json::Map<_, _>>>()?
                .into(),
            _ => return None,
        },
        _ => return None,
    })
}

impl Datum {
    /// As the library shows it to people, of a schema without logical types; unions show the value alone.
    pub(crate) fn shown(&self, schema: &Schema, ty: &Ty) -> Value {
        fn number(value: f64) -> Value {
            match value {
                value if value.is_nan() => json!("NaN"),
                value if value.is_infinite() => json!(if value > 0.0 { "Infinity" } else { "-Infinity" }),
                value => json!(value),
            }
        }
        match (self, ty) {
            (Self::Float(value), _) if value.is_finite() => json!(value.to_string().parse::<f64>().ok()),
            (Self::Float(value), _) => number(f64::from(*value)),
            (Self::Double(value), _) => number(*value),
            (Self::Array(items), Ty::Array(of)) => items.iter().map(|item| item.shown(schema, of)).collect(),
            (Self::Map(entries), Ty::Map(of)) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.shown(schema, of)));
                Value::Object(entries.collect())
            }
            (Self::Branch(index, value), Ty::Union(branches)) => value.shown(schema, &branches[*index]),
            (Self::Record(values), Ty::Named(id)) => match &schema.named[*id].kind {
                Kind::Record(fields) => {
                    let entries = fields.iter().zip(values);
                    let entries = entries.map(|(field, value)| (field.name.clone(), value.shown(schema, &field.ty)));
                    Value::Object(entries.collect())
                }
                _ => Value::Null,
            },
            _ => default_json(schema, ty, self).unwrap_or(Value::Null),
        }
    }
}

/// Whether the type is `null`, by whatever name.
pub(super) fn is_null(ty: &Ty) -> bool {
    base(ty) == "null"
}
