//! Golden expansions: every `tests/expand/<macro>/<case>.rs` beside what it expands to.
//!
//! `UPDATE_EXPANSIONS=1 cargo test` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use quote::ToTokens;

fn cases(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expand").join(folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending) && !path.to_string_lossy().ends_with(".expanded.rs"))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn check(case: &Path, expanded: TokenStream) {
    let tokens = expanded.to_string();
    let file = syn::parse2(expanded).unwrap_or_else(|error| panic!("{}: {error}: {tokens}", case.display()));
    let expanded = prettyplease::unparse(&file);
    let expected = case.with_extension("expanded.rs");
    if std::env::var_os("UPDATE_EXPANSIONS").is_some() {
        fs::write(&expected, &expanded).unwrap();
    }
    let expected = fs::read_to_string(&expected).unwrap_or_default();
    assert!(expanded == expected, "{} expands to:\n{expanded}", case.display());
}

#[test]
fn agents_expand() {
    for case in cases("agent", ".rs") {
        let mut item: syn::ItemFn = syn::parse_str(&fs::read_to_string(&case).unwrap()).unwrap();
        let at = item.attrs.iter().position(|attribute| attribute.path().is_ident("agent")).unwrap();
        let attribute = item.attrs.remove(at);
        let arguments = attribute.meta.require_list().unwrap().tokens.clone();
        check(&case, crate::agent::expand(arguments, item.to_token_stream()));
    }
}

#[test]
fn aggregates_expand() {
    for case in cases("aggregate", ".rs") {
        let tokens = fs::read_to_string(&case).unwrap().parse().unwrap();
        check(&case, crate::aggregate::expand(tokens));
    }
}

#[test]
fn records_expand() {
    for case in cases("records", ".avsc") {
        let text = fs::read_to_string(&case).unwrap();
        let name = case.file_name().unwrap().to_string_lossy();
        let schemas = gretchen_schema::Schemas::parse(&[gretchen_schema::Source { name: &name, text: &text }]).unwrap();
        check(&case, gretchen_codegen::generate(&schemas, gretchen_codegen::Namespaces::Nested).unwrap());
    }
}
