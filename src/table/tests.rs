//! Tables against a model: a map, a list of commits, and crashes in between.

mod limits;
mod replaced;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::record::StoredSchemas;
use crate::topic::{TopicPartition, partition_of};

static WORDS: Table<String, String> = Table::new("words").output("words-out");
static NUMBERS: Table<i64, i64> = Table::new("numbers");

type Map = BTreeMap<String, String>;
type Delta = (Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
struct Commit {
    deltas: Vec<Delta>,
    outputs: Vec<(Vec<u8>, Option<Vec<u8>>, i64)>,
    /// Deltas that it takes before it is full; without bound if it is none.
    room: Option<usize>,
}

impl CommitSink for Commit {
    fn delta(&mut self, key: &[u8], state: Option<Encode<'_>>, _: i64) -> Result<(), EncodeError> {
        self.deltas.push((key.to_vec(), encoded(state)?));
        Ok(())
    }

    fn output(&mut self, key: &[u8], value: Option<Encode<'_>>, timestamp: i64) -> Result<(), EncodeError> {
        self.outputs.push((key.to_vec(), encoded(value)?, timestamp));
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.room.is_some_and(|room| self.deltas.len() >= room)
    }
}

fn encoded(value: Option<Encode<'_>>) -> Result<Option<Vec<u8>>, EncodeError> {
    let mut bytes = Vec::new();
    value.map(|encode| encode(&mut bytes).map(|()| bytes)).transpose()
}

/// Where a table lives in a test: it survives [`open`].
struct Home {
    dir: Option<PathBuf>,
    memory: MemoryStores,
    at_hand: Rc<AtHand>,
    memory_bytes: usize,
    changelog_id: Option<Arc<str>>,
}

impl Home {
    fn memory() -> Self {
        Self {
            dir: None,
            memory: MemoryStores::new(),
            at_hand: Rc::default(),
            memory_bytes: 4 << 10,
            changelog_id: None,
        }
    }

    #[cfg(feature = "rocksdb")]
    fn disk(dir: &tempfile::TempDir) -> Self {
        Self { dir: Some(dir.path().join("words/0")), ..Self::memory() }
    }

    fn open_as(&self, def: &TableDef, partition: u32, partitions: u32) -> Result<Rc<dyn AnyPartition>> {
        def.open(OpenPartition {
            disk: crate::disk::Disk::system(),
            dir: self.dir.clone(),
            memory: Some(self.memory.clone()),
            partition,
            partitions,
            place: TopicPartition::new("app-words-changelog", partition),
            changelog_id: self.changelog_id.clone(),
            schemas: StoredSchemas::none(),
            memory_bytes: self.memory_bytes,
            store_bytes: crate::table::DEFAULT_STORE_BYTES,
            store_files: crate::table::DEFAULT_STORE_FILES,
            at_hand: Rc::clone(&self.at_hand),
        })
    }

    fn open(&self) -> Rc<dyn AnyPartition> {
        self.open_as(&WORDS.def(), 0, 1).unwrap()
    }
}

fn handle(partition: &Rc<dyn AnyPartition>) -> TableHandle<String, String> {
    TableHandle::new(Rc::clone(partition)).unwrap()
}

fn commit(partition: &dyn AnyPartition) -> Commit {
    let mut commit = Commit { room: Some(3), ..Commit::default() };
    // In pieces, as a worker does.
    while !partition.drain_commit(&mut commit).unwrap() {
        commit.room = Some(commit.deltas.len() + 3);
    }
    commit
}

fn checkpoint(partition: &dyn AnyPartition, position: u64) {
    let done = partition.start_checkpoint().unwrap().unwrap().run(position).unwrap();
    partition.finish_checkpoint(done);
}

fn all(handle: &TableHandle<String, String>) -> Map {
    handle.as_ref().iter().unwrap().map(|entry| entry.unwrap()).collect()
}

#[derive(Clone, Debug)]
enum Op {
    Get(u8),
    Set(u8, u8),
    Append(u8),
    Remove(u8),
    Prefetch(Vec<u8>),
    Range(u8, u8),
    Commit,
    StartCheckpoint,
    FinishCheckpoint,
    Evict,
    Mark,
    Rollback,
    Crash { checkpoint_was_written: bool },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..60_u8;
    let op = prop_oneof![
        8 => key.clone().prop_map(Op::Get),
        8 => (key.clone(), 0..200_u8).prop_map(|(key, len)| Op::Set(key, len)),
        8 => key.clone().prop_map(Op::Append),
        4 => key.clone().prop_map(Op::Remove),
        2 => proptest::collection::vec(key.clone(), 0..80).prop_map(Op::Prefetch),
        2 => (key.clone(), key).prop_map(|(from, to)| Op::Range(from, to)),
        3 => Just(Op::Commit),
        2 => Just(Op::StartCheckpoint),
        2 => Just(Op::FinishCheckpoint),
        4 => Just(Op::Evict),
        1 => Just(Op::Mark),
        1 => Just(Op::Rollback),
        1 => any::<bool>().prop_map(|checkpoint_was_written| Op::Crash { checkpoint_was_written }),
    ];
    proptest::collection::vec(op, 1..250)
}

/// Some keys are longer than what a slot holds.
fn key(number: u8) -> String {
    if number.is_multiple_of(5) { format!("{number:02}-{}", "long".repeat(8)) } else { format!("{number:02}") }
}

/// The table, and what it should be.
struct World {
    home: Home,
    partition: Rc<dyn AnyPartition>,
    running: Option<(Checkpoint, u64)>,
    commits: Vec<Vec<Delta>>,
    now: Map,
    committed: Map,
    marked: Map,
}

impl World {
    fn new(home: Home) -> Self {
        let partition = home.open();
        partition.enable_undo(true);
        let (now, committed, marked) = Default::default();
        Self { home, partition, running: None, commits: Vec::new(), now, committed, marked }
    }

    fn apply(&mut self, op: Op) {
        let mut handle = handle(&self.partition);
        match op {
            Op::Get(k) => {
                assert_eq!(handle.as_ref().get(&key(k)).unwrap(), self.now.get(&key(k)).cloned());
                assert_eq!(handle.as_ref().contains_key(&key(k)).unwrap(), self.now.contains_key(&key(k)));
            }
            Op::Set(k, len) => {
                handle.as_mut().set(&key(k), "x".repeat(len.into())).unwrap();
                self.now.insert(key(k), "x".repeat(len.into()));
            }
            Op::Append(k) => {
                handle.as_mut().update(&key(k), |text| text.push('+')).unwrap();
                self.now.entry(key(k)).or_default().push('+');
            }
            Op::Remove(k) => {
                assert_eq!(handle.as_mut().remove(&key(k)).unwrap(), self.now.remove(&key(k)));
            }
            Op::Prefetch(keys) => {
                let keys: Vec<String> = keys.into_iter().map(key).collect();
                self.partition.prefetch(&mut keys.iter().map(String::as_bytes)).unwrap();
            }
            Op::Range(from, to) => {
                let (from, to) = (key(from), key(to));
                let got: Vec<_> =
                    handle.as_ref().range(from.as_str()..to.as_str()).unwrap().map(|entry| entry.unwrap()).collect();
                let within = self.now.iter().filter(|(key, _)| **key >= from && **key < to);
                assert_eq!(got, within.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>());
            }
            Op::Commit => self.commit(),
            Op::StartCheckpoint => self.start_checkpoint(),
            Op::FinishCheckpoint => {
                if let Some((checkpoint, position)) = self.running.take() {
                    self.partition.finish_checkpoint(checkpoint.run(position).unwrap());
                    assert_eq!(self.partition.store_position().unwrap(), Some(position));
                }
            }
            Op::Evict => self.partition.evict(),
            Op::Mark => {
                self.partition.mark();
                self.marked = self.now.clone();
            }
            Op::Rollback => {
                self.partition.rollback();
                self.now = self.marked.clone();
            }
            Op::Crash { checkpoint_was_written } => {
                drop(handle);
                self.crash(checkpoint_was_written);
            }
        }
    }

    fn commit(&mut self) {
        let commit = commit(&*self.partition);
        for (key, stored) in &commit.deltas {
            let key_text = String::from_utf8(key.clone()).unwrap();
            let value = self.now.get(&key_text);
            assert_eq!(stored.as_ref().map(|stored| &stored[8..]), value.map(|value| value.as_bytes()));
            match value {
                Some(value) => self.committed.insert(key_text, value.clone()),
                None => self.committed.remove(&key_text),
            };
        }
        assert_eq!(self.committed, self.now, "the deltas lead to what is there now");
        let values: Vec<_> = commit.outputs.into_iter().map(|(key, value, _)| (key, value)).collect();
        let states = commit.deltas.iter().map(|(key, stored)| (key.clone(), stored.as_ref().map(|s| s[8..].to_vec())));
        assert_eq!(values, states.collect::<Vec<_>>());
        assert!(!self.partition.is_dirty());
        self.commits.push(commit.deltas);
        self.marked = self.now.clone();
    }

    fn start_checkpoint(&mut self) {
        if self.partition.is_dirty() {
            assert_eq!(self.partition.start_checkpoint().unwrap_err().kind(), ErrorKind::State);
            return;
        }
        let checkpoint = self.partition.start_checkpoint().unwrap();
        assert_eq!(checkpoint.is_none(), self.running.is_some(), "one at a time");
        if let Some(checkpoint) = checkpoint {
            self.running = Some((checkpoint, self.commits.len() as u64));
        }
    }

    fn crash(&mut self, checkpoint_was_written: bool) {
        if let Some((checkpoint, position)) = self.running.take().filter(|_| checkpoint_was_written) {
            // It reached the store, and nobody heard of it.
            let _ = checkpoint.run(position).unwrap();
        }
        // Two owners cannot have a folder open: the old one goes first.
        self.partition = Home::memory().open();
        self.partition = self.home.open();
        let from = self.partition.store_position().unwrap().unwrap_or(0) as usize;
        for (key, stored) in self.commits[from..].iter().flatten() {
            self.partition.apply(key, stored.as_deref()).unwrap();
        }
        self.partition.enable_undo(true);
        self.now = self.committed.clone();
        self.marked = self.committed.clone();
        assert_eq!(all(&handle(&self.partition)), self.now);
    }
}

fn run(home: Home, ops: Vec<Op>) {
    let mut world = World::new(home);
    for op in ops {
        world.apply(op);
    }
    world.commit();
    assert_eq!(all(&handle(&world.partition)), world.now);
    world.crash(true);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_table_in_memory_is_a_map_that_survives_crashes(ops in ops()) {
        run(Home::memory(), ops);
    }
}

#[cfg(feature = "rocksdb")]
proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_table_on_disk_is_a_map_that_survives_crashes(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        run(Home::disk(&dir), ops);
    }
}

#[test]
fn the_cache_stays_within_its_bound_and_keeps_what_is_not_saved() {
    let home = Home { memory_bytes: 64 << 10, ..Home::memory() };
    let partition = home.open();
    let mut table = handle(&partition);
    let write = |table: &mut TableHandle<String, String>, keys: std::ops::Range<u32>| {
        for i in keys {
            table.as_mut().set(&format!("{i:06}"), format!("value {i}")).unwrap();
        }
    };
    write(&mut table, 0..20_000);
    partition.evict();
    assert!(partition.wants_commit(), "all of it is dirty and far above the bound");
    assert!(partition.memory_bytes() > 20_000 * 64, "nothing may go");
    assert_eq!(commit(&*partition).deltas.len(), 20_000);
    partition.evict();
    assert!(partition.memory_bytes() > 20_000 * 64, "a commit alone saves nothing in the store");

    let running = partition.start_checkpoint().unwrap().unwrap();
    write(&mut table, 0..10);
    partition.evict();
    assert!(partition.memory_bytes() > 20_000 * 64, "what is in flight may not go");
    assert!(!partition.wants_commit());
    partition.finish_checkpoint(running.run(1).unwrap());
    partition.evict();
    assert!(partition.memory_bytes() <= 64 << 10);
    assert_eq!(all(&table).len(), 20_000);
    assert_eq!(table.as_ref().get("019999").unwrap().as_deref(), Some("value 19999"));
    assert_eq!(commit(&*partition).deltas.len(), 10);
}

#[test]
fn large_values_count_against_the_bound_before_they_are_committed() {
    let home = Home { memory_bytes: 1 << 20, ..Home::memory() };
    let partition = home.open();
    let mut table = handle(&partition);
    for i in 0..1000 {
        table.as_mut().set(&i.to_string(), "x".repeat(100_000)).unwrap();
    }
    assert!(partition.wants_commit());
}

#[test]
fn a_recovery_larger_than_memory_takes_checkpoints_on_its_way() {
    let home = Home { memory_bytes: 32 << 10, ..Home::memory() };
    let partition = home.open();
    let stored = [&0_i64.to_le_bytes()[..], b"value"].concat();
    let (mut largest, mut checkpoints) = (0, 0);
    for i in 0..5000_u64 {
        partition.apply(i.to_string().as_bytes(), Some(&stored)).unwrap();
        if partition.wants_commit() {
            checkpoint(&*partition, i + 1);
            partition.evict();
            checkpoints += 1;
        }
        largest = largest.max(partition.memory_bytes());
    }
    assert!(checkpoints > 10);
    assert!(largest <= home.memory_bytes / 2 * 3 + 256, "{largest}: the bound, and half of it that could not go yet");
    assert!(!partition.is_dirty(), "what was recovered is committed already");
    assert_eq!(all(&handle(&partition)).len(), 5000);
}

/// What a recovery had no room for is of no use to the next: it begins with nothing.
#[test]
fn a_store_that_covers_nothing_is_empty_when_it_is_opened() {
    let stored = [&0_i64.to_le_bytes()[..], b"value"].concat();
    let leave = |home: &Home, positions: &[Option<u64>]| {
        let partition = home.open();
        for (i, position) in positions.iter().enumerate() {
            partition.apply(i.to_string().as_bytes(), Some(&stored)).unwrap();
            let done = partition.start_checkpoint().unwrap().unwrap().run(*position).unwrap();
            assert_eq!(done.position(), *position);
            partition.finish_checkpoint(done);
            assert_eq!(partition.store_position().unwrap(), *position);
        }
        assert_eq!(all(&handle(&partition)).len(), positions.len());
        drop(partition);
        let partition = home.open();
        (partition.store_position().unwrap(), all(&handle(&partition)).len())
    };
    let check = |home: Home| {
        assert_eq!(leave(&home, &[None, None]), (None, 0));
        assert_eq!(leave(&home, &[None, Some(7)]), (Some(7), 2), "the rest came");
        assert_eq!(leave(&home, &[Some(8), Some(9), None]), (None, 0), "it covered something before");
    };
    check(Home::memory());
    #[cfg(feature = "rocksdb")]
    check(Home::disk(&tempfile::tempdir().unwrap()));
}

#[test]
fn a_value_that_cannot_be_stored_fails_the_record_that_can_be_undone() {
    #[derive(Clone, Debug)]
    struct Never;
    impl TableState<String, i64> for Never {
        fn encode_state(&self, _out: &mut Vec<u8>) -> Result<(), EncodeError> {
            Err(EncodeError { field: "total".into(), reason: "too large".into() })
        }
        fn decode_state(_bytes: &[u8]) -> Result<Self, DecodeError> {
            Ok(Self)
        }
        fn value(&self, _key: &[u8]) -> Result<i64, EncodeError> {
            Ok(0)
        }
        fn layout() -> String {
            "never".to_owned()
        }
    }
    static NEVER: Table<String, i64, Never> = Table::new("never");
    let partition = Home::memory().open_as(&NEVER.def(), 0, 1).unwrap();
    partition.enable_undo(true);
    partition.mark();
    let table = TableHandle::<String, i64, Never>::new(Rc::clone(&partition)).unwrap();
    let fail = || {
        let mut slots = table.partition().slots().unwrap();
        slots.change(b"k", &AtHand::default(), |state| *state = Some(Never)).unwrap_err()
    };
    let error = fail();
    assert_eq!(error.kind(), ErrorKind::Encode);
    for part in ["never", "key k", "total", "too large"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    partition.rollback();
    assert!(!partition.is_dirty());
    assert!(commit(&*partition).deltas.is_empty());
    // A commit leaves nothing to go back to, and must not take it in.
    fail();
    assert!(partition.drain_commit(&mut Commit::default()).is_err());
}

#[test]
fn the_timestamp_is_the_largest_of_the_records_that_changed_the_key() {
    let home = Home::memory();
    let partition = home.open();
    let mut table = handle(&partition);
    for now in [5, 9, 7] {
        home.at_hand.set_timestamp(now);
        table.as_mut().set("k", now.to_string()).unwrap();
    }
    let first = commit(&*partition);
    assert_eq!(first.outputs, [(b"k".to_vec(), Some(b"7".to_vec()), 9)]);
    assert_eq!(first.deltas[0].1.as_ref().unwrap()[..8], 9_i64.to_le_bytes());
    checkpoint(&*partition, 1);

    // It is the same after a restart.
    drop(table);
    let partition = home.open();
    home.at_hand.set_timestamp(3);
    handle(&partition).as_mut().set("k", "3".to_owned()).unwrap();
    assert_eq!(commit(&*partition).outputs, [(b"k".to_vec(), Some(b"3".to_vec()), 9)]);
}

#[test]
fn a_key_of_another_partition_is_refused() {
    let home = Home::memory();
    let other = (0..).map(|i| format!("key{i}")).find(|key| partition_of(key.as_bytes(), 4) == 1).unwrap();
    let partition = home.open_as(&WORDS.def(), 2, 4).unwrap();
    let mut table = handle(&partition);
    let error = table.as_mut().set(&other, String::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    let message = error.to_string();
    for part in ["words", other.as_str(), "partition 1", "partition 2", "`key = field`", "app-words-changelog"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(table.as_ref().get(&other).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(partition.apply(other.as_bytes(), None).unwrap_err().kind(), ErrorKind::Key);
    assert!(!partition.is_dirty());

    let slots = table.partition().slots();
    let mut slots = slots.unwrap();
    let mut found = Vec::new();
    slots.locate(&[other.as_bytes()], &mut found).unwrap();
    assert_eq!(found, [None]);
}

#[test]
fn a_batch_is_located_in_order_with_repeated_and_new_keys() {
    let home = Home::memory();
    let partition = home.open();
    handle(&partition).as_mut().set("7", "old".to_owned()).unwrap();
    commit(&*partition);
    checkpoint(&*partition, 1);
    let partition = home.open();

    let table = handle(&partition);
    let mut slots = table.partition().slots().unwrap();
    let keys: Vec<String> = (0..1000).map(|i| (i % 300).to_string()).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    let mut found = Vec::new();
    slots.locate(&keys, &mut found).unwrap();
    assert_eq!(found.len(), keys.len());
    for (at, slot) in found.iter().enumerate() {
        let slot = slot.unwrap();
        assert_eq!(slot, found[at % 300].unwrap());
        slots.touch(slot, 0).get_or_insert_default().push('.');
    }
    drop(slots);
    assert_eq!(table.as_ref().get("7").unwrap().as_deref(), Some("old...."));
    assert_eq!(table.as_ref().get("299").unwrap().as_deref(), Some("..."));
    assert_eq!(commit(&*partition).deltas.len(), 300);
}

fn numbers_sort_by_value(home: &Home) {
    let open = || home.open_as(&NUMBERS.def(), 0, 1).unwrap();
    let partition = open();
    let mut table = TableHandle::<i64, i64>::new(Rc::clone(&partition)).unwrap();
    for i in [3, -1, i64::MIN, 0, i64::MAX, -200, 77] {
        table.as_mut().set(&i, i).unwrap();
    }
    let sorted = [i64::MIN, -200, -1, 0, 3, 77, i64::MAX];
    let read = |table: &TableHandle<i64, i64>| -> Vec<i64> {
        table.as_ref().iter().unwrap().map(|entry| entry.unwrap().0).collect()
    };
    assert_eq!(read(&table), sorted, "from memory");
    commit(&*partition);
    checkpoint(&*partition, 1);
    drop((table, partition));

    // Read together, they are asked for in the order of the store, which is not that of their bytes.
    let partition = open();
    let raw: Vec<_> = [5, -1, 3, -200, i64::MAX, i64::MIN, 0, -7, -1].map(i64::to_be_bytes).to_vec();
    partition.prefetch(&mut raw.iter().map(|raw| &raw[..])).unwrap();
    let table = TableHandle::<i64, i64>::new(partition).unwrap();
    for i in sorted {
        assert_eq!(table.as_ref().get(&i).unwrap(), Some(i));
    }
    assert_eq!(table.as_ref().get(&5).unwrap(), None);
    drop(table);

    let table = TableHandle::<i64, i64>::new(open()).unwrap();
    assert_eq!(read(&table), sorted, "from the store");
    let some: Vec<_> = table.as_ref().range(-200..=3).unwrap().map(|entry| entry.unwrap().1).collect();
    assert_eq!(some, [-200, -1, 0, 3]);
    let (from, to) = (5, -5);
    assert_eq!(table.as_ref().range(from..to).unwrap().count(), 0);
}

#[test]
fn numbers_sort_by_value_in_memory() {
    numbers_sort_by_value(&Home::memory());
}

#[test]
fn a_handle_of_other_types_is_refused() {
    let partition = Home::memory().open();
    assert_eq!(TableHandle::<String, i64>::new(partition).unwrap_err().kind(), ErrorKind::Plan);
}

fn another_definition_is_refused(home: &Home) {
    static COUNTS: Table<String, i64> = Table::new("words");
    let partition = home.open();
    handle(&partition).as_mut().set("k", "v".to_owned()).unwrap();
    commit(&*partition);
    checkpoint(&*partition, 1);
    drop(partition);

    let error = home.open_as(&COUNTS.def(), 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    for part in ["words", "i64", "String", "`reset`"] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let error = home.open_as(&WORDS.def(), 0, 2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("partition 0 of 1, wanted is 0 of 2"), "{error}");
    assert_eq!(handle(&home.open()).as_ref().get("k").unwrap().as_deref(), Some("v"), "the refusal broke nothing");
}

#[test]
fn another_definition_is_refused_in_memory() {
    another_definition_is_refused(&Home::memory());
}

#[test]
fn keys_are_shown_and_typed() {
    let (words, numbers) = (WORDS.def(), NUMBERS.def());
    assert_eq!(words.key_text(b"caf\xc3\xa9"), "caf\u{e9}");
    assert_eq!(words.key_text(b"\xff\x00"), "0xff00");
    assert_eq!(words.parse_key("a b").unwrap(), b"a b");
    assert_eq!(numbers.parse_key("-2").unwrap(), (-2_i64).to_be_bytes());
    assert_eq!(numbers.key_text(&(-2_i64).to_be_bytes()), "-2");
    assert_eq!(numbers.parse_key("two").unwrap_err().kind(), ErrorKind::Key);
    let stored = [&5_i64.to_le_bytes()[..], &42_i64.to_be_bytes()].concat();
    assert_eq!(numbers.value_wire(b"", &stored, &StoredSchemas::none()).unwrap(), 42_i64.to_be_bytes());
    assert_eq!(
        numbers.value_wire(&[0; 8], &stored[..4], &StoredSchemas::none()).unwrap_err().kind(),
        ErrorKind::Decode
    );
    assert!(words.same_key(&words) && !words.same_key(&numbers));
}

#[test]
fn damaged_deltas_are_errors() {
    let home = Home::memory();
    let partition = home.open_as(&NUMBERS.def(), 0, 1).unwrap();
    for damaged in [&b""[..], b"1234567", b"12345678123"] {
        assert_eq!(partition.apply(&[0; 8], Some(damaged)).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[cfg(feature = "rocksdb")]
mod on_disk {
    use super::*;

    #[test]
    fn numbers_sort_by_value_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        numbers_sort_by_value(&Home::disk(&dir));
    }

    #[test]
    fn another_definition_is_refused_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        another_definition_is_refused(&Home::disk(&dir));
    }

    #[test]
    fn a_folder_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::disk(&dir);
        let _owner = home.open();
        let error = home.open_as(&WORDS.def(), 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("words"), "{error}");
    }

    #[test]
    fn a_snapshot_reads_beside_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::disk(&dir);
        let folder = home.dir.clone().unwrap();
        let def = WORDS.def();
        let empty = TableSnapshot::open(&def, &folder, &StoredSchemas::none()).unwrap();
        assert_eq!(empty.position().unwrap(), None);
        assert_eq!(empty.iter().count(), 0);

        let partition = home.open();
        let mut table = handle(&partition);
        for i in 0..1500 {
            table.as_mut().set(&format!("{i:04}"), "stored".to_owned()).unwrap();
        }
        commit(&*partition);
        checkpoint(&*partition, 41);
        for (key, value) in [("0001", "newer"), ("zz", "new")] {
            table.as_mut().set(key, value.to_owned()).unwrap();
        }
        table.as_mut().remove("0002").unwrap();
        let tail = commit(&*partition);

        let mut snapshot = TableSnapshot::open(&def, &folder, &StoredSchemas::none()).unwrap();
        assert_eq!(snapshot.position().unwrap(), Some(41));
        let text = |key: &[u8], stored: Vec<u8>| {
            String::from_utf8(def.value_wire(key, &stored, &StoredSchemas::none()).unwrap()).unwrap()
        };
        assert_eq!(text(b"0001", snapshot.get(b"0001").unwrap().unwrap()), "stored");
        for (key, stored) in &tail.deltas {
            snapshot.apply(key, stored.as_deref());
        }
        assert_eq!(text(b"0001", snapshot.get(b"0001").unwrap().unwrap()), "newer");
        assert_eq!(snapshot.get(b"0002").unwrap(), None);
        let entries: Map = snapshot
            .iter()
            .map(|entry| entry.unwrap())
            .map(|(key, stored)| (String::from_utf8(key.clone()).unwrap(), text(&key, stored)))
            .collect();
        assert_eq!(entries, all(&table));
        assert_eq!(entries.len(), 1500);

        static COUNTS: Table<String, i64> = Table::new("words");
        assert_eq!(
            TableSnapshot::open(&COUNTS.def(), &folder, &StoredSchemas::none()).unwrap_err().kind(),
            ErrorKind::State
        );
    }
}

mod declared {
    use super::*;
    use crate::table::aggregate::{
        self, Accumulator, Aggregate, AggregateError, CountRecords, Finish, Sum, Tally, Total,
    };

    static SUMS: Table<String, i64, State> = Table::new("sums").output("sums-out");

    /// What `aggregate!` generates for a count and a sum.
    #[derive(Clone, Debug, Default)]
    struct State {
        count: Tally,
        sum: Total<i64>,
    }

    impl State {
        fn fold(&mut self, value: i64) -> Result<(), AggregateError> {
            <Sum as Aggregate<i64>>::check(&self.sum, value)?;
            CountRecords::fold(&mut self.count);
            <Sum as Aggregate<i64>>::fold(&mut self.sum, value)
        }
    }

    impl TableState<String, i64> for State {
        fn encode_state(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
            self.count.encode(out);
            self.sum.encode(out);
            Ok(())
        }

        fn decode_state(mut input: &[u8]) -> Result<Self, DecodeError> {
            let state = Self { count: Tally::decode(&mut input)?, sum: Total::decode(&mut input)? };
            aggregate::expect_end(input)?;
            Ok(state)
        }

        fn value(&self, _key: &[u8]) -> Result<i64, EncodeError> {
            let count: i64 = self.count.finish().map_err(|error| error.at_field("count"))?;
            let sum: i64 = self.sum.finish().map_err(|error| error.at_field("sum"))?;
            Ok(sum * 100 + count)
        }

        fn layout() -> String {
            format!("count={},sum={}", Tally::LAYOUT, Total::<i64>::LAYOUT)
        }
    }

    #[test]
    fn a_declared_aggregation_folds_batches() {
        let home = Home::memory();
        let partition = home.open_as(&SUMS.def(), 0, 1).unwrap();
        let table = TableHandle::<String, i64, State>::new(Rc::clone(&partition)).unwrap();
        let mut found = Vec::new();
        let batch: [(&str, i64, i64); 4] = [("a", 1, 10), ("b", 2, 11), ("a", 3, 9), ("b", i64::MAX, 12)];
        let keys: Vec<&[u8]> = batch.iter().map(|(key, ..)| key.as_bytes()).collect();
        {
            let mut slots = table.partition().slots().unwrap();
            slots.locate(&keys, &mut found).unwrap();
            for ((_, value, timestamp), slot) in batch.iter().zip(&found) {
                let folded = slots.touch(slot.unwrap(), *timestamp).get_or_insert_default().fold(*value);
                assert_eq!(folded.is_err(), *value == i64::MAX);
            }
        }
        assert_eq!(table.as_ref().get("a").unwrap(), Some(402));
        assert_eq!(table.as_ref().get("b").unwrap(), Some(201), "the failed record changed no field");

        let outputs = commit(&*partition).outputs;
        let wire = |value: i64| Some(value.to_be_bytes().to_vec());
        assert_eq!(outputs, [(b"a".to_vec(), wire(402), 10), (b"b".to_vec(), wire(201), 12)]);
        checkpoint(&*partition, 1);
        drop((table, partition));
        let partition = home.open_as(&SUMS.def(), 0, 1).unwrap();
        let table = TableHandle::<String, i64, State>::new(partition).unwrap();
        assert_eq!(table.as_ref().iter().unwrap().map(|entry| entry.unwrap().1).collect::<Vec<_>>(), [402, 201]);
    }
}
