//! Schemas back to text: the canonical form of the specification, and the full JSON.

use serde_json::{Map, Value, json};

use crate::{Attributes, Definition, Field, Logical, Remarks, Schemas, Type, TypeId, fingerprint};

impl Schemas {
    /// The Parsing Canonical Form of the specification: logical types, docs, defaults, aliases
    /// and all other attributes are stripped.
    pub fn canonical(&self, ty: &Type) -> String {
        Writer::new(self, true).ty(ty, None).to_string()
    }

    /// CRC-64-AVRO of the canonical form.
    pub fn fingerprint(&self, ty: &Type) -> u64 {
        fingerprint(&self.canonical(ty))
    }

    /// The whole schema of a type: every named type is defined where it is first used, under its full name.
    pub fn full_json(&self, ty: &Type) -> String {
        Writer::new(self, false).ty(ty, None).to_string()
    }

    /// The same of the schema of a source, with what it says beside its type.
    pub fn root_json(&self, source: usize) -> String {
        Writer::new(self, false).ty(&self.roots[source], self.remarks.get(source)).to_string()
    }
}

struct Writer<'a> {
    schemas: &'a Schemas,
    canonical: bool,
    written: Vec<bool>,
    /// That of the type around.
    namespace: &'a str,
}

impl<'a> Writer<'a> {
    fn new(schemas: &'a Schemas, canonical: bool) -> Self {
        Self { schemas, canonical, written: vec![false; schemas.named.len()], namespace: "" }
    }

    fn ty(&mut self, ty: &Type, remarks: Option<&Remarks>) -> Value {
        let bare = self.bare(ty, remarks);
        match remarks.map(|remarks| &remarks.own) {
            Some(own) if !self.canonical && !own.is_empty() => annotated(ty, bare, own),
            _ => bare,
        }
    }

    fn bare(&mut self, ty: &Type, remarks: Option<&Remarks>) -> Value {
        let inner = |index: usize| remarks.and_then(|remarks| remarks.inner(index));
        match ty {
            Type::Array(items) => json!({"type": "array", "items": self.ty(items, inner(0))}),
            Type::Map(values) => json!({"type": "map", "values": self.ty(values, inner(0))}),
            Type::Union(branches) => {
                let branches = branches.iter().enumerate();
                Value::Array(branches.map(|(index, branch)| self.ty(branch, inner(index))).collect())
            }
            Type::Named(id) => self.named(*id),
            Type::Logical(logical) if !self.canonical => {
                let mut object = Map::new();
                object.insert("type".into(), logical.base().into());
                insert_logical(&mut object, *logical);
                Value::Object(object)
            }
            primitive => Value::String(primitive.primitive_name().to_owned()),
        }
    }

    fn named(&mut self, id: TypeId) -> Value {
        let schemas = self.schemas;
        let named = schemas.get(id);
        if std::mem::replace(&mut self.written[id.0], true) {
            return Value::String(named.name.clone());
        }
        let mut object = Map::new();
        object.insert("name".into(), named.name.clone().into());
        let kind = match &named.definition {
            Definition::Record(_) => "record",
            Definition::Enum { .. } => "enum",
            Definition::Fixed { .. } => "fixed",
        };
        object.insert("type".into(), kind.into());
        if !self.canonical {
            if named.namespace().is_empty() && !self.namespace.is_empty() {
                object.insert("namespace".into(), "".into());
            }
            insert_texts(&mut object, &named.doc, &named.aliases);
        }
        let outer = std::mem::replace(&mut self.namespace, named.namespace());
        match &named.definition {
            Definition::Record(fields) => {
                let fields = fields.iter().map(|field| self.field(field)).collect();
                object.insert("fields".into(), Value::Array(fields));
            }
            Definition::Enum { symbols, default } => {
                object.insert("symbols".into(), symbols.clone().into());
                if let (false, Some(default)) = (self.canonical, default) {
                    object.insert("default".into(), default.clone().into());
                }
            }
            Definition::Fixed { size, logical } => {
                object.insert("size".into(), (*size).into());
                if let (false, Some(logical)) = (self.canonical, logical) {
                    insert_logical(&mut object, *logical);
                }
            }
        }
        self.namespace = outer;
        if !self.canonical {
            insert_attributes(&mut object, &named.attributes);
        }
        Value::Object(object)
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), field.name.clone().into());
        object.insert("type".into(), self.ty(&field.ty, Some(&field.remarks)));
        if !self.canonical {
            insert_texts(&mut object, &field.doc, &field.aliases);
            if let Some(default) = &field.default {
                object.insert("default".into(), default.clone());
            }
            insert_attributes(&mut object, &field.attributes);
        }
        Value::Object(object)
    }
}

/// A type with attributes of its own: in its object if it has one that is no definition, and in one around it else.
fn annotated(ty: &Type, bare: Value, own: &Attributes) -> Value {
    let mut object = match bare {
        Value::Object(object) if !matches!(ty, Type::Named(_)) => object,
        other => Map::from_iter([("type".to_owned(), other)]),
    };
    insert_attributes(&mut object, own);
    Value::Object(object)
}

fn insert_attributes(object: &mut Map<String, Value>, attributes: &Attributes) {
    for (key, value) in attributes {
        object.entry(key.as_str()).or_insert_with(|| value.clone());
    }
}

fn insert_texts(object: &mut Map<String, Value>, doc: &str, aliases: &[String]) {
    if !doc.is_empty() {
        object.insert("doc".into(), doc.into());
    }
    if !aliases.is_empty() {
        object.insert("aliases".into(), aliases.into());
    }
}

fn insert_logical(object: &mut Map<String, Value>, logical: Logical) {
    object.insert("logicalType".into(), logical.keyword().into());
    if let Logical::Decimal { precision, scale } = logical {
        object.insert("precision".into(), precision.into());
        object.insert("scale".into(), scale.into());
    }
}
