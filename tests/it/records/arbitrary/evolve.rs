//! Random changes to a schema: what people do to theirs between two versions, and a few that cannot work.

use super::Choices;
use super::schema::{Field, Kind, Named, Schema, Ty, random_default, random_plain, renew_defaults};
use super::values::is_null;

/// The schema after one to four changes. Logical types stay as they are.
pub(crate) fn evolve(choices: &mut Choices<'_>, schema: &Schema) -> Schema {
    let mut changed = schema.clone();
    for _ in 0..=choices.below(4) {
        change(choices, &mut changed);
    }
    renew_defaults(choices, &mut changed);
    changed
}

fn change(choices: &mut Choices<'_>, schema: &mut Schema) {
    if schema.named.is_empty() {
        schema.root = changed_type(choices, &schema.root);
        return;
    }
    let id = choices.below(schema.named.len());
    let snapshot = schema.clone();
    let named = &mut schema.named[id];
    match &mut named.kind {
        Kind::Record(fields) if !fields.is_empty() => change_fields(choices, &snapshot, fields),
        Kind::Record(fields) => fields.push(added(choices, &snapshot, &[])),
        Kind::Enum { symbols, default } => match choices.below(4) {
            0 if symbols.len() > 1 => {
                let gone = symbols.remove(choices.below(symbols.len()));
                default.take_if(|default| *default == gone);
            }
            1 => {
                let symbol = format!("NEW{}", choices.byte());
                if !symbols.contains(&symbol) {
                    symbols.insert(choices.below(symbols.len() + 1), symbol);
                }
            }
            2 => symbols.reverse(),
            _ => *default = Some(choices.pick(symbols)),
        },
        Kind::Fixed { size, meaning: None } if choices.one_in(8) => *size += 1,
        Kind::Fixed { .. } => rename(named),
    }
}

fn rename(named: &mut Named) {
    let name = format!("{}x", named.name);
    named.aliases.push(std::mem::replace(&mut named.name, name));
}

fn change_fields(choices: &mut Choices<'_>, schema: &Schema, fields: &mut Vec<Field>) {
    let at = choices.below(fields.len());
    match choices.below(12) {
        0 => fields.rotate_left(at),
        1 | 2 => drop(fields.remove(at)),
        3 | 4 => {
            let field = added(choices, schema, fields);
            fields.insert(at, field);
        }
        5 => {
            let name = format!("renamed{}", fields.len());
            if fields.iter().all(|field| field.name != name) {
                let before = std::mem::replace(&mut fields[at].name, name);
                fields[at].aliases = vec![before];
            }
        }
        6 => {
            // A new field that a writer before cannot have written.
            let mut field = added(choices, schema, fields);
            field.default = field.default.filter(|_| !choices.one_in(2));
            fields.push(field);
        }
        _ => {
            fields[at].ty = changed_type(choices, &fields[at].ty);
            fields[at].default = None;
        }
    }
}

/// A field with a default, under a name that nothing else gives.
fn added(choices: &mut Choices<'_>, schema: &Schema, fields: &[Field]) -> Field {
    let ty = match choices.below(3) {
        // A name that is there already may be used again, unless that would have no end.
        0 if !schema.named.is_empty() => {
            Ty::Union(vec![Ty::Primitive("null"), Ty::Named(choices.below(schema.named.len()))])
        }
        _ => random_plain(choices),
    };
    let default = random_default(choices, schema, &ty);
    let name = format!("added{}", fields.len());
    let taken = fields.iter().any(|field| field.name == name || field.aliases.contains(&name));
    let name =
        if taken { format!("{name}_{}", fields.iter().map(|field| field.name.len()).sum::<usize>()) } else { name };
    Field { name, aliases: Vec::new(), ty, default }
}

fn changed_type(choices: &mut Choices<'_>, ty: &Ty) -> Ty {
    match ty {
        Ty::Array(inner) if choices.one_in(2) => Ty::Array(Box::new(changed_type(choices, inner))),
        Ty::Map(inner) if choices.one_in(2) => Ty::Map(Box::new(changed_type(choices, inner))),
        Ty::Union(branches) => changed_union(choices, branches),
        Ty::Primitive(name) if choices.below(4) != 3 => Ty::Primitive(match (*name, choices.below(3)) {
            ("int", 0) => "long",
            ("int" | "long", 1) => "float",
            ("int" | "long" | "float", _) => "double",
            ("string", _) => "bytes",
            ("bytes", _) => "string",
            ("double", 0) => "float",
            (other, _) => other,
        }),
        _ => match choices.below(4) {
            0 => Ty::Union(
                vec![ty.clone(), Ty::Primitive("null")].into_iter().take(if is_null(ty) { 1 } else { 2 }).collect(),
            ),
            1 if !is_null(ty) => Ty::Union(vec![Ty::Primitive("null"), ty.clone()]),
            2 => Ty::Union(with(vec![Ty::Primitive("string"), Ty::Primitive("double")], ty)),
            _ => random_plain(choices),
        },
    }
}

fn changed_union(choices: &mut Choices<'_>, branches: &[Ty]) -> Ty {
    let mut branches = branches.to_vec();
    match choices.below(5) {
        0 => branches.reverse(),
        1 if branches.len() > 1 => drop(branches.remove(choices.below(branches.len()))),
        2 => return choices.pick(&branches),
        3 => branches = with(branches, &Ty::Primitive(choices.pick(&["string", "double", "long", "bytes"]))),
        _ => {
            let at = choices.below(branches.len());
            let promoted = match branches[at] {
                Ty::Primitive("int") => Ty::Primitive("long"),
                Ty::Primitive("long" | "float") => Ty::Primitive("double"),
                _ => branches[at].clone(),
            };
            branches.remove(at);
            branches = with(branches, &promoted);
        }
    }
    Ty::Union(branches)
}

/// The branches and one more, unless there is one of its kind.
fn with(mut branches: Vec<Ty>, ty: &Ty) -> Vec<Ty> {
    let base = super::schema::base;
    let same = |other: &Ty| match (other, ty) {
        (Ty::Named(a), Ty::Named(b)) => a == b,
        (Ty::Named(_), _) | (_, Ty::Named(_)) => false,
        _ => base(other) == base(ty),
    };
    if !branches.iter().any(same) && !matches!(ty, Ty::Union(_)) {
        branches.push(ty.clone());
    }
    branches
}
