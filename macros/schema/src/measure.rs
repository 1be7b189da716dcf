//! How deep and how large: no schema may overflow the stack of whoever walks over it, and every type must have a value.

use serde_json::Value;

use crate::ast::Measure;
use crate::cycles::cycles;
use crate::{Attributes, Definition, Field, MAX_DEPTH, Place, Remarks, SchemaError, Schemas, Type, TypeId};

/// JSON levels of a record around the type of a field: the record, its list of fields, the field.
const RECORD_LEVELS: usize = 3;

/// Fills in the measures; refuses what has no end or would be nested too deeply.
pub(crate) fn measure(schemas: &mut Schemas) -> Result<(), SchemaError> {
    let edges = |direct: bool| {
        (0..schemas.named.len()).map(|index| contained(schemas, TypeId(index), direct)).collect::<Vec<_>>()
    };
    let (all, in_order) = cycles(&edges(false));
    let (direct, _) = cycles(&edges(true));
    check_heights(schemas, &all, &in_order)?;
    let ranks = ranks(schemas)?;
    let mut min_lens = vec![None; schemas.named.len()];
    // What a record holds in place has a smaller rank.
    let mut by_rank = in_order;
    by_rank.sort_by_key(|index| ranks[*index]);
    for index in by_rank {
        min_len(schemas, TypeId(index), &mut min_lens);
    }
    let mut seen = vec![false; schemas.named.len()];
    for (root, remarks) in schemas.roots.iter().zip(&schemas.remarks) {
        let place = schemas.named.first().map(|named| &named.place);
        json_depth(schemas, (root, Some(remarks)), 0, place, &mut seen)?;
    }
    let measures = ranks.into_iter().zip(min_lens).zip(all.into_iter().zip(direct));
    schemas.measures = measures
        .map(|((rank, min_len), (cycle, direct_cycle))| Measure {
            min_len: min_len.unwrap_or_default(),
            rank,
            cycle,
            direct_cycle,
        })
        .collect();
    Ok(())
}

fn fields(schemas: &Schemas, id: TypeId) -> &[Field] {
    match &schemas.named[id.0].definition {
        Definition::Record(fields) => fields,
        _ => &[],
    }
}

/// The named types that a record's fields hold; `direct` leaves out those in arrays and maps.
fn contained(schemas: &Schemas, id: TypeId, direct: bool) -> Vec<usize> {
    fn collect(ty: &Type, direct: bool, found: &mut Vec<usize>) {
        match ty {
            Type::Array(inner) | Type::Map(inner) if !direct => collect(inner, direct, found),
            Type::Union(branches) => branches.iter().for_each(|branch| collect(branch, direct, found)),
            Type::Named(id) => found.push(id.0),
            _ => {}
        }
    }
    let mut found = Vec::new();
    fields(schemas, id).iter().for_each(|field| collect(&field.ty, direct, &mut found));
    found
}

/// Types in types, whoever names them: a chain of definitions side by side is as deep as one that is nested.
/// Cycles count as flat here; how deep their values may be is bounded when they are read.
fn check_heights(schemas: &Schemas, cycles: &[Option<usize>], in_order: &[usize]) -> Result<(), SchemaError> {
    let mut heights = vec![0_usize; cycles.len()];
    for index in in_order {
        let height_of = |id: TypeId| match (cycles[*index], cycles[id.0]) {
            (Some(own), Some(other)) if own == other => 0,
            _ => heights[id.0],
        };
        let height = fields(schemas, TypeId(*index)).iter().map(|field| type_height(&field.ty, &height_of)).max();
        heights[*index] = height.map_or(1, |height| height + 1);
        if heights[*index] > MAX_DEPTH {
            let named = &schemas.named[*index];
            let message = format!("{:?} is nested deeper than {MAX_DEPTH} types; flatten them", named.name);
            return Err(SchemaError { place: named.place.clone(), message });
        }
    }
    Ok(())
}

fn type_height(ty: &Type, named: &dyn Fn(TypeId) -> usize) -> usize {
    match ty {
        Type::Array(inner) | Type::Map(inner) => 1 + type_height(inner, named),
        Type::Union(branches) => 1 + branches.iter().map(|branch| type_height(branch, named)).max().unwrap_or_default(),
        Type::Named(id) => named(*id),
        _ => 1,
    }
}

/// How many records deep the smallest value of each type is. A record without such a value would never end.
fn ranks(schemas: &Schemas) -> Result<Vec<usize>, SchemaError> {
    fn rank(ty: &Type, known: &[Option<usize>]) -> Option<usize> {
        match ty {
            Type::Named(id) => known[id.0],
            // An empty one has no values at all, which is another matter than to have no end.
            Type::Union(branches) if !branches.is_empty() => {
                branches.iter().filter_map(|branch| rank(branch, known)).min()
            }
            _ => Some(0),
        }
    }
    let mut known = vec![None; schemas.named.len()];
    for round in 0.. {
        let mut changed = false;
        for step in 0..known.len() {
            // To and fro, so that a long chain is not found one link a round, whichever way it is written.
            let index = if round % 2 == 0 { step } else { known.len() - 1 - step };
            if known[index].is_some() {
                continue;
            }
            let fields = fields(schemas, TypeId(index));
            let deepest =
                fields.iter().try_fold(0, |deepest: usize, field| Some(deepest.max(rank(&field.ty, &known)?)));
            known[index] = deepest.map(|deepest| deepest + 1);
            changed |= known[index].is_some();
        }
        if !changed {
            break;
        }
    }
    let endless = known.iter().position(Option::is_none);
    let too_deep = known.iter().position(|rank| rank.is_some_and(|rank| rank > MAX_DEPTH));
    match endless.or(too_deep).map(|index| &schemas.named[index]) {
        None => Ok(known.into_iter().flatten().collect()),
        Some(named) if endless.is_none() => Err(SchemaError {
            place: named.place.clone(),
            message: format!("every value of {:?} is more than {MAX_DEPTH} records deep; flatten them", named.name),
        }),
        Some(named) => Err(SchemaError {
            place: named.place.clone(),
            message: format!(
                "record {:?} contains itself without end; make the field optional: [\"null\", {:?}]",
                named.name, named.name
            ),
        }),
    }
}

/// From what is known of the types that a record holds in place.
fn min_len(schemas: &Schemas, id: TypeId, known: &mut [Option<usize>]) {
    let of_field = |field: &Field| match &field.ty {
        Type::Named(id) => known[id.0].unwrap_or_default(),
        Type::Null => 0,
        Type::Float => 4,
        Type::Double => 8,
        _ => 1,
    };
    known[id.0] = Some(match &schemas.named[id.0].definition {
        Definition::Enum { .. } => 1,
        Definition::Fixed { size, .. } => *size,
        Definition::Record(fields) => fields.iter().map(of_field).fold(0, usize::saturating_add),
    });
}

/// Walks as the full JSON is written: every named type where it is first used.
fn json_depth(
    schemas: &Schemas,
    (ty, remarks): (&Type, Option<&Remarks>),
    level: usize,
    place: Option<&Place>,
    seen: &mut [bool],
) -> Result<(), SchemaError> {
    let check = |level: usize, place: Option<&Place>| match place {
        Some(place) if level > MAX_DEPTH => Err(SchemaError {
            place: place.clone(),
            message: format!("written out, the schema is nested deeper than {MAX_DEPTH} levels here; flatten it"),
        }),
        _ => Ok(()),
    };
    let own = remarks.map(|remarks| &remarks.own).filter(|own| !own.is_empty());
    if let Some(own) = own {
        check(level + 1 + attributes_depth(own), place)?;
    }
    // Where a definition or a list would stand there is an object around it.
    let level = level + usize::from(own.is_some() && matches!(ty, Type::Named(_) | Type::Union(_)));
    let within = |index: usize| remarks.and_then(|remarks| remarks.inner(index));
    match ty {
        Type::Array(inner) | Type::Map(inner) => json_depth(schemas, (inner, within(0)), level + 1, place, seen),
        Type::Union(branches) => {
            let mut branches = branches.iter().enumerate();
            branches
                .try_for_each(|(index, branch)| json_depth(schemas, (branch, within(index)), level + 1, place, seen))
        }
        Type::Named(id) if !std::mem::replace(&mut seen[id.0], true) => {
            let named = &schemas.named[id.0];
            check(level + 1 + attributes_depth(&named.attributes), Some(&named.place))?;
            let level = level + RECORD_LEVELS;
            check(level, Some(&named.place))?;
            fields(schemas, *id).iter().try_for_each(|field| {
                let default = field.default.as_ref().map_or(0, value_depth);
                check(level + default.max(attributes_depth(&field.attributes)), Some(&field.place))?;
                json_depth(schemas, (&field.ty, Some(&field.remarks)), level, Some(&field.place), seen)
            })
        }
        // An object with the logical type.
        _ => check(level + 1, place),
    }
}

fn attributes_depth(attributes: &Attributes) -> usize {
    attributes.values().map(value_depth).max().unwrap_or_default()
}

fn value_depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(value_depth).max().unwrap_or_default(),
        Value::Object(values) => 1 + values.values().map(value_depth).max().unwrap_or_default(),
        _ => 0,
    }
}
