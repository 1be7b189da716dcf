//! Waiting for a partition's append lock. An append takes it for as long as a write lasts, so whoever waits for longer waits
//! for a process that is stopped or hangs: the operator is told for which, after a while and again whenever that time has
//! doubled. One thread tells for all who wait, and it is there only while somebody does.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::files::{lock, try_lock};
use super::owner::holder;
use crate::backend::Owner;
use crate::clock::{Clock, Moment};
use crate::disk::{Disk, DiskFile};
use crate::error::Result;
use crate::topic::TopicPartition;

/// Who has waited for this long says for whom.
const TOLD_AFTER: Duration = Duration::from_secs(2);

/// How often those who wait are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks at nobody after which the thread ends: another append will soon wait for a moment.
const IDLE_LOOKS: u32 = 20;

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { all: Vec::new(), numbers: 0, is_watched: false });

/// Those who wait, in this process.
struct Waiting {
    all: Vec<Waiter>,
    /// Numbers that were given out.
    numbers: u64,
    /// Whether the thread that looks at them is there.
    is_watched: bool,
}

struct Waiter {
    number: u64,
    place: TopicPartition,
    path: PathBuf,
    since: Moment,
    tell_after: Duration,
}

/// One who waits, until it is dropped.
struct Wait(u64);

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the append lock of a partition; waits for it, on a thread that may block.
pub(super) fn lock_to_append(disk: &Disk, place: &TopicPartition, file: &DiskFile, path: &Path) -> Result<()> {
    if try_lock(file, path)? {
        return Ok(());
    }
    // Of a simulated lock the kernel knows nothing.
    let _wait = disk.is_system().then(|| Wait::begin(place, path));
    lock(file, path)
}

impl Wait {
    fn begin(place: &TopicPartition, path: &Path) -> Self {
        let mut waiting = waiting();
        waiting.numbers += 1;
        let number = waiting.numbers;
        let since = Clock::system().moment();
        waiting.all.push(Waiter { number, place: place.clone(), path: path.to_owned(), since, tell_after: TOLD_AFTER });
        if !waiting.is_watched {
            // Without the thread nobody is told; the wait itself does not depend on it.
            waiting.is_watched = std::thread::Builder::new().name("gretchen-locks".into()).spawn(watch).is_ok();
        }
        Self(number)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        waiting().all.retain(|waiter| waiter.number != self.0);
    }
}

/// Looks at those who wait until there has been none for a while.
fn watch() {
    let mut idle = 0;
    loop {
        std::thread::park_timeout(LOOK_EVERY);
        let mut waiting = waiting();
        idle = if waiting.all.is_empty() { idle + 1 } else { 0 };
        if idle > IDLE_LOOKS {
            waiting.is_watched = false;
            return;
        }
        let due = look(&mut waiting.all, Clock::system().moment());
        // Telling takes its time, and those who wait no longer need the list.
        drop(waiting);
        for (place, path, time) in due {
            tell(&place, holder(&path), time);
        }
    }
}

/// Those who are to be told of now.
fn look(all: &mut [Waiter], now: Moment) -> Vec<(TopicPartition, PathBuf, Duration)> {
    let mut due = Vec::new();
    for waiter in all {
        let time = now.since(waiter.since);
        if time >= waiter.tell_after {
            waiter.tell_after = time * 2;
            due.push((waiter.place.clone(), waiter.path.clone(), time));
        }
    }
    due
}

fn tell(place: &TopicPartition, holder: Option<Owner>, time: Duration) {
    let (topic, partition, seconds) = (&place.topic, place.partition, time.as_secs());
    match holder {
        Some(Owner { process, stopped: Some(true) }) => tracing::warn!(
            %topic, partition, process, seconds,
            "nobody can append to the partition or open it: a process that was appending is stopped by a signal; \
             kill -CONT {process} lets it go on, and when it is killed others go on without its append"
        ),
        Some(Owner { process, .. }) => tracing::warn!(
            %topic, partition, process, seconds,
            "nobody can append to the partition or open it: a process has been appending or looking at its files for \
             long; its log says what it is at, and when it is killed others go on without its append"
        ),
        None => tracing::warn!(
            %topic, partition, seconds,
            "nobody can append to the partition or open it: a process that cannot be seen from here has been appending \
             for long; see whether it is stopped"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_of_after_a_while_and_ever_more_seldom() {
        let clock = Clock::manual(0);
        let place = TopicPartition::new("orders", 3);
        let waiter = |number| Waiter {
            number,
            place: place.clone(),
            path: PathBuf::from("append.lock"),
            since: clock.moment(),
            tell_after: TOLD_AFTER,
        };
        let mut all = vec![waiter(1)];
        let mut told = Vec::new();
        for second in 0..20 {
            told.extend(look(&mut all, clock.moment()).into_iter().map(|(.., time)| (second, time.as_secs())));
            clock.advance(Duration::from_secs(1));
            if second == 4 {
                all.push(waiter(2));
            }
        }
        assert_eq!(told, [(2, 2), (4, 4), (7, 2), (8, 8), (9, 4), (13, 8), (16, 16)]);
    }

    #[test]
    fn who_waits_no_longer_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, path) = (Disk::system(), folder.path().join("append.lock"));
        let open = || super::super::files::open_or_create(&disk, &path).unwrap();
        let place = TopicPartition::new("orders", 0);
        let held = crate::disk::Unlock(open());
        lock_to_append(&disk, &place, &held.0, &path).unwrap();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| lock_to_append(&disk, &place, &open(), &path));
            while !waiting().all.iter().any(|waiter| waiter.path == path) {
                std::thread::yield_now();
            }
            drop(held);
            other.join().unwrap().unwrap();
        });
        assert!(!waiting().all.iter().any(|waiter| waiter.path == path));
    }
}
