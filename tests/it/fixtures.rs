//! Files that older builds wrote: they open for ever, and what a newer build wrote is refused.
//!
//! Each folder of `tests/data/log-…` is a data folder as a worker left it. To add one after a change of a format:
//!
//! ```text
//! WRITE_FIXTURE=tests/data/log-v9 cargo test --release --test it fixtures::write
//! ```
//!
//! A folder that is there is never written again. What this build writes must all be in the newest.

mod newer;
mod newest;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::log::{LogBackend, LogOptions, Mended, Only, repair};
use gretchen::backend::{Backend, ProducerId, Replay};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, ErrorKind};
use gretchen::prelude::Keyed;
use gretchen::record::{FrameBuilder, Frames, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, TopicSettings, TopicSpec};

use super::support::copy;

gretchen::records!("tests/schemas/ledger.avsc", namespaces = flat);

/// Where the folders are.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
/// Not among the program's own, of which an unknown one is refused.
const WRITE_VAR: &str = "WRITE_FIXTURE";

/// Payments in a folder. The table's store covers those before [`COVERED`], the rest is in the changelog.
const PAYMENTS: i64 = 240;
const COVERED: i64 = 150;
const ACCOUNTS: i64 = 7;
const PARTITIONS: u32 = 2;
/// What a payment must come to for the agent without a table.
const LARGE: i64 = 200;
const NOTES: u64 = 5;
/// Records of a compacted topic; folders of format 1 have none.
const RATES: u64 = 100;
const PRODUCER: &str = "payments.csv";

static BALANCES: Table<String, Balance> = Table::new("balances").output("balances");

#[agent(topic = "payments", key = account, table = BALANCES)]
async fn book(payment: Payment, mut balances: TableMut<'_, String, Balance>) -> Result<(), BoxError> {
    // An account that comes to a round sum is closed.
    let mut balance = balances.get(&payment.account)?.unwrap_or_default();
    balance.account.clone_from(&payment.account);
    balance.payments += 1;
    balance.amount += payment.amount;
    match balance.amount % 100 {
        0 => drop(balances.remove(&payment.account)?),
        _ => balances.set(&payment.account, balance)?,
    };
    Ok(())
}

#[agent(topic = "payments", output = "large-payments")]
async fn pick(payment: Payment) -> Option<Keyed<Payment>> {
    (payment.amount >= LARGE).then(|| Keyed::new(payment.account.clone(), payment))
}

fn app() -> App {
    App::new("ledger").agent::<book>().agent::<pick>()
}

fn log(folder: &Path) -> LogOptions {
    // Small, so that there are many.
    LogOptions { segment_bytes: 4096, ..LogOptions::new(folder) }
}

fn payment(i: i64) -> Payment {
    Payment { account: format!("account-{}", i % ACCOUNTS), amount: i }
}

fn publish(session: &Session, upto: i64) {
    let records = (0..upto).map(payment).map(|payment| (payment.account.clone().into_bytes(), payment));
    session.publish("payments", PRODUCER, records).unwrap();
}

/// The balances after so many payments, computed apart.
fn balances(payments: i64) -> BTreeMap<String, (i64, i64)> {
    let mut open = BTreeMap::<String, (i64, i64)>::new();
    for Payment { account, amount } in (0..payments).map(payment) {
        let (count, sum) = open.remove(&account).unwrap_or_default();
        if (sum + amount) % 100 != 0 {
            open.insert(account, (count + 1, sum + amount));
        }
    }
    open
}

fn table(session: &Session) -> BTreeMap<String, (i64, i64)> {
    let rows = session.table(&BALANCES).unwrap();
    rows.into_iter().map(|(account, row)| (account, (row.payments, row.amount))).collect()
}

fn note(i: u64) -> (Option<Vec<u8>>, Option<Vec<u8>>, i64) {
    let key = i.is_multiple_of(2).then(|| format!("key {i}").into_bytes());
    let value = (!i.is_multiple_of(3)).then(|| vec![i as u8; 3]);
    (key, value, 1_700_000_000_000 - i as i64)
}

fn rate(i: u64) -> (String, Option<Vec<u8>>) {
    (format!("rate {}", i % 9), (i % 5 != 4).then(|| vec![i as u8; 200]))
}

/// Writes a folder, if it is asked for.
#[test]
fn write() {
    let Some(folder) = std::env::var_os(WRITE_VAR).map(PathBuf::from) else { return };
    assert!(!folder.exists(), "{} is there, and is never written again", folder.display());
    write_to(&folder);
    remove_logs(&folder.join("state"));
}

fn write_to(folder: &Path) {
    let kept = tempfile::tempdir().unwrap();
    let session = || Session::open(app(), log(folder), PARTITIONS).unwrap();
    for upto in (10..=PAYMENTS).step_by(10) {
        let session = session();
        publish(&session, upto);
        session.process().unwrap();
        drop(session);
        if upto == COVERED {
            copy(&folder.join("state"), &kept.path().join("state"));
        }
    }
    // Of the tables' stores and positions, those of before: the rest must come out of the changelogs.
    std::fs::remove_dir_all(folder.join("state")).unwrap();
    copy(&kept.path().join("state"), &folder.join("state"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let backend = LogBackend::open(log(folder), Clock::system()).unwrap();
        backend.create_topic(&TopicSpec::new("notes", 1)).await.unwrap();
        let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
        let mut frame = FrameBuilder::new();
        for (key, value, timestamp) in (0..NOTES).map(note) {
            frame.push_with_headers(key.as_deref(), value.as_deref(), timestamp, &[("from", b"a test"), ("", b"")]);
        }
        producer.append(&TopicPartition::new("notes", 0), &mut frame, None).await.unwrap();
        producer.flush().await.unwrap();

        let settings = TopicSettings::parse(["cleanup=compact,delete", "retention_ms=36500d"]).unwrap();
        backend.create_topic(&TopicSpec { settings, ..TopicSpec::new("rates", 1) }).await.unwrap();
        let place = TopicPartition::new("rates", 0);
        for (key, value) in (0..RATES).map(rate) {
            frame.clear();
            frame.push(Some(key.as_bytes()), value.as_deref(), 0);
            producer.append(&place, &mut frame, None).await.unwrap();
        }
        backend.clean(&place, true).await.unwrap();
    });
    // The changelogs, up to where the stores are.
    let data_dir = folder.to_str().unwrap();
    let code = app().run_with(["ledger", "--data-dir", data_dir, "--segment-bytes", "4096", "clean"].map(Into::into));
    assert_eq!(code, ExitCode::SUCCESS);
    values::write(folder);
}

/// Repairs once nobody uses the log any more: what syncs behind a full segment may do so for a moment.
fn mended(options: &LogOptions, only: Only<'_>) -> Vec<Mended> {
    loop {
        match repair(options, only) {
            Err(error) if error.kind() == ErrorKind::Conflict => std::thread::yield_now(),
            mended => return mended.unwrap(),
        }
    }
}

/// What RocksDB notes for people names folders of the machine.
fn remove_logs(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => remove_logs(&entry.path()),
            false if entry.file_name() == "LOG" => std::fs::remove_file(entry.path()).unwrap(),
            false => {}
        }
    }
}

fn version(name: &str) -> u32 {
    name.strip_prefix("log-v").and_then(|version| version.parse().ok()).unwrap_or_else(|| panic!("what is {name}?"))
}

/// The folders, the oldest first, each copied, so that it stays as it is.
fn folders() -> Vec<(String, tempfile::TempDir)> {
    let names = std::fs::read_dir(DATA).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("log-")).collect();
    names.sort_by_key(|name| version(name));
    let versions: Vec<u32> = names.iter().map(|name| version(name)).collect();
    assert!(versions.len() >= 4 && versions.iter().copied().eq(1..=versions.len() as u32), "some are gone: {names:?}");
    names
        .into_iter()
        .map(|name| {
            let folder = tempfile::tempdir().unwrap();
            copy(&Path::new(DATA).join(&name), folder.path());
            (name, folder)
        })
        .collect()
}

/// Every record of a topic, by partition: offset, key, value, timestamp.
type Stored = (u64, Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn records(backend: &LogBackend, topic: &str) -> Vec<Vec<Stored>> {
    let partitions = backend.topic(topic).unwrap().spec.partitions;
    let read = |partition| {
        let place = TopicPartition::new(topic, partition);
        let offsets = backend.offsets(&place).unwrap();
        let mut reader = backend.reader(&place, offsets.start).unwrap();
        let (mut frames, mut records) = (Frames::default(), Vec::new());
        while reader.read(&mut frames).unwrap() {
            for record in frames.iter().flat_map(|frame| frame.records()) {
                records.push((
                    record.offset,
                    record.key.map(Into::into),
                    record.value.map(Into::into),
                    record.timestamp,
                ));
            }
        }
        assert_eq!(reader.position(), offsets.end);
        records
    };
    (0..partitions).map(read).collect()
}

/// The last of every key is there, and most others are not.
fn check_rates(backend: &LogBackend) {
    let settings = backend.topic("rates").unwrap().spec.settings;
    assert_eq!(settings, TopicSettings::parse(["cleanup=compact,delete", "retention_ms=36500d"]).unwrap());
    let have = records(backend, "rates").remove(0);
    assert!(have.len() < RATES as usize / 2, "{} are left", have.len());
    for (offset, key, value, _) in &have {
        let (wanted, bytes) = rate(*offset);
        assert_eq!((key.as_deref(), value), (Some(wanted.as_bytes()), &bytes));
    }
    for offset in RATES - 9..RATES {
        assert!(have.iter().any(|(had, ..)| *had == offset), "offset {offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_an_older_build_is_read() {
    for (name, folder) in folders() {
        let backend = LogBackend::open(log(folder.path()), Clock::system()).unwrap();
        let topics: Vec<_> = backend.topics().await.unwrap().iter().map(|topic| topic.spec.name.to_string()).collect();
        let mut want =
            vec!["balances", "large-payments", "ledger-book-changelog", "ledger-pick-changelog", "notes", "payments"];
        if version(&name) >= 2 {
            want.push("rates");
            check_rates(&backend);
        }
        if version(&name) >= 4 {
            want.extend(values::TOPICS);
            want.sort_unstable();
            values::check(&name, folder.path(), &backend);
        }
        assert_eq!(topics, want, "{name}");

        // In each partition the payments of its accounts, in order, without a gap.
        let payments = records(&backend, "payments");
        let mut expected = vec![Vec::new(); PARTITIONS as usize];
        for payment in (0..PAYMENTS).map(payment) {
            let partition = gretchen::topic::partition_of(payment.account.as_bytes(), PARTITIONS);
            expected[partition as usize].push(payment);
        }
        for (have, want) in payments.iter().zip(&expected) {
            assert_eq!(have.len(), want.len(), "{name}");
            for (i, ((offset, key, value, _), want)) in have.iter().zip(want).enumerate() {
                assert_eq!((*offset, key.as_deref()), (i as u64, Some(want.account.as_bytes())), "{name}");
                let value = Payment::decode_value(value.as_ref().unwrap()).unwrap();
                assert_eq!((&value.account, value.amount), (&want.account, want.amount), "{name}");
            }
        }
        let schemas = backend.topic("payments").unwrap();
        assert_eq!(schemas.spec.key_field.as_deref(), Some("account"), "{name}");
        assert_eq!(schemas.schemas.len(), 1, "{name}");

        // Headers, tombstones, records without a key.
        let notes = records(&backend, "notes");
        let want: Vec<Stored> = (0..NOTES)
            .map(|i| {
                let (key, value, timestamp) = note(i);
                (i, key, value, timestamp)
            })
            .collect();
        assert_eq!(notes, [want], "{name}");
        let mut reader = backend.reader(&TopicPartition::new("notes", 0), 0).unwrap();
        let mut frames = Frames::default();
        assert!(reader.read(&mut frames).unwrap());
        let frame = frames.get(0).unwrap();
        let headers: Vec<_> = frame.records().next().unwrap().headers.iter().collect();
        assert_eq!(headers, [("from", &b"a test"[..]), ("", b"")], "{name}");

        // Positions, and what is known of producers.
        for (partition, want) in expected.iter().enumerate() {
            let place = TopicPartition::new("payments", partition as u32);
            for group in ["ledger.book", "ledger.pick"] {
                let position = backend.position(group, &place).unwrap();
                assert_eq!(position, Some(want.len() as u64), "{name} {group}");
            }
            let sequence = backend.next_sequence(&place, ProducerId::named(PRODUCER)).unwrap();
            assert_eq!(sequence, want.len() as u64, "{name}");
        }
    }
}

#[test]
fn a_worker_goes_on_where_an_older_build_stopped() {
    const MORE: i64 = 60;
    for (name, folder) in folders() {
        let session = Session::open(app(), log(folder.path()), PARTITIONS).unwrap();
        assert_eq!(table(&session), balances(PAYMENTS), "{name}");
        publish(&session, PAYMENTS + MORE);
        let summary = session.process().unwrap();
        // Each of the two agents has had the new ones, and none of the old.
        assert_eq!(summary.finished, 2 * MORE as u64, "{name}");
        assert_eq!(table(&session), balances(PAYMENTS + MORE), "{name}");
        drop(session);

        let clock = Clock::system();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let backend = LogBackend::open(log(folder.path()), clock).unwrap();
        let large: usize = records(&backend, "large-payments").iter().map(Vec::len).sum();
        assert_eq!(large as i64, PAYMENTS + MORE - LARGE, "{name}");
        // The last that was put out of each account.
        let mut last = BTreeMap::new();
        for (_, key, value, _) in records(&backend, "balances").into_iter().flatten() {
            let account = String::from_utf8(key.unwrap()).unwrap();
            match value {
                Some(value) => {
                    let row = Balance::decode_value(&value).unwrap();
                    last.insert(account, (row.payments, row.amount));
                }
                None => drop(last.remove(&account)),
            }
        }
        assert_eq!(last, balances(PAYMENTS + MORE), "{name}");
        drop(backend);

        // Nothing but the changelog is left.
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
        let session = Session::open(app(), log(folder.path()), PARTITIONS).unwrap();
        assert_eq!(session.process().unwrap().finished, 0, "{name}");
        assert_eq!(table(&session), balances(PAYMENTS + MORE), "{name}");
        drop(session);
        if version(&name) >= 4 {
            values::check_goes_on(&name, folder.path());
        }
    }
}
