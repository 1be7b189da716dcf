//! From JSON to types, in two passes: names first, so that the files may name each other's types in any order.

use std::collections::{BTreeMap, HashMap, HashSet};

use jsonc_parser::ast::{Object, Value};

use crate::ast::{Attributes, Definition, Field, Logical, Named, Remarks, Schemas, Type, TypeId};
use crate::error::Text;
use crate::measure::measure;
use crate::{Place, SchemaError, Source, defaults, did_you_mean, json};

/// What an object can be the definition of.
const KINDS: [&str; 6] = ["record", "enum", "fixed", "array", "map", "error"];

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// How the values of a field may be sorted.
const ORDERS: [&str; 3] = ["ascending", "descending", "ignore"];

/// The attributes that a logical type takes.
fn understood(logical: Option<Logical>) -> &'static [&'static str] {
    match logical {
        Some(Logical::Decimal { .. }) => &["logicalType", "precision", "scale"],
        Some(_) => &["logicalType"],
        None => &[],
    }
}

impl Schemas {
    /// Reads schemas that may name each other's types.
    pub fn parse(sources: &[Source<'_>]) -> Result<Self, SchemaError> {
        let texts = sources.iter().enumerate().map(|(index, source)| Text::new(index, *source)).collect::<Vec<_>>();
        let values = texts.iter().map(json::parse).collect::<Result<Vec<_>, _>>()?;
        let mut names = BTreeMap::new();
        for (text, value) in texts.iter().zip(&values) {
            Names { text, names: &mut names }.collect(value, "")?;
        }
        let (mut named, mut checks, mut ignored) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (mut roots, mut remarks) = (Vec::new(), Vec::new());
        for (text, value) in texts.iter().zip(&values) {
            let mut builder =
                Builder { text, names: &names, named: &mut named, checks: &mut checks, ignored: &mut ignored };
            let (root, said) = builder.ty(value, "")?;
            roots.push(root);
            remarks.push(said);
        }
        let mut schemas = Self { named: named.into_values().collect(), roots, remarks, measures: Vec::new(), ignored };
        measure(&mut schemas)?;
        // Defaults last: they may be of a type that is defined further down.
        for (place, ty, default) in checks {
            if let Some(message) = defaults::problem(&schemas, &ty, &default) {
                return Err(SchemaError { place, message });
            }
            match schemas.check_default(&ty, &default) {
                Some(None) => {}
                Some(Some(message)) => schemas.ignored.push(SchemaError { place, message }),
                None => {
                    let message = "the default contains itself or is too large; write a smaller one".to_owned();
                    return Err(SchemaError { place, message });
                }
            }
        }
        Ok(schemas)
    }
}

/// The first pass: where each name is defined.
struct Names<'a, 's> {
    text: &'a Text<'s>,
    names: &'a mut BTreeMap<String, (usize, Place)>,
}

impl Names<'_, '_> {
    fn collect(&mut self, value: &Value<'_>, namespace: &str) -> Result<(), SchemaError> {
        match value {
            Value::Array(array) => array.elements.iter().try_for_each(|element| self.collect(element, namespace)),
            Value::Object(object) => self.collect_object(object, namespace),
            _ => Ok(()),
        }
    }

    fn collect_object(&mut self, object: &Object<'_>, namespace: &str) -> Result<(), SchemaError> {
        let Some(kind) = object.get_string("type") else {
            return object.get("type").map_or(Ok(()), |ty| self.collect(&ty.value, namespace));
        };
        match kind.value.as_ref() {
            "array" => object.get("items").map_or(Ok(()), |items| self.collect(&items.value, namespace)),
            "map" => object.get("values").map_or(Ok(()), |values| self.collect(&values.value, namespace)),
            "record" | "error" | "enum" | "fixed" => {
                let (name, start) = definition_name(object, namespace)
                    .map_err(|(at, message)| SchemaError { place: self.place(at), message })?;
                let place = self.place(start);
                if let Some((_, first)) = self.names.get(&name) {
                    return Err(SchemaError {
                        place,
                        message: format!("{name:?} is defined already at {first}; rename one of the two"),
                    });
                }
                let number = self.names.len();
                self.names.insert(name.clone(), (number, place));
                let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let fields = object.get_array("fields").map_or(&[][..], |fields| &fields.elements);
                for field in fields.iter().filter_map(Value::as_object) {
                    if let Some(ty) = field.get("type") {
                        self.collect(&ty.value, inner)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn place(&self, byte: usize) -> Place {
        self.text.place(byte)
    }
}

/// The full name of a definition, and where it stands.
fn definition_name(object: &Object<'_>, namespace: &str) -> Result<(String, usize), (usize, String)> {
    let Some(property) = object.get("name") else {
        return Err((object.range.start, "the type has no name; add \"name\": \"…\"".into()));
    };
    let at = json::start(&property.value);
    let Some(name) = property.value.as_string_lit() else {
        return Err((at, "the name is no text; put it in quotes".into()));
    };
    let namespace = match object.get("namespace") {
        None => namespace.to_owned(),
        Some(property) => match &property.value {
            Value::StringLit(text) => text.value.clone().into_owned(),
            Value::NullKeyword(_) => String::new(),
            other => return Err((json::start(other), "the namespace is no text; put it in quotes".into())),
        },
    };
    let full = full_name(&name.value, &namespace);
    match full.split('.').find(|part| !is_name(part)) {
        Some(part) => Err((at, invalid_name(part))),
        None if PRIMITIVES.contains(&full.as_str()) => {
            Err((at, format!("{full:?} is the name of a primitive type; choose another")))
        }
        None => Ok((full, at)),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.contains('.') || namespace.is_empty() {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn invalid_name(name: &str) -> String {
    format!("{name:?} cannot be a name; use letters, digits and _, and no digit first")
}

/// The second pass: the types themselves.
pub(crate) struct Builder<'a, 's> {
    text: &'a Text<'s>,
    names: &'a BTreeMap<String, (usize, Place)>,
    named: &'a mut BTreeMap<usize, Named>,
    /// Defaults with their places, for when all types are known.
    checks: &'a mut Vec<(Place, Type, serde_json::Value)>,
    pub(crate) ignored: &'a mut Vec<SchemaError>,
}

impl Builder<'_, '_> {
    pub(crate) fn place(&self, byte: usize) -> Place {
        self.text.place(byte)
    }

    fn error<T>(&self, byte: usize, message: impl Into<String>) -> Result<T, SchemaError> {
        Err(SchemaError { place: self.place(byte), message: message.into() })
    }

    fn ty(&mut self, value: &Value<'_>, namespace: &str) -> Result<(Type, Remarks), SchemaError> {
        match value {
            Value::StringLit(name) => {
                Ok((self.reference(&name.value, namespace, name.range.start)?, Remarks::default()))
            }
            Value::Object(object) => self.object(object, namespace),
            Value::Array(array) => self.union(array, namespace),
            other => self.error(json::start(other), "no type; write a name in quotes, an object or a list"),
        }
    }

    fn reference(&self, name: &str, namespace: &str, at: usize) -> Result<Type, SchemaError> {
        if let Some(primitive) = primitive(name) {
            return Ok(primitive);
        }
        let full = full_name(name, namespace);
        // A type without a namespace cannot be named otherwise from within one; Java reads it so too.
        if let Some((number, _)) = self.names.get(&full).or_else(|| self.names.get(name)) {
            return Ok(Type::Named(TypeId(*number)));
        }
        if KINDS.contains(&name) {
            return self.error(at, format!("{name:?} needs an object: {{\"type\": {name:?}, …}}"));
        }
        let simple = |full: &str| full.rsplit('.').next().unwrap_or(full).to_owned();
        if let Some(elsewhere) = self.names.keys().find(|known| simple(known) == simple(name)) {
            return self.error(at, format!("unknown type {full:?}; did you mean {elsewhere:?}?"));
        }
        // A namespace that both have makes no names alike.
        let short = self.names.keys().map(|known| simple(known)).collect::<Vec<_>>();
        let names = short.iter().map(String::as_str).chain(PRIMITIVES).chain(KINDS);
        let hint = did_you_mean(&simple(name), names);
        let hint = if hint.is_empty() { "; define it here or add its file".to_owned() } else { hint };
        self.error(at, format!("unknown type {full:?}{hint}"))
    }

    fn union(&mut self, array: &jsonc_parser::ast::Array<'_>, namespace: &str) -> Result<(Type, Remarks), SchemaError> {
        if array.elements.is_empty() {
            let message = "the union is empty; name at least one type".to_owned();
            self.ignored.push(SchemaError { place: self.place(array.range.start), message });
        }
        let mut branches: Vec<Type> = Vec::with_capacity(array.elements.len());
        let (mut inner, mut seen) = (Vec::new(), HashMap::new());
        for element in &array.elements {
            let at = json::start(element);
            let (branch, remarks) = self.ty(element, namespace)?;
            let same = match &branch {
                Type::Union(_) => {
                    return self.error(at, "a union directly in a union; write their types in one list");
                }
                Type::Named(id) => (Some(*id), ""),
                other => (None, other.primitive_name()),
            };
            if let Some(first) = seen.insert(same, at) {
                let first = self.place(first);
                let message = format!("the union has this type already at {first}; readers could not tell them apart");
                return self.error(at, message);
            }
            branches.push(branch);
            inner.push(remarks);
        }
        if inner.iter().all(Remarks::is_empty) {
            inner.clear();
        }
        Ok((Type::Union(branches), Remarks { own: Attributes::new(), inner }))
    }

    fn object(&mut self, object: &Object<'_>, namespace: &str) -> Result<(Type, Remarks), SchemaError> {
        let Some(property) = object.get("type") else {
            let message = match object.get("protocol") {
                Some(_) => "a protocol, which is no schema; write each of its \"types\" into a file of its own",
                None => "the schema has no \"type\"; add one",
            };
            return self.error(object.range.start, message);
        };
        let Value::StringLit(kind) = &property.value else { return self.around(object, &property.value, namespace) };
        match kind.value.as_ref() {
            "array" => self.element(object, "items", namespace, Type::Array),
            "map" => self.element(object, "values", namespace, Type::Map),
            "record" | "error" => self.define(object, namespace, Self::record),
            "enum" => self.define(object, namespace, Self::enumeration),
            "fixed" => self.define(object, namespace, Self::fixed),
            name => {
                let ty = self.reference(name, namespace, kind.range.start)?;
                let logical = self.logical(object, ty.primitive_name(), None);
                let own = json::without(object, &[&["type"][..], understood(logical)].concat());
                Ok((logical.map_or(ty, Type::Logical), Remarks { own, inner: Vec::new() }))
            }
        }
    }

    /// An object around a type that is written out within it.
    fn around(
        &mut self,
        object: &Object<'_>,
        inner: &Value<'_>,
        namespace: &str,
    ) -> Result<(Type, Remarks), SchemaError> {
        let (ty, mut remarks) = self.ty(inner, namespace)?;
        let known: &[&str] = match ty {
            Type::Array(_) | Type::Map(_) | Type::Union(_) | Type::Named(_) => &["type"],
            // The two objects are written as one, in which a logical type would mean something.
            _ => &["type", "logicalType", "precision", "scale"],
        };
        if let Some(misplaced) = object.get("logicalType").filter(|_| known.contains(&"logicalType")) {
            let message = "\"logicalType\" belongs into the object within this one, beside the name of the type".into();
            let place = self.place(misplaced.range.start);
            self.ignored.push(SchemaError { place, message });
        }
        for (key, value) in json::without(object, known) {
            // What is said further within goes first.
            remarks.own.entry(key).or_insert(value);
        }
        Ok((ty, remarks))
    }

    fn element(
        &mut self,
        object: &Object<'_>,
        key: &str,
        namespace: &str,
        make: fn(Box<Type>) -> Type,
    ) -> Result<(Type, Remarks), SchemaError> {
        let Some(property) = object.get(key) else {
            return self.error(object.range.start, format!("no {key:?}; add the type of what is in it"));
        };
        let (ty, remarks) = self.ty(&property.value, namespace)?;
        let inner = if remarks.is_empty() { Vec::new() } else { vec![remarks] };
        Ok((make(Box::new(ty)), Remarks { own: json::without(object, &["type", key]), inner }))
    }

    fn define(
        &mut self,
        object: &Object<'_>,
        namespace: &str,
        build: impl FnOnce(&mut Self, &Object<'_>, &str) -> Result<Definition, SchemaError>,
    ) -> Result<(Type, Remarks), SchemaError> {
        let (name, at) = definition_name(object, namespace)
            .map_err(|(at, message)| SchemaError { place: self.place(at), message })?;
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let place = self.place(at);
        let doc = self.text(object, "doc")?;
        let aliases = self.texts(object, "aliases")?.into_iter().map(|(alias, _)| full_name(&alias, &inner)).collect();
        let Some(number) = self.names.get(&name).map(|(number, _)| *number) else {
            return self.error(at, format!("{name:?} is not where a type can be defined"));
        };
        let definition = build(self, object, &inner)?;
        let mut known = vec!["type", "name", "namespace", "doc", "aliases"];
        match &definition {
            Definition::Record(_) => known.push("fields"),
            Definition::Enum { .. } => known.extend(["symbols", "default"]),
            Definition::Fixed { logical, .. } => {
                known.push("size");
                known.extend(understood(*logical));
            }
        }
        let attributes = json::without(object, &known);
        self.named.insert(number, Named { name, doc, aliases, place, definition, attributes });
        Ok((Type::Named(TypeId(number)), Remarks::default()))
    }

    fn record(&mut self, object: &Object<'_>, namespace: &str) -> Result<Definition, SchemaError> {
        let Some(list) = object.get_array("fields") else {
            return self.error(object.range.start, "the record has no \"fields\"; add a list, or [] for none");
        };
        let mut fields: Vec<Field> = Vec::with_capacity(list.elements.len());
        let mut seen: HashMap<String, Place> = HashMap::new();
        for element in &list.elements {
            let Value::Object(object) = element else {
                return self.error(json::start(element), "a field is an object: {\"name\": …, \"type\": …}");
            };
            let field = self.field(object, namespace)?;
            if let Some(first) = seen.insert(field.name.clone(), field.place.clone()) {
                let message = format!("field {:?} stands already at {first}; rename one", field.name);
                return Err(SchemaError { place: field.place, message });
            }
            fields.push(field);
        }
        Ok(Definition::Record(fields))
    }

    fn field(&mut self, object: &Object<'_>, namespace: &str) -> Result<Field, SchemaError> {
        let Some(name) = object.get_string("name") else {
            return self.error(object.range.start, "the field has no name; add \"name\": \"…\"");
        };
        if !is_name(&name.value) {
            return self.error(name.range.start, invalid_name(&name.value));
        }
        let place = self.place(name.range.start);
        let Some(ty) = object.get("type") else {
            return self.error(object.range.start, format!("field {:?} has no type; add \"type\": …", name.value));
        };
        if let Some(misplaced) = object.get("logicalType") {
            let message = "\"logicalType\" belongs into the type: \"type\": {\"type\": …, \"logicalType\": …}".into();
            let place = self.place(misplaced.range.start);
            self.ignored.push(SchemaError { place, message });
        }
        if let Some(order) = object.get("order") {
            self.check_order(&order.value);
        }
        let (ty, remarks) = self.ty(&ty.value, namespace)?;
        let default = object.get("default").map(|default| (json::start(&default.value), json::plain(&default.value)));
        if let Some((at, default)) = &default {
            self.checks.push((self.place(*at), ty.clone(), default.clone()));
        }
        Ok(Field {
            name: name.value.clone().into_owned(),
            doc: self.text(object, "doc")?,
            aliases: self.texts(object, "aliases")?.into_iter().map(|(alias, _)| alias).collect(),
            ty,
            remarks,
            default: default.map(|(_, default)| default),
            attributes: json::without(object, &["name", "type", "doc", "aliases", "default"]),
            place,
        })
    }

    /// In which order values are sorted is nothing that values show, so a wrong one breaks no schema; Java refuses it.
    fn check_order(&mut self, order: &Value<'_>) {
        let known = |text: &str| ORDERS.iter().any(|known| known.eq_ignore_ascii_case(text));
        if !order.as_string_lit().is_some_and(|text| known(&text.value)) {
            let message = format!("{} is no order; write \"{}\"", json::plain(order), ORDERS.join("\" or \""));
            self.ignored.push(SchemaError { place: self.place(json::start(order)), message });
        }
    }

    fn enumeration(&mut self, object: &Object<'_>, _: &str) -> Result<Definition, SchemaError> {
        let symbols = self.texts(object, "symbols")?;
        if symbols.is_empty() {
            return self.error(object.range.start, "the enum has no symbols; add \"symbols\": [\"…\"]");
        }
        let mut seen = HashSet::new();
        for (symbol, at) in &symbols {
            if !is_name(symbol) {
                return self.error(*at, invalid_name(symbol));
            }
            if !seen.insert(symbol) {
                return self.error(*at, format!("symbol {symbol:?} stands twice; remove one"));
            }
        }
        let symbols = symbols.into_iter().map(|(symbol, _)| symbol).collect::<Vec<_>>();
        let default = match object.get("default") {
            None => None,
            Some(property) => match property.value.as_string_lit() {
                Some(text) if symbols.iter().any(|symbol| *symbol == text.value) => {
                    Some(text.value.clone().into_owned())
                }
                other => {
                    let message = match other.map(|text| text.value.as_ref()) {
                        None => "the default is no text; write one of the symbols in quotes".to_owned(),
                        Some(wrong) => {
                            let hint = did_you_mean(wrong, symbols.iter().map(String::as_str));
                            format!("the default {wrong:?} is none of the symbols{hint}")
                        }
                    };
                    return self.error(json::start(&property.value), message);
                }
            },
        };
        Ok(Definition::Enum { symbols, default })
    }

    fn fixed(&mut self, object: &Object<'_>, _: &str) -> Result<Definition, SchemaError> {
        let size = match object.get("size") {
            None => return self.error(object.range.start, "the fixed has no size; add \"size\": <bytes>"),
            Some(property) => match self.number(&property.value)? {
                size if size <= 1 << 20 => size as usize,
                _ => return self.error(json::start(&property.value), "a fixed has at most 1048576 bytes"),
            },
        };
        Ok(Definition::Fixed { size, logical: self.logical(object, "fixed", Some(size)) })
    }

    pub(crate) fn number(&self, value: &Value<'_>) -> Result<u32, SchemaError> {
        match json::plain(value).as_u64().and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => self.error(json::start(value), "write a whole number, 0 or more"),
        }
    }

    fn text(&self, object: &Object<'_>, key: &str) -> Result<String, SchemaError> {
        match object.get(key).map(|property| &property.value) {
            None | Some(Value::NullKeyword(_)) => Ok(String::new()),
            Some(Value::StringLit(text)) => Ok(text.value.clone().into_owned()),
            Some(other) => self.error(json::start(other), format!("{key:?} is no text; put it in quotes")),
        }
    }

    fn texts(&self, object: &Object<'_>, key: &str) -> Result<Vec<(String, usize)>, SchemaError> {
        match object.get(key).map(|property| &property.value) {
            None | Some(Value::NullKeyword(_)) => Ok(Vec::new()),
            Some(Value::Array(array)) => array
                .elements
                .iter()
                .map(|element| match element {
                    Value::StringLit(text) => Ok((text.value.clone().into_owned(), text.range.start)),
                    other => self.error(json::start(other), format!("{key:?} is a list of texts; put it in quotes")),
                })
                .collect(),
            Some(other) => self.error(json::start(other), format!("{key:?} is a list of texts in brackets")),
        }
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::String,
        _ => return None,
    })
}
