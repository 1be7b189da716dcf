//! Texts as schemas: refused with a place that exists, or read, and then everything that is made of it is well.

use gretchen::record::{DynamicSchema, Translation, incompatibilities};
use gretchen_codegen::{Namespaces, generate};
use gretchen_schema::{Schemas, Source};

use crate::memory::within;

/// Where one file ends and the next begins.
const NEXT_FILE: char = '\u{1}';

/// The bytes are the text of one file or of several.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let files = text.split(NEXT_FILE).collect::<Vec<_>>();
    let sources = files.iter().map(|text| Source { name: "fuzz.avsc", text }).collect::<Vec<_>>();
    match within((4 << 20) + 2_048 * text.len(), || Schemas::parse(&sources)) {
        // Most of the time goes into Rust, so it is made in one of the two ways.
        Ok(schemas) if text.len().is_multiple_of(2) => rust(&schemas, Namespaces::Nested),
        Ok(schemas) => rust(&schemas, Namespaces::Flat),
        Err(error) => {
            // The caret of an error stands in the text, or right behind it.
            let file = files[error.place.source];
            let line = file.split('\n').nth(error.place.line - 1).unwrap_or_else(|| panic!("{error}"));
            assert!((1..=line.chars().count() + 1).contains(&error.place.column), "{error}");
        }
    }
    if let [one] = files[..]
        && let Ok(schema) = within((4 << 20) + 2_048 * text.len(), || DynamicSchema::parse(one))
    {
        same(&schema);
    }
}

/// The Rust of it is Rust, or there is a reason.
fn rust(schemas: &Schemas, namespaces: Namespaces) {
    match generate(schemas, namespaces) {
        Ok(tokens) => drop(syn::parse2::<syn::File>(tokens).expect("Rust")),
        Err(error) => assert!(error.place.line > 0, "{error}"),
    }
}

/// Its full form and its canonical form are the same schema, and what it writes it reads.
fn same(schema: &DynamicSchema) {
    let full = DynamicSchema::parse(&schema.json()).expect("its own JSON");
    assert_eq!((full.json(), full.fingerprint()), (schema.json(), schema.fingerprint()));
    let canonical = schema.canonical();
    if !mixes_namespaces(&canonical) {
        let again = DynamicSchema::parse(&canonical).unwrap_or_else(|error| panic!("{error}: {canonical}"));
        assert_eq!((again.canonical(), again.fingerprint()), (canonical, schema.fingerprint()));
    }
    assert_eq!(incompatibilities(schema, schema).len(), 0);
    Translation::compile(schema, schema).expect("a schema can be read as itself");
}

/// Whether some types are in a namespace and others in none. The canonical form leaves out which is which: inside of a type
/// with a namespace a plain name is read as one of that namespace.
fn mixes_namespaces(canonical: &str) -> bool {
    // One that is nested too deeply for this parser is taken for a plain one.
    let Ok(schema) = serde_json::from_str(canonical) else { return false };
    let mut names = Vec::new();
    collect_names(&schema, &mut names);
    names.iter().any(|name| name.contains('.')) && names.iter().any(|name| !name.contains('.'))
}

fn collect_names<'a>(schema: &'a serde_json::Value, names: &mut Vec<&'a str>) {
    match schema {
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| collect_names(part, names)),
        serde_json::Value::Object(parts) => {
            let is_named =
                matches!(parts.get("type").and_then(|kind| kind.as_str()), Some("record" | "enum" | "fixed"));
            names.extend(parts.get("name").and_then(|name| name.as_str()).filter(|_| is_named));
            parts.values().for_each(|part| collect_names(part, names));
        }
        _ => {}
    }
}
