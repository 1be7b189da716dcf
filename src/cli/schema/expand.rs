//! `schema expand`: the Rust that `records!` makes.

use gretchen_codegen::Namespaces;
use gretchen_schema::Schemas;

use super::text::{Text, broken};
use crate::cli::context::Context;
use crate::cli::failure::Done;
use crate::cli::output::safe_lines;

pub(super) fn run(context: &mut Context, files: &[String], flat: bool) -> Done {
    let namespaces = if flat { Namespaces::Flat } else { Namespaces::Nested };
    let texts = Text::read_all(files)?;
    let sources: Vec<_> = texts.iter().map(Text::source).collect();
    let rust = Schemas::parse(&sources).and_then(|schemas| match schemas.ignored() {
        // As `records!` has it.
        [mistake, ..] => Err(mistake.clone()),
        [] => gretchen_codegen::generate_text(&schemas, namespaces),
    });
    match rust {
        Ok(rust) => Ok(context.out.line(safe_lines(rust.trim_end()).as_ref())?),
        Err(error) => Err(broken(context, &texts, &[error])?),
    }
}
