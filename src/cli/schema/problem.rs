//! What is wrong with a schema, shown as a compiler shows it: place, line and caret.

use std::io::{self, Write};

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use gretchen_schema::{Place, SchemaError};
use serde_json::{Value, json};

use super::text::Text;
use crate::cli::context::Context;
use crate::cli::failure::Done;
use crate::cli::output::{colours_stderr, safe};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Error,
    Warning,
}

/// Shows errors on the standard error, or as one JSON array on the standard output.
pub(super) fn show(context: &mut Context, texts: &[Text], errors: &[SchemaError]) -> Done {
    if context.out.json {
        let all: Vec<Value> = errors.iter().map(as_json).collect();
        return Ok(context.out.json_pretty(&json!({"errors": all}))?);
    }
    for error in errors {
        tell(texts, error, Weight::Error)?;
    }
    Ok(())
}

pub(super) fn as_json(error: &SchemaError) -> Value {
    json!({
        "file": error.place.file, "line": error.place.line, "column": error.place.column, "message": error.message,
    })
}

/// Shows one of them on the standard error.
pub(super) fn tell(texts: &[Text], error: &SchemaError, weight: Weight) -> Done {
    let text = texts.get(error.place.source).map_or("", |text| text.text.as_str());
    let renderer = if colours_stderr() { Renderer::styled() } else { Renderer::plain() };
    let mut stderr = io::stderr().lock();
    Ok(writeln!(stderr, "{}\n", render(&renderer, text, error, weight))?)
}

fn render(renderer: &Renderer, text: &str, error: &SchemaError, weight: Weight) -> String {
    let level = match weight {
        Weight::Error => Level::ERROR,
        Weight::Warning => Level::WARNING,
    };
    let (message, path) = (safe(&error.message), safe(&error.place.file));
    let line = Line::around(text, &error.place);
    let annotation = AnnotationKind::Primary.span(line.from..line.to);
    let snippet = Snippet::source(line.text).line_start(error.place.line).path(path).annotation(annotation);
    renderer.render(&[level.primary_title(message).element(snippet)])
}

/// A line with the bytes that an error is about.
#[derive(Debug)]
struct Line {
    text: String,
    from: usize,
    to: usize,
}

impl Line {
    fn around(text: &str, place: &Place) -> Self {
        let line = text.split('\n').nth(place.line - 1).unwrap_or("").trim_end_matches('\r');
        let chars: Vec<char> = line.chars().map(shown).collect();
        let at = (place.column - 1).min(chars.len());
        let bytes = |range: &[char]| range.iter().map(|c| c.len_utf8()).sum::<usize>();
        let from = bytes(&chars[..at]);
        let to = from + bytes(&chars[at..at + token(&chars[at..])]);
        Self { text: chars.into_iter().collect(), from, to }
    }
}

/// How many characters the token at the beginning has: a text with its quotes, a word or number, or one character.
fn token(chars: &[char]) -> usize {
    let word = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.');
    match chars.first() {
        None => 0,
        Some('"') => {
            let mut escaped = false;
            let closing = chars.iter().skip(1).position(|c| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            closing.map_or(1, |closing| closing + 2)
        }
        Some(_) => chars.iter().take_while(|c| word(c)).count().max(1),
    }
}

/// A character that takes one place and cannot steer a terminal.
fn shown(c: char) -> char {
    if c == '\t' {
        ' '
    } else if safe(c.encode_utf8(&mut [0; 4])).len() == c.len_utf8() {
        c
    } else {
        '\u{fffd}'
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: usize, column: usize) -> SchemaError {
        SchemaError {
            place: Place { source: 0, file: "a.avsc".into(), line, column },
            message: "unknown type \"strin\"".into(),
        }
    }

    #[test]
    fn the_caret_stands_under_the_token() {
        let shown = render(&Renderer::plain(), "{\n  \"ä\": 1, \"type\": \"strin\"}\r\n", &error(2, 19), Weight::Error);
        let expected = [
            "error: unknown type \"strin\"",
            " --> a.avsc:2:19",
            "  |",
            "2 |   \"ä\": 1, \"type\": \"strin\"}",
            "  |                   ^^^^^^^",
        ];
        assert_eq!(shown, expected.join("\n"));
    }

    #[test]
    fn a_line_without_end_is_cut_around_the_place() {
        let text = format!("[{}\"strin\"{}]", "\"null\", ".repeat(10_000), ", \"int\"".repeat(10_000));
        let shown = render(&Renderer::plain(), &text, &error(1, 80_002), Weight::Error);
        assert!(shown.len() < 800 && shown.contains("a.avsc:1:80002") && shown.contains("^^^^^^^"), "{shown}");
    }

    #[test]
    fn a_schema_cannot_steer_the_terminal() {
        let shown = render(&Renderer::plain(), "[\"\u{1b}[31m\u{9b}\u{202e}\"]", &error(1, 2), Weight::Warning);
        assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{shown:?}");
    }

    #[test]
    fn a_place_behind_the_end_is_shown_too() {
        let shown = render(&Renderer::plain(), "{\"type\":", &error(1, 9), Weight::Error);
        assert!(shown.contains("a.avsc:1:9"), "{shown}");
        assert!(render(&Renderer::plain(), "", &error(7, 1), Weight::Error).contains("a.avsc"));
    }
}
