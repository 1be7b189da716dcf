//! A schema as data, how it is written as JSON, and a random one.

use serde_json::{Value, json};

use super::Choices;
use super::values::{Limits, default_json, random_datum};

/// A schema and every named type in it.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub(crate) root: Ty,
    pub(crate) named: Vec<Named>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    /// `null`, `boolean`, `int`, `long`, `float`, `double`, `bytes` or `string`.
    Primitive(&'static str),
    Logical(Meaning),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Union(Vec<Ty>),
    Named(usize),
}

/// A logical type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meaning {
    /// `decimal` of this precision and scale.
    Decimal(u32, u32),
    /// Its keyword and what it annotates.
    Word(&'static str, &'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// With its namespace.
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Record(Vec<Field>),
    Enum { symbols: Vec<String>, default: Option<String> },
    Fixed { size: usize, meaning: Option<Meaning> },
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) ty: Ty,
    pub(crate) default: Option<Value>,
}

/// What a schema may have, and how it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Logical types, known and unknown.
    pub(crate) logical: bool,
    /// Logical types that annotate what they cannot.
    pub(crate) mistakes: bool,
    /// Unions other than `null` and one more.
    pub(crate) unions: bool,
    /// Records that contain themselves.
    pub(crate) recursion: bool,
    pub(crate) namespaces: bool,
    /// Fields of a record, at most.
    pub(crate) fields: usize,
    /// Levels of types around each other, at most.
    pub(crate) depth: usize,
}

impl Style {
    pub(crate) const ALL: Self =
        Self { logical: true, mistakes: true, unions: true, recursion: true, namespaces: true, fields: 6, depth: 4 };
}

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

const LOGICAL: [Meaning; 14] = [
    Meaning::Decimal(9, 2),
    Meaning::Word("date", "int"),
    Meaning::Word("time-millis", "int"),
    Meaning::Word("time-micros", "long"),
    Meaning::Word("timestamp-millis", "long"),
    Meaning::Word("timestamp-micros", "long"),
    Meaning::Word("timestamp-nanos", "long"),
    Meaning::Word("local-timestamp-millis", "long"),
    Meaning::Word("local-timestamp-micros", "long"),
    Meaning::Word("local-timestamp-nanos", "long"),
    Meaning::Word("uuid", "string"),
    Meaning::Word("big-decimal", "bytes"),
    Meaning::Word("no-such-type", "string"),
    // At the end: a logical type of another base, which a reader takes for the base.
    Meaning::Word("date", "bytes"),
];

const FIELDS: [&str; 10] = ["id", "type", "fooBar", "self", "HTTPStatus", "_x", "async", "b", "value", "crate"];

/// A schema whose root is a record, most often.
pub(crate) fn random_schema(choices: &mut Choices<'_>, style: &Style) -> Schema {
    let mut maker = Maker { named: Vec::new(), open: Vec::new(), style };
    let root =
        if choices.one_in(8) { maker.ty(choices, style.depth, true) } else { maker.record(choices, style.depth) };
    let mut schema = Schema { root, named: maker.named };
    renew_defaults(choices, &mut schema);
    schema
}

/// Every default anew, where a field has one: what it was made of may not have been there, or may have changed.
pub(super) fn renew_defaults(choices: &mut Choices<'_>, schema: &mut Schema) {
    let snapshot = schema.clone();
    for (id, named) in schema.named.iter_mut().enumerate() {
        let Kind::Record(fields) = &mut named.kind else { continue };
        for field in fields.iter_mut().filter(|field| field.default.is_some()) {
            // Java knows no default that is made of the record in which it stands.
            field.default = match (&field.ty, snapshot.reaches(&field.ty, id)) {
                (ty, false) => random_default(choices, &snapshot, ty),
                (Ty::Array(_), true) => Some(json!([])),
                (Ty::Map(_), true) => Some(json!({})),
                _ => None,
            };
        }
    }
}

/// A type for a field to be added to a schema: nothing that has a name.
pub(super) fn random_plain(choices: &mut Choices<'_>) -> Ty {
    let style = Style { logical: false, unions: false, recursion: false, namespaces: false, ..Style::ALL };
    Maker { named: Vec::new(), open: Vec::new(), style: &style }.ty(choices, 1, false)
}

struct Maker<'a> {
    named: Vec<Named>,
    /// Records that are not finished: only behind a union, an array or a map may they be named.
    open: Vec<usize>,
    style: &'a Style,
}

impl Maker<'_> {
    fn ty(&mut self, choices: &mut Choices<'_>, depth: usize, names: bool) -> Ty {
        let kinds = if depth == 0 { 5 } else { 12 };
        match choices.below(kinds) {
            0..4 => Ty::Primitive(choices.pick(&PRIMITIVES)),
            4 | 5 if self.style.logical => self.logical(choices, names),
            6 => Ty::Array(Box::new(self.inner(choices, depth - 1, names))),
            7 => Ty::Map(Box::new(self.inner(choices, depth - 1, names))),
            8 | 9 => self.union(choices, depth - 1, names),
            10 if names => self.record(choices, depth - 1),
            11 if names => match choices.below(3) {
                0 => self.enumeration(choices),
                1 => self.fixed(choices, None),
                _ => self.known(choices).unwrap_or(Ty::Primitive("string")),
            },
            _ => Ty::Primitive(choices.pick(&PRIMITIVES)),
        }
    }

    /// Where a record may name itself.
    fn inner(&mut self, choices: &mut Choices<'_>, depth: usize, names: bool) -> Ty {
        if names && self.style.recursion && !self.open.is_empty() && choices.one_in(4) {
            return Ty::Named(choices.pick(&self.open));
        }
        self.ty(choices, depth, names)
    }

    fn known(&mut self, choices: &mut Choices<'_>) -> Option<Ty> {
        let closed = (0..self.named.len()).filter(|id| !self.open.contains(id)).collect::<Vec<_>>();
        (!closed.is_empty()).then(|| Ty::Named(choices.pick(&closed)))
    }

    fn logical(&mut self, choices: &mut Choices<'_>, names: bool) -> Ty {
        if names && choices.one_in(4) {
            return match choices.below(3) {
                0 => self.fixed(choices, Some(Meaning::Word("uuid", "fixed"))),
                1 => self.fixed(choices, Some(Meaning::Word("duration", "fixed"))),
                _ => self.fixed(choices, Some(Meaning::Decimal(14, 3))),
            };
        }
        match choices.pick(&LOGICAL[..LOGICAL.len() - usize::from(!self.style.mistakes)]) {
            Meaning::Decimal(..) => {
                // Up to what 128 bits hold.
                let precision = 1 + choices.below(38) as u32;
                Ty::Logical(Meaning::Decimal(precision, choices.below(precision as usize + 1) as u32))
            }
            other => Ty::Logical(other),
        }
    }

    fn union(&mut self, choices: &mut Choices<'_>, depth: usize, names: bool) -> Ty {
        let mut branches: Vec<Ty> = Vec::new();
        let wanted = if self.style.unions && choices.one_in(2) { 1 + choices.below(5) } else { 2 };
        // Null first, or at the end, or not at all in a wider one.
        let null = choices.below(if wanted == 2 && !self.style.unions { 2 } else { 3 });
        if null == 0 {
            branches.push(Ty::Primitive("null"));
        }
        // As many tries as there may be branches: a type that is there already is left out.
        for _ in 0..wanted.max(2) {
            let branch = self.inner(choices, depth, names);
            if branches.len() < wanted && !branches.iter().any(|other| self.same(other, &branch)) {
                branches.push(branch);
            }
        }
        branches.retain(|branch| !matches!(branch, Ty::Union(_)));
        if null == 1 && !branches.contains(&Ty::Primitive("null")) {
            branches.truncate(wanted.max(2) - 1);
            branches.push(Ty::Primitive("null"));
        }
        // One of its branches must have an end.
        if branches.iter().all(|branch| matches!(branch, Ty::Named(id) if self.open.contains(id))) {
            branches.truncate(1);
            branches.insert(0, Ty::Primitive("null"));
        }
        // One of two types alone is no optional.
        let plain = branches.len() == 2 && branches.contains(&Ty::Primitive("null"));
        if !plain && !self.style.unions {
            return Ty::Union(vec![Ty::Primitive("null"), Ty::Primitive("long")]);
        }
        Ty::Union(branches)
    }

    fn same(&self, a: &Ty, b: &Ty) -> bool {
        match (a, b) {
            (Ty::Named(a), Ty::Named(b)) => a == b,
            (Ty::Named(_), _) | (_, Ty::Named(_)) => false,
            _ => base(a) == base(b),
        }
    }

    fn name(&self, choices: &mut Choices<'_>, word: &str) -> String {
        let number = self.named.len();
        let space = if self.style.namespaces { choices.pick(&["a", "a.b", "org.x_1"]) } else { "" };
        let dot = if space.is_empty() { "" } else { "." };
        format!("{space}{dot}{word}{number}")
    }

    fn record(&mut self, choices: &mut Choices<'_>, depth: usize) -> Ty {
        let id = self.named.len();
        let name = self.name(choices, "Record");
        self.named.push(Named { name, aliases: Vec::new(), kind: Kind::Record(Vec::new()) });
        self.open.push(id);
        let count = choices.below(self.style.fields + 1);
        let mut fields: Vec<Field> = Vec::new();
        for number in 0..count {
            let mut name = choices.pick(&FIELDS).to_owned();
            if fields.iter().any(|field| field.name == name) {
                name = format!("f{number}");
            }
            let ty = self.ty(choices, depth, true);
            // Only that there is one: of what is known when every type is.
            let default = choices.one_in(3).then_some(Value::Null);
            fields.push(Field { name, aliases: Vec::new(), ty, default });
        }
        self.open.pop();
        self.named[id].kind = Kind::Record(fields);
        Ty::Named(id)
    }

    fn enumeration(&mut self, choices: &mut Choices<'_>) -> Ty {
        let symbols = ["A", "LIGHT_BLUE", "Self", "d", "E5"][..1 + choices.below(5)].iter().map(ToString::to_string);
        let symbols = symbols.collect::<Vec<_>>();
        let default = choices.one_in(3).then(|| choices.pick(&symbols));
        let name = self.name(choices, "Enum");
        self.named.push(Named { name, aliases: Vec::new(), kind: Kind::Enum { symbols, default } });
        Ty::Named(self.named.len() - 1)
    }

    fn fixed(&mut self, choices: &mut Choices<'_>, meaning: Option<Meaning>) -> Ty {
        let size = match meaning {
            Some(Meaning::Decimal(..)) => 6 + choices.below(8),
            Some(Meaning::Word("duration", _)) => 12,
            Some(_) => 16,
            None => choices.pick(&[1, 2, 12, 33]),
        };
        let name = self.name(choices, "Fixed");
        self.named.push(Named { name, aliases: Vec::new(), kind: Kind::Fixed { size, meaning } });
        Ty::Named(self.named.len() - 1)
    }
}

/// A default by the form that Java and Python know too: of a union's first type.
pub(super) fn random_default(choices: &mut Choices<'_>, schema: &Schema, ty: &Ty) -> Option<Value> {
    let datum = random_datum(choices, schema, ty, &Limits::DEFAULT)?;
    default_json(schema, ty, &datum)
}

/// The primitive underneath, or what stands for the others.
pub(super) fn base(ty: &Ty) -> &'static str {
    match ty {
        Ty::Primitive(name) => name,
        Ty::Logical(Meaning::Decimal(..)) => "bytes",
        Ty::Logical(Meaning::Word(_, base)) => base,
        Ty::Array(_) => "array",
        Ty::Map(_) => "map",
        Ty::Union(_) => "union",
        Ty::Named(_) => "named",
    }
}

impl Schema {
    /// The full JSON.
    pub(crate) fn json(&self) -> Value {
        Writer { schema: self, written: Vec::new(), bare: false }.ty(&self.root, "")
    }

    /// The same without logical types and defaults: apache-avro has rules of its own for those, the bytes are the same.
    pub(crate) fn bare(&self) -> Value {
        Writer { schema: self, written: Vec::new(), bare: true }.ty(&self.root, "")
    }

    /// Whether it is a record of so many fields or more.
    pub(crate) fn is_record_of(&self, fields: usize) -> bool {
        match (&self.root, self.named.first().map(|named| &named.kind)) {
            (Ty::Named(0), Some(Kind::Record(own))) => own.len() >= fields,
            _ => false,
        }
    }

    pub(crate) fn rename(&mut self, name: impl Fn(usize, &str) -> String) {
        for (id, named) in self.named.iter_mut().enumerate() {
            named.name = name(id, &named.name);
        }
    }

    pub(crate) fn drop_defaults(&mut self) {
        for named in &mut self.named {
            if let Kind::Record(fields) = &mut named.kind {
                fields.iter_mut().for_each(|field| field.default = None);
            }
        }
    }

    /// Whether a value of the type may hold that record.
    fn reaches(&self, ty: &Ty, target: usize) -> bool {
        let (mut seen, mut left) = (Vec::new(), vec![ty]);
        while let Some(ty) = left.pop() {
            match ty {
                Ty::Named(id) if *id == target => return true,
                Ty::Named(id) if !seen.contains(id) => {
                    seen.push(*id);
                    if let Kind::Record(fields) = &self.named[*id].kind {
                        left.extend(fields.iter().map(|field| &field.ty));
                    }
                }
                Ty::Array(inner) | Ty::Map(inner) => left.push(inner),
                Ty::Union(branches) => left.extend(branches),
                _ => {}
            }
        }
        false
    }

    /// Whether some value's JSON might be taken for another branch of a union.
    pub(crate) fn has_wide_union(&self) -> bool {
        fn any(ty: &Ty) -> bool {
            match ty {
                Ty::Union(branches) => {
                    branches.len() > 2
                        || branches.len() == 2 && !branches.contains(&Ty::Primitive("null"))
                        || branches.iter().any(any)
                }
                Ty::Array(inner) | Ty::Map(inner) => any(inner),
                _ => false,
            }
        }
        any(&self.root)
            || self.named.iter().any(|named| match &named.kind {
                Kind::Record(fields) => fields.iter().any(|field| any(&field.ty)),
                _ => false,
            })
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    written: Vec<usize>,
    bare: bool,
}

impl Writer<'_> {
    fn ty(&mut self, ty: &Ty, space: &str) -> Value {
        match ty {
            Ty::Primitive(name) => json!(name),
            Ty::Logical(_) if self.bare => json!(base(ty)),
            Ty::Logical(meaning) => annotate(json!({"type": base(ty)}), *meaning),
            Ty::Array(items) => json!({"type": "array", "items": self.ty(items, space)}),
            Ty::Map(values) => json!({"type": "map", "values": self.ty(values, space)}),
            Ty::Union(branches) => branches.iter().map(|branch| self.ty(branch, space)).collect(),
            Ty::Named(id) => self.named(*id, space),
        }
    }

    /// Short names inside of the same namespace, the namespace apart where it is another.
    fn named(&mut self, id: usize, space: &str) -> Value {
        let schema = self.schema;
        let Named { name, aliases, kind } = &schema.named[id];
        let (own, simple) = name.rsplit_once('.').unwrap_or(("", name));
        let short = if own == space { simple } else { name };
        if self.written.contains(&id) {
            return json!(short);
        }
        self.written.push(id);
        let mut object = match kind {
            Kind::Record(_) => json!({"type": "record"}),
            Kind::Enum { symbols, default } => match default {
                Some(default) if !self.bare => json!({"type": "enum", "symbols": symbols, "default": default}),
                _ => json!({"type": "enum", "symbols": symbols}),
            },
            Kind::Fixed { size, meaning } => match meaning {
                Some(meaning) if !self.bare => annotate(json!({"type": "fixed", "size": size}), *meaning),
                _ => json!({"type": "fixed", "size": size}),
            },
        };
        object["name"] = json!(if id.is_multiple_of(2) { short } else { simple });
        if id % 2 == 1 && own != space {
            object["namespace"] = json!(own);
        }
        if !self.bare && !aliases.is_empty() {
            object["aliases"] = json!(aliases);
        }
        if let Kind::Record(fields) = kind {
            object["fields"] = fields.iter().map(|field| self.field(field, own)).collect();
        }
        object
    }

    fn field(&mut self, field: &Field, space: &str) -> Value {
        let mut object = json!({"name": field.name, "type": self.ty(&field.ty, space)});
        if !self.bare {
            if let Some(default) = &field.default {
                object["default"] = default.clone();
            }
            if !field.aliases.is_empty() {
                object["aliases"] = json!(field.aliases);
            }
        }
        object
    }
}

fn annotate(mut object: Value, meaning: Meaning) -> Value {
    match meaning {
        Meaning::Decimal(precision, scale) => {
            object["logicalType"] = json!("decimal");
            object["precision"] = json!(precision);
            object["scale"] = json!(scale);
        }
        Meaning::Word(word, _) => object["logicalType"] = json!(word),
    }
    object
}
