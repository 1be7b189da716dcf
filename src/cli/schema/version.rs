//! A version of what is compared: a schema, or the types of several files that name each other.

use gretchen_schema::{Schemas, Type};

use super::check::parse_all;
use super::problem::show;
use super::text::{self, Asked, Text, is_kept, unfold};
use crate::cli::context::Context;
use crate::cli::failure::{Done, Failure};
use crate::record::DynamicSchema;

/// Files that are named whole; of more only the number is.
const SHOWN_FILES: usize = 3;

/// One side of a comparison.
pub(super) struct Version {
    pub(super) name: String,
    /// The schema of each file.
    types: Vec<Asked>,
    /// All files together, where there are several.
    schemas: Option<Schemas>,
}

/// Two versions, type by type.
pub(super) struct Beside {
    /// What is in both, as the older and as the newer one has it.
    pub(super) pairs: Vec<(Asked, Asked)>,
    /// Names of types that only the older one has.
    pub(super) removed: Vec<String>,
    /// Names of types that only the newer one has.
    pub(super) added: Vec<String>,
}

impl Version {
    fn of(one: Asked) -> Self {
        Self { name: one.name.clone(), types: vec![one], schemas: None }
    }

    /// A file, the newest schema of `topic:NAME` or `registry:SUBJECT`, or all files of a folder.
    pub(super) async fn newest(context: &mut Context, asked: &str) -> Done<Self> {
        Self::of_all(context, std::slice::from_ref(&asked.to_owned())).await
    }

    /// All that is named together; a topic or a subject can only be named alone.
    pub(super) async fn of_all(context: &mut Context, asked: &[String]) -> Done<Self> {
        match asked {
            [one] if is_kept(one) => Ok(Self::of(text::one(context, one).await?)),
            files => match files.iter().find(|name| is_kept(name)) {
                None => Self::of_files(context, files),
                Some(kept) => Err(Failure::usage(format!("the schema of {kept} is whole without other files"))
                    .help("compare it alone, or the files without it")),
            },
        }
    }

    /// The versions that are compared, the latest last. Without `to` each name is one, and a topic or a subject as many as it keeps
    /// schemas; with it all files are of one, and `to` is the latest.
    pub(super) async fn several(context: &mut Context, asked: &[String], to: &[String]) -> Done<Vec<Self>> {
        let (mut versions, mut files) = (Vec::new(), Vec::new());
        for name in asked {
            match is_kept(name) {
                true => versions.extend(text::kept(context, name).await?.into_iter().map(Self::of)),
                false if to.is_empty() => versions.push(Self::newest(context, name).await?),
                false => files.push(name.clone()),
            }
        }
        if !files.is_empty() {
            versions.push(Self::of_files(context, &files)?);
        }
        if !to.is_empty() {
            versions.push(Self::of_all(context, to).await?);
        }
        Ok(versions)
    }

    fn of_files(context: &mut Context, asked: &[String]) -> Done<Self> {
        let files = unfold(asked)?;
        let texts = Text::read_all(&files)?;
        let name = match asked {
            names if names.len() > SHOWN_FILES => format!("{} and {} more", names[0], names.len() - 1),
            names => names.join(" + "),
        };
        let schemas = match parse_all(&texts) {
            Ok(schemas) => schemas,
            Err(errors) => {
                show(context, &texts, &errors)?;
                let lacks = errors.iter().any(|error| error.message.starts_with("unknown type"));
                return Err(match lacks {
                    true => Failure::new(format!("{name} names types of other files"))
                        .help("name all files of both sides, FILE… --to FILE…, or a folder of files for each version"),
                    false => Failure::said(),
                });
            }
        };
        if let [text] = texts.as_slice() {
            return Ok(Self::of(Asked { name, schema: DynamicSchema::parse_named(&text.name, &text.text)? }));
        }
        let mut types = Vec::new();
        for (index, root) in schemas.roots().iter().enumerate() {
            match root {
                // A list of definitions.
                Type::Union(branches) => {
                    for branch in branches.iter().filter(|branch| matches!(branch, Type::Named(_))) {
                        types.push(one_of(&name, schemas.type_name(branch), &schemas.full_json(branch))?);
                    }
                }
                other => types.push(one_of(&name, schemas.type_name(other), &schemas.root_json(index))?),
            }
        }
        Ok(Self { name, types, schemas: Some(schemas) })
    }

    fn schemas(&self) -> Option<&Schemas> {
        self.schemas.as_ref().or_else(|| self.types.first().map(|one| one.schema.schemas()))
    }

    /// The type here that takes the place of another: of its name, or else with its name among its aliases.
    fn in_place_of(&self, other: &Asked) -> Done<Option<Asked>> {
        let wanted = other.schema.name();
        if let Some(found) = self.types.iter().find(|one| one.schema.name() == wanted) {
            return Ok(Some(found.clone()));
        }
        let Some(schemas) = self.schemas() else { return Ok(None) };
        let named = |by_alias: bool| {
            schemas.named().find(|(_, named)| match by_alias {
                true => named.aliases.contains(&wanted),
                false => named.name == wanted,
            })
        };
        let found = named(false).or_else(|| named(true));
        let schema = |id| one_of(&self.name, schemas.get(id).name.clone(), &schemas.full_json(&Type::Named(id)));
        found.map(|(id, _)| schema(id)).transpose()
    }

    /// This version beside a newer one.
    pub(super) fn beside(&self, newer: &Self) -> Done<Beside> {
        let mut beside = Beside { pairs: Vec::new(), removed: Vec::new(), added: Vec::new() };
        // Of two alone the one takes the place of the other, whatever they are called.
        if let ([old], [new]) = (self.types.as_slice(), newer.types.as_slice()) {
            beside.pairs.push((old.clone(), new.clone()));
            return Ok(beside);
        }
        for old in &self.types {
            match newer.in_place_of(old)? {
                Some(new) => beside.pairs.push((old.clone(), new)),
                None => beside.removed.push(old.schema.name()),
            }
        }
        for new in &newer.types {
            let wanted = new.schema.name();
            if beside.pairs.iter().any(|(_, paired)| paired.schema.name() == wanted) {
                continue;
            }
            match self.in_place_of(new)? {
                Some(old) => beside.pairs.push((old, new.clone())),
                None => beside.added.push(wanted),
            }
        }
        match beside.pairs.is_empty() {
            true => Err(Failure::new(format!("{} and {} have no type in common", self.name, newer.name))
                .help("a type is found by its full name, or by a name among its aliases")),
            false => Ok(beside),
        }
    }
}

fn one_of(version: &str, type_name: String, json: &str) -> Done<Asked> {
    let name = format!("{type_name} of {version}");
    Ok(Asked { schema: DynamicSchema::parse_named(&name, json)?, name })
}
