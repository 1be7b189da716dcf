//! The codec beside serde_avro_fast and apache-avro's serde path, in one run, taking turns.
//!
//! `cargo run --release --example codecs -- [ROUNDS]`, 21 rounds if nothing else is said. Two records: a sale of four plain
//! fields, the order of the other examples with a date and a decimal, and one of thirty fields. Times are nanoseconds a record, the median of the rounds and their range.
//! The peers' schemas have no logical types; the bytes are the same. In the planned decode the writer's fields come in
//! the reverse order, with one more that is skipped and an int that becomes a long.

mod peers;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use gretchen::prelude::*;
use gretchen::record::{
    Decoder, DynamicSchema, Input, Record, SINGLE_OBJECT_MARKER, SchemaLookup, avro_to_json, json_to_avro,
};
use serde::de::DeserializeOwned;

use peers::{BorrowedOrder, BorrowedSale, BorrowedWide, MadeOrder, OwnedOrder, OwnedSale, OwnedWide};

gretchen::records!("schemas/order.avsc", "schemas/sale.avsc", "examples/codecs/wide.avsc", namespaces = flat);

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: usize = 5_000;
/// How long a contestant has its turn, at least.
const TURN_MS: u128 = 10;

fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).map_or(Ok(21), |text| text.parse::<usize>());
    match rounds.map_err(|error| error.to_string().into()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: usize) -> Result<()> {
    let sales = (0..RECORDS).map(sale).collect::<Vec<_>>();
    let mut contest = Contest::new::<Sale, OwnedSale>(&sales)?;
    contest.peer("view", "  serde_avro_fast, borrowed", |bytes, schema| {
        worked(serde_avro_fast::from_datum_slice::<BorrowedSale<'_>>(bytes, schema))
    });
    contest.show("the sale: long, string, double, int; peers make the same of it", rounds);
    let orders = (0..RECORDS).map(order).collect::<Vec<_>>();
    let mut contest = Contest::new::<Order, OwnedOrder>(&orders)?;
    contest.peer("view", "  serde_avro_fast, borrowed", |bytes, schema| {
        worked(serde_avro_fast::from_datum_slice::<BorrowedOrder<'_>>(bytes, schema))
    });
    contest.peer("  serde_avro_fast", "  serde_avro_fast, same types", |bytes, schema| {
        worked(serde_avro_fast::from_datum_slice::<MadeOrder>(bytes, schema))
    });
    contest.show(
        "the order: long, string, date, int, decimal(9,2); peers leave the date an int and the decimal bytes",
        rounds,
    );
    let wide = (0..RECORDS).map(wide).collect::<Vec<_>>();
    let mut contest = Contest::new::<Wide, OwnedWide>(&wide)?;
    contest.peer("view", "  serde_avro_fast, borrowed", |bytes, schema| {
        worked(serde_avro_fast::from_datum_slice::<BorrowedWide<'_>>(bytes, schema))
    });
    contest.show("the wide record: thirty fields, eleven of them optional, sixteen of text", rounds);
    Ok(())
}

fn sale(number: usize) -> Sale {
    Sale {
        sale_id: number as i64 * 17,
        customer: format!("C{:05}", number % 9_973),
        price: 2.99 + number as f64,
        quantity: 1 + (number % 7) as i32,
    }
}

fn order(number: usize) -> Order {
    Order {
        order_id: number as i64 * 17,
        customer: format!("C{:05}", number % 9_973),
        ordered_on: jiff::civil::date(1997, 1 + (number % 12) as i8, 1 + (number % 28) as i8),
        quantity: 1 + (number % 7) as i32,
        amount: rust_decimal::Decimal::new(299 + (number % 50_000) as i64, 2),
    }
}

fn wide(number: usize) -> Wide {
    let text = |word: &str, each: usize| number.is_multiple_of(each).then(|| format!("{word} {number}"));
    Wide {
        id: number as i64 * 17,
        first_name: format!("Maximilian{}", number % 100),
        last_name: format!("Mustermann{}", number % 1_000),
        middle_name: text("Middle", 3),
        title: text("Dr.", 10),
        email: format!("m.mustermann{number}@example.com"),
        phone: text("+49 30", 2),
        street: format!("Invalidenstraße {}", number % 200),
        street2: text("Haus", 5),
        city: "Berlin".into(),
        region: text("BE", 2),
        postal_code: format!("{:05}", 10_115 + number % 2_000),
        country: "DE".into(),
        status: Status::ALL[number % 3],
        created_at: 1_700_000_000_000 + number as i64 * 1_000,
        updated_at: number.is_multiple_of(2).then_some(1_710_000_000_000),
        last_seen_at: number.is_multiple_of(3).then_some(1_720_000_000_000),
        orders: (number % 300) as i32,
        returns: (number % 5) as i32,
        revenue: number as f64 * 1.25,
        discount: number.is_multiple_of(4).then_some(0.1),
        credit: number.is_multiple_of(7).then_some(12.5),
        score: 0.5,
        newsletter: number.is_multiple_of(2),
        verified: number.is_multiple_of(3),
        referrer: number.is_multiple_of(6).then_some(number as i64),
        campaign: text("spring", 4),
        language: "de-DE".into(),
        tags: (0..number % 4).map(|tag| format!("tag-{tag}")).collect(),
        note: text("called twice about", 9),
    }
}

/// One of those who are measured, over all records.
struct Contestant<'a> {
    name: &'static str,
    turn: Box<dyn FnMut() + 'a>,
    /// Nanoseconds a record, one for each round.
    times: Vec<f64>,
}

/// What the contestants of one record have in common.
struct Contest<'a> {
    datums: Arc<Vec<Vec<u8>>>,
    peer: Arc<serde_avro_fast::Schema>,
    contestants: Vec<Contestant<'a>>,
}

struct Known(HashMap<u64, Arc<str>>);

impl SchemaLookup for Known {
    fn schema(&self, fingerprint: u64) -> gretchen::error::Result<Option<Arc<str>>> {
        Ok(self.0.get(&fingerprint).cloned())
    }
}

impl<'a> Contest<'a> {
    fn new<R: Record, P: DeserializeOwned + serde::Serialize + 'static>(records: &'a [R]) -> Result<Self> {
        let bare = bare(R::SCHEMA.json)?;
        let peer: Arc<serde_avro_fast::Schema> = Arc::new(bare.parse().map_err(|error| format!("{error}"))?);
        let apache = apache_avro::Schema::parse_str(&bare).map_err(|error| error.to_string())?;
        let apache: &'static apache_avro::Schema = Box::leak(Box::new(apache));
        let datums = records
            .iter()
            .map(|record| {
                let mut datum = Vec::new();
                record.encode(&mut datum).map(|()| datum)
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let datums = Arc::new(datums);
        let (older, older_wires) = older::<R>(&datums)?;
        let own_wires = datums.iter().map(|datum| wire(R::SCHEMA.fingerprint, datum)).collect::<Vec<_>>();
        let owned = datums
            .iter()
            .map(|datum| serde_avro_fast::from_datum_slice::<P>(datum, &peer))
            .collect::<std::result::Result<Vec<P>, _>>()
            .map_err(|error| error.to_string())?;
        let owned: &'static [P] = Box::leak(owned.into_boxed_slice());

        let mut contest = Self { datums: Arc::clone(&datums), peer: Arc::clone(&peer), contestants: Vec::new() };
        contest.add("decode, owned", over(&datums, |bytes| worked(R::decode(&mut Input::new(bytes)))));
        let schema = Arc::clone(&peer);
        contest.add(
            "  serde_avro_fast",
            over(&datums, move |bytes| worked(serde_avro_fast::from_datum_slice::<P>(bytes, &schema))),
        );
        let reader = GenericDatumReader::builder(apache).build().map_err(|error| error.to_string())?;
        contest.add("  apache-avro, serde", over(&datums, move |mut bytes| worked(reader.read_deser::<P>(&mut bytes))));
        contest.add("view", over(&datums, |bytes| worked(R::view(&mut Input::new(bytes)))));
        let known: Arc<dyn SchemaLookup> = Arc::new(older);
        let mut decoder = Decoder::<R>::new(Arc::clone(&known));
        contest.add("decode with header", over(&Arc::new(own_wires), move |wire| worked(decoder.decode(wire))));
        let mut decoder = Decoder::<R>::new(Arc::clone(&known));
        let older_wires = Arc::new(older_wires);
        contest.add("decode, planned", over(&older_wires, move |wire| worked(decoder.decode(wire))));
        let mut decoder = Decoder::<R>::new(known);
        contest.add("view, planned", over(&older_wires, move |wire| worked(decoder.view(wire))));
        let mut out = Vec::new();
        contest.add(
            "encode",
            Box::new(move || {
                for record in records {
                    out.clear();
                    assert!(record.encode(&mut out).is_ok());
                    black_box(&out);
                }
            }),
        );
        let mut out = Vec::new();
        let schema: &'static serde_avro_fast::Schema =
            Box::leak(Box::new(bare.parse().map_err(|error| format!("{error}"))?));
        let mut config = serde_avro_fast::ser::SerializerConfig::new(schema);
        contest.add(
            "  serde_avro_fast",
            Box::new(move || {
                for record in owned {
                    out.clear();
                    assert!(serde_avro_fast::to_datum(record, &mut out, &mut config).is_ok());
                    black_box(&out);
                }
            }),
        );
        let mut out = Vec::new();
        let writer = GenericDatumWriter::builder(apache).build().map_err(|error| error.to_string())?;
        contest.add(
            "  apache-avro, serde",
            Box::new(move || {
                for record in owned {
                    out.clear();
                    assert!(writer.write_ser(&mut out, record).is_ok());
                    black_box(&out);
                }
            }),
        );
        Ok(contest)
    }

    /// Another form of serde_avro_fast's, behind the contestant of that name.
    fn peer(
        &mut self,
        after: &str,
        name: &'static str,
        mut read: impl FnMut(&[u8], &serde_avro_fast::Schema) -> bool + 'a,
    ) {
        let schema = Arc::clone(&self.peer);
        let turn = over(&self.datums, move |bytes| read(bytes, &schema));
        let at = self.contestants.iter().position(|other| other.name == after).map_or(0, |at| at + 1);
        self.contestants.insert(at, Contestant { name, turn, times: Vec::new() });
    }

    fn add(&mut self, name: &'static str, turn: Box<dyn FnMut() + 'a>) {
        self.contestants.push(Contestant { name, turn, times: Vec::new() });
    }

    fn show(mut self, title: &str, rounds: usize) {
        let clock = Clock::system();
        let bytes = self.datums.iter().map(Vec::len).sum::<usize>() as f64 / self.datums.len() as f64;
        println!("\n{title}; {bytes:.0} bytes on average\n");
        // The first round warms up and does not count.
        for round in 0..=rounds {
            for contestant in &mut self.contestants {
                let began = clock.moment();
                let mut passes = 0;
                while clock.moment().since(began).as_millis() < TURN_MS {
                    (contestant.turn)();
                    passes += 1;
                }
                let time = clock.moment().since(began).as_secs_f64() * 1e9 / (passes * RECORDS) as f64;
                if round > 0 {
                    contestant.times.push(time);
                }
            }
        }
        let median = |times: &[f64]| times[times.len() / 2];
        let mut ours = 0.0;
        for contestant in &mut self.contestants {
            contestant.times.sort_by(f64::total_cmp);
            let (times, name) = (&contestant.times, contestant.name);
            let line =
                format!("{name:30} {:8.1} ns  ({:.1} to {:.1})", median(times), times[0], times[times.len() - 1]);
            if name.starts_with(' ') {
                println!("{line}  {:.2} times ours", median(times) / ours);
            } else {
                ours = median(times);
                println!("{line}");
            }
        }
        let of = |name: &str| {
            self.contestants.iter().find(|other| other.name == name).map_or(0.0, |other| median(&other.times))
        };
        println!("planned is {:.2} of exact in speed", of("decode with header") / of("decode, planned"));
    }
}

/// Whether it worked; what did not is said.
fn worked<T>(result: std::result::Result<T, impl std::fmt::Display>) -> bool {
    result.map(|value| drop(black_box(value))).map_err(|error| eprintln!("{error}")).is_ok()
}

/// A turn over all of the bytes.
fn over<'a>(all: &Arc<Vec<Vec<u8>>>, mut read: impl FnMut(&[u8]) -> bool + 'a) -> Box<dyn FnMut() + 'a> {
    let all = Arc::clone(all);
    Box::new(move || {
        for bytes in all.iter() {
            assert!(read(bytes), "what was measured did not work");
        }
    })
}

fn wire(fingerprint: u64, datum: &[u8]) -> Vec<u8> {
    [&SINGLE_OBJECT_MARKER[..], &fingerprint.to_le_bytes(), datum].concat()
}

/// The schema without its logical types.
fn bare(json: &str) -> Result<String> {
    let mut schema: serde_json::Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for field in schema["fields"].as_array_mut().into_iter().flatten() {
        if field["type"]["logicalType"].is_string() {
            field["type"] = field["type"]["type"].take();
        }
    }
    Ok(schema.to_string())
}

/// The same values as an older schema wrote them.
fn older<R: Record>(datums: &[Vec<u8>]) -> Result<(Known, Vec<Vec<u8>>)> {
    let mut json: serde_json::Value = serde_json::from_str(R::SCHEMA.json).map_err(|error| error.to_string())?;
    let Some(fields) = json["fields"].as_array_mut() else { return Err("no record".into()) };
    fields[0]["type"] = "int".into();
    fields.reverse();
    fields.insert(2, serde_json::json!({"name": "dropped", "type": "string"}));
    let (older, own) = (DynamicSchema::parse(&json.to_string())?, DynamicSchema::parse(R::SCHEMA.json)?);
    let wires = datums.iter().map(|datum| {
        let mut value = avro_to_json(&own, datum)?;
        value["dropped"] = "what nobody reads any more".into();
        let mut datum = Vec::new();
        json_to_avro(&older, &value, &mut datum)?;
        Ok(wire(older.fingerprint(), &datum))
    });
    let wires = wires.collect::<Result<Vec<_>>>()?;
    Ok((Known(HashMap::from([(older.fingerprint(), older.json())])), wires))
}
