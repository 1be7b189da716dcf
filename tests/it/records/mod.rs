//! What `records!` generates, and what stands in for it where there is no generated type.

mod arbitrary;
mod codec;
mod differential;
mod evolution;
mod generated;
mod hurt;
mod matrix;
mod oracles;
mod resolution;
mod shared;
mod text;
mod types;

use gretchen::record::{HasField, Input, Record, Value, field_id};
use rust_decimal::Decimal;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");

use shop::{Order, OrderTotal};
gretchen::records!("tests/schemas/everything.avsc", "tests/schemas/line.avsc");

use test::{Color, Everything, Hash, Line};

/// A datum as apache-avro reads it, resolved to another schema or not.
fn theirs(
    schema: &apache_avro::Schema,
    datum: &[u8],
    reader: Option<&apache_avro::Schema>,
) -> apache_avro::types::Value {
    let builder = apache_avro::reader::datum::GenericDatumReader::builder(schema);
    let value = builder.maybe_reader_schema(reader).build().and_then(|read| read.read_value(&mut { datum }));
    value.expect("apache-avro reads it")
}

/// What apache-avro writes.
fn their_bytes(schema: &apache_avro::Schema, value: apache_avro::types::Value) -> Vec<u8> {
    let builder = apache_avro::writer::datum::GenericDatumWriter::builder(schema);
    builder.build().and_then(|write| write.write_value_to_vec(value)).expect("apache-avro writes it")
}

fn order() -> Order {
    Order {
        order_id: 4711,
        customer: "00004".into(),
        ordered_on: jiff::civil::date(1997, 1, 1),
        quantity: 2,
        amount: Decimal::new(2933, 2),
    }
}

#[test]
fn an_order_goes_to_bytes_and_back() {
    let mut wire = Vec::new();
    order().encode_value(&mut wire).expect("an order that fits");
    assert_eq!(wire[10..], [0xce, 0x49, 10, b'0', b'0', b'0', b'0', b'4', 0x8c, 0x9a, 0x01, 4, 4, 0x0b, 0x75]);
    assert_eq!(Order::decode_value(&wire).expect("an order"), order());
    let view = Order::view_value(&wire).expect("an order");
    assert_eq!((view.customer, view.amount), ("00004", Decimal::new(2933, 2)));
    assert_eq!(Order::own(&view), order());
    assert_eq!(<Order as HasField<{ field_id("customer") }>>::get(&view), "00004");
}

/// As fastavro 1.13.1 prints them: `fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")`.
#[test]
fn fingerprints_equal_fastavros() {
    let order = <Order as Record>::SCHEMA.fingerprint.to_le_bytes();
    assert_eq!(order, [0x8d, 0x00, 0x42, 0xfd, 0x1f, 0x12, 0xe5, 0xcb]);
    let total = <OrderTotal as Record>::SCHEMA.fingerprint.to_le_bytes();
    assert_eq!(total, [0x55, 0xa2, 0xe0, 0xc8, 0xc6, 0xc9, 0x4f, 0xcc]);
}

#[test]
fn defaults_are_those_of_the_schema() {
    let everything = Everything::default();
    assert_eq!((everything.flag, everything.int, everything.long, everything.double), (true, -7, 0, 1.0));
    assert_eq!((everything.r#type.as_str(), everything.blob.as_ref()), ("plain", &[0xff, 1][..]));
    assert_eq!((everything.color, everything.size, everything.note), (Color::LightBlue, Some(3), None));
    assert_eq!((everything.price, everything.line.count), (Decimal::new(256, 2), 1));
    let mut datum = Vec::new();
    Everything::default().encode(&mut datum).expect("defaults fit");
    assert_eq!(Everything::decode(&mut Input::new(&datum)).expect("its own bytes"), Everything::default());
}
