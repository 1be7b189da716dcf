//! `schema diff`: what is another in the second schema, field by field, and what that means for readers.

use std::collections::BTreeSet;

use gretchen_schema::{Attributes, Definition, Field, Logical, Named, Remarks, Schemas, Type, TypeId};
use serde_json::{Value, json};

use super::compat::{self, Pair};
use super::text::Asked;
use super::version::{Beside, Version};
use crate::cli::context::Context;
use crate::cli::failure::{Done, Failure};
use crate::cli::output::{Column, safe};
use crate::record::DynamicSchema;

pub(super) async fn run(context: &mut Context, asked: &[String], to: &[String]) -> Done {
    let (before, after) = match (asked, to) {
        ([before, after], []) => (Version::newest(context, before).await?, Version::newest(context, after).await?),
        (_, []) => {
            return Err(Failure::usage("two schemas are compared, the older one first")
                .help("name two files, topics or folders; where a schema is spread over files: FILE… --to FILE…"));
        }
        (before, after) => (Version::of_all(context, before).await?, Version::of_all(context, after).await?),
    };
    let Beside { pairs, removed, added } = before.beside(&after)?;
    match (pairs.as_slice(), removed.is_empty() && added.is_empty()) {
        ([(before, after)], true) if context.out.json => Ok(context.out.json_pretty(&as_json(before, after))?),
        ([(before, after)], true) => tell(context, before, after),
        _ if context.out.json => {
            let types: Vec<Value> = pairs.iter().map(|(before, after)| as_json(before, after)).collect();
            Ok(context.out.json_pretty(&json!({"types": types, "removed": removed, "added": added}))?)
        }
        _ => {
            for (before, after) in &pairs {
                match before.schema == after.schema {
                    true => context.out.line(&format!("{}: the same", safe(&after.name)))?,
                    false => tell(context, before, after)?,
                }
                context.out.line("")?;
            }
            for (names, version) in [(&removed, &after), (&added, &before)] {
                for name in names {
                    context.out.line(&format!("{} is not in {}", safe(name), safe(&version.name)))?;
                }
            }
            Ok(())
        }
    }
}

fn as_json(before: &Asked, after: &Asked) -> Value {
    let changes: Vec<Value> = changes(&before.schema, &after.schema).iter().map(Change::json).collect();
    json!({
        "before": before.name, "after": after.name, "changes": changes,
        "backward": Pair::check(before, after).json(), "forward": Pair::check(after, before).json(),
    })
}

fn tell(context: &mut Context, before: &Asked, after: &Asked) -> Done {
    let changes = changes(&before.schema, &after.schema);
    context.out.line(&format!("before  {} ({})", safe(&before.name), named(&before.schema)))?;
    context.out.line(&format!("after   {} ({})", safe(&after.name), named(&after.schema)))?;
    context.out.line("")?;
    match (changes.is_empty(), before.schema.canonical() == after.schema.canonical()) {
        (true, true) => context.out.line("they are the same")?,
        // What neither the diff nor the canonical form shows does not exist; what only the latter shows is a name.
        (true, false) => context.out.line("they differ in the names of types within")?,
        _ => {
            let columns = ["where", "change", "before", "after"].map(Column::text);
            let rows: Vec<Vec<Value>> = changes.iter().map(Change::row).collect();
            context.out.table(&columns, &rows)?;
        }
    }
    context.out.line("")?;
    compat::tell(context, "backward: after reads what before wrote", &Pair::check(before, after))?;
    compat::tell(context, "forward:  before reads what after wrote", &Pair::check(after, before))
}

fn named(schema: &DynamicSchema) -> String {
    format!("{}, {:016x}", schema.name(), schema.fingerprint())
}

/// One thing that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    path: String,
    what: &'static str,
    before: Option<String>,
    after: Option<String>,
}

impl Change {
    fn json(&self) -> Value {
        json!({"path": self.path, "change": self.what, "before": self.before, "after": self.after})
    }

    fn row(&self) -> Vec<Value> {
        let path = if self.path.is_empty() { "(schema)" } else { &self.path };
        let cell = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        vec![path.into(), self.what.into(), cell(&self.before), cell(&self.after)]
    }
}

fn changes(before: &DynamicSchema, after: &DynamicSchema) -> Vec<Change> {
    let mut differ =
        Differ { before: before.schemas(), after: after.schemas(), seen: BTreeSet::new(), changes: Vec::new() };
    differ.ty("", before.root(), after.root());
    let said = |schemas: &Schemas| schemas.remarks().first().cloned().unwrap_or_default();
    differ.remarks("", (before.root(), &said(before.schemas())), (after.root(), &said(after.schemas())));
    differ.changes
}

struct Differ<'a> {
    before: &'a Schemas,
    after: &'a Schemas,
    /// Pairs that were compared, or are being compared: types may contain themselves, and stand in many places.
    seen: BTreeSet<(TypeId, TypeId)>,
    changes: Vec<Change>,
}

impl Differ<'_> {
    fn add(&mut self, path: &str, what: &'static str, before: Option<String>, after: Option<String>) {
        self.changes.push(Change { path: path.to_owned(), what, before, after });
    }

    /// Notes it where the two are not the same; an empty text is none.
    fn note(&mut self, path: &str, what: &'static str, before: &str, after: &str) {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if before != after {
            self.add(path, what, some(before), some(after));
        }
    }

    /// Recursion ends with the schemas, whose depth is bounded.
    fn ty(&mut self, path: &str, before: &Type, after: &Type) {
        match (before, after) {
            (Type::Array(a), Type::Array(b)) => self.ty(&format!("{path}[]"), a, b),
            (Type::Map(a), Type::Map(b)) => self.ty(&format!("{path}{{}}"), a, b),
            (Type::Union(a), Type::Union(b)) => self.union(path, a, b),
            (Type::Named(a), Type::Named(b)) => self.named(path, *a, *b),
            _ => self.note_type(path, before, after),
        }
    }

    fn note_type(&mut self, path: &str, before: &Type, after: &Type) {
        let (a, b) = (self.before.type_name(before), self.after.type_name(after));
        self.note(path, "type", &a, &b);
    }

    /// Branches in another number or order are another union; what both have may differ within.
    fn union(&mut self, path: &str, before: &[Type], after: &[Type]) {
        let (a, b) = (Type::Union(before.to_vec()), Type::Union(after.to_vec()));
        self.note_type(path, &a, &b);
        for one in before {
            let same = |other: &&Type| match (one, *other) {
                (Type::Named(a), Type::Named(b)) => self.before.get(*a).name == self.after.get(*b).name,
                (Type::Array(_), Type::Array(_)) | (Type::Map(_), Type::Map(_)) => true,
                _ => false,
            };
            if let Some(other) = after.iter().find(same) {
                self.ty(path, one, other);
            }
        }
    }

    fn named(&mut self, path: &str, a: TypeId, b: TypeId) {
        if !self.seen.insert((a, b)) {
            return;
        }
        let (one, other) = (self.before.get(a).clone(), self.after.get(b).clone());
        self.note(path, "name", &one.name, &other.name);
        self.note(path, "doc", &one.doc, &other.doc);
        self.note(path, "aliases", &one.aliases.join(", "), &other.aliases.join(", "));
        match (&one.definition, &other.definition) {
            (Definition::Record(before), Definition::Record(after)) => self.record(path, before, after),
            (Definition::Enum { symbols: before, default: from }, Definition::Enum { symbols: after, default: to }) => {
                self.words(path, before, after);
                self.note(path, "default", from.as_deref().unwrap_or(""), to.as_deref().unwrap_or(""));
            }
            (Definition::Fixed { size: from, logical: a }, Definition::Fixed { size: to, logical: b }) => {
                self.note(path, "size", &format!("{from} bytes"), &format!("{to} bytes"));
                let name = |logical: &Option<Logical>| logical.map_or_else(String::new, Logical::name);
                self.note(path, "type", &name(a), &name(b));
            }
            _ => self.note(path, "type", kind(&one), kind(&other)),
        }
        self.attributes(path, &one.attributes, &other.attributes);
    }

    /// What else is said of a type where it stands, and of the types within it.
    fn remarks(&mut self, path: &str, (before, from): (&Type, &Remarks), (after, to): (&Type, &Remarks)) {
        self.attributes(path, &from.own, &to.own);
        if from.inner.is_empty() && to.inner.is_empty() {
            return;
        }
        let none = Remarks::default();
        match (before, after) {
            (Type::Array(a), Type::Array(b)) | (Type::Map(a), Type::Map(b)) => {
                let path = format!("{path}{}", if matches!(before, Type::Array(_)) { "[]" } else { "{}" });
                let (from, to) = (from.inner(0).unwrap_or(&none), to.inner(0).unwrap_or(&none));
                self.remarks(&path, (a, from), (b, to));
            }
            (Type::Union(a), Type::Union(b)) => {
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    let (from, to) = (from.inner(index).unwrap_or(&none), to.inner(index).unwrap_or(&none));
                    self.remarks(path, (a, from), (b, to));
                }
            }
            _ => {}
        }
    }

    fn attributes(&mut self, path: &str, before: &Attributes, after: &Attributes) {
        let shown =
            |of: &Attributes, key: &str| of.get(key).map_or_else(String::new, |value| format!("{key}: {value}"));
        for key in before.keys().chain(after.keys().filter(|key| !before.contains_key(*key))) {
            self.note(path, "attribute", &shown(before, key), &shown(after, key));
        }
    }

    fn words(&mut self, path: &str, before: &[String], after: &[String]) {
        for symbol in after.iter().filter(|symbol| !before.contains(symbol)) {
            self.add(path, "symbol added", None, Some(symbol.clone()));
        }
        for symbol in before.iter().filter(|symbol| !after.contains(symbol)) {
            self.add(path, "symbol removed", Some(symbol.clone()), None);
        }
        self.order(path, before.iter().map(String::as_str), after.iter().map(String::as_str));
    }

    /// The order of what both have.
    fn order<'t>(
        &mut self,
        path: &str,
        before: impl Iterator<Item = &'t str> + Clone,
        after: impl Iterator<Item = &'t str> + Clone,
    ) {
        let common = |from: Vec<&str>, other: Vec<&str>| {
            from.into_iter().filter(|name| other.contains(name)).collect::<Vec<_>>().join(", ")
        };
        let (a, b): (Vec<&str>, Vec<&str>) = (before.collect(), after.collect());
        self.note(path, "order", &common(a.clone(), b.clone()), &common(b, a));
    }

    fn record(&mut self, path: &str, before: &[Field], after: &[Field]) {
        // A field that went is the one that now has its name among its aliases.
        let renamed = |field: &Field| {
            after.iter().find(|other| {
                other.aliases.contains(&field.name) && before.iter().all(|known| known.name != other.name)
            })
        };
        let kept = |field: &Field| after.iter().find(|other| other.name == field.name).or_else(|| renamed(field));
        for field in before {
            let here = join(path, &field.name);
            match kept(field) {
                Some(other) => {
                    self.note(&here, "name", &field.name, &other.name);
                    self.field(&here, field, other);
                }
                None => self.add(&here, "removed", Some(described(self.before, field)), None),
            }
        }
        for field in after {
            let old = before
                .iter()
                .any(|known| known.name == field.name || renamed(known).is_some_and(|other| other.name == field.name));
            if !old {
                self.add(&join(path, &field.name), "added", None, Some(described(self.after, field)));
            }
        }
        self.order(path, before.iter().map(|field| &*field.name), after.iter().map(|field| &*field.name));
    }

    fn field(&mut self, path: &str, before: &Field, after: &Field) {
        self.ty(path, &before.ty, &after.ty);
        let default = |field: &Field| field.default.as_ref().map_or_else(String::new, Value::to_string);
        self.note(path, "default", &default(before), &default(after));
        self.note(path, "doc", &before.doc, &after.doc);
        self.note(path, "aliases", &before.aliases.join(", "), &after.aliases.join(", "));
        self.attributes(path, &before.attributes, &after.attributes);
        self.remarks(path, (&before.ty, &before.remarks), (&after.ty, &after.remarks));
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind(named: &Named) -> &'static str {
    match named.definition {
        Definition::Record(_) => "record",
        Definition::Enum { .. } => "enum",
        Definition::Fixed { .. } => "fixed",
    }
}

fn described(schemas: &Schemas, field: &Field) -> String {
    let default = field.default.as_ref().map_or_else(String::new, |default| format!(", default {default}"));
    format!("{}{default}", schemas.type_name(&field.ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(before: &str, after: &str) -> Vec<(String, &'static str, String, String)> {
        let (before, after) = (DynamicSchema::parse(before).unwrap(), DynamicSchema::parse(after).unwrap());
        let text = |side: Option<String>| side.unwrap_or_else(|| "-".to_owned());
        changes(&before, &after)
            .into_iter()
            .map(|change| (change.path, change.what, text(change.before), text(change.after)))
            .collect()
    }

    #[test]
    fn every_kind_of_change_is_named_with_its_path() {
        let before = r#"{"type": "record", "name": "R", "fields": [
            {"name": "a", "type": "int", "default": 1},
            {"name": "b", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
                {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
                {"name": "parent", "type": ["null", "Line"]}]}}},
            {"name": "c", "type": {"type": "enum", "name": "E", "symbols": ["X", "Y"]}},
            {"name": "gone", "type": "string"},
            {"name": "old", "type": {"type": "fixed", "name": "F", "size": 4}}]}"#;
        let after = r#"{"type": "record", "name": "R", "doc": "Rows.", "fields": [
            {"name": "b", "type": {"type": "array", "items": {"type": "record", "name": "Line", "fields": [
                {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4}},
                {"name": "parent", "type": ["null", "Line"]}]}}},
            {"name": "a", "type": "long", "default": 2, "aliases": ["aa"], "doc": "An a."},
            {"name": "c", "type": {"type": "enum", "name": "E", "symbols": ["Y", "Z"], "default": "Z"}},
            {"name": "new", "type": {"type": "fixed", "name": "F", "size": 8}, "aliases": ["old"]},
            {"name": "came", "type": ["null", "string"], "default": null}]}"#;
        let row = |path: &str, what, from: &str, to: &str| (path.to_owned(), what, from.to_owned(), to.to_owned());
        assert_eq!(
            diff(before, after),
            [
                row("", "doc", "-", "Rows."),
                row("a", "type", "int", "long"),
                row("a", "default", "1", "2"),
                row("a", "doc", "-", "An a."),
                row("a", "aliases", "-", "aa"),
                row("b[].price", "type", "decimal(9,2)", "decimal(9,4)"),
                row("c", "symbol added", "-", "Z"),
                row("c", "symbol removed", "X", "-"),
                row("c", "default", "-", "Z"),
                row("gone", "removed", "string", "-"),
                row("old", "name", "old", "new"),
                row("old", "size", "4 bytes", "8 bytes"),
                row("old", "aliases", "-", "old"),
                row("came", "added", "-", "null | string, default null"),
                row("", "order", "a, b, c", "b, a, c"),
            ]
        );
        assert_eq!(diff(before, before), []);
    }

    #[test]
    fn attributes_without_a_meaning_are_named_too() {
        let before = r#"{"type": "record", "name": "R", "owner": "shop", "fields": [
            {"name": "a", "type": {"type": "long", "logicalType": "ticks"}, "order": "ignore"},
            {"name": "b", "type": {"type": "array", "items": ["null", {"type": "string", "unit": "m"}]}}]}"#;
        let after = before.replace("ticks", "beats").replace(r#", "order": "ignore""#, "").replace("\"m\"", "[1]");
        let row = |path: &str, from: &str, to: &str| (path.to_owned(), "attribute", from.to_owned(), to.to_owned());
        assert_eq!(
            diff(before, &after.replace(r#""owner": "shop""#, r#""owner": null"#)),
            [
                row("a", r#"order: "ignore""#, "-"),
                row("a", r#"logicalType: "ticks""#, r#"logicalType: "beats""#),
                row("b[]", r#"unit: "m""#, "unit: [1]"),
                row("", r#"owner: "shop""#, "owner: null"),
            ]
        );
        assert_eq!(diff(before, before), []);
    }

    #[test]
    fn unions_differ_by_their_branches_and_within_them() {
        let record =
            |ty: &str| format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "a", "type": {ty}}}]}}"#);
        let union = |ty: &str, last: &str| format!(r#"["null", {}{last}]"#, record(ty));
        let found = diff(&union(r#""int""#, ""), &union(r#""long""#, r#", "string""#));
        let rows: Vec<(&str, &str)> = found.iter().map(|(path, what, ..)| (path.as_str(), *what)).collect();
        assert_eq!(rows, [("", "type"), ("a", "type")]);
    }
}
