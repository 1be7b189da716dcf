//! What is said where there is no Kafka, or none that would have us.

use gretchen::backend::kafka::{KafkaBackend, KafkaOptions};
use gretchen::clock::Clock;
use gretchen::error::{Error, ErrorKind};

fn refused(options: KafkaOptions) -> Error {
    let clock = Clock::system();
    let began = clock.moment();
    let error = KafkaBackend::open(options, clock.clone()).unwrap_err();
    println!("after {:.1?}: {error}", clock.moment().since(began));
    error
}

#[test]
fn nobody_listens_there() {
    let error = refused(KafkaOptions::new("127.0.0.1:1"));
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.message().contains("no broker at 127.0.0.1:1 (backend) has answered"), "{error}");
}

#[test]
fn there_is_no_such_host() {
    let error = refused(KafkaOptions::new("nobody.invalid:9092"));
    assert!(error.message().contains("(backend)") || error.message().contains("look at backend"), "{error}");
}

#[test]
fn a_broker_without_passwords_is_told_from_one_that_refuses_ours() {
    let mut options = KafkaOptions::new(super::broker());
    for (name, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "gretchen"),
        ("sasl.password", "wrong"),
    ] {
        options.set(name, value).unwrap();
    }
    let error = refused(options);
    assert!(!error.to_string().contains("wrong"), "{error}");
    assert!(error.message().contains("sasl.") || error.message().contains("security.protocol"), "{error}");
}

#[test]
fn a_setting_that_there_is_not_is_named() {
    let mut options = KafkaOptions::new("127.0.0.1:1");
    options.set("sessoin.timeout.ms", "5").unwrap();
    let error = refused(options);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("sessoin.timeout.ms"), "{error}");
    let mut options = KafkaOptions::new("127.0.0.1:1");
    options.set("ssl.key.password", "open sesame").unwrap();
    options.set("socket.timeout.ms", "soon").unwrap();
    let error = refused(options);
    assert!(error.message().contains("socket.timeout.ms") && !error.to_string().contains("sesame"), "{error}");
}
