//! Changelogs that are compacted under their agents, repartition topics that get shorter, and the commands.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use gretchen::agent;
use gretchen::app::App;
use gretchen::backend::Replay;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, ErrorKind};
use gretchen::record::{Frames, Value};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::{TopicPartition, TopicSettings};
use serde_json::json;

use crate::cli::{bad, good, json_of};
use crate::support::copy;

gretchen::records!("tests/schemas/ledger.avsc", namespaces = flat);

const PARTITIONS: u32 = 2;
const ACCOUNTS: i64 = 30;
const ROUND: i64 = 250;

static OPEN: Table<String, Balance> = Table::new("open").output("open-balances");
static AMOUNTS: Table<i64, i64> = Table::new("amounts");

/// Sums by account; one that comes to a round sum is closed.
#[agent(topic = "payments", key = account, table = OPEN)]
async fn sum_up(payment: Payment, mut open: TableMut<'_, String, Balance>) -> Result<(), BoxError> {
    let mut balance = open.get(&payment.account)?.unwrap_or_default();
    balance.account.clone_from(&payment.account);
    balance.payments += 1;
    balance.amount += payment.amount;
    match balance.amount % 5 {
        0 => drop(open.remove(&payment.account)?),
        _ => open.set(&payment.account, balance)?,
    }
    Ok(())
}

/// Asks for another key than the topic has.
#[agent(topic = "payments", key = amount, table = AMOUNTS)]
async fn by_amount(payment: Payment, mut amounts: TableMut<'_, i64, i64>) -> Result<(), BoxError> {
    amounts.update(&payment.amount, |count| *count += 1)?;
    Ok(())
}

fn app() -> App {
    let week = TopicSettings { retention_ms: Some(7 * 24 * 60 * 60 * 1000), ..TopicSettings::default() };
    App::new("till").agent::<sum_up>().agent::<by_amount>().topic("payments", week)
}

fn log(folder: &Path) -> LogOptions {
    LogOptions { segment_bytes: 4096, ..LogOptions::new(folder) }
}

fn session(folder: &Path) -> Session {
    let mut session = Session::open(app(), log(folder), PARTITIONS).unwrap();
    let options = session.options();
    options.commit_interval = Duration::from_millis(5);
    options.checkpoint_interval = Duration::from_millis(10);
    options.clean_interval = Duration::from_millis(1);
    session
}

fn payment(i: i64) -> Payment {
    Payment { account: format!("account-{}", i % ACCOUNTS), amount: i % 23 }
}

/// Publishes some more, bit by bit, so that there are many commits, and processes them.
fn round(session: &Session, from: i64) {
    for upto in (from..from + ROUND).step_by(25) {
        let records = (0..upto + 25).map(payment).map(|payment| (payment.account.clone().into_bytes(), payment));
        session.publish("payments", "till", records).unwrap();
        session.process().unwrap();
    }
}

/// Both tables after so many payments, computed apart.
fn expected(payments: i64) -> (BTreeMap<String, (i64, i64)>, BTreeMap<i64, i64>) {
    let (mut open, mut amounts) = (BTreeMap::<String, (i64, i64)>::new(), BTreeMap::new());
    for Payment { account, amount } in (0..payments).map(payment) {
        *amounts.entry(amount).or_insert(0) += 1;
        let (count, sum) = open.remove(&account).unwrap_or_default();
        if (sum + amount) % 5 != 0 {
            open.insert(account, (count + 1, sum + amount));
        }
    }
    (open, amounts)
}

fn check(session: &Session, payments: i64) {
    let (open, amounts) = expected(payments);
    let rows = session.table(&OPEN).unwrap();
    let rows: BTreeMap<_, _> = rows.into_iter().map(|(account, row)| (account, (row.payments, row.amount))).collect();
    assert_eq!(rows, open);
    assert_eq!(session.table(&AMOUNTS).unwrap().into_iter().collect::<BTreeMap<_, _>>(), amounts);
}

/// Records in a partition, and its offsets.
fn records(backend: &LogBackend, place: &TopicPartition) -> (u64, u64, u64) {
    let offsets = backend.offsets(place).unwrap();
    let mut reader = backend.reader(place, offsets.start).unwrap();
    let (mut frames, mut count) = (Frames::default(), 0);
    while reader.read(&mut frames).unwrap() {
        count += frames.iter().flat_map(|frame| frame.records()).count() as u64;
    }
    (count, offsets.start, offsets.end)
}

#[test]
fn a_changelog_is_compacted_and_tables_can_be_made_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    let rounds = 4;
    for i in 0..rounds {
        let session = session(folder.path());
        round(&session, i * ROUND);
        check(&session, (i + 1) * ROUND);
        if i == 0 {
            copy(&folder.path().join("state"), backup.path());
        }
    }
    let payments = rounds * ROUND;
    // What the background has not done yet, the command does.
    let data_dir = folder.path().to_str().unwrap();
    app().run_with(["till", "--data-dir", data_dir, "--segment-bytes", "4096", "clean"].map(Into::into));
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let backend = LogBackend::open(log(folder.path()), Clock::system()).unwrap();
        let settings = backend.topic("payments").unwrap().spec.settings;
        assert_eq!(settings.retention_ms, Some(7 * 24 * 60 * 60 * 1000));
        for partition in 0..PARTITIONS {
            let place = TopicPartition::new("till-sum_up-changelog", partition);
            let (count, start, end) = records(&backend, &place);
            println!("changelog {partition}: {count} records of {end} are left");
            assert!(start == 0 && count < end / 3, "{count} of {end}");
            // Its outputs are all there.
            let (count, _, end) = records(&backend, &TopicPartition::new("open-balances", partition));
            assert!(count == end && end > 0);
            // What its agent has committed is gone from the repartition topic.
            let (count, start, end) = records(&backend, &TopicPartition::new("till-by_amount-repartition", partition));
            println!("repartition topic {partition}: {count} records of {end} are left");
            assert!(start > 0 && count == end - start, "{start} {end}");
        }
    }
    // With its stores, without one of them, and of the changelogs alone.
    check(&session(folder.path()), payments);
    for gone in ["state/till/open/0", "state"] {
        std::fs::remove_dir_all(folder.path().join(gone)).unwrap();
        let session = session(folder.path());
        check(&session, payments);
        assert_eq!(session.process().unwrap().finished, 0);
        check(&session, payments);
    }
    let session = session(folder.path());
    round(&session, payments);
    check(&session, payments + ROUND);
    drop(session);

    // A store from before what was compacted lacks what is gone: it is not trusted.
    std::fs::remove_dir_all(folder.path().join("state")).unwrap();
    copy(backup.path(), &folder.path().join("state"));
    let error = self::session(folder.path()).process().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("does not belong to its changelog"), "{error}");
}

/// What is put out, of every account the last.
#[test]
fn outputs_of_compacted_commits_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    round(&session, 0);
    round(&session, ROUND);
    drop(session);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let backend = LogBackend::open(log(folder.path()), Clock::system()).unwrap();
    let mut last = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let mut reader = backend.reader(&TopicPartition::new("open-balances", partition), 0).unwrap();
        let mut frames = Frames::default();
        while reader.read(&mut frames).unwrap() {
            for record in frames.iter().flat_map(|frame| frame.records()) {
                let account = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                match record.value {
                    Some(value) => {
                        let row = Balance::decode_value(value).unwrap();
                        last.insert(account, (row.payments, row.amount));
                    }
                    None => drop(last.remove(&account)),
                }
            }
        }
    }
    assert_eq!(last, expected(2 * ROUND).0);
}

#[test]
fn the_commands_set_show_and_clean() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    good(dir, &["worker", "--until-caught-up"]);
    assert!(good(dir, &["topics", "plain"]).contains("settings   cleanup=delete\n"));
    let shown = good(dir, &["topics", "plain", "--set", "retention_bytes=1", "--set", "segment_bytes=4KiB"]);
    assert!(
        shown.contains("settings   cleanup=delete\n           retention_bytes=1\n           segment_bytes=4096\n"),
        "{shown}"
    );
    good(dir, &["send", "plain", &"text ".repeat(30), "--partition", "0", "--repeat", "200"]);
    for _ in 0..3 {
        good(dir, &["send", "plain", &"text ".repeat(30), "--partition", "0", "--repeat", "20"]);
    }
    let cleaned = json_of(dir, &["clean", "plain", "--json"]);
    assert!(cleaned[0]["deleted"].as_u64().unwrap() >= 200, "{cleaned}");
    let topic = json_of(dir, &["topics", "plain", "--json"]);
    assert_eq!(topic["settings"], json!({"cleanup": "delete", "retention_bytes": 1, "segment_bytes": 4096}));
    let start = topic["partitions"][0]["start"].as_u64().unwrap();
    assert_eq!(cleaned[0]["deleted"].as_u64(), Some(start));
    assert!(good(dir, &["clean", "plain"]).contains("nothing is old enough to go"));
    // Whoever reads from before goes on from the start.
    let read = good(dir, &["read", "plain", "--partition", "0"]);
    assert_eq!(read.lines().count() as u64, 260 - start);
    let error = bad(dir, &["topics", "plain", "--set", "retention=5"], 2);
    assert!(error.contains("it has cleanup, retention_ms"), "{error}");
    let error = bad(dir, &["topics", "shop-add_up-changelog", "--set", "retention_ms=5"], 2);
    assert!(error.contains("is an app's own"), "{error}");
}
