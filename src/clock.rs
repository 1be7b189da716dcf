//! The only place that asks for the time.
#![allow(clippy::disallowed_methods)]

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;

/// Wall time, elapsed time and waiting; a test turns it by hand.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

struct Manual {
    times: Mutex<Times>,
    moved: Notify,
}

/// Where a manual clock stands, in milliseconds: its wall time, which may jump, and what has passed since it was made.
#[derive(Clone, Copy)]
struct Times {
    wall: i64,
    passed: i64,
}

impl Manual {
    fn times(&self) -> Times {
        *self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

    /// The moment that is `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0 + time.as_nanos())
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now_ms` (milliseconds since 1970) until it is moved.
    pub fn manual(now_ms: i64) -> Self {
        Self(Some(Arc::new(Manual { times: Mutex::new(Times { wall: now_ms, passed: 0 }), moved: Notify::new() })))
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
            Some(manual) => Moment(manual.times().passed as u128 * 1_000_000),
            None => Moment(process_start().elapsed().as_nanos()),
        }
    }

    /// Milliseconds since the machine was started, its sleep included. All processes agree on them, and nobody can set
    /// them; they begin anew when the machine does.
    pub fn since_boot_ms(&self) -> i64 {
        match &self.0 {
            Some(manual) => manual.times().passed,
            None => {
                let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                time.tv_sec * 1000 + time.tv_nsec / 1_000_000
            }
        }
    }

    /// Waits. Cancel-safe.
    pub async fn sleep(&self, time: Duration) {
        let Some(manual) = &self.0 else { return tokio::time::sleep(time).await };
        let until = manual.times().passed.saturating_add(whole_ms(time));
        loop {
            let moved = manual.moved.notified();
            if manual.times().passed >= until {
                return;
            }
            moved.await;
        }
    }

    /// Moves a manual clock on; the machine's clock does not listen.
    pub fn advance(&self, time: Duration) {
        if let Some(manual) = &self.0 {
            let ms = whole_ms(time);
            let mut times = manual.times.lock().unwrap_or_else(PoisonError::into_inner);
            (times.wall, times.passed) = (times.wall.saturating_add(ms), times.passed.saturating_add(ms));
            drop(times);
            manual.moved.notify_waiters();
        }
    }

    /// Sets the wall time of a manual clock forward or back, as somebody may do with the machine's: no time passes.
    pub fn jump(&self, ms: i64) {
        if let Some(manual) = &self.0 {
            let mut times = manual.times.lock().unwrap_or_else(PoisonError::into_inner);
            times.wall = times.wall.saturating_add(ms);
        }
    }
}

fn whole_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn process_start() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now)
}
