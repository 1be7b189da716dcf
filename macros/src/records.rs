//! `records!`: from schema files to types.

use std::path::Path;

use gretchen_schema::{Schemas, Source};
use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{LitStr, Token};

/// One schema file of the call.
struct File {
    literal: LitStr,
    /// The path as the user wrote it.
    name: String,
    path: String,
    text: String,
}

pub(crate) fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let literals = Punctuated::<LitStr, Token![,]>::parse_terminated.parse2(input)?;
    if literals.is_empty() {
        let message = "name the schema files: gretchen::records!(\"schemas/order.avsc\")";
        return Err(syn::Error::new(Span::call_site(), message));
    }
    let files = read_files(literals)?;
    let sources = files.iter().map(|file| Source { name: &file.name, text: &file.text }).collect::<Vec<_>>();
    let generated = Schemas::parse(&sources).and_then(|schemas| gretchen_codegen::generate(&schemas));
    // Naming the files is what makes the compiler look at them again.
    let paths = files.iter().map(|file| &file.path);
    let tracked = quote!(#(const _: &[u8] = ::core::include_bytes!(#paths);)*);
    match generated {
        Ok(types) => Ok(quote!(#tracked #types)),
        Err(error) => {
            let literal = &files[error.place.source].literal;
            let error = syn::Error::new(literal.span(), error.to_string()).to_compile_error();
            Ok(quote!(#tracked #error))
        }
    }
}

fn read_files(literals: Punctuated<LitStr, Token![,]>) -> syn::Result<Vec<File>> {
    let root = std::env::var("CARGO_MANIFEST_DIR")
        .map_err(|_| syn::Error::new(Span::call_site(), "CARGO_MANIFEST_DIR is not set; build with cargo"))?;
    let mut files: Vec<File> = Vec::new();
    let mut errors: Option<syn::Error> = None;
    for literal in literals {
        let name = literal.value();
        let path = Path::new(&root).join(&name);
        let problem = match std::fs::read_to_string(&path) {
            Ok(_) if files.iter().any(|file| file.name == name) => format!("{name} is named twice; remove one"),
            Ok(text) => {
                files.push(File { literal, name, path: path.display().to_string(), text });
                continue;
            }
            Err(error) => {
                format!("cannot read {name}: {error}; the path is relative to the crate's Cargo.toml")
            }
        };
        let error = syn::Error::new(literal.span(), problem);
        match &mut errors {
            Some(errors) => errors.combine(error),
            None => errors = Some(error),
        }
    }
    errors.map_or(Ok(files), Err)
}
