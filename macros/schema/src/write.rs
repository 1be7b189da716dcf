//! Schemas back to text: the canonical form of the specification, and the full JSON.

use serde_json::{Map, Value, json};

use crate::{Definition, Field, Logical, Schemas, Type, TypeId, fingerprint};

impl Schemas {
    /// The Parsing Canonical Form of the specification: logical types, docs, defaults and aliases are stripped.
    pub fn canonical(&self, ty: &Type) -> String {
        let mut writer =
            Writer { schemas: self, canonical: true, written: vec![false; self.named.len()], namespace: "" };
        writer.ty(ty).to_string()
    }

    /// CRC-64-AVRO of the canonical form.
    pub fn fingerprint(&self, ty: &Type) -> u64 {
        fingerprint(&self.canonical(ty))
    }

    /// The whole schema: every named type is defined where it is first used, under its full name.
    pub fn full_json(&self, ty: &Type) -> String {
        let mut writer =
            Writer { schemas: self, canonical: false, written: vec![false; self.named.len()], namespace: "" };
        writer.ty(ty).to_string()
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
    fn ty(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Array(items) => json!({"type": "array", "items": self.ty(items)}),
            Type::Map(values) => json!({"type": "map", "values": self.ty(values)}),
            Type::Union(branches) => Value::Array(branches.iter().map(|branch| self.ty(branch)).collect()),
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
        Value::Object(object)
    }

    fn field(&mut self, field: &Field) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), field.name.clone().into());
        object.insert("type".into(), self.ty(&field.ty));
        if !self.canonical {
            insert_texts(&mut object, &field.doc, &field.aliases);
            if let Some(default) = &field.default {
                object.insert("default".into(), default.clone());
            }
        }
        Value::Object(object)
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
