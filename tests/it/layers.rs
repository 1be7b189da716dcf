//! Who may depend on whom: every path that a source file names must be one that its layer may see.
//!
//! The rule itself stands in [`MAY_SEE`] and is told in `src/docs/architecture.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What every layer may see: errors, the clock, files, the points at which tests let a process die, and the memory that
/// their threads take.
const COMMON: [&str; 5] = ["error", "clock", "disk", "fault", "heap"];

/// What each top-level module may see besides itself and [`COMMON`]. From the bottom up: a module sees what stands
/// above it in this list, with one exception: `App::main` is the door to the command line.
const MAY_SEE: &[(&str, &[&str])] = &[
    // An error says at which partition it happened.
    ("error", &["topic"]),
    ("clock", &[]),
    ("disk", &[]),
    ("fault", &[]),
    ("heap", &[]),
    ("topic", &[]),
    ("record", &[]),
    // Neither sees the other, nor agents.
    ("backend", &["record", "topic"]),
    ("table", &["record", "topic"]),
    ("agent", &["record", "topic", "table"]),
    ("publish", &["record", "topic", "backend"]),
    // Only from here on are backends, tables and agents seen together.
    ("plan", &["record", "topic", "backend", "table", "agent"]),
    ("worker", &["record", "topic", "backend", "table", "agent", "plan"]),
    ("app", &["topic", "agent", "cli"]),
    ("session", &["record", "topic", "backend", "table", "agent", "plan", "worker", "publish", "app", "config"]),
    ("config", &["record", "topic", "backend", "worker", "app", "session"]),
    ("cli", &["record", "topic", "backend", "table", "agent", "plan", "worker", "publish", "app", "session", "config"]),
    ("testing", &["record", "topic", "backend", "table", "agent", "plan", "worker", "publish", "app"]),
    // Names things, and holds none.
    ("private", &["record", "table", "agent"]),
    ("prelude", &["record", "topic", "backend", "table", "agent", "app", "session"]),
    ("docs", &[]),
];

/// Modules that do not know each other although they stand in one folder.
const STRANGERS: [[&str; 2]; 3] =
    [["backend::log", "backend::memory"], ["backend::kafka", "backend::log"], ["backend::kafka", "backend::memory"]];

#[test]
fn modules_see_only_what_their_layer_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 50, "the sources were not found in {}", src.display());
    let mut problems = Vec::new();
    for file in &files {
        let module = module_of(file.strip_prefix(&src).unwrap());
        if module.is_empty() {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap();
        problems
            .extend(check(&module, &text).into_iter().map(|(line, what)| format!("{}:{line}: {what}", file.display())));
    }
    assert!(problems.is_empty(), "{} forbidden paths:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn a_forbidden_path_is_found_with_its_line() {
    let text = "//! Like [`crate::worker`].\n\nuse crate::{error::Result, plan::{Plan as Whole, self}};\nuse super::memory;\n\
         use crate::testing::sim::Machine;\n\n#[cfg(test)]\nmod tests {\n    use crate::testing::sim::Crash;\n    \
         use crate::testing::TestApp;\n}\n";
    let found = check(&["backend".into(), "log".into(), "mod".into()], text);
    assert_eq!(
        found,
        [
            (3, "backend may not see plan (crate::plan::Plan)".to_owned()),
            (3, "backend may not see plan (crate::plan)".to_owned()),
            (5, "backend may not see testing (crate::testing::sim::Machine)".to_owned()),
            (10, "backend may not see testing (crate::testing::TestApp)".to_owned()),
            (4, "backend::log may not see backend::memory (crate::backend::memory)".to_owned()),
        ]
    );
}

#[test]
fn every_module_has_its_rule() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let known: BTreeSet<&str> = MAY_SEE.iter().map(|(module, _)| *module).collect();
    let mut files = Vec::new();
    collect(&src, &mut files);
    for file in &files {
        let module = module_of(file.strip_prefix(&src).unwrap());
        if let Some(top) = module.first() {
            assert!(known.contains(top.as_str()), "give {top} a place in MAY_SEE and in src/docs/architecture.md");
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module of a file as path segments; `mod.rs` keeps its `mod`, so that `super` counts the same everywhere.
fn module_of(file: &Path) -> Vec<String> {
    let without = file.with_extension("");
    let parts: Vec<String> = without.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts == ["lib"] { Vec::new() } else { parts }
}

/// The forbidden paths of a file with their lines.
fn check(module: &[String], text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code: String = text.lines().map(|line| format!("{}\n", without_comment(line))).collect();
    let tests = code.find("\n#[cfg(test)]\nmod tests {").unwrap_or(code.len());
    for (at, path) in paths(&code, module) {
        let line = code[..at].matches('\n').count() + 1;
        // What a module keeps to itself may be tested on a simulated machine all the same.
        if at > tests && path.starts_with("crate::testing::sim::") {
            continue;
        }
        if let Some(problem) = forbidden(module, &path) {
            found.push((line, problem));
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line }
}

/// Every path from the crate's root that the code names, with the place where its `crate` or `super` stands.
fn paths(code: &str, module: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == '$' || c == ':')) {
            leaves(&code[at + "crate::".len()..], "crate", at, &mut found);
        }
    }
    // `use super::…` of whole files; within a module of a file, such as its tests, `super` is the file itself.
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let path = line.strip_prefix("pub ").unwrap_or(line);
        if let Some(path) = path.strip_prefix("use super::") {
            let ups = 1 + path.matches("super::").count();
            let mut parent: Vec<&str> = module.iter().map(String::as_str).filter(|part| *part != "mod").collect();
            parent.truncate(parent.len().saturating_sub(ups));
            let base = std::iter::once("crate").chain(parent).collect::<Vec<_>>().join("::");
            let rest = start + line.rfind("super::").unwrap() + "super::".len();
            leaves(&code[rest..], &base, start, &mut found);
        }
        start += line.len();
    }
    found
}

/// Follows a path into the braces of a `use`.
fn leaves(rest: &str, base: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let mut stack = vec![base.to_owned()];
    let mut path = base.to_owned();
    let mut name = String::new();
    let mut chars = rest.chars().peekable();
    let join = |path: &str, name: &str| if name == "self" { path.to_owned() } else { format!("{path}::{name}") };
    while let Some(c) = chars.next() {
        match c {
            c if c.is_alphanumeric() || c == '_' || c == '*' => name.push(c),
            ':' if chars.peek() == Some(&':') => {
                chars.next();
                path = join(&path, &std::mem::take(&mut name));
            }
            '{' if name.is_empty() => stack.push(path.clone()),
            ',' | '}' if stack.len() > 1 => {
                if !name.is_empty() {
                    found.push((at, join(&path, &std::mem::take(&mut name))));
                }
                if c == '}' {
                    stack.pop();
                }
                path = stack.last().cloned().unwrap_or_default();
                if c == '}' && stack.len() == 1 {
                    return;
                }
            }
            c if c.is_whitespace() && stack.len() > 1 && name.is_empty() => {}
            // `as` and another name: the path itself is complete.
            c if c.is_whitespace() && stack.len() > 1 => while chars.next_if(|c| !matches!(c, ',' | '}')).is_some() {},
            _ => break,
        }
    }
    if !name.is_empty() {
        found.push((at, join(&path, &name)));
    }
}

fn forbidden(module: &[String], path: &str) -> Option<String> {
    let own = module[0].as_str();
    let seen = path.strip_prefix("crate::")?;
    let top = seen.split("::").next()?;
    let within = |path: &str, folder: &str| path == folder || path.starts_with(&format!("{folder}::"));
    let here = module.join("::");
    for [one, other] in STRANGERS {
        for (one, other) in [(one, other), (other, one)] {
            if within(&here, one) && within(seen, other) {
                return Some(format!("{one} may not see {other} ({path})"));
            }
        }
    }
    // What is no module is a macro or an item at the root.
    let (_, may_see) = MAY_SEE.iter().find(|(module, _)| *module == own)?;
    let is_module = MAY_SEE.iter().any(|(module, _)| *module == top);
    (is_module && top != own && !COMMON.contains(&top) && !may_see.contains(&top))
        .then(|| format!("{own} may not see {top} ({path})"))
}
