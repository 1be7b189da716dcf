//! A broker that wants to know who comes, and lets not everybody do everything; and one that is too old.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use gretchen::app::App;
use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::backend::{Backend, Replay};
use gretchen::clock::Clock;
use gretchen::error::{Error, ErrorKind, Result};
use gretchen::session::Session;
use gretchen::topic::{TopicSettings, TopicSpec};
use tempfile::TempDir;

use super::cluster::Cluster;
use crate::shop;
use crate::support::Random;

const ORDERS: u64 = 20;

const ACLS: &str = "org.apache.kafka.tools.AclCommand";

/// Works on some orders as such a client, and returns how many were processed.
fn work(servers: &str, settings: &[(&str, &str)]) -> Result<u64> {
    let mut options = KafkaOptions::new(servers);
    for (name, value) in settings {
        options.set(name, value)?;
    }
    let folder = TempDir::new().unwrap();
    let app = App::new("secured").agent::<shop::totals>();
    let session = Session::on(app, folder.path(), 1, |clock| Ok(Arc::new(KafkaBackend::open(options, clock)?)))?;
    let orders = shop::orders(&mut Random::numbered(1), 0, ORDERS, false);
    session.publish("orders", "till", orders.into_iter().map(|order| (order.customer.clone().into_bytes(), order)))?;
    session.process()?;
    Ok(session.table(&shop::TOTALS)?.iter().map(|(_, total)| total.orders as u64).sum())
}

/// Why such a client cannot work, which must be known soon and must not tell a password.
fn refused(servers: &str, settings: &[(&str, &str)]) -> Error {
    let clock = Clock::system();
    let began = clock.moment();
    let error = work(servers, settings).unwrap_err();
    println!("{settings:?} after {:.1?}: {error}", clock.moment().since(began));
    for (name, value) in settings {
        assert!(!name.contains("password") || !error.to_string().contains(value), "{error}");
    }
    error
}

#[test]
fn who_may_come_works_and_who_may_not_is_told_why() {
    let cluster = Cluster::start_secured();
    let (sasl, tls) = (cluster.call(&["address", "sasl"]), cluster.call(&["address", "ssl"]));
    let authority = cluster.folder.path().join("kafka-brokers/ca.pem");
    let authority = authority.to_str().unwrap();
    let password = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN")];
    let user = |name, password_of| [&password[..], &[("sasl.username", name), ("sasl.password", password_of)]].concat();

    let settings = [&user("gretchen", "right")[..], &[("gretchen.prefix", "by-password.")]].concat();
    assert_eq!(work(&sasl, &settings).unwrap(), ORDERS);
    let with_tls = [("security.protocol", "SSL"), ("ssl.ca.location", authority), ("gretchen.prefix", "by-tls.")];
    assert_eq!(work(&tls, &with_tls).unwrap(), ORDERS);

    let scram = cluster.call(&["address", "scram"]);
    let with_scram = |password| {
        [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", authority),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "gretchen"),
            ("sasl.password", password),
            ("gretchen.prefix", "by-scram."),
        ]
    };
    assert_eq!(work(&scram, &with_scram("right")).unwrap(), ORDERS);
    let error = refused(&scram, &with_scram("sesame"));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("sasl.password"), "{error}");
    // Where clients must show who they are with a certificate, too.
    let mutual = cluster.call(&["address", "mutual"]);
    let shown = cluster.folder.path().join("kafka-brokers/client.p12");
    let certificate = [("ssl.keystore.location", shown.to_str().unwrap()), ("ssl.keystore.password", "gretchen")];
    let with_certificate = [&with_tls[..2], &certificate[..], &[("gretchen.prefix", "by-certificate.")]].concat();
    assert_eq!(work(&mutual, &with_certificate).unwrap(), ORDERS);
    let error = refused(&mutual, &with_tls);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("ssl.keystore.location"), "{error}");

    let error = refused(&sasl, &user("gretchen", "sesame"));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("sasl.password"), "{error}");
    let error = refused(&sasl, &[]);
    assert!(error.message().contains("security.protocol"), "{error}");
    let error = refused(&sasl, &[("security.protocol", "SASL_PLAINTEXT"), ("sasl.username", "gretchen")]);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("sasl.mechanism"), "{error}");
    let error = refused(&tls, &[("security.protocol", "SSL")]);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("ssl.ca.location"), "{error}");
    let error = refused(&cluster.servers, &with_tls);
    assert!(error.message().contains("security.protocol"), "{error}");

    // He may look at everything, and make nothing.
    let servers = cluster.servers.as_str();
    let grant = ["--add", "--allow-principal", "User:guest", "--operation", "Describe", "--operation", "Read"];
    let tool = ["tool", ACLS, "--bootstrap-server", servers, "--topic", "*"];
    cluster.call(&[&tool[..], &grant].concat());
    let error = refused(&sasl, &user("guest", "visitor"));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("cannot make topic gretchen-topics"), "{error}");
    assert!(error.message().contains("\"guest\" (sasl.username) has no right"), "{error}");

    // Where he may note what is known of topics the app's own topic is what he lacks.
    let mut options = KafkaOptions::new(&sasl);
    for (name, value) in [&user("gretchen", "right")[..], &[("gretchen.prefix", "guests.")]].concat() {
        options.set(name, value).unwrap();
    }
    let backend = KafkaBackend::open(options, Clock::system()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(backend.create_topic(&TopicSpec::new("unrelated", 1))).unwrap();
    for of in [["--topic", "guests.gretchen-topics"], ["--transactional-id", "*"], ["--group", "*"]] {
        let grant = ["--add", "--allow-principal", "User:guest", "--operation", "All"];
        cluster.call(&[&tool[..4], &of[..], &grant[..]].concat());
    }
    let error = refused(&sasl, &[&user("guest", "visitor")[..], &[("gretchen.prefix", "guests.")]].concat());
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("cannot make topic order-totals"), "{error}");
    assert!(error.message().contains("\"guest\" (sasl.username) has no right"), "{error}");

    // Nor may he change what a topic is set to, or see it.
    let mut options = KafkaOptions::new(&sasl);
    for (name, value) in [&user("guest", "visitor")[..], &[("gretchen.prefix", "by-password.")]].concat() {
        options.set(name, value).unwrap();
    }
    let backend = KafkaBackend::open(options, Clock::system()).unwrap();
    let settings = TopicSettings::parse(["retention_ms=7d"]).unwrap();
    let error = runtime.block_on(backend.set_topic("orders", &settings)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().starts_with("cannot set topic orders"), "{error}");
    assert!(error.message().contains("\"guest\" (sasl.username) has no right"), "{error}");
}

/// A Kafka of 2017, which ends with the test.
struct Old {
    process: Child,
    address: String,
}

impl Old {
    fn start(folder: &Path) -> Self {
        // What it needs to run is installed by the other one's script.
        super::broker();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/old-kafka");
        let mut process =
            Command::new(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(!address.is_empty(), "tests/services/old-kafka could not start a broker; see what it said above");
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

#[test]
fn a_broker_that_is_too_old_is_told_as_such() {
    let folder = TempDir::new().unwrap();
    let old = Old::start(folder.path());
    let error = refused(&old.address, &[]);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains(&format!("the broker at {} (backend) is too old", old.address)), "{error}");
}
