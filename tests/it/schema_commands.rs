//! `schema …`, containers and the JSON encoding of the specification, on the command line.

use std::fs;
use std::path::Path;

use gretchen::backend::log::{LogBackend, LogOptions};
use gretchen::backend::{Backend, ProducerId};
use gretchen::clock::Clock;
use gretchen::record::{Compression, ContainerWriter, DynamicSchema, FrameBuilder, Record, container_to_datums};
use gretchen::topic::{TopicPartition, TopicSchema, TopicSpec};
use serde_json::{Value, json};

use crate::cli::shop::Order;
use crate::cli::{bad, command, good, json_of, order, run};

gretchen::records!("tests/schemas/remarks.avsc");

use remarks::Visit;

const REMARKS: &str = include_str!("../schemas/remarks.avsc");

const V1: &str = include_str!("../../schemas/order.avsc");

const BASKET: &str = r#"{"type": "record", "name": "Basket", "namespace": "shop", "fields": [
            {"name": "orders", "type": {"type": "array", "items": "Order"}}]}"#;

/// A folder with three versions of a schema.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("v1.avsc"), V1).unwrap();
    let v2 = V1.replace(r#""name": "quantity", "type": "int""#, r#""name": "quantity", "type": "long""#);
    fs::write(dir.path().join("v2.avsc"), v2).unwrap();
    let v3 = V1.replace(r#"{"name": "customer""#, r#"{"name": "note", "type": "string"}, {"name": "customer""#);
    fs::write(dir.path().join("v3.avsc"), v3).unwrap();
    dir
}

#[test]
fn schemas_are_checked_and_shown() {
    let dir = folder();
    let dir = dir.path();
    fs::write(dir.join("basket.avsc"), BASKET).unwrap();
    let shown = good(dir, &["schema", "check", "basket.avsc", "v1.avsc"]);
    assert!(
        shown.contains("shop.Basket  record  1 field") && shown.contains("shop.Order   record  5 fields"),
        "{shown}"
    );
    let found = json_of(dir, &["schema", "check", "v1.avsc", "--json"]);
    assert_eq!(found[0]["fingerprint"], json!(format!("{:016x}", Order::SCHEMA.fingerprint)));
    assert_eq!(dir.read_dir().unwrap().count(), 4, "nothing is made");

    let error = bad(dir, &["schema", "check", "basket.avsc"], 1);
    assert!(error.contains("unknown type \"shop.Order\"") && error.contains("basket.avsc:2:67"), "{error}");
    assert!(error.contains(&format!("  | {}^^^^^^^\n", " ".repeat(66))), "{error}");
    fs::write(dir.join("broken.avsc"), "{\"type\": \"enum\", \"name\": \"E\", \"symbols\": [\"A\", \"A\"]}").unwrap();
    fs::write(dir.join("torn.avsc"), "{\"type\": \"record\",").unwrap();
    // A broken file does not hide what is wrong with another, nor is it blamed on those that name its types.
    let error = bad(dir, &["schema", "check", "torn.avsc", "v1.avsc", "broken.avsc"], 1);
    assert!(error.contains("torn.avsc:1:") && error.contains("broken.avsc:1:48"), "{error}");
    assert_eq!(error.matches("error:").count(), 2, "{error}");
    let endless = r#"{"type": "record", "name": "x.A", "fields": [{"name": "b", "type": "x.B"}]}"#;
    fs::write(dir.join("a.avsc"), endless).unwrap();
    fs::write(dir.join("b.avsc"), endless.replace("x.A", "x.C").replace("x.B", "x.A").replace("x.C", "x.B")).unwrap();
    let error = bad(dir, &["schema", "check", "a.avsc", "b.avsc"], 1);
    assert!(error.contains("contains itself without end") && error.matches("error:").count() == 1, "{error}");
    let (code, errors, _) = run(dir, &["schema", "check", "broken.avsc", "--json"]);
    let errors: Value = serde_json::from_str(&errors).unwrap();
    assert_eq!((code, &errors["errors"][0]["column"]), (1, &json!(48)));
    fs::write(dir.join("evil.avsc"), "\"\u{1b}[31m\u{9b}\"").unwrap();
    assert!(!bad(dir, &["schema", "check", "evil.avsc"], 1).contains(['\u{1b}', '\u{9b}']));
    // What is Avro and still a mistake is shown, and refused where Rust is made of it.
    fs::write(
        dir.join("mistakes.avsc"),
        "{\"type\": \"record\", \"name\": \"M\", \"fields\": [\n\
         {\"name\": \"d\", \"type\": {\"type\": \"string\", \"logicalType\": \"date\"}},\n\
         {\"name\": \"u\", \"type\": {\"type\": \"string\", \"logicalType\": \"uuid\"}, \"default\": \"none\"},\n\
         {\"name\": \"e\", \"type\": []}]}",
    )
    .unwrap();
    let (code, shown, warnings) = run(dir, &["schema", "check", "mistakes.avsc"]);
    assert!(code == 0 && shown.contains("M     record  3 fields"), "{shown}");
    for warning in ["date does not stand on string", "default \"none\" is no uuid", "the union is empty"] {
        assert!(warnings.contains(&format!("records! makes no Rust of it: {warning}")), "{warnings}");
    }
    assert!(bad(dir, &["schema", "expand", "mistakes.avsc"], 1).contains("mistakes.avsc:2:57"));
    assert!(bad(dir, &["schema", "check", "none.avsc"], 1).contains("cannot read none.avsc"));
    assert!(bad(dir, &["schema", "check", "v1.avsc", "v1.avsc"], 2).contains("named twice"));
}

#[test]
fn schemas_are_compared() {
    let dir = folder();
    let dir = dir.path();
    let diff = good(dir, &["schema", "diff", "v1.avsc", "v2.avsc"]);
    assert!(diff.contains("quantity  type    int     long"), "{diff}");
    assert!(diff.contains("after reads what before wrote: yes") && diff.contains("before reads what after wrote: no"));
    let diff = json_of(dir, &["schema", "diff", "v1.avsc", "v3.avsc", "--json"]);
    assert_eq!(diff["changes"], json!([{"path": "note", "change": "added", "before": null, "after": "string"}]));
    assert_eq!((&diff["backward"]["compatible"], &diff["forward"]["compatible"]), (&json!(false), &json!(true)));

    assert!(good(dir, &["schema", "compat", "v1.avsc", "v2.avsc"]).contains("v2.avsc reads what v1.avsc wrote: yes"));
    for (mode, files, code) in [
        ("backward", ["v1.avsc", "v2.avsc"].as_slice(), 0),
        ("forward", &["v1.avsc", "v2.avsc"], 1),
        ("full", &["v1.avsc", "v2.avsc"], 1),
        ("backward", &["v1.avsc", "v3.avsc"], 1),
        ("forward", &["v1.avsc", "v3.avsc"], 0),
        ("backward", &["v3.avsc", "v2.avsc", "v1.avsc", "v2.avsc"], 0),
        ("forward", &["v2.avsc", "v1.avsc", "v3.avsc"], 0),
        ("forward-transitive", &["v2.avsc", "v1.avsc", "v3.avsc"], 0),
        ("backward-transitive", &["v2.avsc", "v3.avsc", "v1.avsc"], 1),
        ("full-transitive", &["v1.avsc", "v1.avsc"], 0),
    ] {
        let args = [&["schema", "compat", "--mode", mode], files].concat();
        let (had, said, error) = run(dir, &args);
        assert_eq!(had, code, "{args:?}\n{said}\n{error}");
        assert_eq!(said.contains(": no"), code == 1, "{said}");
    }
    let (_, said, _) = run(dir, &["schema", "compat", "v1.avsc", "v3.avsc", "--json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let problem = &said["checks"][0]["incompatibilities"][0];
    assert_eq!((&problem["path"], &problem["rule"]), (&json!("note"), &json!("missing default")), "{said}");
    assert!(bad(dir, &["schema", "compat", "v1.avsc"], 2).contains("latest last"));

    // What a topic keeps stands for itself.
    good(dir, &["send", "shop-orders", &order("a", 1)]);
    assert!(good(dir, &["schema", "diff", "topic:shop-orders", "v1.avsc"]).contains("they are the same"));
    assert!(good(dir, &["schema", "compat", "topic:shop-orders", "v2.avsc"]).contains(": yes"));
    assert!(bad(dir, &["schema", "canonical", "topic:shop-order"], 1).contains("did you mean shop-orders?"));
}

#[test]
fn canonical_forms_fingerprints_and_rust_are_printed() {
    let dir = folder();
    let dir = dir.path();
    let canonical = good(dir, &["schema", "canonical", "v1.avsc"]);
    assert!(
        canonical.starts_with(r#"{"name":"shop.Order","type":"record","fields":[{"name":"order_id","type":"long"}"#)
    );
    let crc = good(dir, &["schema", "fingerprint", "v1.avsc"]);
    assert_eq!(crc.trim(), format!("{:016x}  v1.avsc", Order::SCHEMA.fingerprint));
    let of = |algorithm: &str| good(dir, &["schema", "fingerprint", "v1.avsc", "v2.avsc", "--algorithm", algorithm]);
    assert_eq!(of("md5").lines().map(|line| line.find("  ")).collect::<Vec<_>>(), [Some(32); 2]);
    assert_eq!(of("sha256").lines().map(|line| line.find("  ")).collect::<Vec<_>>(), [Some(64); 2]);
    // Files that name each other's types, in any order; a second version of one is no part of that.
    fs::write(dir.join("basket.avsc"), BASKET).unwrap();
    for files in [["basket.avsc", "v1.avsc"], ["v1.avsc", "basket.avsc"]] {
        let args = |command| [&["schema", command], files.as_slice()].concat();
        let checked = json_of(dir, &[&args("check")[..], &["--json"]].concat());
        let checked: Vec<_> =
            checked.as_array().unwrap().iter().map(|row| row["fingerprint"].as_str().unwrap()).collect();
        let shown = good(dir, &args("fingerprint"));
        assert_eq!(shown.lines().map(|line| &line[..16]).collect::<Vec<_>>(), checked);
        let canonical = good(dir, &args("canonical"));
        let fingerprints =
            canonical.lines().map(|form| format!("{:016x}", DynamicSchema::parse(form).unwrap().fingerprint()));
        assert_eq!(fingerprints.collect::<Vec<_>>(), checked, "{canonical}");
    }
    assert!(bad(dir, &["schema", "fingerprint", "basket.avsc", "v1.avsc", "v2.avsc"], 1).contains("unknown type"));
    let rust = good(dir, &["schema", "expand", "v1.avsc"]);
    assert!(rust.contains("pub mod shop {\n") && rust.contains("        pub order_id: i64,\n"), "{rust}");
    let rust = good(dir, &["schema", "expand", "v1.avsc", "--flat"]);
    assert!(!rust.contains("pub mod shop") && rust.contains("\n    pub order_id: i64,\n"), "{rust}");
    assert!(bad(dir, &["schema", "expand", "v1.avsc", "v2.avsc"], 1).contains("is defined already at v1.avsc:3:11"));
}

/// A folder with two versions of schemas that name each other: in the second a line has one more field.
fn baskets(fields: &str) -> tempfile::TempDir {
    let dir = folder();
    let line = |fields: &str| {
        format!(
            r#"{{"type": "record", "name": "Line", "namespace": "shop", "fields": [{{"name": "n", "type": "int"}}{fields}]}}"#
        )
    };
    let basket = BASKET.replace(r#""Order""#, r#""shop.Line""#);
    for (version, fields) in [("one", ""), ("two", fields)] {
        fs::create_dir_all(dir.path().join(version).join("parts")).unwrap();
        fs::write(dir.path().join(version).join("a-basket.avsc"), &basket).unwrap();
        fs::write(dir.path().join(version).join("parts/line.avsc"), line(fields)).unwrap();
        fs::write(dir.path().join(version).join("notes.txt"), "no schema").unwrap();
    }
    dir
}

#[test]
fn schemas_of_several_files_are_compared() {
    let dir = baskets(r#", {"name": "note", "type": "string"}"#);
    let dir = dir.path();
    let (basket, line) =
        (|version: &str| format!("{version}/a-basket.avsc"), |version: &str| format!("{version}/parts/line.avsc"));
    let (old_basket, old_line, basket, line) = (&*basket("one"), &*line("one"), &*basket("two"), &*line("two"));
    // In any order, as files or as folders.
    for sides in [
        [old_basket, old_line, "--to", basket, line].as_slice(),
        &[old_line, old_basket, "--to", line, basket],
        &["one", "two"],
        &["one", "--to", "two"],
        &["one/", "--to", line, basket],
    ] {
        for (mode, code) in [("backward", 1), ("forward", 0), ("full", 1), ("full-transitive", 1)] {
            let (had, said, error) = run(dir, &[&["schema", "compat", "--mode", mode], sides].concat());
            assert_eq!(had, code, "{sides:?} {mode}\n{said}\n{error}");
            let problems = said.matches("missing default").count();
            assert_eq!(problems, 2 * usize::from(code == 1), "the line, and the basket that holds it: {said}");
            assert!(code == 0 || said.contains("orders[].note: missing default"), "{said}");
        }
        let diff = json_of(dir, &[&["schema", "diff", "--json"], sides].concat());
        let types = diff["types"].as_array().unwrap();
        let change = |path: &str| json!([{"path": path, "change": "added", "before": null, "after": "string"}]);
        let mut changes: Vec<&Value> = types.iter().map(|one| &one["changes"]).collect();
        changes.sort_by_key(|one| one.to_string());
        assert_eq!(changes, [&change("note"), &change("orders[].note")], "{diff}");
        let diff = good(dir, &[&["schema", "diff"], sides].concat());
        assert!(
            diff.contains("shop.Basket of ") && diff.contains("backward: after reads what before wrote: no"),
            "{diff}"
        );
    }
    let same = baskets("");
    let same = same.path();
    assert!(!good(same, &["schema", "compat", "--mode", "full", "one", "two"]).contains(": no"));
    assert!(good(same, &["schema", "diff", "one", "two"]).contains("shop.Line of two: the same"));
    // More than two versions, one of them a file.
    fs::write(same.join("line.avsc"), fs::read(same.join("one/parts/line.avsc")).unwrap()).unwrap();
    let said = good(same, &["schema", "compat", "--mode", "full-transitive", "one", "line.avsc", "two"]);
    assert!(said.contains("shop.Line of two reads what line.avsc wrote: yes"), "{said}");

    // What took the place of a type names it among its aliases; what nothing took the place of is read by nobody.
    let renamed = fs::read_to_string(same.join(line)).unwrap().replace("Line", "Row");
    fs::write(same.join(line), renamed.replace(r#""namespace""#, r#""aliases": ["Line"], "namespace""#)).unwrap();
    fs::write(same.join(basket), BASKET.replace(r#""Order""#, r#""Row""#)).unwrap();
    assert!(
        good(same, &["schema", "compat", "one", "two"])
            .contains("shop.Row of two reads what shop.Line of one wrote: yes")
    );
    fs::write(same.join(line), &renamed).unwrap();
    let (code, said, _) = run(same, &["schema", "compat", "one", "two"]);
    assert!(code == 1 && said.contains("backward: two reads what shop.Line of one wrote: no"), "{said}");
    assert!(said.contains("missing type: it is not there; add its file"), "{said}");
    let diff = good(same, &["schema", "diff", "one", "two"]);
    assert!(diff.contains("shop.Line is not in two") && diff.contains("shop.Row is not in one"), "{diff}");
    assert!(bad(same, &["schema", "compat", "two", "--to", "v1.avsc"], 1).contains("no type in common"));

    // What is wrong with the sides.
    let error = bad(dir, &["schema", "compat", old_basket, basket], 1);
    assert!(error.contains("unknown type \"shop.Line\"") && error.contains("FILE… --to FILE…"), "{error}");
    assert!(bad(dir, &["schema", "diff", "one", "two", "v1.avsc"], 2).contains("--to"));
    assert!(bad(dir, &["schema", "compat", "one"], 2).contains("--to"));
    fs::create_dir(dir.join("empty")).unwrap();
    assert!(bad(dir, &["schema", "compat", "empty", "two"], 1).contains("no file in the folder empty ends in .avsc"));
    assert!(bad(dir, &["schema", "compat", "one", "--to", basket, basket], 2).contains("named twice"));
    assert!(bad(dir, &["schema", "compat", "v1.avsc", "--to", "topic:a", "v1.avsc"], 2).contains("topic:a is whole"));
    // A topic keeps its schemas whole; what is new may be in parts.
    good(dir, &["send", "shop-orders", &order("a", 1)]);
    let said = good(dir, &["schema", "compat", "topic:shop-orders", "--to", "v2.avsc", basket, line]);
    assert_eq!(
        said.trim(),
        "backward: shop.Order of v2.avsc + two/a-basket.avsc + two/parts/line.avsc reads what topic:shop-orders wrote: yes"
    );
    // Folders stand for their files elsewhere, too.
    let shown = good(dir, &["schema", "check", "one"]);
    assert!(shown.contains("shop.Basket") && shown.contains("one/parts/line.avsc"), "{shown}");
    assert_eq!(good(dir, &["schema", "fingerprint", "one"]).lines().count(), 2);
    assert_eq!(good(dir, &["schema", "canonical", "one"]).lines().count(), 2);
    assert!(good(dir, &["schema", "expand", "one"]).contains("pub struct Basket"));
}

/// `order`, unknown logical types and attributes of anybody's go with a schema wherever it goes.
#[tokio::test]
async fn what_has_no_meaning_is_kept() {
    let text: Value = serde_json::from_str(REMARKS).unwrap();
    // The full form names types by their full names.
    let flat = |value: &Value| {
        let text = value.to_string().replace(r#""namespace":"remarks","#, "");
        let text = ["Visit", "Way", "Colour"].into_iter().fold(text, |text, name| {
            text.replace(&format!(r#""name":"{name}""#), &format!(r#""name":"remarks.{name}""#))
        });
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let of = |json: &str| serde_json::from_str::<Value>(json).unwrap();
    assert_eq!(of(Visit::SCHEMA.json), flat(&text));
    let parsed = DynamicSchema::parse(REMARKS).unwrap();
    assert_eq!((&*parsed.json(), parsed.fingerprint()), (Visit::SCHEMA.json, Visit::SCHEMA.fingerprint));

    // Into a topic, and out of it in the header of a container.
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let backend = LogBackend::open(LogOptions::new(dir.join("data")), Clock::system()).unwrap();
    let schema = TopicSchema { fingerprint: Visit::SCHEMA.fingerprint, json: Visit::SCHEMA.json.into() };
    let spec = TopicSpec { schema: Some(schema), ..TopicSpec::new("visits", 1) };
    backend.create_topic(&spec).await.unwrap();
    let (mut frame, mut wire) = (FrameBuilder::new(), Vec::new());
    let visit = Visit { visitor: "C".into(), ticks: 8, ..Visit::default() };
    gretchen::record::Value::encode_value(&visit, &mut wire).unwrap();
    frame.push(None, Some(&wire), 0);
    let mut producer = backend.producer(ProducerId::ANONYMOUS).await.unwrap();
    producer.append(&TopicPartition::new("visits", 0), &mut frame, None).await.unwrap();
    drop((producer, backend));
    let kept = LogBackend::open(LogOptions::new(dir.join("data")), Clock::system()).unwrap();
    let kept = kept.topics().await.unwrap().remove(0).schemas.remove(0);
    assert_eq!(of(&kept.json), flat(&text));
    let file = exported(dir, &["read", "visits", "--format", "avro", "--codec", "null", "--data-dir", "data"]);
    let reader = apache_avro::Reader::new(file.as_slice()).unwrap();
    let header = &reader.user_metadata().len();
    assert_eq!(*header, 0);
    let begins = file.windows(11).position(|bytes| bytes == b"avro.schema").unwrap();
    let (from, to) = (file[begins..].iter().position(|byte| *byte == b'{').unwrap(), json_end(&file[begins..]));
    assert_eq!(of(std::str::from_utf8(&file[begins..][from..to]).unwrap()), flat(&text));
    assert_eq!(reader.map(Result::unwrap).count(), 1, "another implementation reads it");

    // Commands see them; the canonical form and the fingerprint do not.
    fs::write(dir.join("a.avsc"), REMARKS).unwrap();
    fs::write(
        dir.join("b.avsc"),
        REMARKS.replace(r#""order": "ignore""#, r#""order": "ascending""#).replace("rgb", "hsv"),
    )
    .unwrap();
    assert!(
        good(dir, &["schema", "diff", "topic:visits", "a.avsc", "--data-dir", "data"]).contains("they are the same")
    );
    let diff = good(dir, &["schema", "diff", "a.avsc", "b.avsc"]);
    for change in [r#"order: "ignore""#, r#"order: "ascending""#, r#"logicalType: "rgb"  logicalType: "hsv""#] {
        assert!(diff.contains(change), "{diff}");
    }
    let canonical = good(dir, &["schema", "canonical", "a.avsc"]);
    assert_eq!(canonical, good(dir, &["schema", "canonical", "b.avsc"]));
    assert!(
        ["order\"", "ticks\":", "unit", "pii", "java", "owner", "rgb"].iter().all(|word| !canonical.contains(word))
    );
    assert!(good(dir, &["schema", "compat", "--mode", "full", "a.avsc", "b.avsc"]).contains(": yes"));
    assert!(good(dir, &["schema", "expand", "a.avsc"]).contains("currency"), "the text that goes with the type");
}

/// Where a JSON object in these bytes ends.
fn json_end(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let end = bytes.iter().position(|byte| {
        depth += i32::from(*byte == b'{') - i32::from(*byte == b'}');
        *byte == b'}' && depth == 0
    });
    end.unwrap() + 1
}

/// What `read --format avro` writes.
fn exported(dir: &Path, args: &[&str]) -> Vec<u8> {
    let output = command(dir, args).output().unwrap();
    assert!(output.status.success(), "{args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    let begins = output.stdout.windows(4).position(|bytes| bytes == b"Obj\x01").unwrap();
    output.stdout[begins..].to_vec()
}

#[test]
fn containers_come_out_and_go_in_again() {
    let dir = folder();
    let dir = dir.path();
    for customer in ["a", "b", "c"] {
        good(dir, &["send", "shop-orders", &order(customer, 1), "--partition", "0"]);
    }
    let orders = good(dir, &["read", "shop-orders"]);
    let target = DynamicSchema::parse(Order::SCHEMA.json).unwrap();
    for codec in ["null", "deflate", "snappy", "zstandard"] {
        let file = exported(dir, &["read", "shop-orders", "--format", "avro", "--codec", codec]);
        let datums = container_to_datums(file.as_slice(), &target).unwrap().count();
        assert_eq!(datums, 3, "{codec}");
        let data = format!("{codec}-data");
        fs::write(dir.join("orders.avro"), &file).unwrap();
        let sent = json_of(dir, &["send", "shop-orders", "-f", "orders.avro", "--json", "--data-dir", &data]);
        assert_eq!(sent["added"], json!(3));
        let mut back: Vec<String> =
            good(dir, &["read", "shop-orders", "--data-dir", &data]).lines().map(str::to_owned).collect();
        back.sort();
        assert_eq!(back, orders.lines().collect::<Vec<_>>(), "{codec}");
        // A file that was cut anywhere, or is empty, sends nothing.
        for cut in [0, 3, 40, file.len() / 2, file.len() - 1] {
            fs::write(dir.join("cut.avro"), &file[..cut]).unwrap();
            let error = bad(dir, &["send", "shop-orders", "-f", "cut.avro", "--data-dir", &data], 1);
            assert!(error.contains("cut.avro"), "{codec} cut at {cut}: {error}");
        }
    }
    // Another implementation reads it.
    let file = exported(dir, &["read", "shop-orders", "--format", "avro"]);
    let values: Vec<_> = apache_avro::Reader::new(file.as_slice()).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(values.len(), 3);

    let bzip2 =
        [&file[..4], &exported(dir, &["read", "shop-orders", "--format", "avro", "--codec", "null"])[4..]].concat();
    let at = bzip2.windows(5).position(|bytes| bytes == b"\x08null").unwrap();
    let bzip2 = [&bzip2[..at], b"\x0abzip2", &bzip2[at + 5..]].concat();
    fs::write(dir.join("packed.avro"), bzip2).unwrap();
    assert!(bad(dir, &["send", "shop-orders", "-f", "packed.avro"], 1).contains("packed with \"bzip2\""));
    fs::write(dir.join("json.avro"), order("a", 1)).unwrap();
    assert!(bad(dir, &["send", "shop-orders", "-f", "json.avro"], 1).contains("it looks like JSON text"));
    assert!(bad(dir, &["read", "shop-orders", "--format", "avro", "--json"], 2).contains("values alone"));
    assert!(bad(dir, &["read", "shop-orders", "--codec", "null"], 2).contains("--format avro"));
}

#[test]
fn the_json_of_the_specification_goes_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let value = json!({"order_id": 7, "customer": "a", "ordered_on": 9862, "quantity": 1, "amount": "\u{0}\u{fa}"});
    good(dir, &["send", "shop-orders", &value.to_string(), "--format", "avro-json"]);
    assert!(good(dir, &["read", "shop-orders"]).contains(r#""ordered_on":"1997-01-01","quantity":1,"amount":"2.50""#));
    let read = good(dir, &["read", "shop-orders", "--format", "avro-json"]);
    // Two's complement in as few bytes as hold it is what is written; the leading zero is needed here.
    assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), value);
    fs::write(dir.join("rows.json"), format!("{value}\n{{}}\n")).unwrap();
    let error = bad(dir, &["send", "shop-orders", "-f", "rows.json", "--format", "avro-json"], 1);
    assert!(error.contains("rows.json:2: field order_id: missing"), "{error}");
    assert!(bad(dir, &["send", "shop-orders", "{}", "--format", "csv"], 2).contains("avro-json"));
}

#[test]
fn a_damaged_container_ends_with_an_error_and_nothing_else() {
    let schema = DynamicSchema::parse(Order::SCHEMA.json).unwrap();
    let mut datum = Vec::new();
    Order { customer: "a customer".into(), ..Order::default() }.encode(&mut datum).unwrap();
    for codec in [Compression::Null, Compression::Deflate, Compression::Snappy, Compression::Zstandard] {
        let mut file = Vec::new();
        let mut writer = ContainerWriter::new(&mut file, &schema, codec).unwrap();
        for _ in 0..50 {
            writer.push(&datum).unwrap();
        }
        writer.flush().unwrap();
        let read = |file: &[u8]| match container_to_datums(file, &schema) {
            Ok(datums) => datums.collect::<Result<Vec<_>, _>>().map(|datums| datums.len()),
            Err(error) => Err(error),
        };
        assert_eq!(read(&file).unwrap(), 50);
        let header = file.len() - read_block(&file);
        for at in 0..file.len() {
            // Only at the end of the header is what is left a whole container, without a block.
            assert_eq!(read(&file[..at]).is_ok(), at == header, "{codec:?} cut at {at}");
            let mut flipped = file.clone();
            for bit in [0x01, 0x80] {
                flipped[at] ^= bit;
                let _ = read(&flipped);
                flipped[at] ^= bit;
            }
        }
    }
}

/// Bytes of the one block behind the header of a container: from the first sync marker on, which also ends the file.
fn read_block(file: &[u8]) -> usize {
    let sync = &file[file.len() - 16..];
    let first = file.windows(16).position(|bytes| bytes == sync).unwrap();
    file.len() - first - 16
}

/// Each rule of the Parsing Canonical Form; fastavro 1.13 gives the same texts.
#[test]
fn the_canonical_form_follows_every_rule() {
    for (schema, canonical) in [
        // [PRIMITIVES], and a logical type is stripped.
        (r#"{"type": "int", "logicalType": "date"}"#, r#""int""#),
        (r#"["null", {"type": "string"}, {"type": "long", "logicalType": "x"}]"#, r#"["null","string","long"]"#),
        // [FULLNAMES], [STRIP], [ORDER], and [STRINGS] for the escape.
        (
            r#"{"symbols": ["A", "\u0042"], "name": "a.b.E", "type": "enum", "namespace": "x", "aliases": ["Q"], "default": "A"}"#,
            r#"{"name":"a.b.E","type":"enum","symbols":["A","B"]}"#,
        ),
        // [INTEGERS] and [WHITESPACE].
        (
            "{ \"size\" : 16 ,\n\t\"type\":\"fixed\",\"namespace\":\"n.s\",\"name\":\"F\",\"logicalType\":\"uuid\"}",
            r#"{"name":"n.s.F","type":"fixed","size":16}"#,
        ),
        (
            r#"{"type": "record", "name": "R", "doc": "\u00e4", "fields": [
                {"name": "\u0061b", "type": "\u0069nt", "doc": "d", "default": 1, "order": "ignore", "aliases": ["x"]}]}"#,
            r#"{"name":"R","type":"record","fields":[{"name":"ab","type":"int"}]}"#,
        ),
    ] {
        assert_eq!(DynamicSchema::parse(schema).unwrap().canonical(), canonical);
    }
}
