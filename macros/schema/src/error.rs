//! What is wrong with a schema, and where.

use std::cell::Cell;
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

/// A source whose places are asked for, mostly one after the other.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    index: usize,
    pub(crate) source: Source<'a>,
    /// Byte, line and column of the place that was asked for last, so that a long file is not counted through anew.
    last: Cell<(usize, usize, usize)>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(index: usize, source: Source<'a>) -> Self {
        Self { index, source, last: Cell::new((0, 1, 1)) }
    }

    pub(crate) fn place(&self, byte: usize) -> Place {
        let (from, line, column) = match self.last.get() {
            last if last.0 <= byte => last,
            _ => (0, 1, 1),
        };
        let between = self.source.text.get(from..byte).unwrap_or_default();
        let newlines = between.bytes().filter(|byte| *byte == b'\n').count();
        let column = match between.rfind('\n') {
            Some(newline) => between[newline + 1..].chars().count() + 1,
            None => column + between.chars().count(),
        };
        self.last.set((byte, line + newlines, column));
        Place { source: self.index, file: self.source.name.to_owned(), line: line + newlines, column }
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
    // Any letter is near any other.
    let length = wrong.chars().count();
    let limit = (length / 3).max(usize::from(length > 1));
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name:?}?"))
}
