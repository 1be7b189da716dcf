//! From Avro schemas to Rust: what `records!` expands to, and what the command line shows of it.

mod docs;
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
    let Ok(file) = syn::parse2(tokens) else { return fallback };
    let mut text = String::new();
    for line in prettyplease::unparse(&file).lines() {
        // Documentation from the schema begins without the space that people write. No text in quotes has lines.
        let code = line.trim_start();
        match code.strip_prefix("///") {
            Some(doc) if !doc.starts_with(' ') => {
                let indent = &line[..line.len() - code.len()];
                text.push_str(format!("{indent}/// {doc}").trim_end());
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use gretchen_schema::{Schemas, Source};

    use super::*;

    fn text(schema: &str) -> String {
        let schemas = Schemas::parse(&[Source { name: "a.avsc", text: schema }]).expect("a schema");
        generate_text(&schemas, Namespaces::Nested).expect("what is generated")
    }

    #[test]
    fn the_text_reads_as_people_write() {
        let schema = r#"{"type": "record", "name": "a.b.R", "doc": "A record.\n\nWith more.", "fields": [
            {"name": "u", "type": ["int", "string", "null"], "default": "x"}]}"#;
        let text = text(schema);
        for expected in
            ["/// Namespace `a.b`.", "    pub mod b {", "pub enum RU {", "pub u: RU,", "Int(i32)", "A record."]
        {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(syn::parse_file(&text).is_ok());
    }

    /// Each with both places, not left to the compiler.
    #[test]
    fn names_that_become_one_are_refused() {
        for (fields, clash) in [
            (["self", "self_"], "field `self_`"),
            (["orderId", "order_id"], "field `order_id`"),
            (["gen", "Gen"], "field `gen`"),
        ] {
            let [a, b] = fields;
            let schema = format!(
                "{{\"type\": \"record\", \"name\": \"R\", \"fields\": [\n{{\"name\": \"{a}\", \"type\": \"int\"}},\n\
                 {{\"name\": \"{b}\", \"type\": \"int\"}}]}}"
            );
            let schemas = Schemas::parse(&[Source { name: "a.avsc", text: &schema }]).expect("a schema");
            let error = generate_text(&schemas, Namespaces::Nested).expect_err("a clash").to_string();
            assert!(error.contains(clash) && error.contains("a.avsc:2:") && error.contains("a.avsc:3:"), "{error}");
        }
    }

    /// What has no name of its own has nothing to generate but the named types inside.
    #[test]
    fn a_root_may_be_anything() {
        for (schema, expected) in [
            (r#""string""#, ""),
            (r#"{"type": "map", "values": {"type": "array", "items": "int"}}"#, ""),
            (r#"{"type": "array", "items": {"type": "enum", "name": "E", "symbols": ["A"]}}"#, "pub enum E {"),
            (r#"["null", {"type": "fixed", "name": "F", "size": 3}]"#, "pub struct F("),
            (r#"{"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}"#, ""),
        ] {
            let text = text(schema);
            assert!(if expected.is_empty() { text.is_empty() } else { text.contains(expected) }, "{schema}\n{text}");
        }
    }

    #[test]
    fn what_is_large_is_generated_in_its_own_time() {
        let symbols = (0..5_000).map(|n| format!("\"S{n}\"")).collect::<Vec<_>>().join(",");
        let branches =
            (0..2_000).map(|n| format!(r#"{{"type": "fixed", "name": "F{n}", "size": 1}}"#)).collect::<Vec<_>>();
        let schema = format!(
            r#"{{"type": "record", "name": "R", "fields": [{{"name": "u", "type": [{}]}},
                {{"name": "e", "type": {{"type": "enum", "name": "E", "symbols": [{symbols}]}}}}]}}"#,
            branches.join(",")
        );
        let text = text(&schema);
        assert!(text.contains("F1999(F1999)") && text.contains("S4999"));
    }
}
