//! Every type that a schema may have: there and back, as bytes, views and JSON, and held against apache-avro.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use gretchen::record::{DecodeError, Decoder, Duration, DynamicSchema, Input, Record, avro_to_json, json_to_avro};
use proptest::prelude::*;
use serde_json::json;

use super::evolution::written;
use super::{their_bytes, theirs};

gretchen::records!("tests/schemas/tree.avsc", "tests/schemas/unions.avsc", "tests/schemas/meanings.avsc");
gretchen::records!("tests/schemas/names.avsc", "tests/schemas/large.avsc");

use test::Meanings;
use test::unions::{
    Circle, Raw, Simple, Square, Unions, UnionsAgain, UnionsByKeyValue, UnionsByKeyValueValue, UnionsMeaning,
    UnionsMiddle, UnionsNumbers, UnionsOne, UnionsShape, UnionsShapeView, UnionsTagsItem, UnionsValue, UnionsValueView,
};
use tree::{Heavy, Leaf, LeafPair, Link, Node, NodeOther, NodeOtherItem, Pair};

/// Through bytes, a view and the dynamic side; returns the bytes.
fn check_alone<R: Record>(record: &R) -> Vec<u8> {
    let mut datum = Vec::new();
    record.encode(&mut datum).expect("a value that fits");
    let mut input = Input::new(&datum);
    assert_eq!(&R::decode(&mut input).expect("its own bytes"), record);
    assert!(input.rest().is_empty());
    let viewed = R::view(&mut Input::new(&datum)).map(|view| R::from_view(&view)).expect("its own bytes");
    assert_eq!(&viewed, record);
    let schema = DynamicSchema::parse(R::SCHEMA.json).expect("the schema of a record");
    assert_eq!(schema.json().as_ref(), R::SCHEMA.json, "it reads as it is written");
    avro_to_json(&schema, &datum).expect("the dynamic side reads it");
    for len in 0..datum.len() {
        assert!(R::decode(&mut Input::new(&datum[..len])).is_err(), "cut off at {len}");
        assert!(R::view(&mut Input::new(&datum[..len])).is_err(), "cut off at {len}");
    }
    datum
}

/// The same, and through apache-avro.
fn check<R: Record>(record: &R) -> Vec<u8> {
    let datum = check_alone(record);
    let schema = apache_avro::Schema::parse_str(&plain(R::SCHEMA.json)).expect("a schema");
    assert_eq!(their_bytes(&schema, theirs(&schema, &datum, None)), datum);
    datum
}

/// The schema without logical types and defaults: apache-avro has rules of its own for those.
fn plain(json: &str) -> String {
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
    let mut schema = serde_json::from_str(json).expect("JSON");
    strip(&mut schema);
    schema.to_string()
}

/// JSON to bytes, to the generated type, to bytes and to JSON.
fn through_json<R: Record>(value: &serde_json::Value) -> R {
    let schema = DynamicSchema::parse(R::SCHEMA.json).expect("the schema of a record");
    let mut datum = Vec::new();
    json_to_avro(&schema, value, &mut datum).expect("a value that fits");
    assert_eq!(&avro_to_json(&schema, &datum).expect("a datum"), value);
    let record = R::decode(&mut Input::new(&datum)).expect("the generated type agrees");
    // Alone: apache-avro writes a map in any order.
    assert_eq!(check_alone(&record), datum);
    record
}

#[test]
fn defaults_may_be_of_any_branch() {
    let unions = Unions::default();
    assert_eq!(unions.value, UnionsValue::String("a text".into()));
    assert_eq!(unions.numbers, UnionsNumbers::Float(1.5), "the first branch that the default fits");
    assert_eq!(unions.middle, UnionsMiddle::Null);
    assert_eq!(unions.one, UnionsOne::String("only".into()));
    assert_eq!(unions.tags, [UnionsTagsItem::Int(1), UnionsTagsItem::String("x".into())]);
    assert_eq!((unions.shape.clone(), unions.again.clone()), (UnionsShape::Simple(Simple::Nothing), UnionsAgain::Null));
    check(&unions);
}

#[test]
fn unions_are_enums() {
    let unions = Unions {
        value: 7.into(),
        numbers: true.into(),
        middle: bytes::Bytes::from_static(b"\xff").into(),
        by_key: BTreeMap::from([(
            "a".into(),
            UnionsByKeyValue::Map(BTreeMap::from([("b".into(), UnionsByKeyValueValue::Boolean(true))])),
        )]),
        shape: Square { side: 2.0 }.into(),
        again: "x".to_owned().into(),
        meaning: UnionsMeaning::Price("-1.25".parse().expect("a decimal")),
        ..Unions::default()
    };
    let datum = check(&unions);
    let view = Unions::view(&mut Input::new(&datum)).expect("its own bytes");
    assert!(matches!(view.value, UnionsValueView::Int(7)));
    assert!(matches!(view.shape, UnionsShapeView::Square(square) if square.side == 2.0));
    assert_eq!(view.numbers, UnionsNumbers::Boolean(true), "what borrows nothing is its own view");
    for shape in [UnionsShape::Raw(Raw([1, 2, 3, 4])), Circle { radius: 1.0 }.into(), Simple::Point.into()] {
        check(&Unions { shape, ..unions.clone() });
    }
    let error = Unions::decode(&mut Input::new(&[6])).expect_err("no such branch").to_string();
    assert_eq!(error, "field value at byte 0: number 3 where 0 to 2 are known");
    let error = Unions::decode(&mut Input::new(&[2, 1])).expect_err("a negative length").to_string();
    assert_eq!(error, "field value at byte 1: length -1");
}

#[test]
fn unions_go_through_json() {
    let value = json!({
        "value": null, "numbers": 1, "middle": "m", "one": "o", "tags": ["t", 1], "by_key": {"k": {"l": 1}, "m": 0.5},
        "shape": {"side": 1.5}, "again": "2", "meaning": "2024-02-29",
    });
    let unions: Unions = through_json(&value);
    assert_eq!(unions.meaning, jiff::civil::date(2024, 2, 29).into());
    assert_eq!(unions.shape, UnionsShape::Square(Square { side: 1.5 }));
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = ".{0,3}".prop_map(|name| Node { name, before: None, ..Node::default() });
    leaf.prop_recursive(6, 24, 3, |inner| {
        let lists = (proptest::collection::vec(inner.clone(), 0..3), proptest::option::of((".{0,2}", inner.clone())));
        let ends = (proptest::option::of(inner.clone()), proptest::option::of(inner.clone()));
        let other = prop_oneof![
            Just(NodeOther::Null),
            any::<i64>().prop_map(NodeOther::Long),
            inner.prop_map(NodeOther::from),
            ".{0,2}".prop_map(|text| NodeOther::Array(vec![Pair::default().into(), NodeOtherItem::String(text)])),
        ];
        (".{0,3}", ends, lists, other).prop_map(|(name, ends, lists, other)| Node {
            name,
            next: ends.0.map(Box::new),
            before: ends.1.map(Box::new),
            children: lists.0,
            named: lists.1.into_iter().map(|(key, node)| (key, Some(node))).collect(),
            other,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_equal_apache_avro(node in node()) {
        check(&node);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(
            Node::decode(&mut Input::new(&bytes)).is_ok(),
            Node::view(&mut Input::new(&bytes)).map(|view| Node::from_view(&view)).is_ok()
        );
        prop_assert_eq!(
            Unions::decode(&mut Input::new(&bytes)).is_ok(),
            Unions::view(&mut Input::new(&bytes)).map(|view| Unions::from_view(&view)).is_ok()
        );
        prop_assert_eq!(
            Meanings::decode(&mut Input::new(&bytes)).is_ok(),
            Meanings::view(&mut Input::new(&bytes)).map(|view| Meanings::from_view(&view)).is_ok()
        );
    }

    #[test]
    fn wide_decimals_are_exact(unscaled in proptest::collection::vec(any::<u8>(), 1..18), scale in -20_i64..20) {
        let value = BigDecimal::from_bigint(bigdecimal::num_bigint::BigInt::from_signed_bytes_be(&unscaled), scale);
        let meanings = Meanings { free: value.clone(), perhaps: Some(value.clone()), ..Meanings::default() };
        check(&meanings);
        let mut datum = Vec::new();
        if (Meanings { wide: value.clone(), ..Meanings::default() }).encode(&mut datum).is_ok() {
            let read = Meanings::decode(&mut Input::new(&datum)).expect("its own bytes").wide;
            prop_assert_eq!(read.as_bigint_and_exponent().1, 10);
            prop_assert_eq!(read, value);
        }
    }
}

#[test]
fn a_default_of_a_record_that_contains_itself_ends() {
    assert_eq!(Pair::default().left, Leaf { pair: LeafPair::Int(0) });
    assert_eq!((Node::default().before, Node::default().other), (None, NodeOther::Null));
    check(&Pair { left: Leaf { pair: Pair::default().into() }, right: Leaf { pair: 3.into() } });
}

fn chain(links: i32) -> Link {
    (1..links).rev().fold(Link { n: links, next: None }, |next, n| Link { n, next: Some(Box::new(next)) })
}

#[test]
fn a_value_is_only_so_deep() {
    // The outermost, and 128 inside of it.
    let mut datum = Vec::new();
    chain(129).encode(&mut datum).expect("as deep as may be");
    assert_eq!(Link::decode(&mut Input::new(&datum)), Ok(chain(129)));
    let schema = DynamicSchema::parse(Link::SCHEMA.json).expect("a schema");
    assert!(avro_to_json(&schema, &datum).is_ok());

    let error = chain(130).encode(&mut Vec::new()).expect_err("too deep");
    assert_eq!(error.field, vec!["next"; 129].join("."));
    assert_eq!(error.reason, "records nested more than 128 deep; flatten them");
    assert!(chain(129).encode(&mut Vec::new()).is_ok(), "the count begins anew");

    let deep = [2, 2].repeat(1_000_000);
    let check = |error: DecodeError| {
        assert_eq!((error.field.clone(), error.position), (vec!["next"; 129].join("."), 258));
        assert_eq!(error.reason, "records nested more than 128 deep");
    };
    check(Link::decode(&mut Input::new(&deep)).expect_err("too deep"));
    check(Link::view(&mut Input::new(&deep)).map(drop).expect_err("too deep"));
    check(avro_to_json(&schema, &deep).expect_err("too deep"));
}

/// Half of what a thread has by default.
#[test]
fn what_is_deep_needs_little_stack() {
    let deepest = std::thread::Builder::new().stack_size(1 << 20).spawn(|| {
        // Children in children, in maps and in the widest union.
        for level in [&[0, 0, 2, 2][..], &[0, 0, 2, 0, 2, 0, 2], &[0, 0, 2, 0, 0, 4]] {
            let deep = level.repeat(10_000);
            for reason in [
                Node::decode(&mut Input::new(&deep)).expect_err("too deep").reason.clone(),
                Node::view(&mut Input::new(&deep)).map(drop).expect_err("too deep").reason.clone(),
            ] {
                assert_eq!(reason, "records nested more than 128 deep");
            }
        }
        let mut node = Node { before: None, ..Node::default() };
        for _ in 0..128 {
            node = Node { children: vec![node], before: None, ..Node::default() };
        }
        // Large records may be fewer.
        let mut heavy = Heavy::default();
        for _ in 0..6 {
            heavy = Heavy { next: vec![heavy], ..Heavy::default() };
        }
        let mut datum = Vec::new();
        heavy.encode(&mut datum).expect("as deep as may be");
        assert_eq!(Heavy::decode(&mut Input::new(&datum)), Ok(heavy.clone()));
        assert_eq!(Heavy::view(&mut Input::new(&datum)).map(|view| Heavy::from_view(&view)), Ok(heavy.clone()));
        let error = Heavy { next: vec![heavy], ..Heavy::default() }.encode(&mut Vec::new()).expect_err("too deep");
        assert_eq!(error.reason, "records nested more than 6 deep; flatten them");
        let mut datum = Vec::new();
        node.encode(&mut datum).expect("as deep as may be");
        let view = Node::view(&mut Input::new(&datum)).expect("its own bytes");
        assert_eq!(Node::from_view(&view), node.clone());
    });
    deepest.expect("a thread").join().expect("no overflow");
}

#[test]
fn every_meaning_goes_through_json() {
    let value = json!({
        "wide": "123456789012345678901234567890.0123456789", "wide_fixed": "-123456789012345678901234567890123456789012.345",
        "free": "1E+400", "rent": "P14M3DT0.25S", "rents": ["P1D", "PT0S"], "perhaps": "-0.00000000000000000000000000000000001",
        "uuid_fixed": "67e55044-10b1-426f-9247-bb680e5fe0c8", "wall_ns": "2024-02-29T12:30:00.123456789",
        "mine": 1, "text": "t", "nested": "n",
    });
    let schema = DynamicSchema::parse(Meanings::SCHEMA.json).expect("a schema");
    let mut datum = Vec::new();
    json_to_avro(&schema, &value, &mut datum).expect("a value that fits");
    let meanings = Meanings::decode(&mut Input::new(&datum)).expect("the generated type agrees");
    assert_eq!(check(&meanings), datum);
    assert_eq!(meanings.rent, Duration { months: 14, days: 3, millis: 250 });
    assert_eq!(meanings.free, "1e400".parse::<BigDecimal>().expect("a decimal"));
    let again = avro_to_json(&schema, &datum).expect("a datum");
    let mut second = Vec::new();
    json_to_avro(&schema, &again, &mut second).expect("its own JSON");
    assert_eq!(second, datum, "{again}");
    for field in ["wide", "wide_fixed", "rent", "rents", "wall_ns", "mine"] {
        assert_eq!(again[field], value[field]);
    }
}

#[test]
fn meanings_have_defaults() {
    let meanings = Meanings::default();
    assert_eq!(meanings.wide, BigDecimal::from_bigint(256.into(), 10));
    assert_eq!(meanings.free, "0.7".parse::<BigDecimal>().expect("a decimal"));
    assert_eq!((meanings.rent, meanings.mine), (Duration::ZERO, 7));
    let error = |meanings: Meanings| meanings.encode(&mut Vec::new()).expect_err("it does not fit").to_string();
    let third = "0.33333333333".parse::<BigDecimal>().expect("a decimal");
    let wrong = error(Meanings { wide: third.clone(), ..Meanings::default() });
    assert!(wrong.starts_with("field wide: 0.33333333333 does not fit decimal(40,10)"), "{wrong}");
    assert!(error(Meanings { wide_fixed: third, ..Meanings::default() }).starts_with("field wide_fixed: "));
}

/// apache-avro 0.22 writes a big-decimal as Java does.
#[test]
fn a_big_decimal_equals_apache_avros() {
    let schema =
        apache_avro::Schema::parse_str(r#"{"type": "bytes", "logicalType": "big-decimal"}"#).expect("a schema");
    for text in ["0", "-1", "12.75", "-1E-30", "1E+30", "79228162514264337593543950336.5"] {
        let value = text.parse::<BigDecimal>().expect("a decimal");
        let written = their_bytes(&schema, apache_avro::types::Value::BigDecimal(value));
        let ours = DynamicSchema::parse(r#"{"type": "bytes", "logicalType": "big-decimal"}"#).expect("a schema");
        let mut datum = Vec::new();
        json_to_avro(&ours, &json!(text), &mut datum).expect("a decimal");
        assert_eq!(datum, written, "{text}");
    }
}

/// A stack of tokio's holds two of these images, and every way from the bytes to a value would take more.
#[test]
fn a_large_fixed_needs_no_stack() {
    use large::{Image, Images, ImagesOthers, Small};
    let image = || Image(vec![7; 1_000_000].try_into().expect("its size"));
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let images = [
        Images { first: image(), others: image().into(), last: Some(image()), n: 1 },
        Images { first: image(), others: ImagesOthers::Small(Small([3; 1024])), last: None, n: 2 },
        Images::default(),
    ];
    let check = move || {
        for images in images {
            let mut datum = Vec::new();
            images.encode(&mut datum).expect("a value that fits");
            assert_eq!(Images::decode(&mut Input::new(&datum)).as_ref(), Ok(&images.clone()));
            let view = Images::view(&mut Input::new(&datum)).expect("its own bytes");
            assert_eq!(Images::from_view(&view), images);
            assert!(Images::decode(&mut Input::new(&datum[..datum.len() - 1])).is_err(), "cut off");
        }
    };
    thread.spawn(check).expect("a thread").join().expect("no overflow");
}

/// Words that mean something where they come to stand: in Rust, in a trait, or in what is generated beside them.
#[test]
fn names_mean_nothing_to_the_code_around_them() {
    use com::words::{Answer, AnswerOf, Err, Outcome, Owned, View};
    assert_eq!(Outcome::ALL, [Outcome::Ok, Outcome::Err, Outcome::All, Outcome::Self_]);
    assert_eq!((Outcome::All.as_str(), "ERR".parse().ok()), ("A_L_L", Some(Outcome::Err)));
    assert!("A_L".parse::<Outcome>().expect_err("no symbol").to_string().contains("A_L"));
    let text = "x".to_owned();
    for of in
        [View { text: text.clone() }.into(), Owned { text: text.clone() }.into(), Err { text }.into(), AnswerOf::Null]
    {
        check(&Answer { outcome: Outcome::Err, of });
    }
    check(&com::words::self_::One { other: Some(com::words::self_::Two { n: 1 }) });
}

/// Alone: apache-avro 0.22 knows no type without a namespace from within one, as Java does.
#[test]
fn namespaces_are_modules() {
    let part = com::other::Part { id: com::other::Id([1, 2]), whole: com::other::PartWhole::Null };
    let order = com::acme::Order {
        state: com::acme::r#type::State::New,
        part: part.clone(),
        input: 1,
        out: 2,
        view: 3,
        value: 4,
        error: 5,
        self_: 6,
        r#type: 7,
        r#async: 8,
        r#gen: 10,
        __bytes_: 9,
        ..com::acme::Order::default()
    };
    let top = Top { inner: order.clone(), r#mod: com::acme::r#type::State::Old };
    check_alone(&top);
    check_alone(&com::acme::Order {
        part: com::other::Part { whole: order.into(), ..part },
        top: Some(Box::new(top)),
        ..com::acme::Order::default()
    });
    check_alone(&i32_::u8_::Vec { option: Some(Box::new(i32_::u8_::Vec { option: None, n: 1 })), n: 2 });
    check_alone(&Failure { why: "w".into() });
}

/// No path leads out of a function, so what is generated in one must not need such a path.
#[test]
fn records_may_stand_in_a_function() {
    gretchen::records!("tests/schemas/reading.avsc", "tests/schemas/unions.avsc");
    let reading = new::Reading { kind: new::Kind::Hot, ..new::Reading::default() };
    check(&reading);
    check(&test::unions::Unions::default());
}

mod flat {
    gretchen::records!("tests/schemas/tree.avsc", "tests/schemas/unions.avsc", namespaces = flat);
}

#[test]
fn namespaces_may_be_flat() {
    assert_eq!(flat::Node::SCHEMA.fingerprint, Node::SCHEMA.fingerprint);
    check(&flat::Node { other: flat::Pair::default().into(), ..flat::Node::default() });
    check(&flat::Unions::default());
}

/// What a writer of another schema wrote, owned and as a view.
fn resolved<R: Record>(schema: &str, value: &serde_json::Value) -> Result<R, DecodeError> {
    let (wire, known) = written(schema, value);
    let mut decoder = Decoder::<R>::new(known);
    let viewed = decoder.view(&wire).map(|view| <R as gretchen::record::Value>::own(&view));
    let decoded = decoder.decode(&wire);
    assert_eq!(decoded, viewed);
    decoded
}

#[test]
fn another_schema_becomes_every_type() {
    let older = r#"{"type": "record", "name": "Unions", "namespace": "older.unions", "fields": [
        {"name": "meaning", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "gone", "type": ["null", "bytes", "int"]},
        {"name": "numbers", "type": ["string", "long", "int"]},
        {"name": "again", "type": ["int", "null"]},
        {"name": "by_key", "type": {"type": "map", "values": "float"}}]}"#;
    let value =
        json!({"meaning": "2024-02-29", "tags": ["t"], "gone": 5, "numbers": 7, "again": null, "by_key": {"k": 0.5}});
    let unions = resolved::<Unions>(older, &value).expect("an older record");
    let expected = Unions {
        meaning: jiff::civil::date(2024, 2, 29).into(),
        tags: vec!["t".to_owned().into()],
        numbers: 7_i64.into(),
        again: UnionsAgain::Null,
        by_key: BTreeMap::from([("k".into(), 0.5.into())]),
        ..Unions::default()
    };
    assert_eq!(unions, expected);

    let older = r#"{"type": "record", "name": "Meanings", "namespace": "older", "fields": [
        {"name": "words", "type": "bytes"}, {"name": "nested", "type": "string"},
        {"name": "rent", "type": {"type": "fixed", "name": "Rent", "size": 12}}, {"name": "rents", "type": {"type": "array", "items": "Rent"}},
        {"name": "wide_fixed", "type": {"type": "fixed", "name": "WideFixed", "size": 20}},
        {"name": "perhaps", "type": {"type": "bytes", "logicalType": "big-decimal"}},
        {"name": "uuid_fixed", "type": {"type": "fixed", "name": "Id16", "size": 16}},
        {"name": "wide", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 10}},
        {"name": "wall_ns", "type": "int"}]}"#;
    let twelve = "\u{1}\0\0\0\u{2}\0\0\0\u{3}\0\0\0";
    let value = json!({"words": "w", "nested": "n", "rent": twelve, "rents": [], "wide_fixed": "\0".repeat(19) + "\u{7}",
        "perhaps": "1.5", "uuid_fixed": "\0".repeat(16), "wide": "0.5", "wall_ns": 0});
    let meanings = resolved::<Meanings>(older, &value).expect("an older record");
    assert_eq!(meanings.rent, Duration { months: 1, days: 2, millis: 3 });
    assert_eq!(
        (meanings.wide, meanings.wide_fixed),
        ("0.5".parse().expect("a decimal"), BigDecimal::from_bigint(7.into(), 3))
    );
    assert_eq!((meanings.perhaps, meanings.text.as_str()), (Some("1.5".parse().expect("a decimal")), "w"));
}

#[test]
fn another_schema_of_a_type_that_contains_itself_is_resolved() {
    let older = r#"{"type": "record", "name": "Link", "namespace": "tree", "fields": [
        {"name": "gone", "type": "string"}, {"name": "next", "type": ["Link", "null"]}, {"name": "n", "type": "int"}]}"#;
    let chain_of = |links: i32| {
        let last = json!({"gone": "x", "next": null, "n": links});
        (1..links).rev().fold(last, |next, n| json!({"gone": "x", "next": next, "n": n}))
    };
    assert_eq!(resolved::<Link>(older, &chain_of(129)), Ok(chain(129)));
    let error = resolved::<Link>(older, &chain_of(130)).expect_err("too deep");
    assert_eq!(error.field, vec!["next"; 129].join("."));
    assert_eq!(error.reason, "records nested more than 128 deep");
}
