//! The log's own clock: wall time that no wrong clock hurries or holds up.
//!
//! Retention deletes by age, and a machine whose clock stands a day ahead for an hour must not lose a day of records.
//! Therefore the log's time goes by the time since the machine's start, which nobody can set, and follows the wall clock
//! only where it may: at once when it is less than [`BELIEVED_MS`] off, and otherwise when it has been off for
//! [`HELD_MS`]. While the machine is off, the log's time stands still until the wall clock is believed; what it deletes
//! is deleted later then, and never earlier.
//!
//! The file `time` in the data folder holds how the two relate, for all processes: a line of JSON, and a line with the
//! CRC-32C of that, because one wrong digit would delete what is not old. Without it, or where it is damaged, the wall clock
//! counts. Where it cannot be read or a newer release wrote it nothing is deleted by age.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::files::{open_or_create, read_if_there, replace, sync_folder, try_lock};
use crate::clock::Clock;
use crate::disk::{Disk, Unlock};
use crate::error::{Error, ErrorKind, Result};

/// A clock that is less than this off is right, and the log's time is not.
const BELIEVED_MS: i64 = 60 * 60 * 1000;

/// How long a clock must have been off by more until the log's time follows it.
const HELD_MS: i64 = 24 * 60 * 60 * 1000;

/// How often what is known is written anew.
const WRITE_MS: i64 = 60 * 1000;

/// The log's clock.
#[derive(Debug)]
pub(super) struct LogTime {
    disk: Disk,
    path: PathBuf,
    clock: Clock,
    boot: Option<[u64; 2]>,
    /// What is known to survive a loss of power, the name of the file along.
    durable: Mutex<Durable>,
}

/// The format of the file, which says none as long as it is this.
const FORMAT: u32 = 0;

/// All that is read of a file of another format.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Version {
    #[serde(default)]
    format: u32,
}

/// What was known of the time when somebody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// The run of the machine.
    boot: [u64; 2],
    /// What to add to the time since its start.
    ahead_ms: i64,
    /// The log's time then.
    seen_ms: i64,
    /// By how much the wall clock was off since when, if by more than is believed at once.
    off: Option<Off>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Off {
    by_ms: i64,
    since_ms: i64,
}

/// What of it is known to be on the disk.
#[derive(Debug, Default)]
struct Durable {
    known: Option<Known>,
    /// The last write or sync has failed, or was given up.
    failed: bool,
}

/// Why the clocks were not compared.
enum NotCompared {
    /// What is known cannot be read.
    Read(Error),
    /// What is known now cannot be written.
    Write(Error),
}

impl LogTime {
    pub(super) fn new(disk: Disk, path: PathBuf, clock: Clock, boot: Option<[u64; 2]>) -> Self {
        Self { disk, path, clock, boot, durable: Mutex::default() }
    }

    /// Milliseconds since 1970. After a start of the machine the wall clock is believed no more than [`LogTime::look`] does.
    pub(super) fn now_ms(&self) -> i64 {
        let Some(boot) = self.boot else { return self.clock.now_ms() };
        let known = self.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "the clock counts as it is");
            None
        });
        look(known, boot, self.clock.since_boot_ms(), self.clock.now_ms()).seen_ms
    }

    /// As [`LogTime::now_ms`], and compares it with the wall clock.
    pub(super) fn look(&self) -> Result<i64> {
        self.compare().map_err(|(NotCompared::Read(error) | NotCompared::Write(error))| error)
    }

    fn compare(&self) -> Result<i64, NotCompared> {
        let Some(boot) = self.boot else { return Ok(self.clock.now_ms()) };
        let path = self.path.with_extension("lock");
        let file = open_or_create(&self.disk, &path).map_err(NotCompared::Read)?;
        if !try_lock(&file, &path).map_err(NotCompared::Read)? {
            return Ok(self.now_ms());
        }
        let _unlock = Unlock(&file);
        let before = self.read().map_err(NotCompared::Read)?;
        let since_boot = self.clock.since_boot_ms();
        let now = look(before, boot, since_boot, self.clock.now_ms());
        let mut same = before.is_some_and(|before| {
            (before.boot, before.ahead_ms, before.off) == (boot, now.ahead_ms, now.off)
                && (0..WRITE_MS).contains(&(now.seen_ms - before.seen_ms))
        });
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        // What a failed sync was for may never come to the disk, whatever a second one says: it is written anew.
        same &= !durable.failed;
        if !same && let Ok(text) = text_of(&now) {
            durable.failed = true;
            replace(&self.disk, &self.path, text.as_bytes()).map_err(NotCompared::Write)?;
            *durable = Durable { known: Some(now), failed: false };
        } else if durable.known != before {
            // Whoever wrote it may have been killed before its name was synced. If that were lost, the wall clock would count.
            durable.failed = true;
            let folder = self.path.parent().unwrap_or(Path::new("."));
            sync_folder(&self.disk, folder).map_err(NotCompared::Write)?;
            *durable = Durable { known: before, failed: false };
        }
        Ok(now.seen_ms)
    }

    /// The same for something that is to be told the age of: should the clock be wrong, it is known to have been so. A disk
    /// that is full keeps nobody from what may make room on it; what else cannot be written or synced is an error like any
    /// other.
    pub(super) fn note(&self) -> Result<i64> {
        self.compare().or_else(|failed| match failed {
            NotCompared::Write(error) if error.kind() != ErrorKind::Full => Err(error),
            NotCompared::Read(_) | NotCompared::Write(_) => Ok(self.now_ms()),
        })
    }

    /// What somebody wrote last. A file that is missing or damaged says nothing, and is written anew.
    fn read(&self) -> Result<Option<Known>> {
        read(&self.disk, &self.path).or_else(|error| match error.kind() {
            ErrorKind::Corrupt => {
                tracing::warn!(%error, "the clock counts as it is");
                Ok(None)
            }
            _ => Err(error),
        })
    }
}

/// What the file says, if it is there.
pub(super) fn check(disk: &Disk, path: &Path) -> Result<()> {
    read(disk, path).map(drop)
}

fn read(disk: &Disk, path: &Path) -> Result<Option<Known>> {
    let Some(bytes) = read_if_there(disk, path)? else { return Ok(None) };
    match parse(&bytes) {
        Some(Ok(known)) => Ok(Some(known)),
        Some(Err(Version { format })) => Err(Error::newer_format(&path.display(), format, FORMAT)),
        None => Err(Error::new(ErrorKind::Corrupt, format!("{} is damaged", path.display()))),
    }
}

fn text_of(known: &Known) -> serde_json::Result<String> {
    let json = serde_json::to_string(known)?;
    Ok(format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes())))
}

/// Reads what [`text_of`] made, or says that a newer release made it. The first releases wrote no checksum.
fn parse(bytes: &[u8]) -> Option<Result<Known, Version>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (json, check) = text.split_once('\n').unwrap_or((text, ""));
    let whole = check.is_empty() || check == format!("{:08x}\n", crc32c::crc32c(json.as_bytes()));
    let version: Version = serde_json::from_str(json).ok().filter(|_| whole)?;
    if version.format > FORMAT { Some(Err(version)) } else { serde_json::from_str(json).ok().map(Ok) }
}

/// What is known after a look at the clocks.
fn look(before: Option<Known>, boot: [u64; 2], since_boot: i64, wall: i64) -> Known {
    // Of a machine that was off nobody knows for how long.
    let time = before.map_or(wall, |before| match before.boot == boot {
        true => since_boot + before.ahead_ms,
        false => before.seen_ms,
    });
    let by_ms = wall - time;
    let (time, off) = if by_ms.abs() < BELIEVED_MS {
        (wall, None)
    } else {
        match before.and_then(|before| before.off).filter(|off| off.by_ms.signum() == by_ms.signum()) {
            None => (time, Some(Off { by_ms, since_ms: time })),
            Some(off) => {
                // By no more than it was off all the time.
                let least = if by_ms.abs() < off.by_ms.abs() { by_ms } else { off.by_ms };
                match time - off.since_ms >= HELD_MS {
                    true => (time + least, None),
                    false => (time, Some(Off { by_ms: least, ..off })),
                }
            }
        }
    };
    Known { boot, ahead_ms: time - since_boot, seen_ms: time, off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sim::{Crash, Machine, Process};

    const HOUR: i64 = 60 * 60 * 1000;
    const DAY: i64 = 24 * HOUR;
    const BOOT: [u64; 2] = [1, 2];
    /// When everything begins.
    const START: i64 = 1_700_000_000_000;

    /// Looks once an hour at a machine whose clock is off by what `off` says; returns how far the log's time is from the
    /// truth then, hour by hour.
    fn errors(hours: i64, off: impl Fn(i64) -> i64) -> Vec<i64> {
        let mut known = None;
        let mut errors = Vec::new();
        for hour in 0..hours {
            let since_boot = 5 * HOUR + hour * HOUR;
            let now = look(known, BOOT, since_boot, START + hour * HOUR + off(hour));
            assert_eq!(now.ahead_ms + since_boot, now.seen_ms);
            errors.push(now.seen_ms - (START + hour * HOUR));
            known = Some(now);
        }
        errors
    }

    #[test]
    fn a_clock_that_jumps_for_less_than_a_day_is_not_followed() {
        for day in [DAY, -DAY, 400 * DAY] {
            let jump = |hour| if (10..30).contains(&hour) { day } else { 0 };
            assert!(errors(60, jump).iter().all(|error| *error == 0));
        }
        // Forward and back at once, again and again.
        let shaken = |hour: i64| [0, DAY, -DAY][hour as usize % 3];
        assert!(errors(200, shaken).iter().all(|error| *error == 0));
    }

    #[test]
    fn a_clock_that_stays_is_followed_in_the_end() {
        let found = errors(60, |hour| if hour >= 10 { 2 * DAY } else { 0 });
        assert_eq!((found[33], found[34], found[59]), (0, 2 * DAY, 2 * DAY));
        let found = errors(60, |hour| if hour >= 10 { -2 * DAY } else { 0 });
        assert_eq!((found[33], found[59]), (0, -2 * DAY));
    }

    #[test]
    fn a_clock_that_is_set_by_minutes_is_followed_at_once() {
        let found = errors(20, |hour| if hour >= 10 { HOUR / 2 } else { 0 });
        assert_eq!((found[9], found[10], found[19]), (0, HOUR / 2, HOUR / 2));
    }

    #[test]
    fn a_machine_that_was_off_makes_nothing_older_at_first() {
        let before = look(None, BOOT, 3 * HOUR, START);
        let after = look(Some(before), [7, 7], 1000, START + 30 * DAY);
        assert_eq!(after.seen_ms, START);
        let later = look(Some(after), [7, 7], 1000 + DAY, START + 31 * DAY);
        assert_eq!(later.seen_ms, START + 31 * DAY);
        // A short restart is no matter.
        let after = look(Some(before), [7, 7], 1000, START + HOUR / 2);
        assert_eq!(after.seen_ms, START + HOUR / 2);
    }

    #[test]
    fn all_processes_have_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START);
        let time = || LogTime::new(Disk::system(), folder.path().join("time"), clock.clone(), Some(BOOT));
        assert_eq!(time().now_ms(), START);
        assert_eq!(time().look().unwrap(), START);
        clock.jump(DAY);
        clock.advance(std::time::Duration::from_secs(5));
        // One that begins while the clock is wrong, too.
        assert_eq!(time().now_ms(), START + 5000);
        assert_eq!(time().look().unwrap(), START + 5000);
        std::fs::write(folder.path().join("time"), "{").unwrap();
        assert_eq!(time().now_ms(), START + DAY + 5000);
    }

    #[test]
    fn what_a_newer_release_knows_of_the_time_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time");
        let time = LogTime::new(Disk::system(), path.clone(), Clock::manual(START), Some(BOOT));
        let json = r#"{"format":2,"since":"the beginning"}"#;
        let text = format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes()));
        std::fs::write(&path, &text).unwrap();
        assert_eq!(time.now_ms(), START, "the wall clock counts");
        let error = time.look().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.message().ends_with("has format 2, this build reads up to 0; use the release that wrote it"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_time_that_cannot_be_read_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("time");
        std::fs::create_dir(&path).unwrap();
        let time = LogTime::new(Disk::system(), path.clone(), Clock::manual(START), Some(BOOT));
        assert_eq!(time.now_ms(), START, "the wall clock counts");
        assert_eq!(time.look().unwrap_err().kind(), ErrorKind::Io);
        assert!(path.is_dir());
    }

    #[test]
    fn a_clock_that_is_slow_after_a_start_of_the_machine_makes_nothing_old() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START);
        let time = |boot| LogTime::new(Disk::system(), folder.path().join("time"), clock.clone(), Some(boot));
        time(BOOT).look().unwrap();
        clock.jump(-5 * HOUR);
        // Before anybody has compared the clocks in this run of the machine.
        assert_eq!(time([3, 4]).now_ms(), START);
        assert_eq!(time([3, 4]).look().unwrap(), START);
    }

    /// What a process that was killed while it wrote the file has left counts only once its name is durable.
    #[test]
    fn a_time_that_somebody_looked_at_survives_a_loss_of_power() {
        let mut kept = 0;
        for seed in 0..200 {
            let machine = Machine::new(seed);
            let time = |process: &Process| {
                LogTime::new(process.disk(), "/time".into(), process.clock(), process.disk().boot())
            };
            let process = machine.start().unwrap();
            process.crash_at_call(1 + seed % 20, Crash::Kill);
            let first = time(&process).look();
            let process = machine.start().unwrap();
            let before = time(&process).read().unwrap();
            kept += u64::from(before.is_some() && first.is_err());
            let seen = time(&process).look().unwrap();
            machine.lose_power();
            machine.jump(5 * HOUR);
            let process = machine.start().unwrap();
            assert_eq!(time(&process).look().unwrap(), seen, "seed {seed}: {before:?}");
        }
        assert!(kept > 5, "{kept} were killed behind the new name");
    }

    #[test]
    fn no_bit_of_the_file_makes_another_time() {
        let off = Some(Off { by_ms: DAY, since_ms: START });
        let known = Known { boot: [u64::MAX, 7], ahead_ms: START - HOUR, seen_ms: START, off };
        let text = text_of(&known).unwrap().into_bytes();
        assert_eq!(parse(&text), Some(Ok(known)));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = parse(&flipped);
            assert!(found.is_none(), "bit {bit}: {found:?}");
        }
        for len in 0..text.len() {
            // Up to the checksum it is a file of the first releases.
            let found = parse(&text[..len]);
            assert!(found.is_none() || found == Some(Ok(known)), "{len} bytes: {found:?}");
        }
        assert_eq!(parse(&serde_json::to_vec(&known).unwrap()), Some(Ok(known)));
    }
}
