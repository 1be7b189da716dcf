//! Named points at which a test may end the process, as `kill -9` would, or stop it, as `kill -STOP` would.
//!
//! They stand between the steps of a commit and in an append, never on the path of a record, and cost one relaxed load when
//! no test has armed them. Nothing outside of `testing` can.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::Signal;

static ARMED: AtomicBool = AtomicBool::new(false);
static POINTS: Mutex<BTreeMap<&'static str, (u64, Signal)>> = Mutex::new(BTreeMap::new());

/// Every point of a commit, in the order in which a commit passes them.
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

/// In an append: the partition is locked, and nothing is written yet.
pub const APPEND: &str = "append.locked";

/// Ends the process when `point` is passed for the `pass`-th time from now on (counted from 1).
pub fn arm(point: &'static str, pass: u64) {
    set(point, pass, Signal::KILL);
}

/// Stops the process there; it goes on when somebody lets it.
pub fn arm_to_stop(point: &'static str, pass: u64) {
    set(point, pass, Signal::STOP);
}

fn set(point: &'static str, pass: u64, signal: Signal) {
    POINTS.lock().unwrap_or_else(PoisonError::into_inner).insert(point, (pass, signal));
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
    let Some((left, signal)) = points.get_mut(name) else { return };
    *left = left.saturating_sub(1);
    if *left == 0 {
        let signal = *signal;
        points.remove(name);
        eprintln!("fault point {name}: {}", if signal == Signal::KILL { "ending the process" } else { "stopping" });
        // To this thread, which takes not one step more; the others end or stop with it. No destructor runs and no buffer
        // is flushed, as with `kill -9`.
        let _ = signal_hook::low_level::raise(signal.as_raw());
    }
}
