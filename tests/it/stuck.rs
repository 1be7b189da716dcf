//! An agent that never comes back from a record holds up that record's partition and nothing else, in every form.

use std::fs::{self, OpenOptions};
use std::io::Write;

use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::table::Table;
use gretchen::topic::{TopicPartition, partition_of};
use gretchen::{agent, aggregate};

use crate::shop::{self, Evidence, FAILING, Order, OrderTotal, OrderView};
use crate::support::{APP, PARTITIONS, Random, Stage, What, spec};

/// Whether this order is one that the agents do not come back from; each that meets it says so.
fn endless(quantity: i32) -> bool {
    if quantity != FAILING || spec().is_some_and(|spec| spec.accepts) {
        return false;
    }
    if let Some(spec) = spec() {
        let mut met = OpenOptions::new().create(true).append(true).open(spec.folder.join(MET)).unwrap();
        met.write_all(b".").unwrap();
    }
    true
}

/// A byte for each agent that has met the endless order.
const MET: &str = "met";

async fn dwell(order: &Order) {
    if endless(order.quantity) {
        std::future::pending::<()>().await;
    }
}

#[agent(topic = "orders", output = "by-record")]
async fn by_record(order: Order) -> Order {
    dwell(&order).await;
    order
}

#[agent(topic = "orders", output = "by-event")]
async fn by_event(order: Event<Order>) -> Order {
    dwell(&order).await;
    order.value
}

#[agent(topic = "orders", output = "by-batch")]
async fn by_batch(orders: Batch<Order>) -> Vec<Keyed<Order>> {
    let mut out = Vec::new();
    for order in orders {
        dwell(&order).await;
        out.push(Keyed::new(&order.customer, order.value.clone()));
    }
    out
}

#[agent(topic = "orders", output = "by-stream")]
async fn by_stream(mut orders: Stream<Order>, mut out: Output<Order>) -> Result<(), BoxError> {
    while let Some(order) = orders.next().await {
        // Dropped in the middle of a record, an agent leaves no trace of it.
        out.send(&order)?;
        dwell(&order).await;
    }
    Ok(())
}

#[agent(topic = "orders", output = "beside-others", concurrency = 3)]
async fn beside_others(order: Order) -> Order {
    dwell(&order).await;
    order
}

aggregate! {
    /// Keeps its thread, too: a fold cannot wait otherwise.
    #[agent(topic = "orders", key = customer)]
    static BLOCKED: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: fold(|sum: &mut i64, order: &OrderView<'_>| {
            if endless(order.quantity) {
                loop {
                    std::thread::park();
                }
            }
            *sum += i64::from(order.quantity);
            Ok(())
        }),
    };
}

const TOPICS: &[&str] = &["by-record", "by-event", "by-batch", "by-stream", "beside-others"];

pub(crate) fn app() -> App {
    App::new(APP)
        .agent::<by_record>()
        .agent::<by_event>()
        .agent::<by_batch>()
        .agent::<by_stream>()
        .agent::<beside_others>()
}

pub(crate) fn blocked_app() -> App {
    App::new(APP).agent::<blocked>()
}

/// Orders of which one is endless; a worker that meets it, and is stopped; then one that accepts it.
fn meet(test: &str, app: &str, agents: &[&str]) -> Stage {
    let mut random = Random::seeded(test);
    let mut stage = Stage::new(app, false);
    stage.spec.stop_ms = 300;
    let before = shop::orders(&mut random, 0, 200, false);
    stage.publish(before);
    let mut bad = shop::orders(&mut random, 200, 1, false);
    bad[0].quantity = FAILING;
    let partition = partition_of(bad[0].customer.as_bytes(), PARTITIONS);
    let offset = stage.topic::<Order>("orders")[partition as usize].len() as u64;
    stage.publish(bad);
    let after = shop::orders(&mut random, 201, 300, false);
    stage.publish(after);

    let worker = stage.worker();
    let replay = stage.replay();
    let group = |agent: &str| gretchen::plan::group_name(APP, agent);
    // Partitions of a thread that is kept wait with it: the numbers of the others differ by an odd one.
    let free = |other: &u32| *other != partition && (app == "stuck" || (other + partition) % 2 == 1);
    for other in (0..PARTITIONS).filter(free) {
        let place = TopicPartition::new("orders", other);
        let end = replay.offsets(&place).unwrap().end;
        while agents.iter().any(|agent| replay.position(&group(agent), &place).unwrap() != Some(end)) {
            stage.sleep_ms(5);
        }
    }
    // Stopped before it meets the record a worker would have nothing to give up.
    while fs::metadata(stage.folder().join(MET)).map_or(0, |met| met.len()) < agents.len() as u64 {
        stage.sleep_ms(5);
    }
    let place = TopicPartition::new("orders", partition);
    for agent in agents {
        let position = replay.position(&group(agent), &place).unwrap().unwrap_or(0);
        assert!(position <= offset, "{agent} has committed {position}, and {offset} is not finished");
    }
    drop(replay);
    // It ends all the same, and leaves the record to the next: it is the worker itself that gives the partition up, of each
    // agent one, and with a thread that is kept those that wait with it.
    stage.stop(vec![worker]);
    let given_up = stage.said().into_iter().find_map(|(_, said)| match said.what {
        What::Ended { stuck, .. } => Some(stuck),
        _ => None,
    });
    let kept = (0..PARTITIONS).filter(|other| !free(other)).count() * agents.len();
    assert_eq!(given_up, Some(kept));
    stage.spec.accepts = true;
    let mut workers = [stage.worker()];
    stage.catch_up(&mut workers);
    stage.stop(workers.into());
    stage
}

#[test]
fn an_endless_record_holds_up_its_partition_alone_and_is_processed_once() {
    let test = "stuck::an_endless_record_holds_up_its_partition_alone_and_is_processed_once";
    let agents = ["by_record", "by_event", "by_batch", "by_stream", "beside_others"];
    let mut stage = meet(test, "stuck", &agents);
    shop::check_orders(&mut stage, TOPICS);
}

#[test]
fn an_endless_fold_holds_up_its_thread_alone_and_counts_once() {
    let test = "stuck::an_endless_fold_holds_up_its_thread_alone_and_counts_once";
    let mut stage = meet(test, "blocked", &["blocked"]);
    let count = stage.orders.len() as i64;
    let pieces: i64 = stage.orders.iter().map(|order| i64::from(order.quantity)).sum();
    let rows = stage.session().table(&BLOCKED).unwrap();
    let sum = |figure: fn(&OrderTotal) -> i64| rows.iter().map(|(_, total)| figure(total)).sum::<i64>();
    assert_eq!((sum(|total| total.orders), sum(|total| total.quantity)), (count, pieces));
}
