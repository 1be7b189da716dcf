//! `records!`: from schema files to types.

use std::path::Path;

use gretchen_codegen::Namespaces;
use gretchen_schema::{Schemas, Source};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
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
    let Arguments { literals, namespaces } = syn::parse2(input)?;
    if literals.is_empty() {
        let message = "name the schema files: gretchen::records!(\"schemas/order.avsc\")";
        return Err(syn::Error::new(Span::call_site(), message));
    }
    let files = read_files(literals)?;
    let sources = files.iter().map(|file| Source { name: &file.name, text: &file.text }).collect::<Vec<_>>();
    let generated = Schemas::parse(&sources).and_then(|schemas| match schemas.ignored() {
        // Read from elsewhere they would be the types underneath, but here somebody means them.
        [mistake, ..] => Err(mistake.clone()),
        [] => gretchen_codegen::generate(&schemas, namespaces),
    });
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

/// `"a.avsc", "b.avsc", namespaces = flat`
struct Arguments {
    literals: Vec<LitStr>,
    namespaces: Namespaces,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self { literals: Vec::new(), namespaces: Namespaces::default() };
        while !input.is_empty() {
            if input.peek(LitStr) {
                arguments.literals.push(input.parse()?);
            } else {
                arguments.namespaces = parse_namespaces(input)?;
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

fn parse_namespaces(input: ParseStream<'_>) -> syn::Result<Namespaces> {
    let expected = "a schema file in quotes, or namespaces = flat";
    let key: Ident = input.parse().map_err(|error| syn::Error::new(error.span(), format!("expected {expected}")))?;
    if key != "namespaces" {
        return Err(syn::Error::new(key.span(), format!("`{key}` is no argument of records!; write {expected}")));
    }
    input.parse::<Token![=]>()?;
    let value: Ident = input.parse()?;
    match value.to_string().as_str() {
        "flat" => Ok(Namespaces::Flat),
        "nested" => Ok(Namespaces::Nested),
        _ => Err(syn::Error::new(value.span(), "namespaces are nested (a module for each part, the default) or flat")),
    }
}

fn read_files(literals: Vec<LitStr>) -> syn::Result<Vec<File>> {
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
