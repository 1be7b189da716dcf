//! A store, and the changelog that it is a copy of: one of the same name may have taken its place.

use super::*;

fn with_id(home: &mut Home, id: Option<&str>) {
    home.changelog_id = id.map(Arc::from);
}

fn keep(partition: &Rc<dyn AnyPartition>, key: &str, position: u64) {
    handle(partition).as_mut().set(key, "kept".to_owned()).unwrap();
    commit(&**partition);
    checkpoint(&**partition, position);
}

fn is_told_apart(mut home: Home) {
    static OTHERS: Table<i64, i64> = Table::new("words");
    let partition = home.open();
    keep(&partition, "before ids", 3);
    drop(partition);

    with_id(&mut home, Some("one"));
    let partition = home.open();
    assert_eq!(partition.store_changelog().unwrap(), None, "nobody has said");
    assert_eq!(all(&handle(&partition)).len(), 1);
    keep(&partition, "behind", 5);
    drop(partition);
    let stored = |home: &Home| home.open().store_changelog().unwrap();
    assert_eq!(stored(&home).as_deref(), Some("one"));

    // It is known for another's although it could not be read as this table's.
    with_id(&mut home, Some("two"));
    assert_eq!(stored(&home).as_deref(), Some("one"));
    let other = home.open_as(&OTHERS.def(), 0, 1).unwrap();
    assert_eq!(other.store_changelog().unwrap().as_deref(), Some("one"));
    drop(other);
    with_id(&mut home, Some("one"));
    assert_eq!(home.open_as(&OTHERS.def(), 0, 1).unwrap_err().kind(), ErrorKind::State);

    let place = TopicPartition::new("app-words-changelog", 0);
    drop_store(&crate::disk::Disk::system(), home.dir.as_deref(), Some(&home.memory), &place).unwrap();
    with_id(&mut home, Some("two"));
    let partition = home.open();
    assert_eq!((partition.store_position().unwrap(), all(&handle(&partition)).len()), (None, 0));
    keep(&partition, "anew", 1);
    drop(partition);
    assert_eq!(stored(&home).as_deref(), Some("two"));
}

#[test]
fn a_store_in_memory_knows_its_changelog() {
    is_told_apart(Home::memory());
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_store_on_disk_knows_its_changelog() {
    is_told_apart(Home::disk(&tempfile::tempdir().unwrap()));
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_reader_passes_over_what_is_of_another_changelog() {
    let dir = tempfile::tempdir().unwrap();
    let mut home = Home::disk(&dir);
    with_id(&mut home, Some("one"));
    let partition = home.open();
    keep(&partition, "a", 3);
    let folder = home.dir.clone().unwrap();
    let keys = |id: Option<&str>| {
        let id = id.map(Arc::from);
        TableSnapshot::open_of(id.as_ref(), &WORDS.def(), &folder, &StoredSchemas::none()).unwrap().iter().count()
    };
    assert_eq!([keys(None), keys(Some("one")), keys(Some("two"))], [1, 1, 0]);
}
