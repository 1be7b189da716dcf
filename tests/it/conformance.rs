//! The conformance suite against the backends that need no server.

use std::io::Write;
use std::sync::Arc;

use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::memory::MemoryBackend;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::Result;
use gretchen::testing::conformance::{Skipped, Subject, run};

/// Those about transactions.
const NO_TRANSACTIONS: &str = "skipped: a_transaction_counts_whole_and_with_its_positions, \
                               who_opens_anew_shuts_the_owner_out, what_was_not_committed_is_never_seen: the backend \
                               has no transactions";

/// What the memory cannot do.
const BY_MEMORY: [&str; 4] = [
    NO_TRANSACTIONS,
    "skipped: schemas_survive_reopening: the backend's records end with its process",
    "skipped: records_survive_reopening: the backend's records end with its process",
    "skipped: repetitions_are_known_after_reopening: the backend's records end with its process",
];

/// What the log cannot do.
const BY_LOG: [&str; 1] = [NO_TRANSACTIONS];

/// Shows what was skipped, which must be these cases and no others: a case that is not run tells nothing.
pub(crate) fn check_skipped(backend: &str, skipped: &[Skipped], expected: &[&str]) {
    let lines: Vec<String> = skipped.iter().map(Skipped::to_string).collect();
    // Not by `eprintln!`, which tests that pass keep to themselves.
    let mut stderr = std::io::stderr().lock();
    for line in &lines {
        writeln!(stderr, "conformance on {backend}: {line}").unwrap();
    }
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn memory() {
    let skipped = run(async || Ok(Subject::new(Arc::new(MemoryBackend::new(Clock::system()))))).await.unwrap();
    check_skipped("memory", &skipped, &BY_MEMORY);
}

/// Topics of single objects pass the layer as if it were not there.
#[tokio::test]
async fn memory_under_the_layer_of_formats() {
    let skipped = run(async || {
        let memory = Arc::new(MemoryBackend::new(Clock::system()));
        Ok(Subject::new(Arc::new(WireLayer::new(memory, std::collections::BTreeMap::new()))))
    })
    .await
    .unwrap();
    check_skipped("memory", &skipped, &BY_MEMORY);
}

fn log(durability: Durability, segment_bytes: u64, read_bytes: usize) -> Result<Subject> {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { durability, segment_bytes, read_bytes, ..LogOptions::new(folder.path().join("data")) };
    let open = move || -> Result<Arc<dyn Backend>> {
        let _keep = &folder;
        Ok(Arc::new(LogBackend::open(options.clone(), Clock::system())?))
    };
    Ok(Subject::new(open()?).reopened_by(open))
}

#[tokio::test]
async fn log_synced() {
    let skipped = run(async || log(Durability::Fsync, 128 << 20, 256 << 10)).await.unwrap();
    check_skipped("log", &skipped, &BY_LOG);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_in_small_segments_and_reads() {
    let skipped = run(async || log(Durability::Os, 8 << 10, 4 << 10)).await.unwrap();
    check_skipped("log", &skipped, &BY_LOG);
}
