//! Tables whose values' schema changes under them.

use std::fs;
use std::path::Path;

use gretchen::app::App;
use gretchen::backend::log::LogOptions;
use gretchen::error::BoxError;
use gretchen::record::{DynamicSchema, Record};
use gretchen::session::Session;
use gretchen::testing::TestApp;

gretchen::records!("tests/schemas/state.avsc");

use state::Measure;

/// A version of the app: the same agent and table, another schema of what is kept.
macro_rules! version {
    ($module:ident, |$measure:ident| $latest:expr) => {
        mod $module {
            use gretchen::agent;
            use gretchen::error::BoxError;
            use gretchen::table::{Table, TableMut};

            use super::state::Measure;
            use super::state::$module::Latest;

            pub(super) static LATEST: Table<String, Latest> = Table::new("latest").output("latest");

            #[agent(name = "remember", topic = "measures", key = sensor, table = LATEST)]
            pub(super) async fn remember(
                $measure: Measure,
                mut latest: TableMut<'_, String, Latest>,
            ) -> Result<(), BoxError> {
                latest.set(&$measure.sensor.clone(), $latest)?;
                Ok(())
            }
        }
    };
}

version!(first, |measure| Latest { sensor: measure.sensor, level: measure.level });
version!(second, |measure| Latest { sensor: measure.sensor, level: measure.level.into(), place: "here".into() });
version!(third, |measure| Latest { sensor: measure.sensor, level: measure.level.into(), owner: "nobody".into() });

fn app_one() -> App {
    App::new("evolving").agent::<first::remember>()
}

fn app_two() -> App {
    App::new("evolving").agent::<second::remember>()
}

fn app_three() -> App {
    App::new("evolving").agent::<third::remember>()
}

fn open(app: App, folder: &Path) -> Result<Session, gretchen::error::Error> {
    Session::open(app, LogOptions::new(folder), 1)
}

fn send(session: &Session, measures: &[(&str, i32)]) {
    let records = measures
        .iter()
        .map(|(sensor, level)| (sensor.as_bytes().to_vec(), Measure { sensor: (*sensor).to_owned(), level: *level }));
    session.publish("measures", &format!("{measures:?}"), records).expect("published");
}

/// What the second version sees, as `sensor level place`.
fn seen(session: &Session) -> Vec<String> {
    let rows = session.table(&second::LATEST).expect("a table that can be read");
    rows.into_iter().map(|(key, row)| format!("{key}={} {} {}", row.sensor, row.level, row.place)).collect()
}

fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn check_refusal(writer: &str, error: &dyn std::error::Error) {
    let text = whole(error);
    for part in [
        "table latest",
        "field owner: was not written and has no default",
        "(rule: missing default)",
        writer,
        "state.third.Latest",
        "`reset`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn a_table_on_disk_opens_with_a_new_schema() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let session = open(app_one(), folder.path())?;
    send(&session, &[("a", 1), ("b", 2)]);
    session.process()?;
    drop(session);

    // Read before anything is written: the values are as they were.
    let session = open(app_two(), folder.path())?;
    assert_eq!(seen(&session), ["a=a 1 somewhere", "b=b 2 somewhere"]);
    send(&session, &[("a", 10)]);
    session.process()?;
    assert_eq!(seen(&session), ["a=a 10 here", "b=b 2 somewhere"]);
    drop(session);

    // What cannot read the first version's values does not start, although the second's checkpoint came after.
    let session = open(app_three(), folder.path())?;
    check_refusal("state.second.Latest", &session.table(&third::LATEST).expect_err("incompatible"));
    // Also where nothing is left to process.
    for _ in 0..3 {
        check_refusal("state.second.Latest", &session.process().expect_err("incompatible"));
    }
    send(&session, &[("b", 20)]);
    check_refusal("state.second.Latest", &session.process().expect_err("incompatible"));
    drop(session);

    let session = open(app_two(), folder.path())?;
    session.process()?;
    assert_eq!(seen(&session), ["a=a 10 here", "b=b 20 here"]);
    Ok(())
}

/// A store that was left behind by a crash, and the tail of the changelog, both of the first version.
#[test]
fn a_changelog_is_replayed_with_a_new_schema() -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let session = open(app_one(), folder.path())?;
    send(&session, &[("a", 1), ("b", 2)]);
    session.process()?;
    drop(session);
    let (state, kept) = (folder.path().join("state"), folder.path().join("kept"));
    super::support::copy(&state, &kept);
    let session = open(app_one(), folder.path())?;
    send(&session, &[("b", 3), ("c", 4)]);
    session.process()?;
    drop(session);
    fs::remove_dir_all(&state)?;
    fs::rename(&kept, &state)?;

    let session = open(app_two(), folder.path())?;
    let expected = ["a=a 1 somewhere", "b=b 3 somewhere", "c=c 4 somewhere"];
    assert_eq!(seen(&session), expected);
    session.process()?;
    assert_eq!(seen(&session), expected);
    drop(session);

    // Nothing but the changelog is left.
    fs::remove_dir_all(&state)?;
    let session = open(app_three(), folder.path())?;
    // Where nothing is left to process, processing may end before every table is open.
    send(&session, &[("c", 5)]);
    check_refusal("state.first.Latest", &session.process().expect_err("incompatible"));
    drop(session);
    fs::remove_dir_all(&state)?;
    let session = open(app_two(), folder.path())?;
    session.process()?;
    assert_eq!(seen(&session), ["a=a 1 somewhere", "b=b 3 somewhere", "c=c 5 here"]);
    Ok(())
}

#[test]
fn a_table_in_memory_opens_with_a_new_schema() -> Result<(), BoxError> {
    let mut app = TestApp::new(app_one())?;
    app.send("measures", &Measure { sensor: "a".into(), level: 1 })?;
    app.settle()?;
    app.restart_as(app_two())?;
    app.send("measures", &Measure { sensor: "b".into(), level: 2 })?;
    app.settle()?;
    let rows = app.table(&second::LATEST)?.all()?;
    let rows = rows.into_iter().map(|(key, row)| format!("{key}={} {}", row.level, row.place)).collect::<Vec<_>>();
    assert_eq!(rows, ["a=1 somewhere", "b=2 here"]);
    let refused = app.restart_as(app_three()).and_then(|()| app.settle());
    check_refusal("state.first.Latest", &refused.expect_err("incompatible"));
    Ok(())
}

/// Both have one fingerprint: nothing in the values tells them apart.
#[test]
fn another_scale_under_one_fingerprint_is_refused() {
    use gretchen::backend::memory::MemoryBackend;
    use gretchen::backend::{Backend, log::LogBackend};
    use gretchen::topic::{TopicSchema, TopicSpec};

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let folder = tempfile::tempdir().expect("a folder");
    let clock = gretchen::clock::Clock::system();
    let log = LogBackend::open(LogOptions::new(folder.path()), clock.clone()).expect("a log");
    let backends: [Box<dyn Backend>; 2] = [Box::new(MemoryBackend::new(clock)), Box::new(log)];
    for backend in backends {
        let own = <state::cents::Price as Record>::SCHEMA;
        let add = |json: &str| {
            let schema = DynamicSchema::parse(json).expect("a schema");
            assert_eq!(schema.fingerprint(), own.fingerprint);
            let schema = Some(TopicSchema { fingerprint: schema.fingerprint(), json: schema.json() });
            runtime.block_on(backend.create_topic(&TopicSpec { schema, ..TopicSpec::new("prices", 1) }))
        };
        add(own.json).expect("a new topic");
        add(&own.json.replace("\"precision\":9", "\"precision\":12")).expect("more digits are no other meaning");
        let error = add(&own.json.replace("\"scale\":2", "\"scale\":3")).expect_err("another scale").to_string();
        assert!(error.contains("topic prices has values of state.cents.Price"), "{error}");
        assert!(error.contains("decimal(9,2) was written where decimal(9,3) is read (rule: decimal scale)"), "{error}");
    }
}
