//! The conformance suite on a real broker. `GRETCHEN_CASES=1` with `--nocapture` shows the cases as they run.

use std::sync::Arc;

use gretchen::backend::kafka::KafkaBackend;
use gretchen::backend::{Backend, WireLayer};
use gretchen::clock::Clock;
use gretchen::error::Result;
use gretchen::testing::conformance::{Subject, run};

use super::{fresh_prefix, options};
use crate::conformance::check_skipped;

/// What a broker cannot do.
const BY_BROKER: [&str; 2] = [
    "skipped: each_set_is_shared_out_by_itself: the backend shares out the partitions of all sets together",
    "skipped: an_append_at_an_offset_goes_there_or_nowhere: the backend commits by transactions and appends only at \
     the end of a partition",
];

fn subject() -> Result<Subject> {
    let prefix = fresh_prefix();
    let open = move || -> Result<Arc<dyn Backend>> {
        let kafka = KafkaBackend::open(options(&prefix), Clock::system())?;
        // Programs never see the backend without its layer.
        Ok(Arc::new(WireLayer::new(Arc::new(kafka), std::collections::BTreeMap::new())))
    };
    Ok(Subject::new(open()?).reopened_by(open))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_does_what_every_backend_must_do() {
    if std::env::var_os("GRETCHEN_CASES").is_some() {
        let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).try_init();
    }
    let skipped = run(async || subject()).await.unwrap();
    check_skipped("kafka", &skipped, &BY_BROKER);
}
