//! What a task begins with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::commit::{Committer, Settler, Tables};
use super::outgoing::Outgoing;
use super::partition::Context;
use super::position_file::PositionFile;
use super::recovery::{Recovered, recover};
use crate::agent::{Mail, OnError, Outbox, OutboxLimits, Pulse, Shape, Shared, Source};
use crate::backend::{ProducerId, Reader, Replay};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::table::{AnyPartition, AtHand, OpenPartition, drop_store};
use crate::topic::TopicPartition;

/// The tables that the agent writes, as their stores have them. A store of a changelog that was deleted is dropped: `id` is
/// that of the one that is there.
pub(super) async fn open_tables(
    context: &Context,
    plan: &AgentPlan,
    changelog: &TopicPartition,
    id: Option<&Arc<str>>,
    at_hand: &Rc<AtHand>,
) -> Result<Vec<Rc<dyn AnyPartition>>> {
    let options = &context.options;
    let partition = changelog.partition;
    let mut tables = Vec::new();
    for def in &plan.tables {
        let dir = options.state_dir.as_ref().map(|dir| dir.join(def.name).join(partition.to_string()));
        let memory = options.state_dir.is_none().then(|| options.memory_stores.clone());
        let open = || {
            def.open(OpenPartition {
                dir: dir.clone(),
                disk: options.disk.clone(),
                memory: memory.clone(),
                partition,
                partitions: plan.partitions,
                place: changelog.clone(),
                changelog_id: id.cloned(),
                schemas: plan.stored.clone(),
                memory_bytes: options.table_memory_bytes,
                store_bytes: options.store_memory_bytes,
                store_files: options.store_open_files,
                at_hand: at_hand.clone(),
            })
        };
        let mut table = open()?;
        if let (Some(id), Some(stored)) = (id, table.store_changelog()?)
            && stored != *id
        {
            // Its files must be closed before they go.
            drop(table);
            check_replaced(context, plan, changelog).await?;
            let folder = dir.as_ref().map_or_else(|| "memory".into(), |dir| dir.display().to_string());
            tracing::warn!(table = def.name, folder, %changelog, stored = %stored, id = %id,
                "the store is a copy of a changelog that was deleted; it is dropped, and the table made of the changelog that is there");
            drop_store(&options.disk, dir.as_deref(), memory.as_ref(), changelog)?;
            table = open()?;
        }
        table.enable_undo(needs_undo(plan));
        tables.push(table);
    }
    Ok(tables)
}

/// Refuses to drop a store that may be all that is left of a table: the changelog was deleted by somebody, nothing has been
/// committed to the one that is there, and the group goes on behind records that would be counted nowhere then. Who resets
/// the agent means it.
async fn check_replaced(context: &Context, plan: &AgentPlan, changelog: &TopicPartition) -> Result<()> {
    let Some(replay) = context.backend.replay() else { return Ok(()) };
    let places = plan.sources.iter().map(|(topic, _)| TopicPartition::new(topic.clone(), changelog.partition));
    let (agent, group, changelog) = (plan.def.name, plan.group.clone(), changelog.clone());
    let places: Vec<TopicPartition> = places.collect();
    ask(context, &replay, move |replay| {
        if replay.offsets(&changelog)?.end > 0 {
            return Ok(());
        }
        for place in places {
            let Some(at) = replay.position(&group, &place)? else { continue };
            if at > replay.offsets(&place)?.start && !replay.position_was_set(&group, &place)? {
                let message = format!(
                    "the changelog of agent {agent} was deleted and is empty now, while its group {group} has come to offset \
                     {at} of {place}: a table made of it would lack what was processed before. Drop what the agent keeps with \
                     `reset`, and its topics are processed again"
                );
                return Err(Error::new(ErrorKind::State, message).at(&changelog));
            }
        }
        Ok(())
    })
    .await
}

/// Asks the backend on another thread: brokers may be away for a while, and others of this thread go on meanwhile.
pub(super) async fn ask<T: Send + 'static>(
    context: &Context,
    replay: &Arc<dyn Replay>,
    question: impl FnOnce(&dyn Replay) -> Result<T> + Send + 'static,
) -> Result<T> {
    let replay = replay.clone();
    let asked = context.helpers.spawn_blocking(move || question(&*replay)).await;
    let ended = |error| Error::new(ErrorKind::Closed, "a question was ended with its runtime").with_source(error);
    asked.map_err(ended)?
}

/// Whether tables must be able to go back to before a failed record. An aggregation's failed fold leaves no trace.
fn needs_undo(plan: &AgentPlan) -> bool {
    plan.def.on_error != OnError::Fail && plan.def.shape != Shape::Aggregate
}

/// What agent and worker share, before the first record. `ids` are those of the sources, where they matter.
pub(super) fn share(
    context: &Context,
    pulse: Arc<Pulse>,
    plan: &AgentPlan,
    partition: u32,
    tables: Vec<Rc<dyn AnyPartition>>,
    at_hand: Rc<AtHand>,
    ids: &[Option<Arc<str>>],
) -> Shared {
    // Where tables keep no undo, a failed record ends the task at the commit before, outputs and all.
    let undoes_outputs = !plan.outputs.is_empty() && (tables.is_empty() || needs_undo(plan));
    Shared {
        agent: plan.def,
        partition,
        sources: plan
            .sources
            .iter()
            .zip(ids.iter().cloned().chain(std::iter::repeat(None)))
            .map(|((topic, schemas), id)| Source { topic: topic.clone(), schemas: schemas.clone(), id })
            .collect(),
        positions: plan.sources.iter().map(|_| Cell::new(0)).collect(),
        mail: RefCell::new(Some(Mail::default())),
        waits: Cell::new(false),
        commit_due: Cell::new(false),
        commit_at: Cell::new(context.clock.moment()),
        commit_interval: context.options.commit_interval,
        clock: context.clock.clone(),
        finished: Cell::new(0),
        dropped: Cell::new(0),
        at_hand,
        stream_time: Cell::new(i64::MIN),
        outbox: RefCell::new(Outbox::new(
            plan.destinations.clone(),
            partition,
            OutboxLimits {
                record_bytes: context.backend.capabilities().max_record_bytes,
                bytes: context.options.output_memory_bytes,
            },
        )),
        outputs: plan.outputs.clone(),
        expects: plan.keyed && !tables.is_empty() && plan.def.shape != Shape::Aggregate,
        failure: RefCell::new(None),
        undo: needs_undo(plan),
        undoes_outputs,
        prepares: Cell::new(undoes_outputs || needs_undo(plan)),
        tables,
        outbox_mark: Cell::new(None),
        keeps_key: Cell::new(false),
        key: RefCell::new(None),
        waker: RefCell::new(None),
        commits_any_time: Cell::new(false),
        in_flight: Cell::new(0),
        concurrent_batches: context.options.concurrent_batches.max(1),
        calls: Cell::new(0),
        resting: Cell::new(0),
        starved: Cell::new(false),
        pulse,
        dead_letters: plan.dead_letters,
    }
}

/// The changelog position that all stores of the task cover.
pub(super) fn stored_position(tables: &[Rc<dyn AnyPartition>], positions: &PositionFile) -> Result<Option<u64>> {
    if tables.is_empty() {
        return positions.load();
    }
    let mut least = Some(u64::MAX);
    for table in tables {
        // A table without a position is rebuilt from the start, and the others with it.
        least = match (least, table.store_position()?) {
            (Some(least), Some(position)) => Some(least.min(position)),
            _ => None,
        };
    }
    Ok(least)
}

/// Brings a task to the last commit in its changelog. `None` when it was told to stop before that was done.
pub(super) async fn recovered_journal(
    context: &Context,
    plan: &AgentPlan,
    shared: &Rc<Shared>,
    replay: &Arc<dyn Replay>,
    positions: &PositionFile,
    stop: &watch::Receiver<bool>,
) -> Result<Option<(Committer, Recovered, Vec<Box<dyn Reader>>)>> {
    let partition = shared.partition;
    let changelog = TopicPartition::new(plan.changelog.clone(), partition);
    let producer_id = ProducerId::named(&format!("{}/{partition}", plan.changelog));
    let mut settler = Settler {
        replay: replay.clone(),
        changelog,
        producer: context.backend.producer(producer_id).await?,
        producer_id,
        progress: context.progress.clone(),
        partition,
        sources: shared.sources.iter().map(|source| source.topic.clone()).collect(),
        durable: context.backend.capabilities().survives_power_loss,
        unsynced: Vec::new(),
        frames: Default::default(),
        outgoing: Outgoing::within(context.options.output_memory_bytes),
        tables: Tables { defs: plan.tables.clone(), schemas: plan.stored.clone() },
    };
    let stored = stored_position(&shared.tables, positions)?;
    let recovered = recover(context, shared, &mut settler, stored, stop).await?;
    let Some((resume, recovered)) = recovered else { return Ok(None) };
    let mut sequences = Vec::new();
    for to in &plan.destinations {
        for partition in 0..to.partitions {
            let place = TopicPartition::new(to.topic.clone(), partition);
            sequences.push(replay.next_sequence(&place, settler.producer_id)?);
        }
    }
    let readers = open_readers(shared, &**replay)?;
    let producer = context.backend.producer(ProducerId::ANONYMOUS).await?;
    let committer = Committer::new(shared.clone(), producer, settler, sequences, resume, context.helpers.clone());
    Ok(Some((committer, recovered, readers)))
}

/// Readers of the task's sources, from its positions on.
pub(super) fn open_readers(shared: &Shared, replay: &dyn Replay) -> Result<Vec<Box<dyn Reader>>> {
    let place = |topic: &Arc<str>| TopicPartition::new(topic.clone(), shared.partition);
    let sources = shared.sources.iter().zip(&shared.positions);
    sources.map(|(source, position)| replay.reader(&place(&source.topic), position.get())).collect()
}

/// The same, asked for on other threads.
pub(super) async fn ask_for_readers(
    context: &Context,
    shared: &Shared,
    replay: &Arc<dyn Replay>,
) -> Result<Vec<Box<dyn Reader>>> {
    let mut readers = Vec::new();
    for (source, position) in shared.sources.iter().zip(&shared.positions) {
        let (place, at) = (TopicPartition::new(source.topic.clone(), shared.partition), position.get());
        readers.push(ask(context, replay, move |replay| replay.reader(&place, at)).await?);
    }
    Ok(readers)
}
