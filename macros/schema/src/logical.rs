//! What a schema says its primitives mean.

use jsonc_parser::ast::Object;

use crate::ast::Logical;
use crate::parse::Builder;
use crate::{SchemaError, json};

/// Every logical type of the specification with the types that it may stand on.
const KNOWN: [(&str, &[&str]); 13] = [
    ("decimal", &["bytes", "fixed"]),
    ("big-decimal", &["bytes"]),
    ("uuid", &["string", "fixed"]),
    ("date", &["int"]),
    ("time-millis", &["int"]),
    ("time-micros", &["long"]),
    ("timestamp-millis", &["long"]),
    ("timestamp-micros", &["long"]),
    ("timestamp-nanos", &["long"]),
    ("local-timestamp-millis", &["long"]),
    ("local-timestamp-micros", &["long"]),
    ("local-timestamp-nanos", &["long"]),
    ("duration", &["fixed"]),
];

/// Digits of a decimal: two of them are compared in time and memory that grow with their scales.
const MAX_PRECISION: u32 = 65_536;

impl Builder<'_, '_> {
    /// Unknown logical types, those of another base and those with wrong attributes are no logical types: the
    /// specification demands it, and so schemas of any origin can be read. All but the unknown are noted, and so are
    /// those that are nearly known.
    pub(crate) fn logical(&mut self, object: &Object<'_>, base: &str, size: Option<usize>) -> Option<Logical> {
        let property = object.get("logicalType")?;
        let at = json::start(&property.value);
        let keyword = property.value.as_string_lit().map_or("", |text| text.value.as_ref());
        let wrong = |place, message: &str| Err(SchemaError { place, message: message.to_owned() });
        let logical = match (keyword, base) {
            ("decimal", "bytes" | "fixed") => self.decimal(object, at, size),
            ("big-decimal", "bytes") => Ok(Logical::BigDecimal),
            ("date", "int") => Ok(Logical::Date),
            ("time-millis", "int") => Ok(Logical::TimeMillis),
            ("time-micros", "long") => Ok(Logical::TimeMicros),
            ("timestamp-millis", "long") => Ok(Logical::TimestampMillis),
            ("timestamp-micros", "long") => Ok(Logical::TimestampMicros),
            ("timestamp-nanos", "long") => Ok(Logical::TimestampNanos),
            ("local-timestamp-millis", "long") => Ok(Logical::LocalTimestampMillis),
            ("local-timestamp-micros", "long") => Ok(Logical::LocalTimestampMicros),
            ("local-timestamp-nanos", "long") => Ok(Logical::LocalTimestampNanos),
            ("uuid", "string") => Ok(Logical::Uuid),
            ("uuid", "fixed") if size == Some(16) => Ok(Logical::Uuid),
            ("duration", "fixed") if size == Some(12) => Ok(Logical::Duration),
            ("uuid", "fixed") => wrong(self.place(at), "a uuid is a string or a fixed of 16 bytes"),
            ("duration", "fixed") => wrong(self.place(at), "a duration is a fixed of 12 bytes"),
            _ => wrong(self.place(at), &not_here(keyword, base)),
        };
        match logical {
            Ok(logical) => Some(logical),
            Err(error) => {
                if !error.message.is_empty() {
                    self.ignored.push(error);
                }
                None
            }
        }
    }

    fn decimal(&self, object: &Object<'_>, at: usize, size: Option<usize>) -> Result<Logical, SchemaError> {
        let error = |at, message: String| Err(SchemaError { place: self.place(at), message });
        let Some(property) = object.get("precision") else {
            return error(at, "the decimal has no precision; add \"precision\": <digits in all>".into());
        };
        let precision = self.number(&property.value)?;
        let scale = object.get("scale").map_or(Ok(0), |scale| self.number(&scale.value))?;
        if precision == 0 {
            return error(json::start(&property.value), "precision 0 holds nothing; write 1 or more".into());
        }
        if precision > MAX_PRECISION {
            let message = format!("precision {precision} is more than {MAX_PRECISION} digits; make it smaller");
            return error(json::start(&property.value), message);
        }
        if scale > precision {
            let at = object.get("scale").map_or(at, |scale| json::start(&scale.value));
            return error(at, format!("scale {scale} is more than precision {precision}; make it smaller"));
        }
        // Digits that a signed integer of that many bytes holds for certain.
        let digits = size.map(|size| ((size * 8).saturating_sub(1) as f64 * std::f64::consts::LOG10_2).floor() as u32);
        if let Some(digits) = digits.filter(|digits| precision > *digits) {
            let at = json::start(&property.value);
            let message = format!("precision {precision} needs a larger fixed; this one holds {digits} digits");
            return error(at, message);
        }
        Ok(Logical::Decimal { precision, scale })
    }
}

/// What is wrong with a logical type of this base; empty where nobody can tell.
fn not_here(keyword: &str, base: &str) -> String {
    if let Some((_, bases)) = KNOWN.iter().find(|(known, _)| *known == keyword) {
        return format!("{keyword} does not stand on {base}; write \"type\": \"{}\"", bases.join("\" or \""));
    }
    // One letter beside: any more, and it may well be one of somebody's own.
    let near = |known: &str| strsim::damerau_levenshtein(&keyword.to_lowercase(), known) <= 1;
    match KNOWN.iter().find(|(known, _)| near(known)) {
        Some((known, _)) => format!("logical type {keyword:?} is not known; did you mean {known:?}?"),
        None => String::new(),
    }
}
