//! `worker`: runs the agents until it is stopped, or until nothing is left to do.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::args::WorkerArgs;
use super::context::Context;
use super::failure::{Done, Failure};
use super::output::{counted, duration, grouped, safe, thousandths};
use crate::agent::{AgentDef, OnError};
use crate::backend::{Owner, without_secrets};
use crate::config::Origin;
use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::worker::{self, Recovered, Standing, Summary, WorkerEvent};

/// Exit code after a second signal, as a shell gives it for an interrupt.
const INTERRUPTED: i32 = 130;

/// How often it is asked whether everything is processed.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// The signals that ask a worker to stop.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    fn listen() -> Done<Self> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("cannot listen for signals: {error}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

pub(super) async fn run(context: &mut Context, args: &WorkerArgs) -> Done {
    // Before anything else: a stop while the tables recover counts, too.
    let mut stops = Stops::listen()?;
    let store = context.open()?;
    let plan = context.plan(&store).await?;
    if !context.out.quiet && !context.out.json {
        banner(context, &plan)?;
    }
    let began = context.clock.moment();
    let (stop, stopped) = watch::channel(false);
    let (events, mut received) = mpsc::unbounded_channel();
    let clock = context.clock.clone();
    let work = worker::run(&plan, store.backend.clone(), context.worker_options(), clock.clone(), stopped, events);
    tokio::pin!(work);
    let mut signals = 0;
    let mut failed = 0;
    let mut unopened = plan.agents.len();
    let mut busy_until = began;
    let (mut looks, sure) = (0, worker::looks_to_be_sure(&*store.backend));
    let summary = loop {
        tokio::select! {
            summary = &mut work => break summary.unwrap_or_else(|error| end_failed(error)),
            Some(event) = received.recv() => {
                failed += usize::from(told(&event));
                unopened -= usize::from(matches!(event, WorkerEvent::Opened { .. }));
            }
            name = stops.next() => {
                signals += 1;
                if signals > 1 {
                    tracing::warn!("second {name}: ending at once; what is uncommitted will be processed again");
                    end_now(INTERRUPTED);
                }
                tracing::info!("{name}: finishing and committing; a second signal ends at once");
                let _ = stop.send(true);
            }
            () = clock.sleep(ASK_EVERY), if args.until_caught_up && !*stop.borrow() => {
                // A table that cannot be opened is an error also where nothing is left to process.
                let caught_up = unopened == 0
                    && worker::caught_up(&plan, &*store.backend).unwrap_or_else(|error| end_failed(error));
                looks = if caught_up { looks + 1 } else { 0 };
                if looks == 1 {
                    busy_until = clock.moment();
                }
                // A partition that failed never catches up.
                if looks >= sure || failed > 0 {
                    let _ = stop.send(true);
                }
            }
        }
    };
    while let Ok(event) = received.try_recv() {
        failed += usize::from(told(&event));
    }
    let time = if busy_until > began { busy_until } else { clock.moment() }.since(began);
    if args.until_caught_up {
        tell_summary(context, summary, failed, time)?;
    }
    if summary.stuck > 0 {
        end_now(i32::from(failed > 0));
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new(format!("{} failed; the errors are above", counted(failed as u64, "partition"))).help(
            "correct the agent or the record and start again: it goes on where it stopped; or let the agent pass over \
               such records with on_error = skip, or keep them with on_error = dead_letter(\"topic\")",
        )),
    }
}

/// Ends the process at an error that the worker cannot go on with; its agents may be at work yet.
fn end_failed(error: Error) -> ! {
    Failure::from(error).report();
    end_now(1)
}

/// Ends the process while agents are still at work: without the destructors of RocksDB, which would pull the ground
/// away from under them.
fn end_now(code: i32) -> ! {
    // Standard output is flushed line by line; what is left is at most an unfinished line.
    let _ = std::io::Write::flush(&mut std::io::stdout());
    signal_hook::low_level::exit(code)
}

/// Logs an event; `true` for a failure.
fn told(event: &WorkerEvent) -> bool {
    match event {
        WorkerEvent::Started { agent, partition, recovered } => {
            let Recovered { replayed, commits, cut, .. } = *recovered;
            match (replayed, cut) {
                (0, _) => tracing::info!(agent, partition, "started"),
                (_, 0) => tracing::info!(agent, partition, replayed, commits, "started, state recovered"),
                _ => tracing::info!(
                    agent,
                    partition,
                    replayed,
                    commits,
                    cut,
                    "started, state recovered; a commit that never ended was cut"
                ),
            }
            false
        }
        WorkerEvent::Stopped { agent, partition } => {
            tracing::info!(agent, partition, "stopped");
            false
        }
        WorkerEvent::Opened { agent } => {
            tracing::debug!(agent, "open");
            false
        }
        WorkerEvent::CaughtUp => {
            tracing::debug!("caught up");
            false
        }
        WorkerEvent::Stuck { agent, topic, partition, offset, time, holds_thread } => {
            let what = if *holds_thread {
                "the agent has not come back from this record and keeps its thread, so that all partitions of that \
                 thread wait: let it await, or move the work to tokio::task::spawn_blocking"
            } else {
                "the agent has not come back from this record; other partitions go on"
            };
            tracing::warn!(agent, %topic, partition, offset, seconds = time.as_secs(), "{what}");
            false
        }
        WorkerEvent::Left { agent, topic, partition, offset, time } => {
            tracing::error!(
                agent,
                %topic,
                partition,
                offset,
                seconds = time.as_secs(),
                "the agent has not come back from this record for max.poll.interval.ms: this worker has left its group, so that \
                 others take its partitions over, and joins again when the agent has come back"
            );
            false
        }
        WorkerEvent::Standby { agent, partition, standing } => {
            match *standing {
                Standing::Opened { covered, behind } => {
                    tracing::info!(agent, partition, covered, behind, "keeping a standby");
                }
                Standing::CaughtUp => tracing::info!(agent, partition, "the standby has caught up"),
                Standing::Closed => tracing::info!(agent, partition, "the standby is closed"),
            }
            false
        }
        WorkerEvent::Withheld { agent, partition, owner, time } => {
            let seconds = time.as_secs();
            match owner {
                Some(Owner { process, stopped: Some(true) }) => tracing::warn!(
                    agent,
                    partition,
                    process,
                    seconds,
                    "nobody works on the partition: its owner is stopped by a signal; kill -CONT {process} lets it go on, \
                     and when it is killed another takes over at the last commit"
                ),
                Some(Owner { process, .. }) => tracing::warn!(
                    agent,
                    partition,
                    process,
                    seconds,
                    "its owner was asked for the partition and does not give it back; its log says what it is at, and \
                     when it is killed another takes over at the last commit"
                ),
                None => tracing::warn!(
                    agent,
                    partition,
                    seconds,
                    "nobody works on the partition: another worker should take it and does not; see whether it is stopped"
                ),
            }
            false
        }
        WorkerEvent::Paused { agent, partition, error } => {
            let error = safe(&error.to_string()).into_owned();
            tracing::warn!(agent, partition, %error, "the partition waits for room; its last commit stands");
            false
        }
        WorkerEvent::Failed { agent, partition, error } => {
            let what = match error.kind() {
                ErrorKind::Agent => "the partition stopped at a record; everything before it is committed",
                _ => "the partition stopped; its last commit stands",
            };
            tracing::error!(agent, partition, error = %safe(&error.to_string()), "{what}");
            true
        }
    }
}

fn tell_summary(context: &mut Context, summary: Summary, failed: usize, time: Duration) -> Done {
    let rate = (summary.finished as f64 / time.as_secs_f64().max(1e-9)) as u64;
    if context.out.json {
        let ms = thousandths(time);
        let value = serde_json::json!({
            "records": summary.finished, "failed_partitions": failed, "stuck_partitions": summary.stuck, "ms": ms, "records_per_second": rate,
        });
        return Ok(context.out.json_line(&value)?);
    }
    if (failed, summary.finished) == (0, 0) {
        return Ok(context.out.line("caught up: there was nothing to process")?);
    }
    let state = if failed == 0 { "caught up" } else { "stopped" };
    let line = format!(
        "{state}: {} in {}, start and last commit included ({}/s)",
        counted(summary.finished, "record"),
        duration(time),
        grouped(rate)
    );
    Ok(context.out.line(&line)?)
}

/// What is about to run, for whoever started it.
fn banner(context: &mut Context, plan: &Plan) -> Done {
    let setting = |name: &str| {
        context.settings.get(name).map_or_else(String::new, |setting| match &setting.origin {
            Origin::Default => setting.value.clone(),
            origin => format!("{} (from {origin})", without_secrets(&setting.value)),
        })
    };
    let data_dir = std::path::absolute(context.settings.data_dir()).unwrap_or_else(|_| context.settings.data_dir());
    let lines = [
        ("app", context.app.name().to_owned()),
        ("pid", std::process::id().to_string()),
        ("data", data_dir.display().to_string()),
        ("backend", setting("backend")),
        ("durability", setting("durability")),
    ];
    let registry = context.settings.text("registry").map(|_| ("registry", setting("registry")));
    for (name, value) in lines.into_iter().chain(registry) {
        context.out.line(&format!("{name:<11}{}", safe(&value)))?;
    }
    for agent in &plan.agents {
        let def = agent.def;
        context.out.line(&format!("{:<11}{}", "agent", safe(&format!("{}  [{}:{}]", def.name, def.file, def.line))))?;
        context.out.line(&format!("{:<11}{}", "", safe(&describe(def, agent.partitions))))?;
    }
    context.out.line("")?;
    Ok(context.out.flush()?)
}

/// What an agent reads, keeps and writes, on one line.
fn describe(def: &AgentDef, partitions: u32) -> String {
    let mut text = def.topics.join(" + ");
    if let Some(key) = &def.key {
        text.push_str(&format!(" by {}", key.field));
    }
    text.push_str(&format!(" ({})", counted(u64::from(partitions), "partition")));
    let tables: Vec<_> = def.tables.iter().map(|table| table()).collect();
    for table in &tables {
        text.push_str(&format!(" -> table {}", table.name));
    }
    for topic in tables.iter().filter_map(|table| table.output).chain(def.outputs.iter().map(|output| output.topic)) {
        text.push_str(&format!(" -> topic {topic}"));
    }
    match def.on_error {
        OnError::Fail => {}
        OnError::Retry { times, .. } => text.push_str(&format!(", retries {times} times")),
        OnError::Skip => text.push_str(", skips what fails"),
        OnError::DeadLetter(topic) => text.push_str(&format!(", failures -> topic {topic}")),
    }
    text
}
