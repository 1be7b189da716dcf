//! How deep and how large: no schema may overflow the stack of whoever walks over it.

use crate::{Definition, MAX_DEPTH, Named, SchemaError, Schemas, Type, TypeId};

/// JSON levels of a record around the type of a field: the record, its list of fields, the field.
const RECORD_LEVELS: usize = 3;

/// Fills in the shortest lengths; refuses what has no end or would be nested too deeply when it is written out.
pub(crate) fn measure(schemas: &mut Schemas) -> Result<(), SchemaError> {
    let mut min_lens = vec![None; schemas.named.len()];
    for (id, named) in schemas.named() {
        min_len(schemas, id, named, &mut Vec::new(), &mut min_lens)?;
    }
    let mut seen = vec![false; schemas.named.len()];
    for root in &schemas.roots {
        depth(schemas, root, 0, &mut seen)?;
    }
    schemas.min_lens = min_lens.into_iter().map(Option::unwrap_or_default).collect();
    Ok(())
}

/// A record that contains itself without a union, array or map between would never end.
fn min_len(
    schemas: &Schemas,
    id: TypeId,
    named: &Named,
    path: &mut Vec<TypeId>,
    known: &mut [Option<usize>],
) -> Result<usize, SchemaError> {
    if let Some(len) = known[id.0] {
        return Ok(len);
    }
    let error = |message| Err(SchemaError { place: named.place.clone(), message });
    if path.contains(&id) {
        return error(format!(
            "record {:?} contains itself without end; make the field optional: [\"null\", {:?}]",
            named.name, named.name
        ));
    }
    if path.len() == MAX_DEPTH {
        return error(format!("record {:?} is nested deeper than {MAX_DEPTH} records; flatten them", named.name));
    }
    path.push(id);
    let len = match &named.definition {
        Definition::Enum { .. } => 1,
        Definition::Fixed { size, .. } => *size,
        Definition::Record(fields) => {
            let mut sum = 0_usize;
            for field in fields {
                sum = sum.saturating_add(match &field.ty {
                    Type::Named(id) => min_len(schemas, *id, schemas.get(*id), path, known)?,
                    Type::Null => 0,
                    Type::Float => 4,
                    Type::Double => 8,
                    _ => 1,
                });
            }
            sum
        }
    };
    path.pop();
    known[id.0] = Some(len);
    Ok(len)
}

/// Walks as the full JSON is written: every named type where it is first used.
fn depth(schemas: &Schemas, ty: &Type, level: usize, seen: &mut [bool]) -> Result<(), SchemaError> {
    match ty {
        Type::Array(inner) | Type::Map(inner) => depth(schemas, inner, level + 1, seen),
        Type::Union(branches) => branches.iter().try_for_each(|branch| depth(schemas, branch, level + 1, seen)),
        Type::Named(id) if !std::mem::replace(&mut seen[id.0], true) => {
            let named = schemas.get(*id);
            let Definition::Record(fields) = &named.definition else { return Ok(()) };
            let level = level + RECORD_LEVELS;
            if level > MAX_DEPTH {
                let message =
                    format!("written out, the schema is nested deeper than {MAX_DEPTH} levels here; flatten it");
                return Err(SchemaError { place: named.place.clone(), message });
            }
            fields.iter().try_for_each(|field| depth(schemas, &field.ty, level, seen))
        }
        _ => Ok(()),
    }
}
