//! The command line of a small app, run as a process of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};

use gretchen::app::App;
use gretchen::error::BoxError;
use gretchen::record::Record;
use gretchen::table::{Table, TableMut};
use gretchen::topic::WireFormat;
use gretchen::{agent, records};
use serde_json::{Value, json};

records!("schemas/order.avsc");

use shop::Order;

/// What each customer paid.
static PAID: Table<String, i64> = Table::new("paid").output("paid").help("cents by customer");

/// Adds up what each customer paid.
#[agent(topic = "shop-orders", key = customer, table = PAID, on_error = dead_letter("broken"))]
async fn add_up(order: Order, mut paid: TableMut<'_, String, i64>) -> Result<(), BoxError> {
    if order.quantity < 0 {
        return Err("\u{1b}[31ma negative quantity".into());
    }
    let cents = i64::try_from(order.amount.mantissa())?;
    paid.update(&order.customer, |sum| *sum += cents)?;
    Ok(())
}

#[agent(topic = "plain", output = "echoed")]
async fn echo(text: String) -> Result<String, BoxError> {
    if text == "fail" {
        return Err("told to fail".into());
    }
    Ok(text)
}

static BY_ID: Table<i64, i64> = Table::new("by-id");

/// Asks for another key than the topic has, so that a repartition topic stands in between.
#[agent(topic = "shop-orders", key = order_id, table = BY_ID)]
async fn by_id(order: Order, mut orders: TableMut<'_, i64, i64>) -> Result<(), BoxError> {
    orders.update(&order.order_id, |count| *count += 1)?;
    Ok(())
}

#[agent(topic = "endless")]
async fn never_ends(_text: String) {
    std::future::pending::<()>().await;
}

/// Agents and partitions that a worker starts: four agents and the one that feeds the repartition topic.
const TASKS: usize = 5 * 4;

/// Not one of the settings' own, of which an unknown one would be an error.
const ARGS: &str = "COMMAND_LINE_UNDER_TEST";

/// The file that names the format of the orders.
const FORMAT: &str = "format.txt";

/// Not a test of its own: the process that the tests here start.
#[test]
fn command_line() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let args: Vec<String> = serde_json::from_str(&args).unwrap();
    let app = App::new("shop")
        .about("A shop for tests")
        .agent::<add_up>()
        .agent::<echo>()
        .agent::<by_id>()
        .agent::<never_ends>();
    // A test that wants another format on the wire says so in its folder.
    let app = match fs::read_to_string(FORMAT).ok().as_deref() {
        Some("bare") => app.format("shop-orders", WireFormat::Bare),
        Some("confluent") => app.format("shop-orders", WireFormat::Confluent),
        Some("plain") => crate::plain::app(),
        Some("chain") => crate::reset::app(),
        Some("ring") => crate::reset::ring(),
        Some("plain-long") => crate::plain::app().format("ints", WireFormat::Long),
        _ => app,
    };
    let code = app.run_with(std::iter::once("shop".to_owned()).chain(args).map(OsString::from));
    std::process::exit(i32::from(code != ExitCode::SUCCESS) * if code == ExitCode::from(2) { 2 } else { 1 });
}

pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    keep_settings_from(&mut command);
    command
        .args(["--exact", "cli::command_line", "--nocapture", "--test-threads=2"])
        .env(ARGS, serde_json::to_string(args).unwrap())
        .env("NO_COLOR", "1")
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

/// What the tests are told in the environment is nothing for a program, to which it would be a setting that is unknown.
pub(crate) fn keep_settings_from(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRETCHEN_")) {
        command.env_remove(name);
    }
}

/// Runs a command to its end: exit code, standard output, standard error.
pub(crate) fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    finished(command(dir, args).output().unwrap())
}

fn finished(output: Output) -> (i32, String, String) {
    let stdout = String::from_utf8(output.stdout).unwrap();
    // The harness announces the test before the command line has its say.
    let stdout = stdout.split_once("running 1 test\n").map_or("", |(_, own)| own).to_owned();
    (output.status.code().unwrap_or(-1), stdout, String::from_utf8(output.stderr).unwrap())
}

/// The standard output of a command that must work.
pub(crate) fn good(dir: &Path, args: &[&str]) -> String {
    let (code, stdout, stderr) = run(dir, args);
    assert_eq!(code, 0, "{args:?}\n{stdout}\n{stderr}");
    stdout
}

/// The standard error of a command that must not work.
pub(crate) fn bad(dir: &Path, args: &[&str], code: i32) -> String {
    let (had, stdout, stderr) = run(dir, args);
    assert_eq!(had, code, "{args:?}\n{stdout}\n{stderr}");
    assert_eq!(stdout, "", "{args:?}");
    stderr
}

pub(crate) fn json_of(dir: &Path, args: &[&str]) -> Value {
    let text = good(dir, args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}\n{text}"))
}

pub(crate) fn csv(rows: std::ops::Range<u32>) -> String {
    let rows = rows.map(|i| format!("{i},c{},1997-01-01,1,{}.50\n", i % 7, i % 10));
    std::iter::once("order_id,customer,ordered_on,quantity,amount\n".to_owned()).chain(rows).collect()
}

pub(crate) fn order(customer: &str, quantity: i32) -> String {
    json!({"order_id": 1, "customer": customer, "ordered_on": "1997-01-01", "quantity": quantity, "amount": "2.50"})
        .to_string()
}

#[test]
fn a_file_is_sent_once_processed_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("orders.csv"), csv(0..1000)).unwrap();
    let sent = json_of(dir, &["send", "shop-orders", "--file", "orders.csv", "--json"]);
    assert_eq!((&sent["rows"], &sent["added"], &sent["dropped"]), (&json!(1000), &json!(1000), &json!(0)));
    let again = good(dir, &["send", "@add_up", "--file", "orders.csv"]);
    assert!(again.contains("all 1,000 rows were there already"), "{again}");
    // More rows at the end are added, and no others.
    fs::write(dir.join("orders.csv"), csv(0..1010)).unwrap();
    let more = json_of(dir, &["send", "shop-orders", "--file", "orders.csv", "--json"]);
    assert_eq!((&more["added"], &more["dropped"]), (&json!(10), &json!(1000)));

    let worker = json_of(dir, &["worker", "--until-caught-up", "--json"]);
    // Once by the agent keyed as the topic, once into the repartition topic, and once from there.
    assert_eq!((&worker["records"], &worker["failed_partitions"]), (&json!(3 * 1010), &json!(0)));
    let paid = json_of(dir, &["tables", "paid", "--json", "--limit", "0"]);
    let cents = |i: u32| i64::from(i % 10) * 100 + 50;
    let expected: Vec<Value> = (0..7)
        .map(|c| json!({"key": format!("c{c}"), "value": (0..1010).filter(|i| i % 7 == c).map(cents).sum::<i64>()}))
        .collect();
    assert_eq!(paid, Value::Array(expected.clone()));
    assert_eq!(good(dir, &["tables", "paid", "c3"]).trim(), expected[3]["value"].to_string());
    assert_eq!(json_of(dir, &["tables", "--json"])[0]["keys"], json!(7));
    assert!(bad(dir, &["tables", "paid", "nobody"], 1).contains("table paid has no key nobody"));
    let by_id = json_of(dir, &["tables", "by-id", "--json", "-n", "11"]);
    let keys: Vec<&str> = by_id.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], "numbers in their own order");
    let cut = good(dir, &["tables", "paid", "-n", "2"]);
    assert!(cut.contains("5 rows more; --limit 0 shows all 7 rows"), "{cut}");

    let topics = json_of(dir, &["topics", "--json"]);
    let orders = topics.as_array().unwrap().iter().find(|topic| topic["name"] == "shop-orders").unwrap();
    assert_eq!(
        orders,
        &json!({"name": "shop-orders", "partitions": 4, "offsets": 1010, "key": "customer", "format": "single-object", "schema": "shop.Order"})
    );
    let groups = json_of(dir, &["groups", "--json"]);
    assert!(groups.as_array().unwrap().iter().all(|row| row["lag"] == 0), "{groups}");
    assert_eq!(good(dir, &["read", "shop-orders"]).lines().count(), 1010);
    let one = good(dir, &["read", "shop-orders", "--json", "--partition", "1", "--from", "3", "-n", "1"]);
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["partition"], &one["offset"]), (&json!(1), &json!(3)));
    assert_eq!(one["key"], one["value"]["customer"]);
}

#[test]
fn another_file_of_the_same_name_is_not_taken_for_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("orders.csv"), csv(0..50)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "orders.csv"]);
    fs::write(dir.join("orders.csv"), csv(1000..1050)).unwrap();
    let error = bad(dir, &["send", "shop-orders", "--file", "orders.csv"], 1);
    assert!(error.contains("nothing was sent") && error.contains("--producer"), "{error}");
    let sent = json_of(dir, &["send", "shop-orders", "--file", "orders.csv", "--producer", "second", "--json"]);
    assert_eq!(sent["added"], json!(50));
    // One row is not called all of them.
    fs::write(dir.join("one.csv"), csv(0..1)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "one.csv", "--producer", "apart", "--quiet"]);
    let again = good(dir, &["send", "shop-orders", "--file", "one.csv", "--producer", "apart"]);
    assert!(again.starts_with("the row was there already"), "{again}");
}

#[test]
fn one_wrong_row_keeps_the_whole_file_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("orders.csv"), csv(0..100) + "7,c1,1997-13-01,1,2.50\n8,c1,1997-01-01,x,2.50\n").unwrap();
    let error = bad(dir, &["send", "shop-orders", "--file", "orders.csv"], 1);
    assert!(error.contains("2 rows cannot be sent, nothing was sent"), "{error}");
    assert!(error.contains("orders.csv:102: field ordered_on: "), "{error}");
    assert!(error.contains("orders.csv:103: field quantity: "), "{error}");
    assert_eq!(good(dir, &["read", "shop-orders"]), "");

    fs::write(dir.join("orders.csv"), "order_id,custmer\n").unwrap();
    let error = bad(dir, &["send", "shop-orders", "--file", "orders.csv"], 1);
    assert!(error.contains("orders.csv:1: column \"custmer\"") && error.contains("did you mean customer?"), "{error}");
    fs::write(dir.join("rows.txt"), format!("{}\n\n{{}}\n", order("a", 1))).unwrap();
    let error = bad(dir, &["send", "shop-orders", "--file", "rows.txt", "--format", "jsonl"], 1);
    assert!(error.contains("rows.txt:3: field order_id: "), "{error}");
    assert!(bad(dir, &["send", "shop-orders", "--file", "rows.txt"], 2).contains("--format"));
    assert!(bad(dir, &["send", "shop-orders", "--file", "x.csv.gz"], 2).contains("unpack it first"));
}

#[test]
fn a_single_record_says_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = json_of(dir, &["send", "shop-orders", &order("a", 1)]);
    assert_eq!((&first["topic"], &first["offset"]), (&json!("shop-orders"), &json!(0)));
    let lines = good(dir, &["send", "shop-orders", &order("a", 1), "--repeat", "3"]);
    let offsets: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["offset"].clone()).collect();
    assert_eq!(offsets, [json!(1), json!(2), json!(3)]);
    let elsewhere = json_of(dir, &["send", "plain", "hello", "--partition", "2", "--key", "k"]);
    assert_eq!(elsewhere["partition"], json!(2));
    let read = json_of(dir, &["read", "plain", "--json"]);
    assert_eq!((&read["key"], &read["value"], &read["partition"]), (&json!("k"), &json!("hello"), &json!(2)));

    assert!(bad(dir, &["send", "shop-order", "{}"], 1).contains("did you mean shop-orders?"));
    assert!(bad(dir, &["send", "@ecko", "x"], 1).contains("did you mean echo?"));
    assert!(bad(dir, &["send", "shop-orders", "{}"], 1).contains("field order_id"));
    assert!(bad(dir, &["send", "plain", "x", "--partition", "4"], 2).contains("it has 0 to 3"));
    assert!(bad(dir, &["send", "plain"], 2).contains("nothing to send"));
}

#[test]
fn what_fails_is_seen_and_cannot_steer_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["send", "shop-orders", &order("a", -1)]);
    good(dir, &["send", "shop-orders", &order("a", 1)]);
    let (code, _, log) = run(dir, &["worker", "--until-caught-up"]);
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains('\u{1b}'), "{log:?}");
    let dead = good(dir, &["read", "broken", "--keys"]);
    assert!(dead.contains("gretchen.error") && dead.contains("\"quantity\":-1"), "{dead}");
    assert!(!dead.contains('\u{1b}'), "{dead:?}");
    assert_eq!(good(dir, &["tables", "paid", "a"]).trim(), "250");

    // An agent that stops at a record: loudly, with exit code 1, and it goes on there.
    good(dir, &["send", "plain", "fail", "--partition", "0"]);
    for _ in 0..2 {
        let (code, _, log) = run(dir, &["worker", "--until-caught-up"]);
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("told to fail") && log.contains("offset 0"), "{log}");
        assert!(log.contains("error: 1 partition failed") && log.contains("help: "), "{log}");
    }
}

/// A worker that runs until it is stopped.
struct Worker(Child);

impl Worker {
    fn start(dir: &Path) -> Self {
        let mut child = command(dir, &["worker", "--stop-timeout-ms", "1000"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut started = 0;
        for line in log.lines() {
            started += usize::from(line.unwrap().contains("started"));
            if started == TASKS {
                break;
            }
        }
        assert_eq!(started, TASKS);
        Self(child)
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_worker_is_looked_at_stopped_and_reset() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 4\ncommit_interval_ms = 20\n").unwrap();
    fs::write(dir.join("orders.csv"), csv(0..70)).unwrap();
    let mut worker = Worker::start(dir);
    good(dir, &["send", "shop-orders", "--file", "orders.csv"]);
    let mut shown = Value::Null;
    for _ in 0..200 {
        shown = json_of(dir, &["groups", "--json"]);
        if shown.as_array().unwrap().iter().all(|row| row["lag"] == 0) {
            break;
        }
    }
    assert!(shown.as_array().unwrap().iter().all(|row| row["lag"] == 0), "{shown}");
    assert_eq!(json_of(dir, &["tables", "paid", "--json"]).as_array().unwrap().len(), 7);
    let refused = bad_keeping_output(dir, &["reset", "--force"], 1);
    assert!(refused.contains("nothing was dropped") && refused.contains("stop the app's workers"), "{refused}");
    worker.signal("TERM");
    assert!(worker.0.wait().unwrap().success());

    let would = good(dir, &["reset", "--dry-run"]);
    assert!(would.contains("shop-add_up-changelog") && would.contains("state/shop/paid"), "{would}");
    assert!(bad_keeping_output(dir, &["reset"], 2).contains("--force"));
    assert!(bad(dir, &["reset", "--agent", "add-up"], 1).contains("did you mean add_up?"));
    let would = good(dir, &["reset", "--agent", "by_id", "--dry-run"]);
    assert!(would.contains("shop-by_id-repartition") && !would.contains("paid"), "{would}");
    // Ended in between, it must not leave a repartition topic whose feeder begins anew.
    let topics = json_of(dir, &["reset", "--agent", "by_id", "--dry-run", "--json"])["topics"].clone();
    assert_eq!(topics, json!(["shop-by_id-repartition", "shop-by_id-changelog", "shop-by_id-rekey-changelog"]));
    assert!(bad(dir, &["reset", "--agent", "by_id-rekey", "--force"], 1).contains("--agent by_id"));
    good(dir, &["reset", "--agent", "add_up", "--force"]);
    assert_eq!(json_of(dir, &["tables", "paid", "--json"]), json!([]));
    let again = json_of(dir, &["worker", "--until-caught-up", "--json"]);
    assert_eq!(again["records"], json!(70));
    assert_eq!(json_of(dir, &["tables", "paid", "--json"]).as_array().unwrap().len(), 7);
}

#[test]
fn a_worker_with_an_agent_that_never_ends_stops_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["send", "endless", "x"]);
    let mut worker = Worker::start(dir);
    worker.signal("INT");
    assert!(worker.0.wait().unwrap().success());
    let mut worker = Worker::start(dir);
    // Signals that come close together count as one.
    while worker.0.try_wait().unwrap().is_none() {
        worker.signal("TERM");
    }
    assert_eq!(worker.0.wait().unwrap().code(), Some(130));
}

#[test]
fn an_avro_file_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (long, zigzag) =
        (|n: usize| u8::try_from(2 * n), |n: usize| vec![(2 * n % 128) as u8 | 128, (2 * n / 128) as u8]);
    let order = Order { order_id: 5, customer: "a".into(), amount: "2.50".parse().unwrap(), ..Order::default() };
    let mut block = Vec::new();
    (0..3).for_each(|_| order.encode(&mut block).unwrap());
    let schema = Order::SCHEMA.json.as_bytes();
    let sync = [7_u8; 16];
    let mut file = b"Obj\x01\x02\x16avro.schema".to_vec();
    file.extend(zigzag(schema.len()).into_iter().chain(schema.iter().copied()));
    file.extend([0].into_iter().chain(sync).chain([long(3).unwrap(), long(block.len()).unwrap()]));
    file.extend(block.into_iter().chain(sync));
    fs::write(dir.join("orders.avro"), &file).unwrap();
    let sent = json_of(dir, &["send", "shop-orders", "--file", "orders.avro", "--json"]);
    assert_eq!(sent["added"], json!(3));
    let read = good(dir, &["read", "shop-orders", "-n", "1"]);
    assert!(read.contains(r#""customer":"a""#) && read.contains(r#""amount":"2.50""#), "{read}");
    fs::write(dir.join("orders.avro"), &file[..file.len() - 20]).unwrap();
    assert!(bad(dir, &["send", "shop-orders", "--file", "orders.avro"], 1).contains("nothing was sent"));
}

/// What comes as its bytes is looked at as closely as what people write.
#[test]
fn a_decimal_with_too_many_digits_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let row = json!({"order_id": 1, "customer": "C1", "ordered_on": 9862, "quantity": 2, "amount": "]u000b\u{ae}"});
    fs::write(dir.join("orders.jsonl"), row.to_string()).unwrap();
    let said = bad(dir, &["send", "shop-orders", "--file", "orders.jsonl", "--format", "avro-json"], 1);
    assert!(said.contains("a decimal of more than 9 digits") && said.contains("nothing was sent"), "{said}");
}

fn bad_keeping_output(dir: &Path, args: &[&str], code: i32) -> String {
    let (had, stdout, stderr) = run(dir, args);
    assert_eq!(had, code, "{args:?}\n{stdout}\n{stderr}");
    stderr
}

#[test]
fn a_killed_worker_leaves_nothing_that_is_counted_twice() {
    for format in ["single-object", "bare", "confluent"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT), format).unwrap();
        kill_a_worker(dir.path());
        assert_eq!(json_of(dir.path(), &["topics", "shop-orders", "--json"])["format"], json!(format));
    }
}

fn kill_a_worker(dir: &Path) {
    fs::write(dir.join("orders.csv"), csv(0..700)).unwrap();
    let worker = Worker::start(dir);
    good(dir, &["send", "shop-orders", "--file", "orders.csv"]);
    worker.signal("KILL");
    drop(worker);
    good(dir, &["worker", "--until-caught-up"]);
    let paid = json_of(dir, &["tables", "paid", "--json"]);
    let sum: i64 = paid.as_array().unwrap().iter().filter_map(|row| row["value"].as_i64()).sum();
    assert_eq!(sum, (0..700_i64).map(|i| i % 10 * 100 + 50).sum::<i64>());
    // A kill between a commit and its publication must not keep the next worker waiting, with nothing to do.
    let idle = json_of(dir, &["worker", "--until-caught-up", "--json"]);
    assert_eq!(idle["records"], json!(0));
}

#[test]
fn the_app_and_its_settings_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let agents = json_of(dir, &["agents", "--json"]);
    assert_eq!(agents[0]["name"], "add_up");
    assert_eq!(agents[0]["help"], "Adds up what each customer paid.");
    assert_eq!(agents[0]["tables"], json!(["paid"]));
    assert_eq!(agents[1]["output"], json!(["echoed"]));
    assert_eq!(json_of(dir, &["models", "--json"])[0]["name"], "shop.Order");
    let model = json_of(dir, &["model", "order", "--json"]);
    assert_eq!((&model[0]["field"], &model[0]["default"]), (&json!("order_id"), &json!("*")));
    assert!(bad(dir, &["model", "Ordr"], 1).contains("did you mean Order?"));
    assert!(bad(dir, &["topics"], 1).contains("there is no data in gretchen-data yet"));
    assert!(!dir.join("gretchen-data").exists(), "looking must not make folders");

    fs::write(dir.join("gretchen.toml"), "partitions = 2\n").unwrap();
    let config = json_of(dir, &["--data-dir", "elsewhere", "config", "--json"]);
    let of = |name: &str| config.as_array().unwrap().iter().find(|row| row["setting"] == name).unwrap().clone();
    assert_eq!((&of("partitions")["value"], &of("partitions")["origin"]), (&json!("2"), &json!("gretchen.toml:1")));
    assert_eq!(of("data_dir")["origin"], json!("--data-dir"));
    fs::write(dir.join("gretchen.toml"), "partitons = 2\n").unwrap();
    assert!(
        bad(dir, &["agents"], 2)
            .contains("gretchen.toml:1: there is no setting \"partitons\"; did you mean partitions?")
    );
    fs::remove_file(dir.join("gretchen.toml")).unwrap();

    let misspelt = finished(command(dir, &["agents"]).env("GRETCHEN_DATADIR", "elsewhere").output().unwrap());
    assert_eq!(misspelt.0, 2);
    assert!(misspelt.2.contains("did you mean GRETCHEN_DATA_DIR?"), "{}", misspelt.2);
    assert!(bad(dir, &["topics", "--backend", "amqp://broker"], 2).contains("this build has no backend for amqp:"));
    assert!(bad(dir, &["topics", "--backend", "memory:"], 2).contains("one process"));
    assert!(bad(dir, &["wroker"], 2).contains("'worker'"));
    assert!(good(dir, &["completion", "bash"]).contains("complete -F _shop"));
}

#[test]
fn settings_of_kafka_are_shown_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let password = ("GRETCHEN_KAFKA_SASL_PASSWORD", "whisper");
    let file = "backend = \"kafka://broker:9092?sasl.password=murmur\"\n[kafka]\n\"sasl.username\" = \"me\"\n\
                \"sasl.password\" = \"hush\"\n";
    fs::write(dir.join("gretchen.toml"), file).unwrap();
    for (environment, origin) in [(&[][..], "gretchen.toml:4"), (&[password][..], password.0)] {
        let shown = |args: &[&str]| {
            let output = command(dir, args).envs(environment.iter().copied()).output().unwrap();
            let (code, shown, said) = finished(output);
            assert_eq!(code, 0, "{shown}\n{said}");
            let tells =
                ["hush", "whisper", "murmur"].iter().any(|secret| shown.contains(secret) || said.contains(secret));
            assert!(!tells, "{shown}\n{said}");
            shown
        };
        let table = shown(&["config"]);
        let row = table.lines().find(|line| line.contains("kafka.sasl.password")).unwrap();
        assert!(row.contains("(secret)") && row.contains(origin), "{table}");
        let config: Value = serde_json::from_str(&shown(&["config", "--json"])).unwrap();
        let of = |name: &str| config.as_array().unwrap().iter().find(|row| row["setting"] == name).unwrap().clone();
        let row = of("kafka.sasl.password");
        assert_eq!((&row["value"], &row["origin"]), (&json!("(secret)"), &json!(origin)));
        assert_eq!(of("kafka.sasl.username")["value"], "me");
        assert_eq!(of("backend")["value"], "kafka://broker:9092?sasl.password=(secret)");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("orders.csv"), csv(0..20_000)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "orders.csv"]);
    let mut child =
        command(dir, &["read", "shop-orders"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !line.contains("order_id") {
        line.clear();
        lines.read_line(&mut line).unwrap();
    }
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn a_follower_sees_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    good(dir, &["send", "plain", "before"]);
    let mut child = command(dir, &["read", "plain", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "\"before\""));
    good(dir, &["send", "plain", "after"]);
    assert_eq!(lines.next().as_deref(), Some("\"after\""));
    child.kill().unwrap();
    child.wait().unwrap();
}
