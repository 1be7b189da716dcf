//! From Avro schemas to Rust: what `records!` expands to, and what the command line shows of it.

mod generate;
mod modules;
mod names;
mod types;
mod unions;

use gretchen_schema::{SchemaError, Schemas};
use proc_macro2::TokenStream;

pub use generate::generate;

/// Where the types of a namespace stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// In a module for each part: `com.acme.Order` is `com::acme::Order`.
    #[default]
    Nested,
    /// All beside each other: `com.acme.Order` is `Order`.
    Flat,
}

/// The generated Rust as rustfmt would write it, for people.
pub fn generate_text(schemas: &Schemas, namespaces: Namespaces) -> Result<String, SchemaError> {
    Ok(format(generate(schemas, namespaces)?))
}

fn format(tokens: TokenStream) -> String {
    let fallback = tokens.to_string();
    syn::parse2(tokens).map_or(fallback, |file| prettyplease::unparse(&file))
}
