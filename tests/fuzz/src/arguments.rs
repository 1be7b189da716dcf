//! A command line, and the file `gretchen.toml` beside it, as somebody mistypes them: every command does what it was told, or
//! is refused with an exit code and has changed no topic.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gretchen::backend::log::{Durability, LogOptions};
use gretchen::config::{DEFAULT_FILE, Settings};
use gretchen::prelude::*;
use gretchen::record::Record;
use gretchen::topic::TopicSettings;

use crate::folder::{empty, files, fresh, restore};
use crate::types::shop::Order;

static SPENT: Table<String, i64> = Table::new("spent").output("spent");

#[agent(topic = "orders", key = customer, table = SPENT)]
async fn spent(order: Order, mut table: TableMut<'_, String, i64>) -> Result<()> {
    table.update(&order.customer, |quantity| *quantity += i64::from(order.quantity))?;
    Ok(())
}

#[agent(topic = "words", output = "echoes")]
async fn echoes(word: String) -> String {
    word
}

fn app() -> App {
    App::new("fuzz").agent::<spent>().agent::<echoes>()
}

/// Partitions of the topics.
const PARTITIONS: u32 = 2;

/// Command lines that the folder takes before it is made anew.
const COMMANDS: u64 = 200;

/// Between the arguments, one a line, and the file.
const FILE: &[u8] = b"---";

/// The working directory: nothing outside of it is touched.
struct Place {
    folder: PathBuf,
    /// What is in it at first: topics that agents have processed.
    files: Vec<(PathBuf, Vec<u8>)>,
    run: u64,
}

thread_local! {
    static PLACE: RefCell<Place> = RefCell::new(Place::new());
}

/// The lines are arguments, up to one of three dashes; what follows is the file.
pub fn run(bytes: &[u8]) {
    let mut lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    let args: Vec<&[u8]> = lines.by_ref().take_while(|line| *line != FILE).collect();
    let file = lines.collect::<Vec<_>>().join(&b'\n');
    check_settings(&args);
    PLACE.with_borrow_mut(|place| place.run(&args, &file));
}

/// What is a setting of a topic is so again as it is shown.
fn check_settings(args: &[&[u8]]) {
    let mut settings = TopicSettings::default();
    for text in args.iter().filter_map(|arg| std::str::from_utf8(arg).ok()) {
        let before = settings;
        if settings.set(text).is_err() {
            assert_eq!(settings, before, "{text:?} is refused");
        }
    }
    let shown: Vec<String> = settings.list().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let again = TopicSettings::parse(shown.iter().map(String::as_str)).expect("what is shown can be set");
    assert_eq!(again, settings, "{shown:?}");
}

impl Place {
    fn new() -> Self {
        let folder = fresh("arguments");
        std::env::set_current_dir(&folder).expect("a working directory");
        let order = r#"{"order_id": 1, "customer": "C1", "ordered_on": "1997-01-01", "quantity": 3, "amount": "9.99"}"#;
        assert!(code(&[b"--partitions=2", b"send", b"orders", order.as_bytes()]) == 0, "an order is sent");
        let log = LogOptions { durability: Durability::Os, ..LogOptions::new("gretchen-data") };
        let mut session = Session::open(app(), log, PARTITIONS).expect("a session");
        session.options().threads = 1;
        let word = |word: &str| (word.as_bytes().to_vec(), word.to_owned());
        session.publish("words", "fuzz", ["a", "b", "c"].map(word)).expect("words");
        session.process().expect("orders and words that are processed");
        drop(session);
        assert!(code(&[b"tables", b"spent", b"C1"]) == 0, "a table has the key");
        std::fs::write("orders.jsonl", order).expect("a file");
        std::fs::write("order.avsc", <Order as Record>::SCHEMA.json).expect("a file");
        Self { files: files(&folder), folder, run: 0 }
    }

    fn run(&mut self, args: &[&[u8]], file: &[u8]) {
        if self.run.is_multiple_of(COMMANDS) {
            empty(&self.folder);
            restore(&self.folder, &self.files);
            // It was removed meanwhile.
            std::env::set_current_dir(&self.folder).expect("a working directory");
        }
        if file.is_empty() {
            let _ = std::fs::remove_file(DEFAULT_FILE);
        } else {
            std::fs::write(DEFAULT_FILE, file).expect("a file");
        }
        let settings = Settings::load(&BTreeMap::new(), &BTreeMap::new(), None);
        if !is_harmless(args) || settings.as_ref().is_ok_and(|settings| !stays_here(settings)) {
            return;
        }
        self.run += 1;
        let before = topics();
        let code = code(args);
        assert!(code <= 2, "code {code}");
        if code == 2 {
            assert!(before == topics(), "it was refused, and has changed a topic");
        }
        // Before anything is read there are help and completion.
        let reads = !args.iter().any(|arg| arg.starts_with(b"-") && arg.contains(&b'h') || *arg == b"completion");
        assert!(!reads || settings.is_ok() || code != 0, "a file that is wrong is refused: {settings:?}");
    }
}

/// Runs a command line; its exit code.
fn code(args: &[&[u8]]) -> u8 {
    let args = args.iter().map(|arg| OsString::from_vec(arg.to_vec()));
    let code = app().run_with(std::iter::once(OsString::from("fuzz")).chain(args));
    (0..=u8::MAX).find(|number| format!("{code:?}") == format!("{:?}", ExitCode::from(*number))).expect("a code")
}

/// What every topic is, by its path.
fn topics() -> Vec<(PathBuf, Vec<u8>)> {
    let names = std::fs::read_dir("gretchen-data/topics").into_iter().flatten().flatten();
    let mut topics: Vec<_> = names
        .map(|entry| entry.path().join("topic.json"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap_or_default()))
        .collect();
    topics.sort();
    topics
}

/// Whether a command line ends, asks nobody and nothing over a network, and keeps to this folder.
fn is_harmless(args: &[&[u8]]) -> bool {
    let has = |what: &str| args.iter().any(|arg| contains(arg, what));
    let is = |what: &str| args.contains(&what.as_bytes());
    let option = |short: u8, long: &str| {
        args.iter().any(|arg| {
            arg.starts_with(long.as_bytes()) || arg.starts_with(b"-") && !arg.starts_with(b"--") && arg.contains(&short)
        })
    };
    let leaves = |arg: &&[u8]| {
        Path::new(OsStr::from_bytes(arg)).is_absolute()
            || contains(arg, "..")
            || contains(arg, "=/")
            || contains(arg, ":/")
            || arg.starts_with(b"-") && arg.contains(&b'/')
    };
    let asks = |arg: &&[u8]| *arg == b"-" || arg.ends_with(b"=-") || arg.starts_with(b"-f-");
    // Numbers of partitions, of rows and of bytes: many of them are no mistake and take long.
    let is_large = |arg: &&[u8]| arg.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > 2);
    let large = args.iter().any(is_large);
    !(is("worker")
        || is("read") && option(b'f', "--follow")
        || is("send") && option(b'r', "--repeat") && large
        || has("--partitions") && large
        || has("registry")
        || args.iter().any(|arg| leaves(arg) || asks(arg)))
}

/// Whether settings of the file do so, too.
fn stays_here(settings: &Settings) -> bool {
    let is_default =
        |name: &str| settings.get(name).is_some_and(|setting| setting.origin == gretchen::config::Origin::Default);
    is_default("data_dir")
        && is_default("backend")
        && is_default("registry")
        && settings.number("partitions").is_some_and(|number| number < 100)
}

fn contains(arg: &[u8], what: &str) -> bool {
    arg.windows(what.len()).any(|window| window == what.as_bytes())
}
