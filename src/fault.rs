//! Named points at which a test may end the process, as `kill -9` would.
//!
//! They stand between the steps of a commit, never on the path of a record, and cost one relaxed load when no test
//! has armed them. Nothing outside of `testing` can.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Every point, in the order in which a commit passes them.
pub const ALL: &[&str] = &[
    "commit.collected",
    "commit.partly-written",
    "commit.written",
    "commit.synced",
    "commit.partly-moved",
    "commit.moved",
    "commit.published",
    "checkpoint.outputs-synced",
    "checkpoint.written",
    "recovery.replayed",
    "recovery.moved",
];

/// Ends the process when `point` is passed for the `pass`-th time from now on (counted from 1).
pub fn arm(point: &'static str, pass: u64) {
    POINTS.lock().unwrap_or_else(PoisonError::into_inner).insert(point, pass);
    ARMED.store(true, Ordering::SeqCst);
}

/// A place where the process may end.
#[inline]
pub(crate) fn point(name: &'static str) {
    if ARMED.load(Ordering::Relaxed) {
        pass(name);
    }
}

#[cold]
fn pass(name: &'static str) {
    let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(left) = points.get_mut(name) {
        *left -= 1;
        if *left == 0 {
            eprintln!("fault point {name}: ending the process");
            // No destructor runs and no buffer is flushed, as with `kill -9`.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
