//! Files of records: each row is checked against the topic's schema before anything is sent.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::args::FileFormat;
use super::failure::{Done, Failure};
use super::output::{counted, safe};
use super::values::{Json, Values, begin};
use crate::config::closest;
use crate::record::{ContainerDatums, DynamicSchema, container_to_datums, csv_row_to_avro};

/// Rows that are checked and held before they are sent; a larger file is sent in pieces of this size.
const PIECE_BYTES: usize = 256 << 20;

/// The longest line of a JSON-lines file, and the longest row of a CSV file, unless `max_row_bytes` is set: as long as a batch
/// may be at most.
pub(super) const MAX_ROW_BYTES: u64 = 64 << 20;

/// What is read of a file at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Wrong rows that are named before the rest are only counted.
const NAMED_PROBLEMS: usize = 5;

/// Rows as they go on the wire, one after another in one buffer.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    /// Lengths of key and value.
    lengths: Vec<(Option<u32>, u32)>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    fn push(&mut self, key: Option<&[u8]>, value: &[u8]) {
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value);
        self.lengths.push((key.map(|key| key.len() as u32), value.len() as u32));
    }

    /// Each row's key and value, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |(key_len, value_len)| {
            let (key, behind) = rest.split_at(key_len.unwrap_or(0) as usize);
            let (value, behind) = behind.split_at(*value_len as usize);
            rest = behind;
            (key_len.map(|_| key), value)
        })
    }
}

/// Counts the bytes that were read, for the progress bar, and reads none behind a fence.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
    fence: Arc<Fence>,
}

/// How far a file may be read, as its rows may be as long as `most`.
struct Fence {
    at: AtomicU64,
    most: u64,
}

impl Fence {
    /// A row that begins there may be read, and what a buffer holds behind it.
    fn put(&self, begins: u64) {
        self.at.store(begins + self.most + BUFFER_BYTES as u64, Ordering::Relaxed);
    }

    fn too_long(&self) -> String {
        format!("the row is longer than max_row_bytes = {} allows; raise it, or correct the file", self.most)
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.read.load(Ordering::Relaxed) >= self.fence.at.load(Ordering::Relaxed) {
            return Err(std::io::Error::other(self.fence.too_long()));
        }
        let count = self.file.read(into)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

enum Source {
    Lines { lines: BufReader<Counted>, fence: Arc<Fence>, line: Vec<u8>, number: u64, json: Json },
    Csv { rows: csv::Reader<Counted>, fence: Arc<Fence>, headers: csv::StringRecord, row: csv::StringRecord },
    Avro { datums: ContainerDatums<Counted>, index: u64 },
}

/// A row that was read: where it stands, and its wire value or what is wrong with it.
struct Row {
    place: u64,
    wire: Result<Vec<u8>, String>,
    /// Nothing can be read behind it.
    last: bool,
}

/// A file that is being read.
pub(super) struct RecordFile {
    path: PathBuf,
    source: Source,
    read: Arc<AtomicU64>,
    /// Bytes of the file.
    pub(super) size: u64,
}

impl RecordFile {
    /// Opens a file whose rows may have as many bytes.
    pub(super) fn open(path: &Path, format: Option<FileFormat>, values: &Values, most: u64) -> Done<Self> {
        let format = match format {
            Some(format) => format,
            None => format_of(path)?,
        };
        let failed = |error: std::io::Error| Failure::new(format!("cannot open {}: {error}", path.display()));
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let read = Arc::new(AtomicU64::new(0));
        let fence = Arc::new(Fence { at: AtomicU64::new(u64::MAX), most });
        let counted = Counted { file, read: read.clone(), fence: fence.clone() };
        let source = match format {
            FileFormat::Jsonl => lines(counted, fence, Json::People),
            FileFormat::AvroJson => {
                schema_for(values, "Avro's JSON encoding")?;
                lines(counted, fence, Json::Avro)
            }
            FileFormat::Csv => {
                let schema = schema_for(values, "the columns of a CSV file")?;
                let mut rows = csv::ReaderBuilder::new().buffer_capacity(BUFFER_BYTES).from_reader(counted);
                fence.put(0);
                let headers = rows
                    .headers()
                    .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?
                    .clone();
                check_headers(path, schema, &headers)?;
                Source::Csv { rows, fence, headers, row: csv::StringRecord::new() }
            }
            FileFormat::Avro => {
                let schema = schema_for(values, "the records of an Avro file")?;
                let datums = container_to_datums(counted, schema)
                    .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
                Source::Avro { datums, index: 0 }
            }
        };
        Ok(Self { path: path.to_owned(), source, read, size })
    }

    /// Bytes that were read so far.
    pub(super) fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Reads the next piece, usually the whole file; empty at the end. Every row in it is right.
    pub(super) fn piece(&mut self, values: &Values, progress: &dyn Fn(u64)) -> Done<Rows> {
        let mut rows = Rows::default();
        let mut problems = Vec::new();
        let mut wrong = 0_u64;
        while rows.bytes.len() < PIECE_BYTES {
            let Some(Row { place, wire, last }) = self.source.next(values) else { break };
            let keyed = wire.and_then(|wire| Ok((key_of_row(values, &wire)?, wire)));
            match keyed {
                Ok((key, wire)) => rows.push(key.as_deref(), &wire),
                Err(why) => {
                    wrong += 1;
                    if problems.len() < NAMED_PROBLEMS {
                        problems.push(format!("{}:{place}: {why}", self.path.display()));
                    }
                }
            }
            if last {
                break;
            }
            if rows.len() % 1024 == 0 {
                progress(self.position());
            }
        }
        progress(self.position());
        match wrong {
            0 => Ok(rows),
            _ => Err(self.wrong_rows(values, &problems, wrong)),
        }
    }

    fn wrong_rows(&self, values: &Values, problems: &[String], wrong: u64) -> Failure {
        let sent =
            if self.size > PIECE_BYTES as u64 { "the piece they are in was not sent" } else { "nothing was sent" };
        let message = match (problems, wrong) {
            ([one], 1) => format!("{one}; {sent}"),
            _ => {
                let rest = wrong - problems.len() as u64;
                let rest = if rest == 0 { String::new() } else { format!("\n  and {}", counted(rest, "more row")) };
                format!("{} cannot be sent, {sent}:\n  {}{rest}", counted(wrong, "row"), problems.join("\n  "))
            }
        };
        let help = match self.source {
            Source::Avro { .. } => "copy or write the file again, then send it".to_owned(),
            _ => format!("rows must be as {} has them; correct the file and send it again", values.describe()),
        };
        Failure::new(message).help(help)
    }
}

impl Source {
    fn next(&mut self, values: &Values) -> Option<Row> {
        match self {
            Self::Lines { lines, fence, line, number, json } => loop {
                line.clear();
                *number += 1;
                let failed = |why| Some(Row { place: *number, wire: Err(why), last: true });
                match lines.by_ref().take(fence.most + 1).read_until(b'\n', line) {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return failed(error.to_string()),
                }
                if line.len() as u64 > fence.most && !line.ends_with(b"\n") {
                    return failed(fence.too_long());
                }
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                let wire = match std::str::from_utf8(text) {
                    Ok(text) if text.trim().is_empty() => continue,
                    Ok(text) => values.encode_text(text, *json),
                    Err(_) => Err("it is not UTF-8".to_owned()),
                };
                return Some(Row { place: *number, wire, last: false });
            },
            Self::Csv { rows, fence, headers, row } => {
                let begins = rows.position().clone();
                fence.put(begins.byte());
                let read = rows.read_record(row);
                // With the byte that ends it.
                if rows.position().byte() - begins.byte() > fence.most + 1 {
                    return Some(Row { place: begins.line(), wire: Err(fence.too_long()), last: true });
                }
                match read {
                    Ok(false) => None,
                    Ok(true) => {
                        let place = row.position().map_or(0, csv::Position::line);
                        let wire = match &values.schema {
                            Some(schema) => {
                                let mut wire = begin(schema);
                                csv_row_to_avro(schema, headers, row, &mut wire)
                                    .map(|()| wire)
                                    .map_err(|e| e.to_string())
                            }
                            None => Err("the topic has no schema".to_owned()),
                        };
                        Some(Row { place, wire, last: false })
                    }
                    Err(error) => Some(csv_problem(&error, begins.line())),
                }
            }
            Self::Avro { datums, index } => {
                let place = *index;
                *index += 1;
                Some(match (datums.next()?, &values.schema) {
                    (Ok(datum), Some(schema)) => {
                        let mut wire = begin(schema);
                        wire.extend_from_slice(&datum);
                        Row { place, wire: Ok(wire), last: false }
                    }
                    (Ok(_), None) => Row { place, wire: Err("the topic has no schema".to_owned()), last: true },
                    (Err(error), _) => Row { place, wire: Err(error.to_string()), last: true },
                })
            }
        }
    }
}

fn lines(file: Counted, fence: Arc<Fence>, json: Json) -> Source {
    Source::Lines { lines: BufReader::with_capacity(BUFFER_BYTES, file), fence, line: Vec::new(), number: 0, json }
}

/// What is wrong with a row that begins in that line.
fn csv_problem(error: &csv::Error, begins: u64) -> Row {
    let place = error.position().map_or(begins, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            let why = format!("it has {}, the first line has {expected_len}", counted(*len, "cell"));
            Row { place, wire: Err(why), last: false }
        }
        csv::ErrorKind::Io(error) => Row { place, wire: Err(error.to_string()), last: true },
        csv::ErrorKind::Utf8 { .. } => Row { place, wire: Err("it is not UTF-8".to_owned()), last: false },
        _ => Row { place, wire: Err(error.to_string()), last: true },
    }
}

/// The key that a row goes under.
fn key_of_row(values: &Values, wire: &[u8]) -> Result<Option<Vec<u8>>, String> {
    match (values.key_in(wire)?, &values.key_field, &values.schema) {
        (None, Some(field), Some(_)) => {
            Err(format!("field {field} is null, and topic {} is keyed by it", values.topic))
        }
        (key, ..) => Ok(key),
    }
}

fn schema_for<'a>(values: &'a Values, what: &str) -> Done<&'a DynamicSchema> {
    values.schema.as_ref().ok_or_else(|| {
        Failure::new(format!("topic {} has no schema, so {what} mean nothing to it", values.topic))
            .help("send lines of text with --format jsonl, or send to a topic that an agent reads as a record")
    })
}

/// The first line names fields; a column that is unknown would be wrong in every row.
fn check_headers(path: &Path, schema: &DynamicSchema, headers: &csv::StringRecord) -> Done {
    let fields = schema.fields();
    for header in headers {
        if fields.iter().any(|(name, _)| name == header) {
            continue;
        }
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        let failure = Failure::new(format!(
            "{}:1: column {:?} is no field of {}; nothing was sent",
            path.display(),
            safe(header),
            schema.name()
        ));
        return Err(match closest(header, names.iter().copied()) {
            Some(close) => failure.help(format!(
                "did you mean {close}? The first line of a CSV file names the fields: {}",
                names.join(", ")
            )),
            None => failure.help(format!("the first line of a CSV file names the fields: {}", names.join(", "))),
        });
    }
    Ok(())
}

fn format_of(path: &Path) -> Done<FileFormat> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("jsonl" | "ndjson") => Ok(FileFormat::Jsonl),
        Some("csv") => Ok(FileFormat::Csv),
        Some("avro") => Ok(FileFormat::Avro),
        Some(packed @ ("gz" | "zst" | "bz2" | "xz")) => {
            Err(Failure::usage(format!("{} is packed (.{packed})", path.display()))
                .help("unpack it first and send the file that comes out"))
        }
        Some("json") => Err(Failure::usage(format!("{}: a .json file may hold anything", path.display()))
            .help("if it has one JSON object a line, say --format jsonl; `jq -c '.[]'` makes lines of an array")),
        _ => Err(Failure::usage(format!("the name {} does not say what the file holds", path.display()))
            .help("say --format jsonl, csv, avro or avro-json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_in_order() {
        let mut rows = Rows::default();
        rows.push(Some(b"key"), b"value");
        rows.push(None, b"plain");
        rows.push(Some(b""), b"");
        let all: Vec<_> = rows.iter().collect();
        assert_eq!(all, [(Some(&b"key"[..]), &b"value"[..]), (None, b"plain"), (Some(b""), b"")]);
        assert_eq!(rows.len(), 3);
    }
}
