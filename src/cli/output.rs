//! Text for people and JSON for programs, on the standard output.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

/// The standard output, buffered; a line at a time where a person or a follower watches.
pub(super) struct Out {
    writer: BufWriter<StdoutLock<'static>>,
    /// JSON is asked for.
    pub(super) json: bool,
    /// Results only.
    pub(super) quiet: bool,
}

impl Out {
    pub(super) fn new(json: bool, quiet: bool) -> Self {
        Self { writer: BufWriter::with_capacity(64 << 10, io::stdout().lock()), json, quiet }
    }

    /// A line, which must be safe for terminals already.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.writer.write_all(line.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    /// Bytes of a file, for what is no terminal.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// One line of JSON.
    pub(super) fn json_line(&mut self, value: &Value) -> io::Result<()> {
        self.line(&safe_json(&value.to_string()))
    }

    /// JSON over several lines.
    pub(super) fn json_pretty(&mut self, value: &Value) -> io::Result<()> {
        self.line(&safe_json(&format!("{value:#}")))
    }

    /// A table for people, or what the rows mean as one JSON array.
    pub(super) fn list(&mut self, columns: &[Column], rows: &[Vec<Value>], none: &str) -> io::Result<()> {
        if self.json {
            let objects = rows.iter().map(|row| {
                Value::Object(
                    columns.iter().zip(row).map(|(column, cell)| (column.json_name(), cell.clone())).collect(),
                )
            });
            return self.json_pretty(&Value::Array(objects.collect()));
        }
        if rows.is_empty() {
            return self.line(none);
        }
        self.table(columns, rows)
    }

    /// A table for people.
    pub(super) fn table(&mut self, columns: &[Column], rows: &[Vec<Value>]) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !io::stdout().is_terminal() {
            // A file or a pipe has no width to fit.
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(
            columns.iter().map(|column| Cell::new(column.name.to_uppercase()).set_alignment(column.alignment())),
        );
        for row in rows {
            table.add_row(
                columns
                    .iter()
                    .zip(row)
                    .map(|(column, cell)| Cell::new(cell_text(cell)).set_alignment(column.alignment())),
            );
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let text = table.trim_fmt();
        self.line(&text)
    }

    /// Hands everything over.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A column: its name, and whether it holds numbers.
#[derive(Clone, Debug)]
pub(super) struct Column {
    name: Cow<'static, str>,
    number: bool,
}

impl Column {
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), number: false }
    }

    pub(super) const fn number(name: &'static str) -> Self {
        Self { name: Cow::Borrowed(name), number: true }
    }

    pub(super) fn of(name: String, number: bool) -> Self {
        Self { name: Cow::Owned(name), number }
    }

    fn json_name(&self) -> String {
        self.name.replace(' ', "_")
    }

    fn alignment(&self) -> CellAlignment {
        if self.number { CellAlignment::Right } else { CellAlignment::Left }
    }
}

/// A JSON value as a cell: texts without quotes, numbers as they are.
fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => safe(text).into_owned(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(cell_text).collect::<Vec<_>>().join(", ")
        }
        other => safe_json(&other.to_string()).into_owned(),
    }
}

/// Text of users, so that it cannot steer a terminal: control and direction characters are shown as escapes.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// The same over several lines.
pub(super) fn safe_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| steers(c) && !keep(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) && !keep(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON text whose strings cannot steer a terminal; it means the same.
pub(super) fn safe_json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| steers(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // Only strings can hold them, and all are within 16 bits.
        if steers(c) && c != '\n' { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A count for people: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 record`, `2 records`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A duration for programs: milliseconds, to the microsecond.
pub(super) fn thousandths(time: std::time::Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

/// A duration for people.
pub(super) fn duration(time: std::time::Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 100.0 {
        format!("{ms:.1} ms")
    } else if ms < 10_000.0 {
        format!("{} ms", grouped(ms.round() as u64))
    } else {
        format!("{:.1} s", ms / 1000.0)
    }
}

/// Milliseconds since 1970 in ISO form, UTC.
pub(super) fn iso(timestamp_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(timestamp_ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => timestamp_ms.to_string(),
    }
}

/// Whether the standard error may be coloured.
pub(super) fn colours_stderr() -> bool {
    io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_users_cannot_steer_a_terminal() {
        assert_eq!(safe("plain ä"), "plain ä");
        assert_eq!(safe("a\x1b[31mred\u{9b}\n\u{202e}"), "a\\u{1b}[31mred\\u{9b}\\n\\u{202e}");
        let json = Value::from("\u{9b}x\u{202e}").to_string();
        let safe = safe_json(&json);
        assert_eq!(safe, "\"\\u009bx\\u202e\"");
        assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), Value::from("\u{9b}x\u{202e}"));
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "record"), counted(2, "record")), ("1 record".into(), "2 records".into()));
        assert_eq!(iso(1_704_067_200_123), "2024-01-01T00:00:00.123Z");
    }
}
