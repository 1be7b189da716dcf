//! `schema check`: are the files right, also together, and what is in them?

use gretchen_codegen::Namespaces;
use gretchen_schema::{Definition, SchemaError, Schemas, Source, Type};
use serde_json::Value;

use super::problem::{Weight, tell};
use super::text::{Text, broken};
use crate::cli::context::Context;
use crate::cli::failure::Done;
use crate::cli::output::{Column, counted};

pub(super) fn run(context: &mut Context, files: &[String]) -> Done {
    let texts = Text::read_all(files)?;
    let schemas = match parse_all(&texts) {
        Ok(schemas) => schemas,
        Err(errors) => return Err(broken(context, &texts, &errors)?),
    };
    let generated = gretchen_codegen::generate(&schemas, Namespaces::Nested);
    let refused = match schemas.ignored() {
        [] => generated.as_ref().err().map(std::slice::from_ref).unwrap_or_default(),
        mistakes => mistakes,
    };
    for error in refused.iter().filter(|_| !context.out.json) {
        let message = format!("this is Avro, but records! makes no Rust of it: {}", error.message);
        tell(&texts, &SchemaError { message, ..error.clone() }, Weight::Warning)?;
    }
    let columns = ["name", "kind", "size", "fingerprint", "file"].map(Column::text);
    let rows = rows(&schemas, &texts);
    Ok(context.out.list(&columns, &rows, "there is nothing in it")?)
}

/// All files together; on a mistake what is wrong in each, as far as a file can be judged without the broken ones.
pub(super) fn parse_all(texts: &[Text]) -> Result<Schemas, Vec<SchemaError>> {
    let mut left: Vec<(usize, Source<'_>)> = texts.iter().map(Text::source).enumerate().collect();
    let mut errors: Vec<SchemaError> = Vec::new();
    loop {
        let sources: Vec<Source<'_>> = left.iter().map(|(_, source)| *source).collect();
        let mut error = match Schemas::parse(&sources) {
            Ok(schemas) if errors.is_empty() => return Ok(schemas),
            Ok(_) => break,
            Err(error) => error,
        };
        let (index, _) = left.remove(error.place.source);
        error.place.source = index;
        let unknown = unknown_type(&error.message);
        let elsewhere = |other: &SchemaError| {
            let text = &texts[other.place.source].text;
            unknown.is_some_and(|name| ['"', '.'].iter().any(|before| text.contains(&format!("{before}{name}\""))))
        };
        if !errors.iter().any(elsewhere) {
            errors.push(error);
        }
    }
    errors.sort_by_key(|error| error.place.source);
    Err(errors)
}

/// The simple name of a type that is unknown: it may be defined in a file that was left out.
fn unknown_type(message: &str) -> Option<&str> {
    let name = message.strip_prefix("unknown type \"")?.split('"').next()?;
    Some(name.rsplit('.').next().unwrap_or(name))
}

/// Of longer ones only the number of types is shown; they have rows of their own.
const MAX_UNION_NAME: usize = 60;

fn rows(schemas: &Schemas, texts: &[Text]) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let mut row = |name: String, kind: &str, size: String, ty: &Type| {
            let fingerprint = format!("{:016x}", schemas.fingerprint(ty));
            rows.push(vec![name.into(), kind.into(), size.into(), fingerprint.into(), text.name.as_str().into()]);
        };
        match &schemas.roots()[index] {
            // Named types have rows of their own.
            Type::Named(_) => {}
            other => {
                let name = match (schemas.type_name(other), other) {
                    (long, Type::Union(branches)) if long.len() > MAX_UNION_NAME => format!("{} types", branches.len()),
                    (name, _) => name,
                };
                row(name, other.primitive_name(), "-".to_owned(), other);
            }
        }
        for (id, named) in schemas.named().filter(|(_, named)| named.place.source == index) {
            let (kind, size) = match &named.definition {
                Definition::Record(fields) => ("record", counted(fields.len() as u64, "field")),
                Definition::Enum { symbols, .. } => ("enum", counted(symbols.len() as u64, "symbol")),
                Definition::Fixed { size, .. } => ("fixed", counted(*size as u64, "byte")),
            };
            row(named.name.clone(), kind, size, &Type::Named(id));
        }
    }
    rows
}
