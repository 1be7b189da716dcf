//! The two ways of a commit: into the task's own changelog, from where outputs are moved, or by a transaction of the
//! backend's.

use std::sync::Arc;

use super::commit::Committer;
use super::transaction::Transactor;
use crate::backend::Replay;
use crate::error::Result;
use crate::topic::TopicPartition;

/// What commits for a task.
pub(super) enum Commits {
    Journal(Box<Committer>),
    Transaction(Box<Transactor>),
}

impl Commits {
    /// Commits what the agent has finished; see [`Committer::commit`] and [`Transactor::commit`].
    pub(super) async fn commit(&mut self, table_outputs: &[Option<usize>]) -> Result<()> {
        match self {
            Self::Journal(commits) => commits.commit(table_outputs).await,
            Self::Transaction(commits) => commits.commit(table_outputs).await,
        }
    }

    /// Waits until the commit that is on its way has settled. Cancel-safe.
    pub(super) async fn settled(&mut self) -> Result<()> {
        match self {
            Self::Journal(commits) => commits.settled().await,
            Self::Transaction(commits) => commits.settled().await,
        }
    }

    /// Whether a commit is on its way.
    pub(super) fn is_settling(&self) -> bool {
        match self {
            Self::Journal(commits) => commits.is_settling(),
            Self::Transaction(commits) => commits.is_settling(),
        }
    }

    /// Whether a commit is on its way and has not settled by now.
    pub(super) fn is_on_its_way(&self) -> bool {
        match self {
            Self::Journal(commits) => commits.is_on_its_way(),
            Self::Transaction(commits) => commits.is_on_its_way(),
        }
    }

    /// What a checkpoint must sync first; `None` while a commit is on its way. What a transaction has committed is as
    /// durable as it gets.
    pub(super) fn take_unsynced(&mut self) -> Option<(Arc<dyn Replay>, Vec<TopicPartition>)> {
        match self {
            Self::Journal(commits) => commits.take_unsynced(),
            Self::Transaction(commits) => commits.replay().map(|replay| (replay, Vec::new())),
        }
    }

    /// The changelog position that a checkpoint of the last commit covers.
    pub(super) fn covers(&self) -> u64 {
        match self {
            Self::Journal(commits) => commits.last_begins,
            Self::Transaction(commits) => commits.last_mark(),
        }
    }

    /// Whether commits are transactions: then offsets have holes, and a partition that was lost may come back.
    pub(super) fn is_transaction(&self) -> bool {
        matches!(self, Self::Transaction(_))
    }
}
