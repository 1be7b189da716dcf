//! Names that users type: Kafka's rule for topics, other cases, and what was probably meant.

use syn::LitStr;

/// Checks a literal by Kafka's rule for topics, which agents and tables follow too since their names are part of the
/// names of internal topics.
pub(crate) fn check(what: &str, literal: &LitStr) -> syn::Result<()> {
    let name = literal.value();
    let wrong = match name.as_str() {
        "" => "it is empty".to_owned(),
        "." | ".." => "it is a path".to_owned(),
        _ if name.len() > 249 => format!("it has {} bytes", name.len()),
        _ => match name.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-')) {
            Some(c) => format!("it holds {c:?}"),
            None => return Ok(()),
        },
    };
    let message = format!("{name:?} cannot name {what}: {wrong}; use 1 to 249 of a-z A-Z 0-9 . _ -");
    Err(syn::Error::new(literal.span(), message))
}

/// The candidate that `word` was probably meant to be.
pub(crate) fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), *candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Candidates as a list for people: "`a`, `b` and `c`".
pub(crate) fn list(candidates: &[&str]) -> String {
    let quoted: Vec<String> = candidates.iter().map(|candidate| format!("`{candidate}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        let check = |name: &str| check("a topic", &LitStr::new(name, proc_macro2::Span::call_site()));
        for good in ["orders", "a.b_c-D9", &"x".repeat(249)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "ä", "a b", &"x".repeat(250)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn suggestions_are_close() {
        let names = ["topic", "topics", "concurrency", "on_error"];
        assert_eq!(closest("concurency", &names), Some("concurrency"));
        assert_eq!(closest("topik", &names), Some("topic"));
        assert_eq!(closest("window", &names), None);
    }

    #[test]
    fn lists_read_well() {
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(list(&["a"]), "`a`");
    }
}
