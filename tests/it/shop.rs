//! The app of the kill tests, and the same figures computed apart.

mod forms;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::sync::Mutex;

use gretchen::agent::{Batch, Event, Keyed, Output, Stream};
use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::prelude::Decimal;
use gretchen::record::Value;
use gretchen::session::Session;
use gretchen::table::{Table, TableMut};
use gretchen::topic::partition_of;
use gretchen::{agent, aggregate, records};

use crate::support::{APP, PARTITIONS, Random, Spec, Stage, spec};

records!("schemas/order.avsc", "schemas/order_total.avsc", namespaces = flat);

/// An order of this many pieces is answered with something bulky.
const BULK: i32 = 10;
/// So that some thirty of them make a commit of several frames.
const BULKY_BYTES: usize = 20_000;
/// What an order must cost to be large.
const LARGE: i64 = 50;
/// An order of this many pieces fails at its first try.
const HARD: i32 = 4;
/// Every order of this many pieces fails in the app `failing`, unless it is told to accept it.
pub(crate) const FAILING: i32 = 77;

aggregate! {
    /// Running totals of each customer.
    #[agent(topic = "orders", key = customer, output = "order-totals")]
    pub(crate) static TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

aggregate! {
    /// The same over what another agent puts out.
    #[agent(topic = "large", key = customer, output = "large-totals")]
    static LARGE_TOTALS: Table<String, OrderTotal> = from Order {
        orders: count(),
        revenue: sum(amount),
        smallest: min(amount),
        largest: max(amount),
        quantity: sum(quantity),
    };
}

/// Keyed by another field than its topic.
static BY_QUANTITY: Table<i32, OrderTotal> = Table::new("by-quantity").output("by-quantity");

/// Keyed by another field than the output that it reads.
static RETURNED: Table<String, OrderTotal> = Table::new("returned").output("returned");

/// Of the app `shop`.
static RETRIED: Table<String, i64> = Table::new("retried");

/// Of the app `failing`.
static ACCEPTED: Table<String, OrderTotal> = Table::new("accepted").output("accepted");

fn add(total: &mut OrderTotal, name: &str, order: &Order) {
    add_order(total, name, order.amount, order.quantity);
}

fn add_order(total: &mut OrderTotal, name: &str, amount: Decimal, quantity: i32) {
    name.clone_into(&mut total.customer);
    total.orders += 1;
    total.revenue += amount;
    total.smallest = if total.orders == 1 { amount } else { total.smallest.min(amount) };
    total.largest = total.largest.max(amount);
    total.quantity += i64::from(quantity);
}

#[agent(topic = "orders", key = quantity, table = BY_QUANTITY)]
async fn by_quantity(order: Order, mut table: TableMut<'_, i32, OrderTotal>) -> Result<(), BoxError> {
    let name = order.quantity.to_string();
    table.update(&order.quantity, |total| add(total, &name, &order))?;
    Ok(())
}

#[agent(topic = "by-number", key = customer, table = RETURNED)]
async fn returned(order: Order, mut table: TableMut<'_, String, OrderTotal>) -> Result<(), BoxError> {
    table.update(&order.customer, |total| add(total, &order.customer, &order))?;
    Ok(())
}

#[agent(topic = "orders", output = "large")]
async fn large(mut orders: Stream<Order>, mut out: Output<Order>) -> Result<(), BoxError> {
    while let Some(order) = orders.next().await {
        if order.amount >= LARGE.into() {
            out.send(&order)?;
        }
    }
    Ok(())
}

#[agent(topic = "orders", output = "by-number")]
async fn by_number(order: Event<Order>) -> Keyed<Order> {
    Keyed::new(order.order_id, order.value)
}

#[agent(topic = "orders", output = "bulky")]
async fn bulky(order: Order) -> Option<String> {
    (order.quantity == BULK).then(|| format!("{}:{}", order.order_id, "x".repeat(BULKY_BYTES)))
}

#[agent(topic = "orders", output = "batched")]
async fn batched(orders: Batch<Order>) -> Vec<Keyed<Order>> {
    orders.into_iter().map(|order| Keyed::new(&order.customer, order.value.clone())).collect()
}

/// Ends out of order: each waits a few turns of its own.
#[agent(topic = "orders", output = "beside", concurrency = 4)]
async fn beside(order: Order) -> Order {
    for _ in 0..order.order_id % 7 {
        tokio::task::yield_now().await;
    }
    order
}

/// Holds a lock for as long as the task lives, and notes every record: a second owner is caught in the act.
#[agent(topic = "orders")]
async fn owner(mut orders: Stream<Order>) -> Result<(), BoxError> {
    let Some(spec) = spec() else { return Err("this agent lives in a worker process".into()) };
    let mut held: Option<File> = None;
    while let Some(order) = orders.next_event().await {
        let file = match &mut held {
            Some(file) => file,
            None => held.insert(own(spec, order.partition).await?),
        };
        writeln!(file, "{} {}", spec.number, order.offset)?;
    }
    Ok(())
}

async fn own(spec: &Spec, partition: u32) -> Result<File, BoxError> {
    let path = spec.folder.join("owners").join(partition.to_string());
    let file = File::options().create(true).append(true).read(true).open(&path)?;
    while file.try_lock().is_err() {
        let notes = std::fs::read_to_string(&path)?;
        let holder = notes.lines().last().and_then(|line| line.split(' ').next()).unwrap_or("nobody");
        // The kernel takes the locks of a killed process away one after another.
        if spec.folder.join("killed").join(holder).exists() || spec.fault.is_some() {
            tokio::task::yield_now().await;
            continue;
        }
        let text = format!("worker {} met {holder} on partition {partition}\n", spec.number);
        File::options().create(true).append(true).open(spec.folder.join("violations"))?.write_all(text.as_bytes())?;
        return Err(text.into());
    }
    Ok(file)
}

#[agent(topic = "orders", key = customer, table = ACCEPTED)]
async fn accepted(order: Order, mut table: TableMut<'_, String, OrderTotal>) -> Result<(), BoxError> {
    table.update(&order.customer, |total| add(total, &order.customer, &order))?;
    refuse(&order)
}

#[agent(topic = "orders", output = "passed")]
async fn passed(order: Order) -> Result<Order, BoxError> {
    refuse(&order).map(|()| order)
}

/// Fails when it has written all that is to count; the second try of the same process succeeds.
#[agent(topic = "orders", key = customer, table = RETRIED, output = "retried", on_error = retry(3, "1ms"))]
async fn retried(order: Order, mut seen: TableMut<'_, String, i64>, mut out: Output<Order>) -> Result<(), BoxError> {
    static TRIED: Mutex<BTreeSet<i64>> = Mutex::new(BTreeSet::new());
    seen.update(&order.customer, |seen| *seen += 1)?;
    out.send(&order)?;
    if order.quantity == HARD && TRIED.lock().unwrap().insert(order.order_id) {
        return Err(format!("order {} fails once", order.order_id).into());
    }
    Ok(())
}

fn refuse(order: &Order) -> Result<(), BoxError> {
    if order.quantity == FAILING && !spec().is_some_and(|spec| spec.accepts) {
        return Err(format!("order {} is not acceptable", order.order_id).into());
    }
    Ok(())
}

/// The app of that name.
pub(crate) fn app(name: &str) -> App {
    match name {
        "shop" => app("simulated").agent::<owner>().agent::<retried>(),
        "owners" => App::new(APP).agent::<owner>().agent::<totals>().agent::<large>(),
        "simulated" => forms::with(app("usual")),
        "usual" => App::new(APP)
            .agent::<totals>()
            .agent::<large_totals>()
            .agent::<by_quantity>()
            .agent::<returned>()
            .agent::<large>()
            .agent::<by_number>()
            .agent::<bulky>()
            .agent::<batched>()
            .agent::<beside>(),
        "failing" => App::new(APP).agent::<accepted>().agent::<passed>(),
        "stuck" => crate::stuck::app(),
        "blocked" => crate::stuck::blocked_app(),
        "waiting" => crate::waiting::app(),
        "rebuilt" => crate::rebuilt::app(),
        other => panic!("there is no app {other}"),
    }
}

/// What a run has left behind, to be held against the same figures computed apart.
pub(crate) trait Evidence {
    /// What was published.
    fn orders(&self) -> Vec<Order>;
    /// Keys and values of a topic, partition by partition, in order.
    fn topic<V: Value>(&mut self, topic: &str) -> Vec<Vec<(Vec<u8>, V)>>;
    /// The app, to be asked for its tables.
    fn session(&mut self) -> Session;
}

/// `count` orders that follow those with a number below `first`. `bulk`: all of one customer and bulky.
pub(crate) fn orders(random: &mut Random, first: usize, count: u64, bulk: bool) -> Vec<Order> {
    some_orders(&mut |range| random.within(range), first, count, bulk)
}

/// [`orders`] with numbers of whatever source.
pub(crate) fn some_orders(
    within: &mut dyn FnMut(std::ops::Range<u64>) -> u64,
    first: usize,
    count: u64,
    bulk: bool,
) -> Vec<Order> {
    let one = within(0..40);
    (0..count)
        .map(|i| Order {
            order_id: first as i64 + i as i64,
            customer: format!("C{}", if bulk { one } else { within(0..40) }),
            ordered_on: gretchen::__private::jiff::civil::date(1997, 1, 1),
            quantity: if bulk { BULK } else { within(1..BULK as u64) as i32 },
            amount: Decimal::new(within(1..10_000) as i64, 2),
        })
        .collect()
}

/// After each order of a key its total, by key.
fn totals_by(orders: impl Iterator<Item = Order>, key: fn(&Order) -> String) -> BTreeMap<String, Vec<OrderTotal>> {
    let mut all: BTreeMap<String, Vec<OrderTotal>> = BTreeMap::new();
    for order in orders {
        let name = key(&order);
        let steps = all.entry(name.clone()).or_default();
        let mut total = steps.last().cloned().unwrap_or_default();
        add(&mut total, &name, &order);
        steps.push(total);
    }
    all
}

fn is_large(order: &Order) -> bool {
    order.amount >= LARGE.into()
}

fn partition_of_customer(order: &Order) -> u32 {
    partition_of(order.customer.as_bytes(), PARTITIONS)
}

/// Checks everything of the app `shop`. The workers have caught up and stopped.
pub(crate) fn check(stage: &mut Stage) {
    check_figures(stage);
    check_forms(stage);
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    stage.orders().iter().for_each(|order| *counts.entry(order.customer.clone()).or_default() += 1);
    let retried: BTreeMap<String, i64> = stage.session().table(&RETRIED).unwrap().into_iter().collect();
    assert_eq!(retried, counts, "table retried");
    check_orders(stage, &["retried"]);
    stage.check_owners();
}

/// Checks the tables and output topics of the app `usual`, which the apps `shop` and `simulated` have, too.
pub(crate) fn check_figures(stage: &mut impl Evidence) {
    let orders = stage.orders();
    let customers = totals_by(orders.iter().cloned(), |order| order.customer.clone());
    let large = totals_by(orders.iter().filter(|order| is_large(order)).cloned(), |order| order.customer.clone());
    let quantities = totals_by(orders.iter().cloned(), |order| order.quantity.to_string());

    let session = stage.session();
    let text = |rows: Vec<(String, OrderTotal)>| rows.into_iter().collect::<BTreeMap<_, _>>();
    let last = |steps: &BTreeMap<String, Vec<OrderTotal>>| -> BTreeMap<String, OrderTotal> {
        steps.iter().filter_map(|(key, steps)| Some((key.clone(), steps.last()?.clone()))).collect()
    };
    assert_eq!(text(session.table(&TOTALS).unwrap()), last(&customers), "table order-totals");
    assert_eq!(text(session.table(&LARGE_TOTALS).unwrap()), last(&large), "table large-totals");
    assert_eq!(text(session.table(&RETURNED).unwrap()), last(&customers), "table returned");
    let rows = session.table(&BY_QUANTITY).unwrap();
    let rows = rows.into_iter().map(|(quantity, total)| (quantity.to_string(), total)).collect();
    assert_eq!(text(rows), last(&quantities), "table by-quantity");
    drop(session);

    check_orders(stage, &["orders", "large", "batched", "beside"]);
    check_keyed(stage, &orders);
    check_updates(stage, "order-totals", &customers, true);
    check_updates(stage, "large-totals", &large, true);
    // Records of several partitions meet in a repartition topic: in which order is open.
    check_updates(stage, "by-quantity", &quantities, false);
    check_updates(stage, "returned", &customers, false);
}

/// Checks what the other forms of agent in the apps `shop` and `simulated` have made.
pub(crate) fn check_forms(stage: &mut impl Evidence) {
    forms::check(stage, &totals_by(stage.orders().into_iter(), |order| order.customer.clone()));
}

/// Checks what holds where records may be processed more than once: all have come, whatever came again. Returns how many
/// outputs came again.
pub(crate) fn check_nothing_is_lost(stage: &mut impl Evidence) -> usize {
    let orders = stage.orders();
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    orders.iter().for_each(|order| *counts.entry(order.customer.clone()).or_default() += 1);
    let session = stage.session();
    let totals: BTreeMap<String, OrderTotal> = session.table(&TOTALS).unwrap().into_iter().collect();
    drop(session);
    for (customer, count) in counts {
        let have = totals.get(&customer).map_or(0, |total| total.orders);
        assert!(have >= count, "{customer} has {have} orders in table order-totals, and made {count}");
    }
    let mut repeated = 0;
    for topic in ["large", "batched", "beside", "by-number"] {
        let have: Vec<i64> =
            stage.topic::<Order>(topic).into_iter().flatten().map(|(_, order)| order.order_id).collect();
        let once: BTreeSet<i64> = have.iter().copied().collect();
        repeated += have.len() - once.len();
        let want = orders.iter().filter(|order| topic != "large" || is_large(order)).map(|order| order.order_id);
        assert_same(&once.into_iter().collect::<Vec<_>>(), &want.collect::<Vec<_>>(), &format!("topic {topic}"));
    }
    repeated
}

/// Checks topics that hold orders as they are: all of them, those that are large, or those that passed.
pub(crate) fn check_orders(stage: &mut impl Evidence, topics: &[&str]) {
    let orders = stage.orders();
    for topic in topics {
        for (partition, have) in stage.topic::<Order>(topic).into_iter().enumerate() {
            let want: Vec<&Order> = orders
                .iter()
                .filter(|order| partition_of_customer(order) == partition as u32)
                .filter(|order| *topic != "large" || is_large(order))
                .collect();
            let ids = |orders: &[&Order]| orders.iter().map(|order| order.order_id).collect::<Vec<_>>();
            let have: Vec<&Order> = have.iter().map(|(_, order)| order).collect();
            assert_same(&ids(&have), &ids(&want), &format!("topic {topic}, partition {partition}"));
            assert!(have == want, "topic {topic}, partition {partition}");
        }
    }
}

/// Checks the topics whose records the agents made.
fn check_keyed(stage: &mut impl Evidence, orders: &[Order]) {
    let mut ids = Vec::new();
    for (partition, have) in stage.topic::<Order>("by-number").into_iter().enumerate() {
        let mut last: BTreeMap<u32, i64> = BTreeMap::new();
        for (key, order) in have {
            assert_eq!(key, order.order_id.to_be_bytes());
            assert_eq!(partition_of(&key, PARTITIONS), partition as u32);
            assert_eq!(order, orders[order.order_id as usize]);
            let from = partition_of_customer(&order);
            let before = last.insert(from, order.order_id);
            assert!(
                before < Some(order.order_id),
                "topic by-number, partition {partition}: order {} of partition {from} follows {before:?}",
                order.order_id
            );
            ids.push(order.order_id);
        }
    }
    ids.sort_unstable();
    assert_same(&ids, &(0..orders.len() as i64).collect::<Vec<_>>(), "topic by-number");

    for (partition, have) in stage.topic::<String>("bulky").into_iter().enumerate() {
        let id = |text: &String| text.split(':').next().and_then(|id| id.parse::<i64>().ok()).unwrap();
        let have: Vec<i64> = have.iter().map(|(_, text)| id(text)).collect();
        let want: Vec<i64> = orders
            .iter()
            .filter(|order| order.quantity == BULK && partition_of_customer(order) == partition as u32)
            .map(|order| order.order_id)
            .collect();
        assert_same(&have, &want, &format!("topic bulky, partition {partition}"));
    }
}

/// Two lists are long; the first difference is what helps.
fn assert_same(have: &[i64], want: &[i64], what: &str) {
    if have != want {
        let at = have.iter().zip(want).position(|(a, b)| a != b).unwrap_or(have.len().min(want.len()));
        let around = |list: &[i64]| list[at.saturating_sub(3).min(list.len())..(at + 5).min(list.len())].to_vec();
        let twice: BTreeSet<i64> =
            have.iter().filter(|id| have.iter().filter(|other| other == id).count() > 1).copied().collect();
        panic!(
            "{what}: {} instead of {}; from place {at} on {:?} instead of {:?}; repeated: {twice:?}",
            have.len(),
            want.len(),
            around(have),
            around(want)
        );
    }
}

/// Checks a topic of updates: the last of each key is right, and each counts more orders than the one before.
/// `exact`: each is what the key had after that many orders.
fn check_updates(stage: &mut impl Evidence, topic: &str, steps: &BTreeMap<String, Vec<OrderTotal>>, exact: bool) {
    let mut last: BTreeMap<String, OrderTotal> = BTreeMap::new();
    for (partition, updates) in stage.topic::<OrderTotal>(topic).into_iter().enumerate() {
        for (key, update) in updates {
            assert_eq!(partition_of(&key, PARTITIONS), partition as u32, "topic {topic}: {update:?}");
            let name = update.customer.clone();
            let before = last.get(&name).map_or(0, |before| before.orders);
            assert!(update.orders > before, "topic {topic}: {update:?} follows a total of {before} orders");
            if exact {
                assert_eq!(Some(&update), steps[&name].get(update.orders as usize - 1), "topic {topic}");
            }
            last.insert(name, update);
        }
    }
    let want: BTreeMap<String, OrderTotal> =
        steps.iter().filter_map(|(key, steps)| Some((key.clone(), steps.last()?.clone()))).collect();
    assert_eq!(last, want, "topic {topic}");
}

/// Checks the app `failing`.
pub(crate) fn check_failing(stage: &mut Stage) {
    let orders = stage.orders();
    let customers = totals_by(orders.iter().cloned(), |order| order.customer.clone());
    check_updates(stage, "accepted", &customers, true);
    check_orders(stage, &["orders", "passed"]);
    let rows = stage.session().table(&ACCEPTED).unwrap();
    for (customer, total) in rows {
        assert_eq!(Some(&total), customers[&customer].last());
    }
}
