//! The codec against apache-avro, and against bytes that lie.

use std::collections::BTreeMap;

use gretchen::record::{DynamicSchema, Input, Record};
use jiff::{Timestamp, civil};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Color, Everything, Hash, Line, Order, their_bytes, theirs};

gretchen::records!("tests/schemas/point.avsc");

fn line() -> impl Strategy<Value = Line> {
    (".{0,9}", any::<i32>()).prop_map(|(article, count)| Line { article, count })
}

fn decimal(digits: u32, scale: u32) -> impl Strategy<Value = Decimal> {
    let limit = 10_i128.pow(digits);
    (1 - limit..limit).prop_map(move |unscaled| Decimal::from_i128_with_scale(unscaled, scale))
}

fn date() -> impl Strategy<Value = civil::Date> {
    (-9999_i16..=9999, 1_i8..=12, 1_i8..=28).prop_map(|(year, month, day)| civil::date(year, month, day))
}

fn millis() -> impl Strategy<Value = i64> {
    -300_000_000_000_000_i64..200_000_000_000_000
}

fn scalars() -> impl Strategy<Value = Everything> {
    let numbers = (any::<bool>(), any::<i32>(), any::<i64>(), any::<f32>(), any::<f64>());
    let texts = (proptest::collection::vec(any::<u8>(), 0..20), ".{0,20}", proptest::option::of(".{0,5}"));
    let decimals = (decimal(9, 2), decimal(28, 4), decimal(14, 3));
    let times = (date(), 0_i64..86_400_000, 0_i64..86_400_000_000, millis(), millis(), any::<i64>());
    (numbers, texts, decimals, times).prop_map(|(numbers, texts, decimals, times)| Everything {
        flag: numbers.0,
        int: numbers.1,
        long: numbers.2,
        // NaN is not equal to itself.
        float: if numbers.3.is_nan() { 0.5 } else { numbers.3 },
        double: if numbers.4.is_nan() { 0.5 } else { numbers.4 },
        blob: texts.0.into(),
        r#type: texts.1,
        note: texts.2,
        price: decimals.0,
        huge: decimals.1,
        fixed_price: decimals.2,
        day: times.0,
        time_ms: civil::Time::midnight() + jiff::SignedDuration::from_millis(times.1),
        time_us: civil::Time::midnight() + jiff::SignedDuration::from_micros(times.2),
        at_ms: Timestamp::from_millisecond(times.3).expect("in range"),
        at_us: Timestamp::from_microsecond(times.4 * 1000 + 7).expect("in range"),
        at_ns: Timestamp::from_nanosecond(times.5.into()).expect("in range"),
        wall_ms: jiff::tz::Offset::UTC.to_datetime(Timestamp::from_millisecond(times.4).expect("in range")),
        wall_us: jiff::tz::Offset::UTC.to_datetime(Timestamp::from_microsecond(times.3 * 999).expect("in range")),
        ..Everything::default()
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let lists = (
        proptest::collection::vec(any::<i64>(), 0..4),
        proptest::collection::vec(Just(()), 0..4),
        proptest::collection::vec(proptest::collection::vec(any::<i32>(), 0..3), 0..3),
        proptest::option::of((".{0,4}", ".{0,4}")),
    );
    let lines = (
        line(),
        proptest::collection::vec(line(), 0..3),
        proptest::option::of(line()),
        proptest::option::of((".{0,4}", proptest::option::of(line()))),
    );
    let others =
        (any::<[u8; 40]>(), any::<[u8; 16]>(), any::<[u8; 16]>(), 0..3_usize, proptest::option::of(any::<i32>()));
    (scalars(), lists, lines, others).prop_map(|(scalars, lists, lines, others)| Everything {
        numbers: lists.0,
        nothings: lists.1,
        matrix: lists.2,
        // One entry at most: apache-avro writes them in any order.
        names: lists.3.into_iter().collect(),
        line: lines.0,
        lines: lines.1,
        last: lines.2,
        by_name: lines.3.into_iter().collect(),
        hash: Hash(others.0),
        id: Uuid::from_bytes(others.1),
        short_id: Uuid::from_bytes(others.2),
        color: Color::ALL[others.3],
        size: others.4,
        ..scalars
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn everything_equals_apache_avro(value in everything()) {
        let mut datum = Vec::new();
        value.encode(&mut datum).expect("a value that fits");
        let mut input = Input::new(&datum);
        prop_assert_eq!(&Everything::decode(&mut input).expect("its own bytes"), &value);
        prop_assert!(input.rest().is_empty());
        let view = Everything::view(&mut Input::new(&datum)).expect("its own bytes");
        prop_assert_eq!(&Everything::from_view(&view), &value);

        // Without logical types: apache-avro has rules of its own for those, the bytes are the same.
        let schema = apache_avro::Schema::parse_str(&stripped()).expect("a schema");
        let read = theirs(&schema, &datum, None);
        let written = their_bytes(&schema, read);
        prop_assert_eq!(written, datum);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let decoded = Everything::decode(&mut Input::new(&bytes));
        let viewed = Everything::view(&mut Input::new(&bytes)).map(|view| Everything::from_view(&view));
        prop_assert_eq!(decoded.is_ok(), viewed.is_ok());
    }
}

/// The schema without its logical types.
fn stripped() -> String {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(object) => {
                object.remove("logicalType");
                object.remove("default");
                object.values_mut().for_each(strip);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut schema = serde_json::from_str(Everything::SCHEMA.json).expect("JSON");
    strip(&mut schema);
    schema.to_string()
}

#[test]
fn apache_avro_reads_the_same_values() {
    let mut datum = Vec::new();
    super::order().encode(&mut datum).expect("an order that fits");
    let schema = apache_avro::Schema::parse_str(Order::SCHEMA.json).expect("a schema");
    let apache_avro::types::Value::Record(fields) = theirs(&schema, &datum, None) else { panic!("no record") };
    assert_eq!(fields[2].1, apache_avro::types::Value::Date(9862));
    assert_eq!(fields[4].1, apache_avro::types::Value::Decimal(vec![0x0b, 0x75].into()));
    assert_eq!(DynamicSchema::parse(Order::SCHEMA.json).expect("a schema").fingerprint(), Order::SCHEMA.fingerprint);
}

#[test]
fn a_decimal_is_exact_or_refused() {
    let amount = |amount: &str| {
        let order = Order { amount: amount.parse().expect("a decimal"), ..super::order() };
        let mut datum = Vec::new();
        order.encode(&mut datum).map(|()| Order::decode(&mut Input::new(&datum)).expect("its own bytes").amount)
    };
    assert_eq!(amount("29.3300"), Ok("29.33".parse().expect("a decimal")));
    assert_eq!(amount("-9999999.99"), Ok("-9999999.99".parse().expect("a decimal")));
    for wrong in ["29.333", "10000000", "79228162514264337593543950335"] {
        let error = amount(wrong).expect_err(wrong).to_string();
        assert!(error.starts_with(&format!("field amount: {wrong} does not fit decimal(9,2)")), "{error}");
    }
}

#[test]
fn bytes_that_lie_are_errors_with_field_and_byte() {
    let error = |bytes: &[u8]| {
        let error = Order::view(&mut Input::new(bytes)).expect_err("broken bytes").to_string();
        assert_eq!(Order::decode(&mut Input::new(bytes)).expect_err("broken bytes").to_string(), error);
        error
    };
    assert_eq!(error(&[]), "field order_id at byte 0: 1 bytes are needed and 0 are left; the value is cut off");
    assert_eq!(error(&[2, 1]), "field customer at byte 1: length -1");
    assert_eq!(error(&[2, 4, 0xc3, 0x28]), "field customer at byte 2: a string that is not UTF-8");
    assert!(error(&[2, 0xfe, 0xff, 0xff, 0xff, 0x0f]).contains("2147483647 bytes are needed and 0 are left"));
    assert!(error(&[0xff; 11]).starts_with("field order_id at byte 0: a number of more than 64 bits"));
    assert!(error(&[2, 0, 0x80, 0x80, 0x80, 0x80, 0x10]).contains("field ordered_on at byte 2: 2147483648 is out of"));
    assert!(error(&[2, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f]).contains("out of the range of a date"));
}

#[test]
fn counts_are_held_against_what_is_left() {
    let path = |numbers: &[u8]| {
        let error = Lists::decode(&mut Input::new(numbers)).expect_err("broken bytes").to_string();
        assert_eq!(Lists::view(&mut Input::new(numbers)).expect_err("broken bytes").to_string(), error);
        error
    };
    assert_eq!(
        path(&[0xfe, 0xff, 0xff, 0xff, 0x0f, 0]),
        "field points at byte 0: 2147483647 items where at most 0 can be"
    );
    // An item of a nested record, in a block that says how long it is: minus two items, three bytes.
    let lists = Lists::decode(&mut Input::new(&[3, 8, 1, 2, 3, 4, 0, 0])).expect("two points");
    assert_eq!(lists.points, [Point { x: -1, y: 1 }, Point { x: -2, y: 2 }]);
    assert!(path(&[3, 6, 1, 2, 3, 4, 0, 0]).starts_with("field points at byte 6: the block should end at byte 5"));
    assert!(path(&[4, 1, 2, 3, 0x80]).starts_with("field points[1].y at byte 4: 2 bytes are needed"));
    // Nothing takes no bytes, and so its count has a bound of its own, over all lists of a datum.
    let nothings = |each: &[u8]| [&[0], each].concat();
    assert!(path(&nothings(&[2, 0x82, 0x80, 0x08, 0, 0])).contains("65537 items where at most 65536 can be"));
    assert!(path(&nothings(&[4, 0x80, 0x80, 0x04, 0, 0x82, 0x80, 0x04, 0, 0])).contains("where at most 32768 can be"));
}

#[test]
fn views_walk_in_place() {
    let lists = Lists { points: vec![Point { x: 1, y: 2 }, Point { x: 3, y: 4 }], nothings: vec![vec![(); 3]] };
    let mut datum = Vec::new();
    lists.encode(&mut datum).expect("lists that fit");
    let view = Lists::view(&mut Input::new(&datum)).expect("its own bytes");
    assert_eq!((view.points.len(), view.points.iter().map(|point| point.x).sum::<i32>()), (2, 4));
    assert_eq!(view.points.iter().map(|point| point.y).sum::<i32>(), 6, "a second walk");
    assert_eq!(view.nothings.iter().map(|inner| inner.iter().count()).collect::<Vec<_>>(), [3]);
    let everything = Everything { names: BTreeMap::from([("k".into(), "v".into())]), ..Everything::default() };
    datum.clear();
    everything.encode(&mut datum).expect("a value that fits");
    let view = Everything::view(&mut Input::new(&datum)).expect("its own bytes");
    assert_eq!((view.names.get("k"), view.names.get("x")), (Some("v"), None));
}

#[test]
fn enums_are_words() {
    assert_eq!("LIGHT_BLUE".parse(), Ok(Color::LightBlue));
    assert_eq!(Color::Self_.as_str(), "Self");
    let error = "LIGHTBLUE".parse::<Color>().expect_err("no symbol").to_string();
    assert_eq!(error, "\"LIGHTBLUE\" is no symbol of test.Color; did you mean \"LIGHT_BLUE\"?");
}

/// Java reads an int from at most five bytes and a long from at most ten, also where fewer would do.
#[test]
fn numbers_may_be_longer_than_they_need_to_be() {
    let mut long = Input::new(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]);
    assert_eq!(long.read_long(), Ok(1));
    assert_eq!(Input::new(&[0x82, 0x80, 0x80, 0x80, 0x00]).read_int(), Ok(1));
    let error = |bytes: &[u8]| Input::new(bytes).read_int().expect_err("too long").reason.clone();
    assert_eq!(error(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x00]), "an int of more than 5 bytes");
    assert_eq!(error(&[0x82, 0x80]), "3 bytes are needed and 2 are left; the value is cut off");
    assert_eq!(Input::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).read_int(), Ok(i32::MIN));
    assert_eq!(Input::new(&[0xfe, 0xff, 0xff, 0xff, 0x0f]).read_int(), Ok(i32::MAX));
}

/// Counts that no memory could hold, and blocks whose size is negative.
#[test]
fn blocks_that_lie_are_errors() {
    let points = |head: &[i64]| {
        let mut datum = Vec::new();
        for number in head {
            let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
            while zigzag >= 0x80 {
                datum.push(zigzag as u8 | 0x80);
                zigzag >>= 7;
            }
            datum.push(zigzag as u8);
        }
        datum.extend_from_slice(&[0; 8]);
        let error = Lists::decode(&mut Input::new(&datum)).expect_err("a block that lies").to_string();
        assert_eq!(Lists::view(&mut Input::new(&datum)).expect_err("a block that lies").to_string(), error);
        error
    };
    assert!(points(&[i64::MAX]).contains("9223372036854775807 items where at most 4 can be"));
    assert!(points(&[i64::MIN, 8]).contains("9223372036854775808 items where at most 4 can be"));
    assert!(points(&[-1, -1]).contains("a block of -1 bytes where 8 are left"));
    assert!(points(&[-1, i64::MIN]).contains("a block of -9223372036854775808 bytes where 8 are left"));
    assert!(points(&[-1, i64::MAX]).contains("a block of 9223372036854775807 bytes where 8 are left"));
}
