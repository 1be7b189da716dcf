//! The contest: every contestant on the same bytes, taking turns, its totals compared with the loop's by hand.

use std::path::Path;
use std::process::{Command, Stdio};

use comfy_table::{CellAlignment, Table, presets};
use gretchen::prelude::Result;
use serde::Serialize;

use crate::contestants::{Contestant, Options};
use crate::measure::{Outcome, spread};
use crate::workload::{Distribution, Workload};

/// What is run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Sales in the log.
    #[arg(long, default_value_t = 20_000_000)]
    records: u64,
    /// Customers; several numbers make several contests.
    #[arg(long, value_delimiter = ',', default_value = "10000")]
    keys: Vec<u64>,
    /// How the sales are spread over the customers.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "uniform")]
    distribution: Vec<Distribution>,
    /// Partitions of the topic.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    partitions: Vec<u32>,
    /// Rounds that count; one before them warms the page cache.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Who takes part; the loop by hand always does.
    #[arg(long, value_enum, value_delimiter = ',')]
    contestants: Vec<Contestant>,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

/// Who takes part if nobody is named: whoever is not slower by an order.
const USUAL: [Contestant; 9] = [
    Contestant::Read,
    Contestant::Decode,
    Contestant::Hand,
    Contestant::HandQuick,
    Contestant::Declared,
    Contestant::View,
    Contestant::Stream,
    Contestant::Record,
    Contestant::Returned,
];

/// All runs of a contestant.
#[derive(Serialize)]
struct Row {
    contestant: &'static str,
    outcomes: Vec<Outcome>,
}

/// One contest, for JSON.
#[derive(Serialize)]
struct Contest {
    records: u64,
    keys: u64,
    distribution: String,
    partitions: u32,
    cores: usize,
    commit_interval_ms: u64,
    durability: &'static str,
    rows: Vec<Row>,
}

/// Runs every contest that the arguments name.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut contestants = arguments.contestants.clone();
    if contestants.is_empty() {
        contestants = USUAL.to_vec();
    }
    if !contestants.contains(&Contestant::Hand) {
        contestants.insert(0, Contestant::Hand);
    }
    let mut contests = Vec::new();
    for &keys in &arguments.keys {
        for &distribution in &arguments.distribution {
            for &partitions in &arguments.partitions {
                let workload = Workload { records: arguments.records, keys, distribution, partitions };
                let contest = contest(&workload, &contestants, arguments)?;
                if !arguments.json {
                    show(&contest)?;
                }
                contests.push(contest);
            }
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&contests)?);
    }
    Ok(())
}

fn contest(workload: &Workload, contestants: &[Contestant], arguments: &Arguments) -> Result<Contest> {
    let folder = tempfile::tempdir()?;
    workload.publish(folder.path())?;
    let mut rows: Vec<Row> =
        contestants.iter().map(|one| Row { contestant: one.name(), outcomes: Vec::new() }).collect();
    let mut reference = None;
    // The first round warms the page cache and is not counted.
    for round in 0..=arguments.rounds {
        for (contestant, row) in contestants.iter().zip(&mut rows) {
            let outcome = in_process(*contestant, folder.path(), workload.partitions, &arguments.options)?;
            if let Some(totals) = &outcome.totals {
                let reference = reference.get_or_insert_with(|| totals.clone());
                if totals != reference {
                    return Err(format!("{} comes to {totals:?}, others to {reference:?}", row.contestant).into());
                }
                if totals.sales as u64 != workload.records {
                    return Err(format!("{} has {} of {} sales", row.contestant, totals.sales, workload.records).into());
                }
            }
            if round > 0 {
                row.outcomes.push(outcome);
            }
        }
    }
    let Options { cores, commit_interval_ms, os, .. } = arguments.options;
    Ok(Contest {
        records: workload.records,
        keys: workload.keys,
        distribution: format!("{:?}", workload.distribution).to_lowercase(),
        partitions: workload.partitions,
        cores,
        commit_interval_ms,
        durability: if os { "os" } else { "fsync" },
        rows,
    })
}

/// Runs a contestant in a process of its own, so that its memory and its processor time are its own.
pub(crate) fn in_process(contestant: Contestant, folder: &Path, partitions: u32, options: &Options) -> Result<Outcome> {
    let name = clap::ValueEnum::to_possible_value(&contestant).ok_or("a contestant without a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("contestant").arg(name.get_name()).arg(folder).arg(partitions.to_string());
    command.args(["--commit-interval-ms", &options.commit_interval_ms.to_string()]);
    command.args(["--checkpoint-interval-ms", &options.checkpoint_interval_ms.to_string()]);
    command.args(["--table-memory-mib", &options.table_memory_mib.to_string()]);
    command.args(["--cores", &options.cores.to_string()]);
    if options.os {
        command.arg("--os");
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", contestant.name(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn show(contest: &Contest) -> Result<()> {
    let Contest { records, keys, distribution, partitions, cores, commit_interval_ms, durability, rows } = contest;
    let hand =
        rows.iter().find(|row| row.contestant == Contestant::Hand.name()).ok_or("the loop by hand is missing")?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "",
        "M records/s",
        "ns",
        "times the loop by hand",
        "first half",
        "CPU s/M",
        "peak MiB",
        "bytes/record",
        "put out",
        "gap ms",
        "closing s",
    ]);
    for row in rows {
        let of = |value: fn(&Outcome) -> f64| spread(row.outcomes.iter().map(value));
        let ratio = |value: fn(&Outcome) -> f64| {
            let pairs = hand.outcomes.iter().zip(&row.outcomes);
            let (low, middle, high) = spread(pairs.map(|(hand, own)| value(hand) / value(own)));
            format!("{middle:.2} ({low:.2} to {high:.2})")
        };
        let warm = |outcome: &Outcome| outcome.warm.wall_s / outcome.warm.records as f64;
        let first = |outcome: &Outcome| outcome.first.wall_s / outcome.first.records as f64;
        let (low, middle, high) = of(warm);
        let totals = row.outcomes.first().is_some_and(|outcome| outcome.closing_s > 0.0);
        let only = |text: String| if totals { text } else { String::new() };
        table.add_row([
            row.contestant.to_owned(),
            format!("{:.2} ({:.2} to {:.2})", 1e-6 / middle, 1e-6 / high, 1e-6 / low),
            format!("{:.1}", middle * 1e9),
            ratio(warm),
            ratio(first),
            format!("{:.3}", of(|outcome| 1e6 * outcome.warm.cpu_s / outcome.warm.records as f64).1),
            format!("{:.0}", of(|outcome| outcome.peak_bytes as f64).1 / f64::from(1 << 20)),
            only(format!(
                "{:.1}",
                of(|outcome| outcome.written_bytes as f64 / (outcome.first.records + outcome.warm.records) as f64).1
            )),
            only(format!("{:.0}", of(|outcome| outcome.put_out as f64).1)),
            format!("{:.1}", of(|outcome| outcome.longest_gap_s).1 * 1e3),
            only(format!("{:.2}", of(|outcome| outcome.closing_s).1)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let runs = hand.outcomes.len();
    println!(
        "\n{records} sales of {keys} customers, {distribution}, {partitions} partitions, {cores} cores; commits every \
         {commit_interval_ms} ms with {durability}; medians of {runs} rounds and their range; second half of the records, \
         unless it says first\n{table}"
    );
    Ok(())
}
