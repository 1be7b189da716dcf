//! The conformance suite against the backends that need no server.

use std::sync::Arc;

use gretchen::backend::log::{Durability, LogBackend, LogOptions};
use gretchen::backend::memory::MemoryBackend;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::Result;
use gretchen::testing::conformance::{Subject, run};

#[tokio::test]
async fn memory() {
    run(async || Ok(Subject::new(Arc::new(MemoryBackend::new(Clock::system()))))).await.unwrap();
}

/// Topics of single objects pass the layer as if it were not there.
#[tokio::test]
async fn memory_under_the_layer_of_formats() {
    run(async || {
        let memory = Arc::new(MemoryBackend::new(Clock::system()));
        Ok(Subject::new(Arc::new(WireLayer::new(memory, std::collections::BTreeMap::new()))))
    })
    .await
    .unwrap();
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
    run(async || log(Durability::Fsync, 128 << 20, 256 << 10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_in_small_segments_and_reads() {
    run(async || log(Durability::Os, 8 << 10, 4 << 10)).await.unwrap();
}
