//! Where a schema's text comes from: a file, the standard input, or a topic or a registry that keeps it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use gretchen_schema::{SchemaError, Schemas, Source};

use super::problem::show;
use super::registry;
use crate::cli::context::Context;
use crate::cli::failure::{Done, Failure};
use crate::record::DynamicSchema;

/// The longest schema that is read.
const MAX_BYTES: u64 = 16 << 20;

/// What a topic's schemas are named with.
const TOPIC: &str = "topic:";

/// What the versions of a subject of the registry are named with.
const REGISTRY: &str = "registry:";

/// A schema's text and the name under which it is spoken of.
pub(super) struct Text {
    pub(super) name: String,
    pub(super) text: String,
}

impl Text {
    pub(super) fn source(&self) -> Source<'_> {
        Source { name: &self.name, text: &self.text }
    }

    /// Reads a file; `-` is the standard input.
    pub(super) fn read(path: &str) -> Done<Self> {
        let (name, reader): (_, Box<dyn Read>) = match path {
            "-" => ("<stdin>", Box::new(std::io::stdin().lock())),
            _ => match File::open(path) {
                Ok(file) => (path, Box::new(file)),
                Err(error) => return Err(unreadable(path, &error)),
            },
        };
        let mut bytes = Vec::new();
        reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Failure::new(format!("{name} has more than {} MiB; is it a schema?", MAX_BYTES >> 20)));
        }
        if bytes.starts_with(b"Obj\x01") {
            return Err(Failure::new(format!("{name} is an Avro container file, not a schema"))
                .help("`send TOPIC --file` sends its records; the schema of a container stands in its header"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::new(format!("{name} is not UTF-8 at byte {at}")).help("a schema is JSON text; save it as UTF-8")
        })?;
        Ok(Self { name: name.to_owned(), text: text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text) })
    }

    /// Reads files, or those of folders, that may name each other's types.
    pub(super) fn read_all(paths: &[String]) -> Done<Vec<Self>> {
        let paths = &unfold(paths)?;
        for (index, path) in paths.iter().enumerate() {
            if paths[..index].contains(path) {
                return Err(Failure::usage(format!("{path} is named twice")).help("name every file once"));
            }
        }
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Its schema alone; what is wrong with it is shown with its place.
    pub(super) fn parse(&self, context: &mut Context) -> Done<DynamicSchema> {
        match Schemas::parse(&[self.source()]) {
            Ok(_) => Ok(DynamicSchema::parse_named(&self.name, &self.text)?),
            Err(error) => Err(broken(context, std::slice::from_ref(self), &[error])?),
        }
    }
}

/// Levels of folders in a folder that are looked into.
const MAX_FOLDERS: usize = 16;

/// In the place of each folder the `.avsc` files in it and in the folders in it, by their names.
pub(super) fn unfold(paths: &[String]) -> Done<Vec<String>> {
    fn collect(folder: &Path, levels: usize, found: &mut Vec<String>) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            // A link to a folder may lead back here.
            if entry.file_type()?.is_dir() {
                if levels > 0 {
                    collect(&path, levels - 1, found)?;
                }
            } else if path.extension().is_some_and(|extension| extension == "avsc") {
                found.push(path.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    for path in paths {
        let before = found.len();
        match Path::new(path).is_dir() {
            true => collect(Path::new(path), MAX_FOLDERS, &mut found).map_err(|error| unreadable(path, &error))?,
            false => found.push(path.clone()),
        }
        if found.len() == before {
            return Err(Failure::new(format!("no file in the folder {path} ends in .avsc")));
        }
    }
    Ok(found)
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {name}: {error}"))
}

/// Shows what is wrong and ends the command.
pub(super) fn broken(context: &mut Context, texts: &[Text], errors: &[SchemaError]) -> Done<Failure> {
    show(context, texts, errors)?;
    Ok(Failure::said())
}

/// A schema under the name that it was asked for by.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) schema: DynamicSchema,
}

/// The schema of a file, or the newest of `topic:NAME` or `registry:SUBJECT`.
pub(super) async fn one(context: &mut Context, asked: &str) -> Done<Asked> {
    match is_kept(asked) {
        // They come oldest first, and never none.
        true => {
            let newest = kept(context, asked).await?.pop();
            let newest = newest.ok_or_else(|| Failure::new(format!("{asked} has no schema")))?;
            Ok(Asked { name: asked.to_owned(), ..newest })
        }
        false => {
            let text = Text::read(asked)?;
            Ok(Asked { schema: text.parse(context)?, name: text.name })
        }
    }
}

/// Whether what is asked for is in no file: `topic:NAME` or `registry:SUBJECT`.
pub(super) fn is_kept(asked: &str) -> bool {
    asked.starts_with(TOPIC) || asked.starts_with(REGISTRY)
}

/// All schemas that a topic keeps, or all versions of a subject, oldest first.
pub(super) async fn kept(context: &mut Context, asked: &str) -> Done<Vec<Asked>> {
    match asked.strip_prefix(REGISTRY) {
        Some(subject) => registry::versions(context, asked, subject),
        None => of_topic(context, asked.strip_prefix(TOPIC).unwrap_or(asked)).await,
    }
}

/// The schemas of files, which may name types of each other, and all of topics and subjects.
pub(super) async fn together(context: &mut Context, asked: &[String]) -> Done<Vec<Asked>> {
    let asked = &unfold(asked)?;
    let files: Vec<String> = asked.iter().filter(|name| !is_kept(name)).cloned().collect();
    let texts = Text::read_all(&files)?;
    let sources: Vec<Source<'_>> = texts.iter().map(Text::source).collect();
    // Two versions of a schema, which name the same types, are none of each other's business.
    let all = Schemas::parse(&sources).ok();
    let mut found = Vec::new();
    let mut index = 0;
    for name in asked {
        if is_kept(name) {
            found.extend(kept(context, name).await?);
            continue;
        }
        let text = &texts[index];
        let schema = match (&all, Schemas::parse(&[text.source()])) {
            (Some(all), Err(_)) => DynamicSchema::parse_named(&text.name, &all.root_json(index))?,
            _ => text.parse(context)?,
        };
        found.push(Asked { name: text.name.clone(), schema });
        index += 1;
    }
    Ok(found)
}

/// All schemas that a topic keeps, oldest first.
async fn of_topic(context: &mut Context, name: &str) -> Done<Vec<Asked>> {
    let topic = context.open_existing()?.topic(name).await?;
    if topic.schemas.is_empty() {
        return Err(Failure::new(format!("topic {name} keeps no schema: it holds plain values")));
    }
    let several = topic.schemas.len() > 1;
    topic
        .schemas
        .iter()
        .map(|schema| {
            let name = match several {
                true => format!("{TOPIC}{name} {:016x}", schema.fingerprint),
                false => format!("{TOPIC}{name}"),
            };
            Ok(Asked { schema: DynamicSchema::parse_named(&name, &schema.json)?, name })
        })
        .collect()
}
