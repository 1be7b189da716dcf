//! From Avro schemas to Rust: what `records!` expands to, and what the command line shows of it.

mod generate;
mod names;
mod types;

use gretchen_schema::{SchemaError, Schemas};
use proc_macro2::TokenStream;

pub use generate::generate;

/// The generated Rust as rustfmt would write it, for people.
pub fn generate_text(schemas: &Schemas) -> Result<String, SchemaError> {
    Ok(format(generate(schemas)?))
}

fn format(tokens: TokenStream) -> String {
    let fallback = tokens.to_string();
    syn::parse2(tokens).map_or(fallback, |file| prettyplease::unparse(&file))
}
