//! Every example runs, and says what its documentation says.

use std::path::PathBuf;
use std::process::Command;

/// The binary of an example, which `cargo test` builds beside the tests: target/release/examples/NAME.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

/// What the example's first lines show after the command.
fn promised(name: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(format!("{name}.rs"));
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("//! $ cargo run")).skip(1);
    lines
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//!").strip_prefix(' ').unwrap_or("")))
        .collect()
}

fn run(name: &str) -> String {
    let output = Command::new(binary(name)).output().unwrap_or_else(|error| {
        panic!("cannot run the example {name}: {error}; `cargo test` builds it, `cargo test --test it` alone does not")
    });
    assert!(output.status.success(), "{name} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn large_orders_says_what_it_promises() {
    assert_eq!(run("large_orders"), promised("large_orders"));
}

#[test]
fn dead_letters_says_what_it_promises() {
    assert_eq!(run("dead_letters"), promised("dead_letters"));
}

#[test]
fn two_ways_says_what_it_promises() {
    assert_eq!(run("two_ways"), promised("two_ways"));
}
