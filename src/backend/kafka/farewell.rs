//! Clients that are not needed any more: whoever drops one waits for its threads, which may take long.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A process that ends takes the libraries' memory from under threads that go on.
const BEFORE_THE_END: Duration = Duration::from_secs(3);

/// Clients of a backend that are being dropped.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    left: Mutex<u64>,
    changed: Condvar,
}

impl Farewells {
    /// Drops a client on a thread of its own.
    pub(super) fn say<T: Send + 'static>(self: &Arc<Self>, client: T) {
        let one = self.begin();
        let dropping = move || {
            drop(client);
            drop(one);
        };
        // Without a thread it is dropped here.
        let _ = std::thread::Builder::new().name("kafka-farewell".into()).spawn(dropping);
    }

    /// For a client that somebody else drops: before this is.
    pub(super) fn begin(self: &Arc<Self>) -> Farewell {
        self.change(1);
        Farewell(Arc::clone(self))
    }

    fn change(&self, by: i64) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_add_signed(by);
        self.changed.notify_all();
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Farewell(Arc<Farewells>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.change(-1);
    }
}

/// Waits when it is dropped until all are gone, or for some seconds.
#[derive(Debug)]
pub(super) struct LastFarewell(pub(super) Arc<Farewells>);

impl Drop for LastFarewell {
    fn drop(&mut self) {
        let left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.changed.wait_timeout_while(left, BEFORE_THE_END, |left| *left > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_last_waits_for_all() {
        let farewells = Arc::new(Farewells::default());
        let (gone, are_gone) = mpsc::channel();
        /// Takes a while to go.
        struct Slow(mpsc::Sender<()>);
        impl Drop for Slow {
            fn drop(&mut self) {
                std::thread::park_timeout(Duration::from_millis(50));
                self.0.send(()).unwrap();
            }
        }
        for _ in 0..3 {
            farewells.say(Slow(gone.clone()));
        }
        drop(LastFarewell(farewells));
        assert_eq!(are_gone.try_iter().count(), 3);
    }
}
