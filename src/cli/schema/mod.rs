//! `schema`: checks, compares and shows Avro schemas, in files, as topics keep them or as a registry has them.

mod check;
mod compat;
mod diff;
mod expand;
mod fingerprint;
mod problem;
mod registry;
mod text;
mod version;

use super::args::SchemaCommand;
use super::context::Context;
use super::failure::Done;

pub(super) async fn run(context: &mut Context, command: SchemaCommand) -> Done {
    match command {
        SchemaCommand::Check { files } => check::run(context, &files),
        SchemaCommand::Diff { schemas, to } => diff::run(context, &schemas, &to).await,
        SchemaCommand::Compat { mode, schemas, to } => compat::run(context, mode, &schemas, &to).await,
        SchemaCommand::Fingerprint { algorithm, schemas } => fingerprint::run(context, algorithm, &schemas).await,
        SchemaCommand::Canonical { schemas } => fingerprint::canonical(context, &schemas).await,
        SchemaCommand::Expand { flat, files } => expand::run(context, &files, flat),
        SchemaCommand::Register(args) => registry::register(context, &args).await,
        SchemaCommand::List { subject } => registry::list(context, subject.as_deref()),
        SchemaCommand::Get { what, version } => registry::get(context, &what, version),
        SchemaCommand::Compatibility { subject, set } => registry::compatibility(context, subject.as_deref(), set),
    }
}
