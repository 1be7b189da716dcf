//! The exchange with Java and Python, which `tests/oracles/run` starts.
//!
//! [`exchange`] is a test that returns at once unless it finds an [`Order`] in the environment: it writes questions as
//! lines of JSON, or checks the answers of the others to them.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use gretchen::record::{DynamicSchema, avro_to_json, json_to_avro};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arbitrary::{Choices, Limits, Style, encode, random_datum, random_schema};
use super::matrix::{Answered, Pair, SAMPLE, pair, promotions, resolved};

const VARIABLE: &str = "GRETCHEN_ORACLES";

/// What to do, from the environment.
#[derive(Debug, Deserialize)]
struct Order {
    /// `write`, `check`, or `sample`: [`SAMPLE`] anew.
    step: String,
    folder: PathBuf,
    values: usize,
    triples: usize,
}

/// A schema and bytes of it, for [`gretchen::record::avro_to_json`] and the others.
#[derive(Debug, Serialize, Deserialize)]
struct Question {
    schema: Value,
    /// Without logical types and defaults.
    bare: Value,
    datum: String,
    /// Whether people's JSON leaves open which branch of a union a value is of.
    wide: bool,
    seed: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<String>,
    rabin: Option<String>,
    /// In a list of its own, so that a null is an answer too.
    value: Option<[Value; 1]>,
    datum: Option<String>,
    own_value: Option<[Value; 1]>,
    own_datum: Option<String>,
    /// Whether every value of the writer's schema can be read.
    compatible: Option<bool>,
}

#[test]
fn exchange() {
    let Ok(order) = std::env::var(VARIABLE) else { return };
    let order: Order = serde_json::from_str(&order).unwrap();
    match order.step.as_str() {
        "write" => write(&order),
        "sample" => sample(&order.folder),
        _ => check(&order.folder),
    }
}

fn write(order: &Order) {
    let seed: u64 = std::env::var("GRETCHEN_SEED").unwrap().parse().unwrap();
    println!("GRETCHEN_SEED={seed}");
    let mut choices = Choices::seeded(seed);
    let mut out = BufWriter::new(File::create(order.folder.join("values.jsonl")).unwrap());
    let mut left = order.values;
    while left > 0 {
        let schema = random_schema(&mut choices, &Style::ALL);
        // Several values of a schema: most of the time goes into reading schemas.
        for _ in 0..4.min(left) {
            let Some(datum) = random_datum(&mut choices, &schema, &schema.root, &Limits::EXCHANGED) else { break };
            let mut bytes = Vec::new();
            encode(&schema, &schema.root, &datum, &mut bytes);
            let question = Question {
                schema: schema.json(),
                bare: schema.bare(),
                datum: hex(&bytes),
                wide: schema.has_wide_union(),
                seed: left as u64,
            };
            serde_json::to_writer(&mut out, &question).unwrap();
            out.write_all(b"\n").unwrap();
            left -= 1;
        }
    }
    let mut out = BufWriter::new(File::create(order.folder.join("triples.jsonl")).unwrap());
    let style = Style { logical: false, fields: 4, depth: 3, ..Style::ALL };
    for pair in promotions().chain(std::iter::repeat_with(|| pair(&mut choices, &style))).take(order.triples) {
        serde_json::to_writer(&mut out, &pair).unwrap();
        out.write_all(b"\n").unwrap();
    }
}

/// Examples that are shown of each way to differ.
const SHOWN: usize = 3;

/// Counts what agrees and shows what does not.
#[derive(Default)]
struct Tally {
    counts: std::collections::BTreeMap<String, usize>,
    wrong: usize,
}

impl Tally {
    fn count(&mut self, what: impl AsRef<str>) {
        *self.counts.entry(what.as_ref().to_owned()).or_default() += 1;
    }

    fn wrong(&mut self, what: &str, question: &impl Serialize, found: impl Display) {
        let key = format!("WRONG {what}");
        self.count(&key);
        self.wrong += 1;
        if self.counts[&key] <= SHOWN {
            println!("{what}: {found}\n  {}", serde_json::to_string(question).unwrap());
        }
    }
}

fn check(folder: &Path) {
    let mut tally = Tally::default();
    for who in ["java", "python"] {
        check_values(folder, who, &mut tally);
    }
    check_triples(folder, &mut tally);
    println!();
    for (what, count) in &tally.counts {
        println!("{count:>8}  {what}");
    }
    assert_eq!(tally.wrong, 0, "answers differ");
}

fn check_values(folder: &Path, who: &str, tally: &mut Tally) {
    let questions = lines::<Question>(&folder.join("values.jsonl"));
    let answers = lines::<Answer>(&folder.join(format!("values.{who}.jsonl")));
    assert_eq!(questions.len(), answers.len(), "{who} has not answered everything");
    for (question, answer) in questions.iter().zip(answers) {
        let full = DynamicSchema::parse(&question.schema.to_string()).unwrap();
        let bare = DynamicSchema::parse(&question.bare.to_string()).unwrap();
        if let Some(error) = answer.error {
            tally.wrong(&format!("{who} refuses a value"), question, error);
            continue;
        }
        match answer.rabin == Some(format!("{:x}", full.fingerprint())) {
            true => tally.count(format!("{who}: fingerprints equal")),
            false => tally.wrong(&format!("{who}: fingerprint"), question, format!("{:x}", full.fingerprint())),
        }
        let shown = avro_to_json(&bare, &unhex(&question.datum)).unwrap();
        match answer.value.is_some_and(|[value]| alike(&shown, &value)) {
            true => tally.count(format!("{who} reads what we write")),
            false => tally.wrong(&format!("{who} reads another value"), question, &shown),
        }
        match answer.datum {
            Some(datum) if datum == question.datum => tally.count(format!("{who} writes the same bytes")),
            Some(datum) => tally.wrong(&format!("{who} writes other bytes"), question, datum),
            None => {}
        }
        if let (Some([value]), Some(datum)) = (answer.own_value, answer.own_datum) {
            let bytes = unhex(&datum);
            match avro_to_json(&bare, &bytes) {
                Ok(shown) if alike(&shown, &value) => tally.count(format!("we read what {who} writes")),
                other => tally.wrong(&format!("we do not read {who}'s value"), question, format!("{datum} {other:?}")),
            }
            if !question.wide {
                let mut written = Vec::new();
                match json_to_avro(&bare, &avro_to_json(&bare, &bytes).unwrap(), &mut written) {
                    // Of a map with several entries the order is free; the length is the same.
                    Ok(()) if written == bytes || written.len() == bytes.len() && has_map(&value) => {
                        tally.count(format!("we write {who}'s value as {who} does"));
                    }
                    other => tally.wrong(
                        &format!("we do not write {who}'s value"),
                        question,
                        format!("{datum} {other:?} {}", hex(&written)),
                    ),
                }
            }
        }
    }
}

fn check_triples(folder: &Path, tally: &mut Tally) {
    let questions = lines::<Pair>(&folder.join("triples.jsonl"));
    let [java, python] = ["java", "python"].map(|who| lines::<Answer>(&folder.join(format!("triples.{who}.jsonl"))));
    assert_eq!((questions.len(), questions.len()), (java.len(), python.len()), "not everything is answered");
    for (question, (java, python)) in questions.iter().zip(java.into_iter().zip(python)) {
        let reader = DynamicSchema::parse(&question.reader.to_string()).unwrap();
        let shown = |bytes: &[u8]| avro_to_json(&reader, bytes).map_err(|error| error.to_string());
        let ours =
            resolved(&question.writer, &question.reader, &unhex(&question.datum)).and_then(|bytes| shown(&bytes));
        let incompatible = java.compatible == Some(false);
        let [java, python] = [java, python].map(|answer| match answer {
            Answer { datum: Some(datum), .. } => shown(&unhex(&datum)),
            Answer { value: Some([value]), .. } => Ok(value),
            Answer { error, .. } => Err(error.unwrap_or_default()),
        });
        // Java 1.12.1 takes a default's list for one of the union when it uses the default a second time.
        let java_fails = matches!((&java, &ours, &python), (Err(error), Ok(ours), Ok(python))
            if error.contains("AvroRuntimeException: Not an array: [") && alike(ours, python));
        for (who, theirs) in [("java", java), ("python", python)] {
            match (&ours, &theirs) {
                _ if who == "java" && java_fails => tally.count("java fails at a default; python and we agree"),
                (Ok(ours), Ok(theirs)) if alike(ours, theirs) => {
                    tally.count(format!("{who} resolves to the same value"))
                }
                (Err(_), Err(_)) => tally.count(format!("{who} refuses it too")),
                (Err(_), Ok(_)) if incompatible => {
                    tally.count(format!("{who} reads a value that does not show that the schemas are incompatible"));
                }
                // fastavro takes the first branch that fits in any way; the specification wants the same type first.
                _ if who == "python" => tally.count("python resolves in another way than java and we"),
                (ours, theirs) => {
                    tally.wrong("java resolves in another way", question, format!("{theirs:?}; ours {ours:?}"))
                }
            }
        }
    }
}

/// Writes Java's answers beside the questions, for the tests that need no Java.
fn sample(folder: &Path) {
    let questions = lines::<Pair>(&folder.join("triples.jsonl"));
    let answers = lines::<Answer>(&folder.join("triples.java.jsonl"));
    let mut out = BufWriter::new(File::create(SAMPLE).unwrap());
    for (Pair { writer, reader, datum }, answer) in questions.into_iter().zip(answers) {
        let compatible = answer.compatible.unwrap();
        serde_json::to_writer(&mut out, &Answered { writer, reader, datum, java: answer.datum, compatible }).unwrap();
        out.write_all(b"\n").unwrap();
    }
}

/// Equal, but for how a float is written: the shortest text that is the same float, or the double that equals it.
pub(super) fn alike(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Number(a), Value::Number(b)) if a != b => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return false };
            let float = a as f32;
            a == b || float == b as f32 && float.to_string().parse() == Ok(a)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}

fn has_map(value: &Value) -> bool {
    match value {
        Value::Object(_) => true,
        Value::Array(items) => items.iter().any(has_map),
        _ => false,
    }
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Vec<T> {
    let file = BufReader::new(File::open(path).unwrap());
    file.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}
