//! The forms of agent on the log beside what others take for the same figures: Kafka Streams, Quix Streams and Faust on a real
//! Kafka, and a get and a put of RocksDB for each record.
//!
//! Ours have one core; the peers have all, on which their broker runs, too. What counts is the later half of each one's
//! records, of which the slower ones get fewer.

use comfy_table::{CellAlignment, Table, presets};
use gretchen::prelude::Result;
use serde::Serialize;

use crate::aggregate;
use crate::contestants::{Contestant, Options};
use crate::kafka::{Place, Who, start_broker};
use crate::measure::Part;
use crate::workload::{Distribution, Workload};

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sales in the log.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Sales that Kafka Streams gets.
    #[arg(long, default_value_t = 8_000_000)]
    streams_records: u64,
    /// Sales that Quix Streams gets.
    #[arg(long, default_value_t = 400_000)]
    quix_records: u64,
    /// Sales that Faust gets.
    #[arg(long, default_value_t = 100_000)]
    faust_records: u64,
    /// Customers; several numbers make several contests.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    keys: Vec<u64>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

const OURS: [Contestant; 5] =
    [Contestant::Declared, Contestant::View, Contestant::Stream, Contestant::Record, Contestant::Returned];

/// One contest, for JSON.
#[derive(Serialize)]
struct Contest {
    keys: u64,
    peers: Vec<Row>,
    ours: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    contestant: &'static str,
    warm: Part,
    peak_bytes: u64,
}

impl Row {
    fn rate(&self) -> f64 {
        self.warm.records as f64 / self.warm.wall_s
    }

    /// Of a million records.
    fn cpu_s(&self) -> f64 {
        1e6 * self.warm.cpu_s / self.warm.records as f64
    }
}

/// Runs every contest that the arguments name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let brokers = start_broker()?;
    let mut contests = Vec::new();
    for &keys in &arguments.keys {
        let contest = contest(&brokers, keys, arguments)?;
        if !arguments.json {
            contest.show();
        }
        contests.push(contest);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&contests)?);
    }
    Ok(())
}

fn contest(brokers: &str, keys: u64, arguments: &Arguments) -> Result<Contest> {
    let workload = |records, partitions| Workload { records, keys, distribution: Distribution::Uniform, partitions };
    let mut peers = Vec::new();
    let others = [
        (Who::StreamsExactlyOnce, arguments.streams_records),
        (Who::Quix, arguments.quix_records),
        (Who::Faust, arguments.faust_records),
    ];
    for (who, records) in others {
        let place = Place::new(brokers, workload(records, 4));
        place.fill()?;
        let outcome = place.in_process(who, "peer")?;
        if outcome.sales as u64 != records {
            return Err(format!("{} has {} of {records} sales", who.name(), outcome.sales).into());
        }
        peers.push(Row { contestant: who.name(), warm: outcome.warm, peak_bytes: outcome.peak_bytes });
    }
    let (folder, on_log) = (tempfile::tempdir()?, workload(arguments.records, 1));
    on_log.publish(folder.path())?;
    let mut reference = None;
    let mut on_the_log = |contestant: Contestant| {
        let outcome = aggregate::in_process(contestant, folder.path(), 1, &arguments.options)?;
        let totals = outcome.totals.ok_or("there are no totals")?;
        if *reference.get_or_insert_with(|| totals.clone()) != totals || totals.sales as u64 != arguments.records {
            return Err(format!("{} comes to {totals:?}, others to {reference:?}", contestant.name()).into());
        }
        Result::Ok(Row { contestant: contestant.name(), warm: outcome.warm, peak_bytes: outcome.peak_bytes })
    };
    peers.push(on_the_log(Contestant::Rocks)?);
    let ours = OURS.into_iter().map(on_the_log).collect::<Result<Vec<Row>>>()?;
    Ok(Contest { keys, peers, ours })
}

impl Contest {
    fn show(&self) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let times = self.peers.iter().map(|peer| format!("times {}", peer.contestant));
        table.set_header(["", "k records/s", "CPU s/M", "peak MiB"].map(str::to_owned).into_iter().chain(times));
        for row in self.peers.iter().chain(&self.ours) {
            let is_ours = self.ours.iter().any(|own| own.contestant == row.contestant);
            let times = self.peers.iter().map(|peer| match is_ours {
                true => format!("{:.0} (CPU 1/{:.0})", row.rate() / peer.rate(), peer.cpu_s() / row.cpu_s()),
                false => String::new(),
            });
            let figures = [
                row.contestant.to_owned(),
                format!("{:.1}", row.rate() / 1e3),
                format!("{:.3}", row.cpu_s()),
                format!("{:.0}", row.peak_bytes as f64 / f64::from(1 << 20)),
            ];
            table.add_row(figures.into_iter().chain(times));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("\n{} customers; the later half of each one's records\n{table}", self.keys);
    }
}
