//! `schema register`, `list`, `get` and `compatibility`: what a schema registry has.

use serde_json::{Value, json};

use super::text::{self, Asked, Text};
use crate::backend::registry::{Reference, Registered, Registry, SchemaText};
use crate::cli::args::{Level, ReferenceArg, RegisterArgs};
use crate::cli::context::Context;
use crate::cli::failure::{Done, Failure};
use crate::cli::output::{Column, safe, safe_json};
use crate::error::ErrorKind;
use crate::record::DynamicSchema;

/// The registry, which these commands are nothing without.
fn needed(context: &Context) -> Done<Registry> {
    context.registry()?.ok_or_else(|| {
        Failure::usage("no schema registry is named").help(
            "say --registry http://host:8081, GRETCHEN_REGISTRY or registry in gretchen.toml; the schemas that a topic \
             keeps are shown by the other commands with topic:NAME",
        )
    })
}

/// All versions of a subject, oldest first; `asked` is what it was named by.
pub(super) fn versions(context: &Context, asked: &str, subject: &str) -> Done<Vec<Asked>> {
    let registry = needed(context)?;
    let read = |version| {
        let name = format!("{asked} version {version}");
        let schema = registry.whole(&name, &registry.version(subject, Some(version))?.text)?;
        Ok(Asked { name, schema })
    };
    registry.versions(subject)?.into_iter().map(read).collect()
}

pub(super) async fn register(context: &mut Context, args: &RegisterArgs) -> Done {
    let registry = needed(context)?;
    let (schema, text) = match args.reference.as_slice() {
        [] => {
            // What the others define stands within the first, as it does where records! has them.
            let mut all = text::together(context, &args.files).await?;
            let first = all.swap_remove(0).schema;
            let text = SchemaText::new(&*first.json(), Vec::new());
            (first, text)
        }
        references => refer(&registry, &args.files, references)?,
    };
    let subject = match (&args.subject, &args.topic) {
        (Some(subject), _) => subject.clone(),
        (None, Some(topic)) => registry.options().naming.subject(&context.native_name(topic)?, &schema.name()),
        (None, None) => return Err(Failure::usage("say --subject or --topic")),
    };
    let id = registry.register(&subject, &text, &schema)?;
    // Only the number is answered.
    let version = match registry.find(&subject, &text) {
        Ok(found) => Some(found.version),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if context.out.json {
        let fingerprint = format!("{:016x}", schema.fingerprint());
        let value = json!({"subject": subject, "version": version, "id": id, "fingerprint": fingerprint});
        return Ok(context.out.json_line(&value)?);
    }
    let version = version.map_or_else(String::new, |version| format!("version {version} of "));
    let line = format!("{}: schema {id}, {version}subject {}", safe(&schema.name()), safe(&subject));
    Ok(context.out.line(&line)?)
}

/// A file that names types of other subjects: its text as it stands, and the whole that it makes with those.
fn refer(registry: &Registry, files: &[String], references: &[ReferenceArg]) -> Done<(DynamicSchema, SchemaText)> {
    let [file] = files else {
        return Err(Failure::usage("with --reference there is one file")
            .help("give types of other files as references, too, or all files without --reference"));
    };
    let file = Text::read(file)?;
    let mut found = Vec::new();
    for ReferenceArg { name, subject, version } in references {
        let version = match version {
            Some(version) => *version,
            None => registry.version(subject, None)?.version,
        };
        found.push(Reference { name: name.clone(), subject: subject.clone(), version });
    }
    let text = SchemaText::new(file.text, found);
    Ok((registry.whole(&file.name, &text)?, text))
}

pub(super) fn list(context: &mut Context, subject: Option<&str>) -> Done {
    let registry = needed(context)?;
    let versions: Vec<Registered> = match subject {
        Some(subject) => {
            let versions = registry.versions(subject)?.into_iter();
            versions.map(|version| registry.version(subject, Some(version))).collect::<Result<_, _>>()?
        }
        None => {
            let mut subjects = registry.subjects()?;
            subjects.sort();
            subjects.iter().map(|subject| registry.version(subject, None)).collect::<Result<_, _>>()?
        }
    };
    let columns = [
        Column::text("subject"),
        Column::number("version"),
        Column::number("id"),
        Column::text("schema"),
        Column::text("fingerprint"),
    ];
    let mut rows = Vec::new();
    for found in versions {
        // What is no Avro, or none that can be read, is there all the same.
        let (name, fingerprint) = match registry.whole(&found.subject, &found.text) {
            Ok(whole) => (whole.name().into(), format!("{:016x}", whole.fingerprint()).into()),
            Err(error) if error.kind() == ErrorKind::Schema => (Value::Null, Value::Null),
            Err(error) => return Err(error.into()),
        };
        rows.push(vec![found.subject.into(), found.version.into(), found.id.into(), name, fingerprint]);
    }
    Ok(context.out.list(&columns, &rows, "the registry has no subjects yet")?)
}

pub(super) fn get(context: &mut Context, what: &str, version: Option<u32>) -> Done {
    let registry = needed(context)?;
    let (place, text) = match (what.parse::<u32>(), version) {
        (Ok(id), None) => (json!({"id": id}), registry.schema(id)?),
        (Ok(_), Some(_)) => {
            return Err(Failure::usage(format!("{what} is the number of a schema, which has no versions"))
                .help("name a subject with --version"));
        }
        (Err(_), version) => {
            let Registered { subject, version, id, text } = registry.version(what, version)?;
            (json!({"subject": subject, "version": version, "id": id}), text)
        }
    };
    if context.out.json {
        let mut value = place;
        value["schema"] = text.schema.into();
        value["references"] = json!(text.references);
        return Ok(context.out.json_pretty(&value)?);
    }
    Ok(context.out.line(&safe_json(&text.schema))?)
}

pub(super) fn compatibility(context: &mut Context, subject: Option<&str>, set: Option<Level>) -> Done {
    let registry = needed(context)?;
    if let Some(level) = set {
        registry.set_compatibility(subject, level.name())?;
    }
    let level = registry.compatibility(subject)?;
    match context.out.json {
        true => Ok(context.out.json_line(&json!({"subject": subject, "compatibility": level}))?),
        false => Ok(context.out.line(&safe(&level))?),
    }
}
