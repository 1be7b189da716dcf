//! `schema compat`: does a new schema read what older ones wrote, and the older ones what it writes?

use serde_json::{Value, json};

use super::text::Asked;
use super::version::Version;
use crate::cli::args::Mode;
use crate::cli::context::Context;
use crate::cli::failure::{Done, Failure};
use crate::cli::output::safe;
use crate::record::{Incompatibility, incompatibilities};

/// What a reader makes of what a writer wrote.
pub(super) struct Pair {
    writer: String,
    reader: String,
    problems: Vec<Incompatibility>,
}

impl Pair {
    pub(super) fn check(writer: &Asked, reader: &Asked) -> Self {
        let problems = incompatibilities(&writer.schema, &reader.schema);
        Self { writer: writer.name.clone(), reader: reader.name.clone(), problems }
    }

    fn without_reader(writer: String, reader: &str) -> Self {
        let problem = Incompatibility {
            path: String::new(),
            rule: "missing type",
            message: "it is not there; add its file, or its name to the aliases of what took its place".to_owned(),
            only_when_met: false,
        };
        Self { writer, reader: reader.to_owned(), problems: vec![problem] }
    }

    pub(super) fn json(&self) -> Value {
        let problems: Vec<Value> = self
            .problems
            .iter()
            .map(|problem| {
                json!({
                    "path": problem.path, "rule": problem.rule, "message": problem.message,
                    "only_when_met": problem.only_when_met,
                })
            })
            .collect();
        json!({
            "writer": self.writer, "reader": self.reader, "compatible": self.problems.is_empty(),
            "incompatibilities": problems,
        })
    }
}

/// Says of one direction whether it works, and if not, why.
pub(super) fn tell(context: &mut Context, direction: &str, pair: &Pair) -> Done {
    let answer = if pair.problems.is_empty() { "yes" } else { "no" };
    context.out.line(&format!("{}: {answer}", safe(direction)))?;
    for problem in &pair.problems {
        let path = if problem.path.is_empty() { "(schema)" } else { &problem.path };
        let rest = if problem.only_when_met { "; other values are read" } else { "" };
        let line = format!("  {}: {}: {}{rest}", safe(path), safe(problem.rule), safe(&problem.message));
        context.out.line(&line)?;
    }
    Ok(())
}

pub(super) async fn run(context: &mut Context, mode: Mode, asked: &[String], to: &[String]) -> Done {
    let all = Version::several(context, asked, to).await?;
    let Some((latest, earlier)) = all.split_last().filter(|(_, earlier)| !earlier.is_empty()) else {
        return Err(Failure::usage("there is one schema, and nothing to hold it against").help(
            "name the older ones first and the latest last; topic:NAME stands for all that a topic keeps, a folder for \
             the files in it, and where a schema is spread over files: FILE… --to FILE…",
        ));
    };
    // Against the one before the latest, or against all of them.
    let against = if mode.transitive() { earlier } else { &earlier[earlier.len() - 1..] };
    let mut pairs = Vec::new();
    for other in against {
        let beside = other.beside(latest)?;
        for (old, new) in &beside.pairs {
            if mode.backward() {
                pairs.push(("backward", Pair::check(old, new)));
            }
            if mode.forward() {
                pairs.push(("forward", Pair::check(new, old)));
            }
        }
        // What the older one writes must be read; a type that only the latest has is nothing that the older one reads.
        pairs.extend(
            beside
                .removed
                .iter()
                .filter(|_| mode.backward())
                .map(|name| ("backward", Pair::without_reader(format!("{name} of {}", other.name), &latest.name))),
        );
    }
    let compatible = pairs.iter().all(|(_, pair)| pair.problems.is_empty());
    if context.out.json {
        let pairs: Vec<Value> = pairs
            .iter()
            .map(|(direction, pair)| {
                let mut pair = pair.json();
                pair["direction"] = (*direction).into();
                pair
            })
            .collect();
        context.out.json_pretty(&json!({"mode": mode.name(), "compatible": compatible, "checks": pairs}))?;
    } else {
        for (direction, pair) in &pairs {
            let question = format!("{direction}: {} reads what {} wrote", pair.reader, pair.writer);
            tell(context, &question, pair)?;
        }
    }
    if compatible { Ok(()) } else { Err(Failure::said()) }
}
