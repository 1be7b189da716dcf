//! Why data of one schema cannot be read with another.

use std::fmt;

use super::DynamicSchema;
use super::resolve::compile;

/// A place at which two schemas do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    /// Where, from the outermost record, by the reader's names: `lines[].price`; empty for the whole value.
    pub path: String,
    /// The rule of the specification that is not met, in a few words: `missing default`, `type mismatch`,
    /// `name mismatch`, `fixed size`, `decimal scale`, `logical type`, `enum symbol`, `union branch`, `nesting`.
    pub rule: &'static str,
    /// What was written, what is read, and what can be done about it.
    pub message: String,
    /// Whether some data can be read nevertheless: only a value that has the branch of a union, or the symbol of an
    /// enum, in question cannot.
    pub only_when_met: bool,
}

impl Incompatibility {
    pub(super) fn new(rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: String::new(), rule, message: message.into(), only_when_met: false }
    }

    /// The same inside of a field or of what an array or a map holds, `[]`.
    #[must_use]
    pub(super) fn within(mut self, outer: &str) -> Self {
        super::prepend(&mut self.path, outer);
        self
    }
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "field {}: ", self.path)?;
        }
        write!(f, "{} (rule: {})", self.message, self.rule)
    }
}

impl std::error::Error for Incompatibility {}

/// Every place at which data of `writer` cannot be read with `reader`, in the order of the reader's fields; none where
/// all of it can.
///
/// The rules are those of the specification's schema resolution, as Java's `SchemaCompatibility` applies them:
/// unqualified names agree or an alias of the reader is the writer's full name, every branch of a writer's union and
/// every symbol of its enums is known to the reader, fields that were not written have a default. Beyond those, the
/// same number in another unit (another scale of a decimal, `timestamp-millis` and `timestamp-micros`) is
/// incompatible: the specification calls decimals of other scales no match, and neither would be noticed in the data.
/// A decimal may become more precise.
pub fn incompatibilities(writer: &DynamicSchema, reader: &DynamicSchema) -> Vec<Incompatibility> {
    compile(writer, reader).1
}
