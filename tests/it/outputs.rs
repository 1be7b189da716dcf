//! Agents with several outputs, and agents in a group of their own choice.

use gretchen::agent;
use gretchen::agent::{Event, Output, Stream};
use gretchen::app::App;
use gretchen::backend::Replay;
use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::clock::Clock;
use gretchen::error::{BoxError, ErrorKind};
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::testing::TestApp;
use gretchen::topic::TopicPartition;

static SEEN: Table<String, i64> = Table::new("outputs-seen").output("seen");

/// Every record goes to `even` or `odd` and to `all`; -1 fails when it has been put out already.
#[agent(topic = "numbers", table = SEEN, outputs = ["even", "odd", "all"], group = "sorting", on_error = skip)]
async fn sort(
    number: Event<i32>,
    mut even: Output<i32>,
    mut seen: TableMut<'_, String, i64>,
    mut odd: Output<i64>,
    mut all: Output<String>,
) -> Result<(), BoxError> {
    let key = std::str::from_utf8(number.key.as_deref().unwrap_or_default())?;
    seen.update(key, |count| *count += 1)?;
    if number.value % 2 == 0 {
        even.send(&number.value)?;
    } else {
        odd.send_keyed(i64::from(number.value), &number.value.into())?;
    }
    all.send(&number.value.to_string())?;
    if number.value == -1 { Err("no such number".into()) } else { Ok(()) }
}

#[agent(topic = "numbers", outputs = ["first", "rest"])]
async fn split(mut numbers: Stream<i32>, mut first: Output<i32>, mut rest: Output<i32>) -> Result<(), BoxError> {
    let mut begun = false;
    while let Some(number) = numbers.next().await {
        if std::mem::replace(&mut begun, true) { rest.send(&number)? } else { first.send(&number)? }
    }
    Ok(())
}

fn app() -> App {
    App::new("outputs").agent::<sort>().agent::<split>()
}

#[test]
fn each_output_has_its_own_topic_and_type() {
    let mut app = TestApp::new(app()).unwrap();
    for (key, number) in [("a", 1), ("b", 2), ("a", -1), ("a", 4)] {
        app.send_keyed("numbers", key, &number).unwrap();
    }
    app.settle().unwrap();
    app.crash_and_restart().unwrap();
    app.send_keyed("numbers", "b", &5).unwrap();
    assert_eq!(app.recv_all::<i32>("even").unwrap(), [2, 4]);
    let odd: Vec<_> = std::iter::from_fn(|| app.recv_event::<i64>("odd").unwrap()).collect();
    assert_eq!(odd.iter().map(|event| event.value).collect::<Vec<_>>(), [Some(1), Some(5)]);
    assert_eq!(odd[1].key, Some(5_i64.to_be_bytes().to_vec()));
    assert_eq!(app.recv_all::<String>("all").unwrap(), ["1", "2", "4", "5"], "what failed has left nothing behind");
    assert_eq!(app.table(&SEEN).unwrap().get("a").unwrap(), Some(2));
    // The stream agent was begun anew after the crash.
    assert_eq!(app.recv_all::<i32>("first").unwrap(), [1, 5]);
    assert_eq!(app.recv_all::<i32>("rest").unwrap(), [2, -1, 4]);
}

#[test]
fn the_group_is_the_one_that_the_agent_names() {
    let folder = tempfile::tempdir().unwrap();
    let options = || LogOptions::new(folder.path().join("data"));
    let session = Session::open(app(), options(), 1).unwrap();
    session.publish("numbers", "test", (0..10).map(|number| (b"a".to_vec(), number))).unwrap();
    session.process().unwrap();
    drop(session);
    let log = LogBackend::open(options(), Clock::system()).unwrap();
    let numbers = TopicPartition::new("numbers", 0);
    assert_eq!(log.position("sorting", &numbers).unwrap(), Some(10));
    assert_eq!(log.position("outputs.split", &numbers).unwrap(), Some(10));
    assert_eq!(log.position("outputs.sort", &numbers).unwrap(), None);
}

#[agent(topic = "numbers", group = "sorting")]
async fn also_sorts(_number: i32) {}

#[test]
fn agents_of_an_app_do_not_share_a_group() {
    let Err(error) = TestApp::new(app().agent::<also_sorts>()) else { panic!("two agents in one group") };
    let said = error.to_string();
    assert!(error.kind() == ErrorKind::Plan && said.contains("group sorting is that of agent sort"), "{said}");
}
