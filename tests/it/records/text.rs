//! JSON and CSV to Avro and back, keys.

use gretchen::record::{DynamicSchema, Input, Record, avro_to_json, csv_row_to_avro, json_to_avro, key_of};
use serde_json::{Value, json};

use super::{Everything, Order, order};

fn schema<R: Record>() -> DynamicSchema {
    DynamicSchema::parse(R::SCHEMA.json).expect("the schema of a record")
}

fn order_json() -> Value {
    json!({"order_id": 4711, "customer": "00004", "ordered_on": "1997-01-01", "quantity": 2, "amount": "29.33"})
}

#[test]
fn json_becomes_what_the_record_writes() {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    order().encode(&mut ours).expect("an order that fits");
    json_to_avro(&schema::<Order>(), &order_json(), &mut theirs).expect("an order that fits");
    assert_eq!(ours, theirs);
    assert_eq!(avro_to_json(&schema::<Order>(), &ours).expect("an order"), order_json());
    let mut number = order_json();
    number["amount"] = json!(29.33);
    number["ordered_on"] = json!(9862);
    theirs.clear();
    json_to_avro(&schema::<Order>(), &number, &mut theirs).expect("an order that fits");
    assert_eq!(ours, theirs);
}

#[test]
fn every_type_goes_through_json() {
    let value = json!({
        "nothing": null, "flag": false, "int": -5, "long": i64::MIN, "float": 0.1, "double": "NaN",
        "blob": "\u{ff}\u{0}a", "type": "t", "numbers": [1, -1], "nothings": [null], "names": {"k": "v"},
        "matrix": [[1], []], "note": "n", "size": null, "color": "RED", "hash": "h".repeat(40), "price": "-0.50",
        "huge": "123456789012345678901234.5678", "fixedPrice": "12345678901.234", "day": "2024-02-29",
        "time_ms": "12:30:00.5", "time_us": "23:59:59.999999", "at_ms": "2024-02-29T12:30:00.123Z",
        "at_us": "1969-12-31T23:59:59.999999Z", "at_ns": "2024-02-29T12:30:00.123456789Z",
        "wall_ms": "2024-02-29T12:30:00", "wall_us": "2024-02-29T12:30:00.000001",
        "id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "short_id": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "line": {"article": "a", "count": 1}, "lines": [{"article": "b", "count": 2}], "last": null,
        "by_name": {"x": null, "y": {"article": "c", "count": 3}},
    });
    let mut datum = Vec::new();
    json_to_avro(&schema::<Everything>(), &value, &mut datum).expect("a value that fits");
    let record = Everything::decode(&mut Input::new(&datum)).expect("the generated type agrees");
    let mut again = Vec::new();
    record.encode(&mut again).expect("a value that fits");
    assert_eq!(again, datum);
    assert_eq!(avro_to_json(&schema::<Everything>(), &datum).expect("a datum"), value);
}

#[test]
fn what_is_wrong_with_json_is_said() {
    let error = |change: fn(&mut Value)| {
        let mut value = order_json();
        change(&mut value);
        let mut out = vec![7];
        let error = json_to_avro(&schema::<Order>(), &value, &mut out).expect_err("a wrong order");
        assert_eq!(out, [7], "nothing is left behind");
        error.to_string()
    };
    assert_eq!(
        error(|value| value["custmer"] = json!("x")),
        "field custmer: shop.Order has no such field; did you mean \"customer\"?"
    );
    assert_eq!(
        error(|value| drop(value.as_object_mut().expect("an object").remove("quantity"))),
        "field quantity: missing, and the schema has no default; write int"
    );
    assert_eq!(
        error(|value| value["quantity"] = json!(1.5)),
        "field quantity: 1.5 does not fit int; write a whole number of 32 bits"
    );
    assert_eq!(
        error(|value| value["ordered_on"] = json!("1997-02-30")),
        "field ordered_on: \"1997-02-30\" does not fit date; write a date such as \"2024-02-29\""
    );
    assert!(error(|value| value["amount"] = json!("29.333")).contains("29.333 does not fit decimal(9,2)"));
    assert!(error(|value| value["amount"] = json!(1234567890123456.7)).contains("write it as a text in quotes"));
    assert!(error(|value| *value = json!([1])).starts_with("field -: [1] does not fit shop.Order; write an object"));
}

#[test]
fn wide_unions_and_recursion_go_through_json() {
    let schema = DynamicSchema::parse(
        r#"{"type": "record", "name": "Node", "fields": [
            {"name": "value", "type": ["null", "long", "string"]},
            {"name": "next", "type": ["null", "Node"], "default": null}]}"#,
    )
    .expect("a schema");
    let value = json!({"value": 3, "next": {"value": "x", "next": {"value": null, "next": null}}});
    let mut datum = Vec::new();
    json_to_avro(&schema, &value, &mut datum).expect("a value that fits");
    assert_eq!(datum, [2, 6, 2, 4, 2, b'x', 2, 0, 0]);
    assert_eq!(avro_to_json(&schema, &datum).expect("a datum"), value);
    let deep = [0, 2].repeat(10_000);
    assert!(
        avro_to_json(&schema, &deep).expect_err("too deep").to_string().contains("records nested more than 128 deep")
    );
}

#[test]
fn a_row_of_csv_becomes_a_record() {
    let headers = csv::StringRecord::from(vec!["amount", "customer", "order_id", "ordered_on", "quantity"]);
    let row = |cells: [&str; 5]| {
        let mut out = Vec::new();
        let cells = csv::StringRecord::from(cells.to_vec());
        csv_row_to_avro(&schema::<Order>(), &headers, &cells, &mut out).map(|()| out).map_err(|error| error.to_string())
    };
    let mut ours = Vec::new();
    order().encode(&mut ours).expect("an order that fits");
    assert_eq!(row(["29.33", "00004", "4711", "1997-01-01", "2"]), Ok(ours.clone()));
    assert_eq!(row(["29.33", "00004", "4711", "19970101", "2"]), Ok(ours));
    assert_eq!(
        row(["29.33", "00004", "4711", "1997-01-01", ""]),
        Err("field quantity: the cell is empty; write a value or make the field optional".into())
    );
    assert_eq!(
        row(["29.33", "00004", "x", "1997-01-01", "1"]),
        Err("field order_id: \"x\" is no whole number of 64 bits".into())
    );
    let optional = DynamicSchema::parse(
        r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "int"]}, {"name": "b", "type": "string"}]}"#,
    )
    .expect("a schema");
    let mut out = Vec::new();
    let (headers, cells) = (csv::StringRecord::from(vec!["a", "b"]), csv::StringRecord::from(vec!["", ""]));
    csv_row_to_avro(&optional, &headers, &cells, &mut out).expect("null and the empty text");
    assert_eq!(out, [0, 0]);
}

#[test]
fn a_key_is_plain_bytes() {
    let mut datum = Vec::new();
    order().encode(&mut datum).expect("an order that fits");
    let key = |field| key_of(&schema::<Order>(), &datum, field).map_err(|error| error.to_string());
    assert_eq!(key("customer"), Ok(Some(b"00004".to_vec())));
    assert_eq!(key("order_id"), Ok(Some(4711_i64.to_be_bytes().to_vec())));
    assert_eq!(key("quantity"), Ok(Some(2_i32.to_be_bytes().to_vec())));
    assert!(key("amount").expect_err("no key").contains("decimal(9,2) cannot be a key"));
    assert!(key("custmer").expect_err("no field").contains("did you mean \"customer\"?"));
    datum.clear();
    Everything::default().encode(&mut datum).expect("defaults fit");
    let key = |field| key_of(&schema::<Everything>(), &datum, field).expect("a key");
    assert_eq!((key("note"), key("size")), (None, Some(vec![0, 0, 0, 3])));
    assert_eq!(key("id"), Some(b"00000000-0000-0000-0000-000000000000".to_vec()));
    assert_eq!(key("short_id"), key("id"));
}
