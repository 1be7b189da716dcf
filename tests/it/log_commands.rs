//! `log verify` and `log repair` as commands.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{bad, good, json_of, order, run};

fn orders(count: u32) -> String {
    (0..count).map(|number| order(&format!("C{}", number % 7), 1) + "\n").collect()
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn findings(dir: &Path, args: &[&str], code: i32) -> Vec<Value> {
    let (had, out, err) = run(dir, args);
    assert_eq!(had, code, "{out}\n{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["damaged"].as_bool().unwrap(), code == 1, "{report:#}");
    report["findings"].as_array().unwrap().clone()
}

#[test]
fn damage_is_found_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    assert!(bad(dir, &["log", "verify"], 1).contains("there is no log in"));
    for file in ["one.jsonl", "two.jsonl", "three.jsonl"] {
        fs::write(dir.join(file), orders(70)).unwrap();
        good(dir, &["send", "shop-orders", "--file", file]);
    }
    good(dir, &["worker", "--until-caught-up"]);
    let sound = good(dir, &["log", "verify"]);
    assert!(sound.ends_with(": nothing is damaged\n"), "{sound}");
    assert_eq!(findings(dir, &["log", "verify", "--json"], 0), [] as [Value; 0]);
    assert!(good(dir, &["log", "repair"]).contains("there was nothing to repair"));

    // The frame of the second file.
    let segment = dir.join("gretchen-data/topics/shop-orders/0/00000000000000000000.log");
    let bytes = fs::read(&segment).unwrap();
    let len = |at: usize| 8 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let second = 64 + len(64) + len(64 + len(64));
    flip(&segment, second as u64 + 100);
    let found = findings(dir, &["log", "verify", "--json"], 1);
    assert_eq!(found.len(), 1, "{found:#?}");
    let finding = &found[0];
    assert_eq!((finding["severity"].as_str(), finding["topic"].as_str()), (Some("damage"), Some("shop-orders")));
    assert_eq!((finding["byte"].as_u64(), finding["offset"].as_u64()), (Some(second as u64), Some(70)));
    assert!(finding["what"].as_str().unwrap().contains("offsets 70 to 139 are lost"), "{finding}");
    let (code, table, _) = run(dir, &["log", "verify", "shop-orders/0"]);
    assert!(code == 1 && table.contains("1 finding of damage") && table.contains("log repair"), "{table}");
    assert!(bad(dir, &["log", "verify", "shop-order"], 1).contains("does not exist"));
    assert!(bad(dir, &["log", "verify", "shop-orders/x"], 2).contains("not the number of a partition"));
    assert!(good(dir, &["log", "verify", "paid"]).contains("nothing is damaged"));

    let mended = json_of(dir, &["log", "repair", "shop-orders/0", "--json"]);
    let [one] = &mended.as_array().unwrap()[..] else { panic!("{mended:#}") };
    assert_eq!((one["lost_from"].as_u64(), one["lost_until"].as_u64()), (Some(70), Some(140)));
    assert!(dir.join(one["copy"].as_str().unwrap()).is_file());
    assert_eq!(findings(dir, &["log", "verify", "--json"], 0), [] as [Value; 0]);
    assert_eq!(good(dir, &["read", "shop-orders"]).lines().count(), 140);
    // Work goes on behind what is gone.
    fs::write(dir.join("four.jsonl"), orders(5)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "four.jsonl"]);
    good(dir, &["worker", "--until-caught-up"]);
    let rows = json_of(dir, &["tables", "paid", "--json"]);
    let paid: u64 = rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum();
    assert_eq!(paid, 250 * 215, "what was processed before it was damaged counts");
}

#[test]
fn stores_and_positions_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("gretchen.toml"), "partitions = 1\n").unwrap();
    fs::write(dir.join("one.jsonl"), orders(300)).unwrap();
    good(dir, &["send", "shop-orders", "--file", "one.jsonl"]);
    good(dir, &["worker", "--until-caught-up"]);
    let store = dir.join("gretchen-data/state/shop/paid/0");
    let table: PathBuf = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .unwrap();
    flip(&table, 20);
    let found = findings(dir, &["log", "verify", "--json"], 1);
    let [finding] = &found[..] else { panic!("{found:#?}") };
    assert!(finding["file"].as_str().unwrap().ends_with("state/shop/paid/0"), "{finding}");
    // As it says: without the folder the table is made again.
    fs::remove_dir_all(&store).unwrap();
    good(dir, &["worker", "--until-caught-up"]);
    assert_eq!(findings(dir, &["log", "verify", "--json"], 0), [] as [Value; 0]);
    let rows = json_of(dir, &["tables", "paid", "--json"]);
    let paid: u64 = rows.as_array().unwrap().iter().map(|row| row["value"].as_u64().unwrap()).sum();
    assert_eq!(paid, 250 * 300);
}
