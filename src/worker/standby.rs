//! A standby: the tables of a partition that another worker is at work on, kept up to date from its changelog, so that this
//! one takes over at once.
//!
//! All of a worker's standbys share one thread of low priority, apart from those of the agents. What a standby has applied goes
//! to the stores as the owner's own checkpoints do, with the changelog position that they cover then. A takeover begins there.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::following::Following;
use super::partition::Context;
use super::position_file::PositionFile;
use super::recovery::is_stopped;
use super::setup::{ask, open_tables, share, stored_position};
use super::takeover::begin_at;
use crate::agent::panicked;
use crate::backend::{Copies, Unit};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::AgentPlan;
use crate::record::Frames;
use crate::table::AtHand;
use crate::topic::TopicPartition;

/// Of the memory that a table may take at its owner a standby's gets this part: nobody looks anything up in it.
const MEMORY_PART: usize = 8;

/// How often a standby that is behind asks where its changelog ends.
const ASK_FOR_END: Duration = Duration::from_secs(2);

/// How long it waits after an error, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How much nicer its thread is to others than theirs.
const NICE: i32 = 10;

/// What a standby tells its member.
pub(super) enum StandbyEvent {
    /// Its stores are open; they cover so much of the changelog, and so much is missing.
    Opened { covered: u64, behind: u64 },
    /// It has come to the end of the changelog.
    CaughtUp,
    /// Its stores are closed.
    Closed,
}

/// What the standby of that partition tells.
pub(super) type StandbyTold = (u32, StandbyEvent);

/// A standby to keep.
pub(super) struct StandbyStart {
    pub(super) context: Context,
    pub(super) plan: Arc<AgentPlan>,
    pub(super) partition: u32,
    pub(super) copies: Arc<Copies>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) events: mpsc::UnboundedSender<StandbyTold>,
}

/// The thread of a worker's standbys, which is there as soon as there is one.
#[derive(Clone, Default)]
pub(super) struct StandbyThread(Arc<Mutex<Option<mpsc::UnboundedSender<StandbyStart>>>>);

impl StandbyThread {
    pub(super) fn start(&self, start: StandbyStart) -> Result<()> {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &*thread {
            Some(sender) => sender,
            None => thread.insert(run()?),
        };
        sender.send(start).map_err(|_| Error::new(ErrorKind::Closed, "the thread of the standbys has ended"))
    }
}

fn run() -> Result<mpsc::UnboundedSender<StandbyStart>> {
    let (sender, mut starts) = mpsc::unbounded_channel::<StandbyStart>();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot start a runtime for standbys", error))?;
    let work = async move {
        while let Some(start) = starts.recv().await {
            tokio::task::spawn_local(async move {
                start.keep().await;
                start.tell(StandbyEvent::Closed);
            });
        }
    };
    let nicely = move || {
        // On Linux it is the thread's own. Where it is refused the thread is like any other.
        let _ = rustix::process::nice(NICE);
        LocalSet::new().block_on(&runtime, work);
    };
    std::thread::Builder::new()
        .name("standbys".into())
        .spawn(nicely)
        .map_err(|error| Error::io("cannot start a thread for standbys", error))?;
    Ok(sender)
}

impl StandbyStart {
    fn tell(&self, event: StandbyEvent) {
        // A member that has ended does not listen.
        let _ = self.events.send((self.partition, event));
    }

    fn unit(&self) -> Unit {
        Unit { set: 0, partition: self.partition }
    }

    /// Keeps it until it is told to stop, whatever fails: what a standby lacks costs a takeover time, and nothing else.
    async fn keep(&self) {
        let mut wait = RETRY.0;
        let mut stop = self.stop.clone();
        while !is_stopped(&stop) {
            let result = match AssertUnwindSafe(self.follow()).catch_unwind().await {
                Ok(result) => result,
                Err(panic) => Err(panicked(&*panic)),
            };
            let Err(error) = result else { return };
            self.copies.set(self.unit(), None);
            tracing::warn!(agent = self.plan.def.name, partition = self.partition, %error, "the standby is opened again in a while; a takeover would replay what it lacks");
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                () = self.context.clock.sleep(wait) => {}
            }
            wait = (wait * 2).min(RETRY.1);
        }
    }

    /// Opens the stores and follows the changelog until it is told to stop; the stores then cover all that was read.
    async fn follow(&self) -> Result<()> {
        let Self { plan, partition, .. } = self;
        let mut context = self.context.clone();
        context.options.table_memory_bytes /= MEMORY_PART;
        let changelog = TopicPartition::new(plan.changelog.clone(), *partition);
        let replay = context.backend.replay().ok_or_else(|| Error::new(ErrorKind::Unsupported, "no changelog"))?;
        let at_hand = Rc::new(AtHand::default());
        let place = changelog.clone();
        let changelog_id = ask(&context, &replay, move |replay| replay.topic_id(&place.topic)).await?;
        let tables = open_tables(&context, plan, &changelog, changelog_id.as_ref(), &at_hand).await?;
        let shared = share(&context, Arc::default(), plan, *partition, tables, at_hand, &[]);
        let state_dir = context.options.state_dir.as_ref().map(|dir| dir.join(plan.def.name));
        let positions =
            PositionFile::new(context.options.disk.clone(), state_dir, *partition).of_changelog(changelog_id);
        let stored = stored_position(&shared.tables, &positions)?;
        let place = changelog.clone();
        let offsets = ask(&context, &replay, move |replay| replay.offsets(&place)).await?;
        let from = begin_at(&shared, &changelog, stored, offsets)?;
        self.tell(StandbyEvent::Opened { covered: from - offsets.start, behind: offsets.end - from });

        let place = changelog.clone();
        let mut reader = ask(&context, &replay, move |replay| replay.reader(&place, from)).await?;
        let mut following = Following::new(&context, &shared, &replay, &changelog, stored, from..offsets.end);
        following.look_ahead(offsets.end, &self.stop).await?;
        let mut frames = Frames::default();
        let (mut end, mut asked, mut told) = (offsets.end, context.clock.moment(), false);
        let mut stop = self.stop.clone();
        while !is_stopped(&stop) {
            let at = reader.position();
            let read = reader.read_now(&mut frames)?;
            if read == Some(true) {
                following.apply(&frames, at..u64::MAX)?;
            }
            let now = context.clock.moment();
            end = if read == Some(false) { reader.position() } else { end.max(reader.position()) };
            if read != Some(false) && now.since(asked) > ASK_FOR_END {
                let place = changelog.clone();
                (end, asked) = (ask(&context, &replay, move |replay| replay.offsets(&place)).await?.end, now);
            }
            self.copies.set(self.unit(), Some(end - reader.position().min(end)));
            if !told {
                following.report_standby(reader.position(), end);
            }
            if read == Some(false) && !told {
                told = true;
                self.tell(StandbyEvent::CaughtUp);
            }
            if following.cover_due_in().is_some_and(|due_in| due_in.is_zero()) {
                following.cover().await?;
            }
            if read == Some(true) {
                // Others of this thread have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                biased;
                _ = stop.changed() => {}
                ready = reader.ready() => ready?,
                () = context.clock.sleep(following.cover_due_in().unwrap_or_default()), if following.cover_due_in().is_some() => {}
            }
        }
        following.cover().await
    }
}
