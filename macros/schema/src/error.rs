//! What is wrong with a schema, and where.

use std::fmt;

/// A schema's text and the name under which errors speak of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// For people: the path as they wrote it.
    pub name: &'a str,
    /// The JSON.
    pub text: &'a str,
}

/// A place in one of the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the source.
    pub source: usize,
    /// Its name.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    pub(crate) fn of(index: usize, source: &Source<'_>, byte: usize) -> Self {
        let before = source.text.get(..byte).unwrap_or(source.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            source: index,
            file: source.name.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A broken schema: where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SchemaError {
    /// Where it was noticed.
    pub place: Place,
    /// What is wrong and what to do, lower case without a full stop.
    pub message: String,
}

/// `; did you mean "…"?` when one of the names is near, or nothing.
pub fn did_you_mean<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (wrong.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name:?}?"))
}
