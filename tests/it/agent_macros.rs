//! What `#[agent]` and `aggregate!` know when they are compiled, and what a generated state does.

use gretchen::__private::{Aggregation, TableState};
use gretchen::agent::{Agent, Batch, Event, Keyed, OnError, Output, Shape, Stream, Submitted};
use gretchen::record::{Input, Record};
use gretchen::table::{Table, TableMut};
use gretchen::{agent, aggregate, records};

records!("tests/schemas/visit.avsc", "tests/schemas/visits.avsc", "tests/schemas/page.avsc");

use shop::{Page, Visit, VisitView, Visits};

static BY_HAND: Table<i64, Visits> = Table::new("visits-by-hand");
static LIMITS: Table<i64, i64> = Table::new("limits");

/// Keeps what
/// each customer saw.
///
/// No part of the help.
#[agent(
    topics = ["visits", "visits-old"],
    key = customer_id,
    tables = [BY_HAND, LIMITS],
    output = "alerts",
    on_error = retry(3, "2s"),
)]
async fn keep(
    visit: Visit,
    _visits: TableMut<'_, i64, Visits>,
    _limits: TableMut<'_, i64, i64>,
) -> Result<Option<Keyed<Visit>>, std::io::Error> {
    Ok(Some(Keyed::new(visit.customer_id, visit)))
}

#[agent(topic = "visits", concurrency = 4, on_error = dead_letter("visits-failed"), name = "notifier")]
pub(crate) async fn notify(_: Event<Visit>) {}

#[agent(topic = "visits", on_error = skip)]
async fn batches(_: Batch<Visit>) {}

#[agent(topic = "pages", output = "page-lengths", on_error = retry(1))]
async fn start(mut input: Stream<String>, mut output: Output<i64>) -> gretchen::error::Result<()> {
    while let Some(page) = input.next().await {
        output.send(&(page.len() as i64))?;
    }
    Ok(())
}

aggregate! {
    /// What each customer saw.
    #[agent(topic = "visits", key = customer_id, output = "visit-totals", on_error = skip)]
    pub(crate) static VISIT_TOTALS: Table<i64, Visits> = from Visit {
        visits: count(),
        pages: count(page),
        seconds: sum(seconds),
        mean_score: mean(score),
        first_page: first(page),
        last_page: last(page),
        longest: max(seconds),
        odd: fold(|odd: &mut i64, visit: &VisitView<'_>| {
            *odd += visit.seconds.unwrap_or(0) % 2;
            Ok(())
        }),
    };

    #[agent(topic = "visits", key = page, name = "pages", on_error = fail)]
    static PER_PAGE: Table<String, Page> = from Visit {
        visits: count(),
    };
}

#[test]
fn a_definition_holds_what_was_said() {
    let def = <keep as Agent>::DEF;
    assert_eq!((def.name, def.help), ("keep", "Keeps what each customer saw."));
    assert!(def.file.ends_with("agent_macros.rs"), "{}", def.file);
    assert_eq!(include_str!("agent_macros.rs").lines().nth(def.line as usize - 1), Some("async fn keep("));
    assert_eq!(def.topics, ["visits", "visits-old"]);
    assert_eq!(def.key.unwrap().field, "customerId");
    assert_eq!(def.tables.iter().map(|table| table().name).collect::<Vec<_>>(), ["visits-by-hand", "limits"]);
    let [output] = def.outputs else { panic!("{:?}", def.outputs) };
    assert_eq!((output.topic, output.schema.unwrap().name), ("alerts", "shop.Visit"));
    assert_eq!((def.concurrency, def.shape), (1, Shape::Record));
    assert_eq!(def.on_error, OnError::Retry { times: 3, backoff_ms: 2000 });
    assert_eq!(def.input.unwrap().name, "shop.Visit");
}

#[test]
fn every_shape_has_its_definition() {
    let def = <notify as Agent>::DEF;
    assert_eq!((def.name, def.help, def.concurrency, def.shape), ("notifier", "", 4, Shape::Event));
    assert_eq!(def.on_error, OnError::DeadLetter("visits-failed"));
    assert!(def.key.is_none() && def.outputs.is_empty() && def.tables.is_empty());

    let def = <batches as Agent>::DEF;
    assert_eq!((def.shape, def.on_error), (Shape::Batch, OnError::Skip));

    let def = <start as Agent>::DEF;
    assert_eq!((def.shape, def.on_error), (Shape::Stream, OnError::Retry { times: 1, backoff_ms: 100 }));
    assert!(def.input.is_none() && def.outputs[0].schema.is_none());

    let def = <visit_totals as Agent>::DEF;
    assert_eq!((def.name, def.help), ("visit_totals", "What each customer saw."));
    assert_eq!((def.shape, def.on_error), (Shape::Aggregate, OnError::Skip));
    let table = (def.tables[0])();
    assert_eq!(
        (table.name, table.output, table.help),
        ("visit-totals", Some("visit-totals"), "What each customer saw.")
    );
    assert_eq!((<per_page as Agent>::DEF.name, PER_PAGE.name()), ("pages", "per-page"));
}

#[test]
fn agents_are_found_without_being_named() {
    let found: Vec<&str> =
        gretchen::__private::inventory::iter::<Submitted>().map(|submitted| submitted.0.name).collect();
    for name in ["keep", "notifier", "batches", "start", "visit_totals", "pages"] {
        assert_eq!(found.iter().filter(|found| **found == name).count(), 1, "{name} in {found:?}");
    }
}

type State = <visit_totals as Aggregation>::State;

fn fold(state: &mut State, seconds: Option<i64>, page: Option<&str>, score: f64) -> Result<(), String> {
    let visit = Visit { customer_id: 7, page: page.map(str::to_owned), seconds, score };
    let mut bytes = Vec::new();
    visit.encode(&mut bytes).unwrap();
    let view = Visit::view(&mut Input::new(&bytes)).unwrap();
    assert_eq!(visit_totals::key(&view, &mut Vec::new()), Some(&7_i64.to_be_bytes()[..]));
    visit_totals::fold(state, &view).map_err(|error| error.to_string())
}

#[test]
fn a_generated_state_folds_shows_and_comes_back() {
    let mut state = State::default();
    fold(&mut state, Some(5), Some("a"), 1.0).unwrap();
    fold(&mut state, None, None, 2.0).unwrap();
    fold(&mut state, Some(8), Some("b"), 6.0).unwrap();
    let expected = Visits {
        customer_id: 7,
        visits: 3,
        pages: 2,
        seconds: 13,
        mean_score: 3.0,
        first_page: Some("a".into()),
        last_page: Some("b".into()),
        longest: Some(8),
        odd: 1,
    };
    assert_eq!(state.value(&7_i64.to_be_bytes()).unwrap(), expected);

    let mut stored = Vec::new();
    state.encode_state(&mut stored).unwrap();
    assert_eq!(State::decode_state(&stored).unwrap().value(&7_i64.to_be_bytes()).unwrap(), expected);
    assert!(State::decode_state(&stored[..stored.len() - 1]).is_err());
    stored.push(0);
    assert!(State::decode_state(&stored).unwrap_err().to_string().contains("left over"));
    assert!(state.value(b"short").unwrap_err().to_string().contains("customer_id"));
}

#[test]
fn a_record_that_overflows_one_figure_changes_none() {
    let mut state = State::default();
    fold(&mut state, Some(i64::MAX), Some("a"), 1.0).unwrap();
    let before = format!("{state:?}");
    let error = fold(&mut state, Some(1), Some("b"), 1.0).unwrap_err();
    assert!(error.contains("sum overflows"), "{error}");
    assert_eq!(format!("{state:?}"), before);
}

#[test]
fn a_null_key_is_none() {
    let mut bytes = Vec::new();
    Visit { customer_id: 1, page: None, seconds: None, score: 0.0 }.encode(&mut bytes).unwrap();
    let view = Visit::view(&mut Input::new(&bytes)).unwrap();
    assert_eq!(per_page::key(&view, &mut Vec::new()), None);
}

#[test]
fn the_layout_names_functions_and_fields() {
    let layout = VISIT_TOTALS.def().layout();
    assert!(layout.contains("seconds: sum(seconds) as sum:long"), "{layout}");
    assert!(layout.contains("odd: fold as fold"), "{layout}");
    assert_eq!(layout.lines().count(), 8);
}

#[tokio::test]
async fn functions_stay_callable() {
    batches(Batch { events: Vec::new() }).await;
}
