//! The schema as types.

use serde_json::{Map, Value};

use crate::{Place, SchemaError};

/// What a schema says beyond the attributes that have a meaning here, in its order: of no effect on values, but kept. A
/// logical type that nobody knows and the `order` of a field are among them.
pub type Attributes = Map<String, Value>;

/// Number of a named type among all of a [`Schemas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) usize);

/// Schemas that were read together: they may name each other's types.
#[derive(Clone, Debug)]
pub struct Schemas {
    pub(crate) named: Vec<Named>,
    pub(crate) roots: Vec<Type>,
    /// Those of each root.
    pub(crate) remarks: Vec<Remarks>,
    /// For each named type what is known of it once all are read.
    pub(crate) measures: Vec<Measure>,
    pub(crate) ignored: Vec<SchemaError>,
}

/// What is known of a named type once all are read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measure {
    /// Bytes that a value takes at least.
    pub(crate) min_len: usize,
    /// Records that the smallest value is deep.
    pub(crate) rank: usize,
    /// Types that contain each other have the same number here.
    pub(crate) cycle: Option<usize>,
    /// The same, looking neither into arrays nor into maps.
    pub(crate) direct_cycle: Option<usize>,
}

impl Schemas {
    /// The schema of each source, in their order.
    pub fn roots(&self) -> &[Type] {
        &self.roots
    }

    /// What each root says beside its type, in the order of the sources.
    pub fn remarks(&self) -> &[Remarks] {
        &self.remarks
    }

    /// Every named type, in the order of the texts.
    pub fn named(&self) -> impl Iterator<Item = (TypeId, &Named)> {
        self.named.iter().enumerate().map(|(index, named)| (TypeId(index), named))
    }

    /// The named type of that number.
    pub fn get(&self, id: TypeId) -> &Named {
        &self.named[id.0]
    }

    /// Bytes that a value takes at least, so that a count can be held against what is left.
    pub fn min_len(&self, ty: &Type) -> usize {
        match ty {
            Type::Null => 0,
            Type::Float => 4,
            Type::Double => 8,
            Type::Named(id) => self.measures[id.0].min_len,
            _ => 1,
        }
    }

    /// Whether values of that type may contain values of the same type.
    pub fn is_recursive(&self, id: TypeId) -> bool {
        self.measures[id.0].cycle.is_some()
    }

    /// Whether the record `outer` would have no end in memory if it held `inner` in place: neither an array nor a map
    /// is on the way back.
    pub fn needs_box(&self, outer: TypeId, inner: TypeId) -> bool {
        let of = |id: TypeId| self.measures[id.0].direct_cycle;
        of(outer).is_some() && of(outer) == of(inner)
    }

    /// The branch of a union for a value that must be made of nothing: `null`, or else the first of those that end
    /// soonest.
    pub fn first_branch(&self, branches: &[Type]) -> usize {
        let null = branches.iter().position(|branch| *branch == Type::Null);
        let rank = |branch: &Type| match branch {
            Type::Named(id) => self.measures[id.0].rank,
            _ => 0,
        };
        let soonest = || branches.iter().enumerate().min_by_key(|(_, branch)| rank(branch));
        null.or_else(|| soonest().map(|(index, _)| index)).unwrap_or_default()
    }

    /// What a type means, be it a primitive or a fixed.
    pub fn logical(&self, ty: &Type) -> Option<Logical> {
        match ty {
            Type::Logical(logical) => Some(*logical),
            Type::Named(id) => match &self.get(*id).definition {
                Definition::Fixed { logical, .. } => *logical,
                _ => None,
            },
            _ => None,
        }
    }

    /// Logical types that were read as the type underneath, as the specification demands, although they are known,
    /// defaults that mean nothing as what their logical type says, and unions without a type: where each stands and what
    /// is wrong with it. To a person who writes the schema they are mistakes.
    pub fn ignored(&self) -> &[SchemaError] {
        &self.ignored
    }

    /// The type for people, e.g. `decimal(9,2)` or `null | string`.
    pub fn type_name(&self, ty: &Type) -> String {
        match ty {
            Type::Array(items) => format!("array<{}>", self.type_name(items)),
            Type::Map(values) => format!("map<{}>", self.type_name(values)),
            Type::Union(branches) if branches.is_empty() => "[]".to_owned(),
            Type::Union(branches) => {
                branches.iter().map(|branch| self.type_name(branch)).collect::<Vec<_>>().join(" | ")
            }
            Type::Named(id) => {
                let named = self.get(*id);
                match &named.definition {
                    Definition::Fixed { logical: Some(logical), .. } => logical.name(),
                    _ => named.name.clone(),
                }
            }
            Type::Logical(logical) => logical.name(),
            primitive => primitive.primitive_name().to_owned(),
        }
    }
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// `null`
    Null,
    /// `boolean`
    Boolean,
    /// `int`
    Int,
    /// `long`
    Long,
    /// `float`
    Float,
    /// `double`
    Double,
    /// `bytes`
    Bytes,
    /// `string`
    String,
    /// Items of one type.
    Array(Box<Type>),
    /// Texts to values of one type.
    Map(Box<Type>),
    /// One of several types, none of them a union.
    Union(Vec<Type>),
    /// A record, an enum or a fixed.
    Named(TypeId),
    /// A primitive with a meaning.
    Logical(Logical),
}

impl Type {
    /// The name of the primitive underneath; `array`, `map`, `union` or `named` for the others.
    pub fn primitive_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
            Self::Named(_) => "named",
            Self::Logical(logical) => logical.base(),
        }
    }

    /// For `["null", T]` and `[T, "null"]`: the place of `null`, and `T`.
    pub fn as_optional(&self) -> Option<(usize, &Type)> {
        match self {
            Self::Union(branches) => match branches.as_slice() {
                [Self::Null, ty] => Some((0, ty)),
                [ty, Self::Null] => Some((1, ty)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The attributes of a type where it stands, and of the types within it. Those of a definition are with its
/// [`Named`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remarks {
    /// Its own.
    pub own: Attributes,
    /// Of the items, the values or each branch; empty if none of them has any.
    pub inner: Vec<Remarks>,
}

impl Remarks {
    /// Those of the items, the values or a branch.
    pub fn inner(&self, index: usize) -> Option<&Self> {
        self.inner.get(index)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.inner.is_empty()
    }
}

/// What a primitive, or a fixed, means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// `decimal` of bytes or a fixed: an unscaled integer, big-endian.
    Decimal {
        /// Digits in all.
        precision: u32,
        /// Digits after the point.
        scale: u32,
    },
    /// Days since 1970, an int.
    Date,
    /// Milliseconds since midnight, an int.
    TimeMillis,
    /// Microseconds since midnight, a long.
    TimeMicros,
    /// Milliseconds since 1970 UTC, a long.
    TimestampMillis,
    /// Microseconds since 1970 UTC, a long.
    TimestampMicros,
    /// Nanoseconds since 1970 UTC, a long.
    TimestampNanos,
    /// Milliseconds since 1970 of a clock on the wall, a long.
    LocalTimestampMillis,
    /// Microseconds since 1970 of a clock on the wall, a long.
    LocalTimestampMicros,
    /// Nanoseconds since 1970 of a clock on the wall, a long.
    LocalTimestampNanos,
    /// A UUID, as text or as 16 bytes.
    Uuid,
    /// Months, days and milliseconds, each an unsigned little-endian number in a third of a fixed of 12 bytes.
    Duration,
    /// `big-decimal` of bytes: a decimal of any precision that carries its own scale.
    BigDecimal,
}

impl Logical {
    /// The primitive that it annotates, when it is not a fixed.
    pub fn base(self) -> &'static str {
        match self {
            Self::Decimal { .. } | Self::BigDecimal => "bytes",
            Self::Date | Self::TimeMillis => "int",
            Self::Uuid => "string",
            // Only ever of a fixed.
            Self::Duration => "fixed",
            _ => "long",
        }
    }

    /// The value of `logicalType`.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Decimal { .. } => "decimal",
            Self::Date => "date",
            Self::TimeMillis => "time-millis",
            Self::TimeMicros => "time-micros",
            Self::TimestampMillis => "timestamp-millis",
            Self::TimestampMicros => "timestamp-micros",
            Self::TimestampNanos => "timestamp-nanos",
            Self::LocalTimestampMillis => "local-timestamp-millis",
            Self::LocalTimestampMicros => "local-timestamp-micros",
            Self::LocalTimestampNanos => "local-timestamp-nanos",
            Self::Uuid => "uuid",
            Self::Duration => "duration",
            Self::BigDecimal => "big-decimal",
        }
    }

    /// For people: `decimal(9,2)`, `date`.
    pub fn name(self) -> String {
        match self {
            Self::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            other => other.keyword().to_owned(),
        }
    }
}

/// A record, an enum or a fixed.
#[derive(Clone, Debug)]
pub struct Named {
    /// Full name, with its namespace.
    pub name: String,
    /// The `doc`, or an empty text.
    pub doc: String,
    /// Other full names.
    pub aliases: Vec<String>,
    /// Where it is defined.
    pub place: Place,
    /// What it is.
    pub definition: Definition,
    /// What else is said of it.
    pub attributes: Attributes,
}

impl Named {
    /// The name without its namespace.
    pub fn simple_name(&self) -> &str {
        self.name.rsplit_once('.').map_or(self.name.as_str(), |(_, simple)| simple)
    }

    /// The namespace, or an empty text.
    pub fn namespace(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(namespace, _)| namespace)
    }
}

/// What a named type is.
#[derive(Clone, Debug)]
pub enum Definition {
    /// Fields in their order.
    Record(Vec<Field>),
    /// One of several words.
    Enum {
        /// In their order; the position is what is written.
        symbols: Vec<String>,
        /// What a symbol that is not known becomes.
        default: Option<String>,
    },
    /// A number of bytes that is always the same.
    Fixed {
        /// How many.
        size: usize,
        /// What they mean.
        logical: Option<Logical>,
    },
}

/// One field of a record.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// The `doc`, or an empty text.
    pub doc: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Its type.
    pub ty: Type,
    /// What is said of the type where it stands here.
    pub remarks: Remarks,
    /// Its default as the schema writes it.
    pub default: Option<Value>,
    /// What else is said of the field, `order` included.
    pub attributes: Attributes,
    /// Where it is defined.
    pub place: Place,
}
