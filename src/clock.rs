//! The only place that asks for the time.
#![allow(clippy::disallowed_methods)]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Wall time, elapsed time and waiting; a test turns it by hand.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

struct Manual {
    times: Mutex<Times>,
    moved: Notify,
}

/// What a manual clock says.
#[derive(Clone, Copy)]
struct Times {
    /// Milliseconds since 1970.
    wall: i64,
    /// Milliseconds of a clock that only ever advances.
    elapsed: i64,
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(manual)" } else { "Clock(system)" })
    }
}

/// A moment on a clock that never goes back, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u128);

impl Moment {
    /// Time from `earlier` to this moment.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0) as u64)
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now_ms` (milliseconds since 1970) until it is moved.
    pub fn manual(now_ms: i64) -> Self {
        let times = Mutex::new(Times { wall: now_ms, elapsed: now_ms });
        Self(Some(Arc::new(Manual { times, moved: Notify::new() })))
    }

    /// Wall time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Some(manual) => manual.times().wall,
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64),
        }
    }

    /// Now, on a clock that never goes back.
    pub fn moment(&self) -> Moment {
        match &self.0 {
            Some(manual) => Moment(manual.times().elapsed.max(0) as u128 * 1_000_000),
            None => Moment(process_start().elapsed().as_nanos()),
        }
    }

    /// Milliseconds since the machine was started, its sleep included. All processes agree on them, and nobody can set
    /// them; they begin anew when the machine does.
    pub fn since_boot_ms(&self) -> i64 {
        match &self.0 {
            Some(manual) => manual.times().elapsed,
            None => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                time.tv_sec * 1000 + time.tv_nsec / 1_000_000
            }
        }
    }

    /// Waits. Cancel-safe.
    pub async fn sleep(&self, time: Duration) {
        let Some(manual) = &self.0 else { return tokio::time::sleep(time).await };
        let until = manual.times().elapsed.saturating_add(time.as_millis() as i64);
        loop {
            let moved = manual.moved.notified();
            if manual.times().elapsed >= until {
                return;
            }
            moved.await;
        }
    }

    /// Moves a manual clock on; the machine's clock does not listen.
    pub fn advance(&self, time: Duration) {
        if let Some(manual) = &self.0 {
            let mut times = manual.times();
            times.wall += time.as_millis() as i64;
            times.elapsed += time.as_millis() as i64;
            drop(times);
            manual.moved.notify_waiters();
        }
    }

    /// Sets the wall time of a manual clock forward or back, as somebody sets a machine's: no time passes.
    pub fn jump(&self, by_ms: i64) {
        if let Some(manual) = &self.0 {
            manual.times().wall += by_ms;
        }
    }
}

impl Manual {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn process_start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}
