//! What workers clean: topics by their settings, changelogs, and the repartition topics of their agents.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::mark::Entry;
use super::position_file::PositionFile;
use crate::backend::{Backend, Cleaned, Compaction, LastOffsets, Replay, Stays};
use crate::clock::Clock;
use crate::disk::Disk;
use crate::error::Result;
use crate::plan::AgentPlan;
use crate::record::RawRecord;
use crate::table::TableSnapshot;
use crate::topic::TopicPartition;

/// Lets go what topics' settings let go, once in a while, until it is dropped. All workers do so; one at a time is at a
/// partition.
pub(super) async fn clean_topics(backend: Arc<dyn Backend>, clock: Clock, every: Duration) {
    let Some(replay) = backend.replay() else { return };
    loop {
        clock.sleep(every).await;
        let topics = match backend.topics().await {
            Ok(topics) => topics,
            Err(error) => {
                tracing::warn!(%error, "topics cannot be cleaned");
                continue;
            }
        };
        for spec in topics.iter().map(|topic| &topic.spec).filter(|spec| spec.settings.lets_go() && !spec.internal) {
            for partition in 0..spec.partitions {
                let place = TopicPartition::new(spec.name.clone(), partition);
                if let Err(error) = replay.clean(&place, false).await {
                    tracing::warn!(%error, "old records stay; they will be tried again");
                }
            }
        }
    }
}

/// What a task's checkpoint makes needless.
pub(super) struct Needless {
    pub(super) changelog: TopicPartition,
    /// Where the last commit of the checkpoint begins: everything before is in the stores, and put out durably.
    pub(super) begins: u64,
    /// The task's repartition topics, each with the position of that commit.
    pub(super) repartitions: Vec<(TopicPartition, u64)>,
}

impl Needless {
    /// Lets it go. Nothing depends on it: what fails is tried again after another checkpoint.
    pub(super) async fn clean(self, replay: Arc<dyn Replay>) {
        // In this order: to delete takes no room, and to compact does.
        let mut failed = None;
        for (place, position) in &self.repartitions {
            failed = failed.or(replay.delete_before(place, *position).await.err());
        }
        failed = failed.or(compact_changelog(&*replay, &self.changelog, self.begins, false).await.err());
        if let Some(error) = failed {
            tracing::warn!(%error, "what no recovery needs stays; it will be tried again");
        }
    }
}

/// Compacts a changelog before an offset that a checkpoint covers: the last state of every key stays, so that the tables
/// can be made of the changelog alone.
async fn compact_changelog(
    replay: &dyn Replay,
    changelog: &TopicPartition,
    begins: u64,
    thorough: bool,
) -> Result<Cleaned> {
    replay.compact(changelog, begins, Box::new(CommittedStates::default()), thorough).await
}

/// Compacts an agent's changelog in a partition up to what its stores in `state_dir` cover, whoever works there.
pub(crate) async fn clean_changelog(
    agent: &AgentPlan,
    partition: u32,
    state_dir: &Path,
    replay: &dyn Replay,
) -> Result<Cleaned> {
    let covered = covered(agent, partition, state_dir)?;
    let changelog = TopicPartition::new(agent.changelog.clone(), partition);
    match covered {
        Some(begins) => compact_changelog(replay, &changelog, begins, true).await,
        None => Ok(Cleaned::default()),
    }
}

/// The changelog position that every store of a task covers; it never goes back.
fn covered(agent: &AgentPlan, partition: u32, state_dir: &Path) -> Result<Option<u64>> {
    if agent.tables.is_empty() {
        return PositionFile::new(Disk::system(), Some(state_dir.join(agent.def.name)), partition).load();
    }
    let mut least = Some(u64::MAX);
    for table in &agent.tables {
        let folder = state_dir.join(table.name).join(partition.to_string());
        let position = TableSnapshot::open(table, &folder, &agent.stored)?.position()?;
        least = least.zip(position).map(|(least, position)| least.min(position));
    }
    Ok(least)
}

/// Of a changelog the last state of every key stays, as of the commits that ended. Outputs and marks go.
#[derive(Default)]
struct CommittedStates {
    last: LastOffsets,
    /// States of a commit whose mark was not seen yet.
    open: Aside,
}

impl CommittedStates {
    fn end(&mut self, begins: u64) {
        for (key, offset) in self.open.drain().filter(|(_, offset)| *offset >= begins) {
            self.last.note(key, offset);
        }
    }
}

/// Keys' hashes and offsets, in pieces: one list would be there twice whenever it grows.
#[derive(Default)]
struct Aside {
    /// All but the last are full.
    pieces: Vec<Vec<([u64; 2], u64)>>,
}

impl Aside {
    /// Notes in a piece, which takes 24 KiB.
    const PIECE: usize = 1024;

    fn push(&mut self, key: [u64; 2], offset: u64) {
        match self.pieces.last_mut().filter(|piece| piece.len() < Self::PIECE) {
            Some(piece) => piece.push((key, offset)),
            None => {
                let mut piece = Vec::with_capacity(Self::PIECE);
                piece.push((key, offset));
                self.pieces.push(piece);
            }
        }
    }

    fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * Self::PIECE + last.len())
    }

    /// Takes everything out.
    fn drain(&mut self) -> impl Iterator<Item = ([u64; 2], u64)> {
        std::mem::take(&mut self.pieces).into_iter().flatten()
    }
}

impl Compaction for CommittedStates {
    fn limit_memory(&mut self, bytes: usize) {
        // The other half is for what is open.
        self.last.limit_memory(bytes / 2);
    }

    fn note(&mut self, record: &RawRecord<'_>) -> Result<()> {
        match Entry::parse(record)? {
            Entry::Delta { .. } => {
                self.open.push(self.last.hash(record.key.unwrap_or_default()), record.offset);
            }
            Entry::Output { .. } => {}
            Entry::Mark(mark) => self.end(mark.begins),
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.last.has_room(self.open.len())
    }

    fn is_open(&self) -> bool {
        self.open.len() > 0
    }

    fn look_ahead(&mut self, record: &RawRecord<'_>) -> Result<()> {
        if let Entry::Mark(mark) = Entry::parse(record)? {
            self.end(mark.begins);
        }
        Ok(())
    }

    fn stays(&self, record: &RawRecord<'_>, compacted: bool) -> Result<Stays> {
        Ok(match Entry::parse(record)? {
            Entry::Delta { .. } if self.last.stays(record.key.unwrap_or_default(), record.offset, compacted) => {
                Stays::Yes
            }
            _ => Stays::No,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::backend::log::{LogBackend, LogOptions};
    use crate::backend::{ProducerId, segment_records};
    use crate::heap::most_of;
    use crate::record::{FrameBuilder, Headers};
    use crate::testing::sim::{Crash, Machine, Process};
    use crate::topic::{Cleanup, TopicSettings, TopicSpec};
    use crate::worker::mark::{DELTA_TAG, MARK_TAG};
    use crate::worker::tail::Walk;
    use crate::worker::{CommitVisitor, Mark, walk};

    /// The states that a walk comes to.
    #[derive(Default, PartialEq, Debug)]
    struct States(BTreeMap<(usize, Vec<u8>), Vec<u8>>);

    impl CommitVisitor for States {
        fn delta(&mut self, table: usize, key: &[u8], stored: Option<&[u8]>) -> Result<()> {
            match stored {
                Some(stored) => self.0.insert((table, key.to_vec()), stored.to_vec()),
                None => self.0.remove(&(table, key.to_vec())),
            };
            Ok(())
        }

        fn mark(&mut self, _: Mark, _: u64) -> Result<()> {
            Ok(())
        }
    }

    fn states(backend: &LogBackend, changelog: &TopicPartition) -> States {
        let mut states = States::default();
        let end = backend.offsets(changelog).unwrap().end;
        walk(backend, changelog, 0, end, &mut states).unwrap();
        states
    }

    /// Numbers that are always the same (xorshift64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// Notes deltas of keys that nobody else has.
    fn note(rules: &mut CommittedStates, next: &mut u64, count: u64) {
        for _ in 0..count {
            let key = [&[DELTA_TAG, 0][..], &next.to_le_bytes()].concat();
            let (key, headers) = (Some(&key[..]), Headers::default());
            rules.note(&RawRecord { offset: *next, timestamp: 0, key, value: Some(&[0; 16]), headers }).unwrap();
            *next += 1;
        }
    }

    fn end_commit(rules: &mut CommittedStates, next: u64) {
        let mark = serde_json::to_vec(&Mark::default()).unwrap();
        let headers = Headers::default();
        let mark = RawRecord { offset: next, timestamp: 0, key: Some(&[MARK_TAG]), value: Some(&mark), headers };
        rules.look_ahead(&mark).unwrap();
    }

    /// At worst nearly half of what has room waits for its mark when another segment begins, which waits as a whole: in the
    /// memory that is just enough for a table's places, and in a byte less and more.
    #[test]
    fn notes_of_a_changelog_take_no_more_than_they_may() {
        let places: u64 = 1 << 18;
        // A table grows beside one of a sixteenth of its places; each takes 25 bytes a place, and 16.
        let enough = 2 * (25 * (places + places / 16) + 32) as usize;
        for (bytes, segment) in
            [(enough - 1, places / 32 * 7), (enough, places / 16 * 7), (enough + 1, places / 16 * 7)]
        {
            assert_eq!(segment_records(bytes), segment);
            let mut noted = 0;
            let most = most_of(|| {
                let mut rules = CommittedStates::default();
                rules.limit_memory(bytes);
                // So many make the table grow to its last size.
                note(&mut rules, &mut noted, segment / 8 + 1);
                end_commit(&mut rules, noted);
                let rest = segment - 1 - noted;
                note(&mut rules, &mut noted, rest);
                assert!(rules.has_room());
                note(&mut rules, &mut noted, segment);
                assert!(!rules.has_room() && rules.is_open());
                end_commit(&mut rules, noted);
                assert!(!rules.is_open());
            });
            assert!(most <= bytes && most > bytes / 3, "{most} of {bytes}");
        }
    }

    fn open(process: &Process) -> Result<LogBackend> {
        let options =
            LogOptions { segment_bytes: 4096, read_bytes: 4096, disk: process.disk(), ..LogOptions::new("/data") };
        LogBackend::open(options, process.clock())
    }

    fn changelog() -> TopicPartition {
        TopicPartition::new("changelog", 0)
    }

    /// Appends commits, the third of which each time has no end, and returns where the last but one begins.
    async fn append_commits(log: &LogBackend, numbers: std::ops::Range<u64>) -> Result<u64> {
        let settings = TopicSettings { cleanup: Cleanup::Compact, ..TopicSettings::default() };
        log.create_topic(&TopicSpec { settings, internal: true, ..TopicSpec::new("changelog", 1) }).await?;
        let mut producer = log.producer(ProducerId::ANONYMOUS).await?;
        let (mut frame, mut begun) = (FrameBuilder::new(), Vec::new());
        for commit in numbers {
            let at = log.offsets(&changelog())?.end;
            for key in 0..6 {
                let key = format!("\u{1}\u{0}key {}", (commit * 5 + key) % 11);
                let value = (commit % 7 != 3).then(|| format!("{commit} {}", "s".repeat(90)));
                frame.push(Some(key.as_bytes()), value.as_deref().map(str::as_bytes), 0);
            }
            if commit % 3 != 2 {
                begun.push(at);
                let mark = Mark { commit, begins: at, ..Mark::default() };
                frame.push(Some(&[MARK_TAG]), Some(&serde_json::to_vec(&mark).unwrap()), 0);
            }
            producer.append(&changelog(), &mut frame, None).await?;
            frame.clear();
        }
        producer.flush().await?;
        Ok(begun[begun.len() - 2])
    }

    /// Killed in any of its calls, or without power from there on, it leaves what makes the same states, and can be done again.
    #[test]
    fn compaction_of_a_changelog_that_is_interrupted_changes_no_state() {
        let mut compacted = 0;
        for call in 1.. {
            let mut reached = false;
            for seed in 0..8 {
                let crash = if seed == 0 { Crash::Kill } else { Crash::PowerLoss };
                let what = format!("{crash:?} in call {call}, seed {seed}");
                let machine = Machine::new(call << 8 | seed);
                let process = machine.start().unwrap();
                let log = open(&process).unwrap();
                let covered = process.block_on(append_commits(&log, 0..40)).unwrap();
                let before = states(&log, &changelog());
                process.crash_at_call(call, crash);
                let done = process.block_on(compact_changelog(&log, &changelog(), covered, true));
                reached |= process.has_ended();
                assert!(done.is_ok() || process.has_ended(), "{what}: {done:?}");
                drop(log);
                machine.lose_power();
                drop(process);

                let process = machine.start().unwrap();
                let log = open(&process).unwrap();
                assert_eq!(states(&log, &changelog()), before, "{what}");
                let again = process.block_on(compact_changelog(&log, &changelog(), covered, true)).unwrap();
                assert!(done.is_err() || again.compacted_records == 0, "{what}");
                compacted += done.map_or(0, |done| done.compacted_records);
                assert_eq!(states(&log, &changelog()), before, "{what}, and again");
                // What is appended then counts.
                process.block_on(append_commits(&log, 40..43)).unwrap();
                assert_ne!(states(&log, &changelog()), before, "{what}, and more");
            }
            if !reached {
                assert!(call > 20 && compacted > 50, "{call} calls, {compacted} records");
                return;
            }
        }
    }

    /// Commits of one or more frames, some of them never ended, compacted again and again up to where some commit begins.
    #[tokio::test]
    async fn what_is_left_of_a_changelog_makes_the_same_states() {
        for seed in 1..30 {
            let mut random = Random(seed * 0x9E37_79B9_7F4A_7C15);
            let folder = tempfile::tempdir().unwrap();
            let options = LogOptions { segment_bytes: 4096, read_bytes: 4096, ..LogOptions::new(folder.path()) };
            let backend = LogBackend::open(options, Clock::system()).unwrap();
            let settings = TopicSettings { cleanup: Cleanup::Compact, ..TopicSettings::default() };
            let spec = TopicSpec { settings, internal: true, ..TopicSpec::new("changelog", 1) };
            backend.create_topic(&spec).await.unwrap();
            let changelog = TopicPartition::new("changelog", 0);
            let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
            let mut begins = Vec::new();
            let (mut compacted, mut bound) = (0, 0);
            for commit in 0..60 {
                let at = backend.offsets(&changelog).unwrap().end;
                let ends = random.below(4) > 0;
                let mut frame = FrameBuilder::new();
                for _ in 0..=random.below(3) {
                    frame.clear();
                    for _ in 0..=random.below(8) {
                        let key = format!("\u{1}{}key {}", char::from(random.below(2) as u8), random.below(40));
                        let value = (random.below(6) > 0).then(|| format!("{commit} {}", "s".repeat(60)));
                        frame.push(Some(key.as_bytes()), value.as_deref().map(str::as_bytes), 0);
                        frame.push(Some(&[2, 0, 0, 0, 0, 1, b'k']), Some(b"an output"), 0);
                    }
                    producer.append(&changelog, &mut frame, None).await.unwrap();
                }
                if ends {
                    begins.push(at);
                    let mark = Mark { commit, begins: at, ..Mark::default() };
                    frame.clear();
                    frame.push(Some(&[3]), Some(&serde_json::to_vec(&mark).unwrap()), 0);
                    producer.append(&changelog, &mut frame, None).await.unwrap();
                }
                if random.below(4) == 0 && !begins.is_empty() {
                    let before = states(&backend, &changelog);
                    let covered = begins[random.below(begins.len() as u64) as usize];
                    let thorough = random.below(2) == 0;
                    // Somebody is reading it just then.
                    let end = backend.offsets(&changelog).unwrap().end;
                    let mut walk = Walk::new(&backend, &changelog, 0..end).unwrap();
                    let mut seen = States::default();
                    for _ in 0..random.below(5) {
                        walk.step(&mut seen).unwrap();
                    }
                    let cleaned = compact_changelog(&backend, &changelog, covered, thorough).await.unwrap();
                    compacted += cleaned.compacted_records;
                    assert_eq!(states(&backend, &changelog), before, "seed {seed}, commit {commit}");
                    while walk.step(&mut seen).unwrap() {}
                    assert_eq!(seen, before, "seed {seed}, commit {commit}, beside it");
                    bound = covered.max(bound);
                    let mut reader = backend.reader(&changelog, bound).unwrap();
                    let mut frames = crate::record::Frames::default();
                    assert!(reader.read(&mut frames).unwrap());
                    let first = frames.iter().flat_map(|frame| frame.records()).find(|record| record.offset >= bound);
                    assert_eq!(first.map(|record| record.offset), Some(bound), "seed {seed}, commit {commit}");
                }
            }
            assert!(compacted > 200, "seed {seed}: {compacted}");
        }
    }
}
