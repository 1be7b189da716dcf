//! How many instructions a record takes in each form, counted by valgrind's callgrind: the same on a noisy machine, so that
//! a check can hold each against a bound.

use std::path::Path;
use std::process::Command;

use comfy_table::{CellAlignment, Table, presets};
use gretchen::prelude::Result;

use crate::contestants::Contestant;
use crate::workload::{Distribution, Workload};

/// Records of the two runs of which the difference counts: what a run takes to begin and to end is in both.
const RECORDS: [u64; 2] = [20_000, 100_000];
const KEYS: u64 = 1_000;

/// What a record may take. A change that needs more says so here, and why.
const BOUNDS: [(Contestant, u64); 7] = [
    (Contestant::Read, 45),
    (Contestant::Decode, 240),
    (Contestant::Declared, 405),
    (Contestant::View, 575),
    (Contestant::Stream, 670),
    (Contestant::Record, 730),
    (Contestant::Returned, 1_930),
];

/// Counts, prints, and fails where a bound is exceeded.
pub(crate) fn run() -> Result<()> {
    let folders = RECORDS.map(|records| {
        let folder = tempfile::tempdir()?;
        let workload = Workload { records, keys: KEYS, distribution: Distribution::Uniform, partitions: 1 };
        workload.publish(folder.path())?;
        Ok::<_, gretchen::prelude::BoxError>(folder)
    });
    let [few, many] = folders;
    let (few, many) = (few?, many?);
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "instructions a record", "bound"]);
    let mut above = Vec::new();
    for (contestant, bound) in BOUNDS {
        // The first to open a folder finds more to do than who comes later, so the lesser of two counts holds.
        let least = |folder: &Path| {
            Ok::<_, gretchen::prelude::BoxError>(count(contestant, folder)?.min(count(contestant, folder)?))
        };
        let (few, many) = (least(few.path())?, least(many.path())?);
        if many <= few {
            return Err(
                format!("{} takes {few} instructions for few records and {many} for many", contestant.name()).into()
            );
        }
        let each = (many - few) as f64 / (RECORDS[1] - RECORDS[0]) as f64;
        table.add_row([contestant.name().to_owned(), format!("{each:.1}"), bound.to_string()]);
        if each > bound as f64 {
            above.push(format!("{} takes {each:.1} instructions a record, {bound} are allowed", contestant.name()));
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if above.is_empty() { Ok(()) } else { Err(above.join("; ").into()) }
}

/// Instructions of a whole run. It commits at its end only, because what a commit costs depends on the time.
fn count(contestant: Contestant, folder: &Path) -> Result<u64> {
    let name = clap::ValueEnum::to_possible_value(&contestant).ok_or("a contestant without a name")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["contestant", name.get_name()])
        .arg(folder)
        .args(["1", "--commit-interval-ms", "3600000", "--ask-every-ms", "2000"])
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}; install the package valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} under valgrind ended with {}: {said}", contestant.name(), output.status).into());
    }
    // "==42== Collected : 123456"
    let collected = said.lines().rev().find_map(|line| line.split_once("Collected :"));
    let (_, count) = collected.ok_or_else(|| format!("valgrind did not say what it collected: {said}"))?;
    Ok(count.trim().parse()?)
}
