//! Agents that are reset process their topics anew, and what comes of it counts once, also where one puts out what another
//! reads.

use std::fs;
use std::path::Path;

use gretchen::agent;
use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::table::{Table, TableMut};
use serde_json::Value;

use crate::cli::{bad, good, json_of};

static COUNTS: Table<String, i64> = Table::new("counts");

#[agent(topic = "words", output = "heard")]
async fn hear(word: String) -> String {
    word
}

#[agent(topic = "heard", table = COUNTS)]
async fn count(word: String, mut counts: TableMut<'_, String, i64>) -> Result<(), BoxError> {
    counts.update(&word, |count| *count += 1)?;
    Ok(())
}

/// Of the command line `chain`.
pub(crate) fn app() -> App {
    App::new("chain").agent::<hear>().agent::<count>()
}

fn work(dir: &Path) -> u64 {
    json_of(dir, &["worker", "--until-caught-up", "--json"])["records"].as_u64().unwrap()
}

/// Lets workers process that many records. On a Kafka one may have caught up before the last outputs of an agent are seen.
pub(crate) fn work_on(dir: &Path, records: u64) -> u64 {
    (0..10).fold(0, |done, _| if done < records { done + work(dir) } else { done })
}

/// How often each word was counted.
fn counted(dir: &Path) -> Vec<(String, u64)> {
    let rows = json_of(dir, &["tables", "counts", "--json"]);
    let row = |row: &Value| (row["key"].as_str().unwrap().to_owned(), row["value"].as_u64().unwrap());
    rows.as_array().unwrap().iter().map(row).collect()
}

fn words<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> Vec<(String, u64)> {
    counts.into_iter().filter(|(_, count)| *count > 0).map(|(word, count)| (word.to_owned(), count)).collect()
}

/// In a folder whose settings name a backend with nothing in it. Of the options that say where an agent begins every so many-th
/// is tried.
pub(crate) fn check_chain(dir: &Path, each: usize) {
    fs::write(dir.join("format.txt"), "chain").unwrap();
    for word in ["a", "b", "a"] {
        good(dir, &["send", "words", word]);
    }
    assert_eq!(work_on(dir, 6), 6);
    assert_eq!(counted(dir), words([("a", 2), ("b", 1)]));

    let said = bad(dir, &["reset", "--force"], 2);
    assert!(said.contains("agents hear and count are reset") && said.contains("--intermediate-topics heard"), "{said}");
    let heard = ["--intermediate-topics", "heard"];
    let would = good(dir, &[&["reset", "--dry-run"], &heard[..]].concat());
    assert!(would.contains("start     chain.count in heard/0: "), "{would}");
    assert!(!would.contains("start     chain.hear") && !would.contains("is not reset"), "{would}");
    for again in 0..2 {
        let done = good(dir, &[&["reset", "--force"], &heard[..]].concat());
        assert!(done.contains("from these positions on, those not listed from the start"), "{done}");
        assert_eq!(counted(dir), []);
        assert_eq!(work_on(dir, 6), 6, "reset {again}");
        assert_eq!(counted(dir), words([("a", 2), ("b", 1)]), "reset {again}");
        assert_eq!(work(dir), 0);
    }

    // Alone it processes what was put out, and that three times; or what is asked for.
    let would = good(dir, &["reset", "--agent", "hear", "--dry-run"]);
    assert!(would.contains("agent count is not reset and reads heard"), "{would}");
    good(dir, &["reset", "--agent", "count", "--force"]);
    assert_eq!((work_on(dir, 9), counted(dir)), (9, words([("a", 6), ("b", 3)])));
    let starts = [
        (vec!["--to-earliest"], [6, 3]),
        (vec!["--to-latest"], [0, 0]),
        (vec!["--to-offset", "1"], [5, 3]),
        (vec!["--to-datetime", "2001-02-03T04:05:06"], [6, 3]),
        (vec!["--to-datetime", "2999-02-03T04:05:06+01:00"], [0, 0]),
        (vec!["--by-duration", "P7DT12H"], [6, 3]),
        (vec!["--by-duration", "0s"], [0, 0]),
        (vec!["--intermediate-topics", "heard"], [0, 0]),
    ];
    for (options, left) in starts.into_iter().step_by(each) {
        good(dir, &[&["reset", "--agent", "count", "--force"], &*options].concat());
        assert_eq!(work_on(dir, left[0] + left[1]), left[0] + left[1], "{options:?}");
        assert_eq!(counted(dir), words(["a", "b"].into_iter().zip(left)), "{options:?}");
        assert_eq!(work(dir), 0, "{options:?}");
    }
    // What comes from elsewhere is counted as ever.
    good(dir, &["send", "words", "b"]);
    assert_eq!((work_on(dir, 2), counted(dir)), (2, words([("a", 0), ("b", 1)])));

    let said = bad(dir, &["reset", "--intermediate-topics", "hear", "--force"], 1);
    assert!(said.contains("none of the agents that are reset reads topic hear"), "{said}");
}

#[test]
fn what_one_agent_puts_out_to_another_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    check_chain(dir, 1);
    for (options, what) in [
        (["--shift-by", "-1"], "where agents on a log are is"),
        (["--input-topics", "heard"], "agents on a log are in words"),
    ] {
        let said = bad(dir, &[&["reset", "--force"], &options[..]].concat(), 2);
        assert!(said.contains(what) && said.contains("they cannot go on from there"), "{said}");
    }
    // All that was ever put out once more, on the word of whoever asks for it: thrice of three, and one more.
    good(dir, &["reset", "--input-topics", "heard,words", "--force"]);
    assert_eq!(work_on(dir, 18), 4 + 10 + 4);
}

#[agent(topic = "ring-a", output = "ring-b")]
async fn there(word: String) -> String {
    word
}

#[agent(topic = "ring-b", output = "ring-a")]
async fn back(word: String) -> Option<String> {
    (word == "again").then(|| "last".to_owned())
}

/// Of the command line `ring`.
pub(crate) fn ring() -> App {
    App::new("ring").agent::<there>().agent::<back>()
}

#[test]
fn where_agents_read_in_a_circle_what_they_write_it_has_to_be_said_where_they_begin() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    fs::write(dir.join("format.txt"), "ring").unwrap();
    good(dir, &["send", "ring-a", "again"]);
    assert_eq!(work_on(dir, 4), 4);
    for options in [&["reset", "--force"][..], &["reset", "--intermediate-topics", "ring-a", "--force"]] {
        let said = bad(dir, options, 2);
        assert!(said.contains("agents there and back are reset"), "{said}");
    }
    good(dir, &["reset", "--to-latest", "--force"]);
    assert_eq!(work(dir), 0);
    good(dir, &["reset", "--input-topics", "ring-a,ring-b", "--force"]);
    // There it goes around once more.
    assert_eq!(work_on(dir, 10), 4 + 6);
}
