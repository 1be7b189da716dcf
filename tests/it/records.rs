//! What `records!` generates: types, codec, errors.

use gretchen::record::{HasField, Input, Record, Value, field_id};
use rust_decimal::Decimal;

gretchen::records!("schemas/order.avsc", "schemas/order_total.avsc");
gretchen::records!("tests/schemas/everything.avsc", "tests/schemas/line.avsc");

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
