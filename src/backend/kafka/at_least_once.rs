//! Commits without transactions, for who would rather have some records counted twice after a crash than wait for a broker's
//! transactions: what was put out is written first, then the states, then the positions.
//!
//! A crash in between leaves outputs that are there already, or states that count already, and their records are processed
//! again on top of them.
//! Nothing keeps an owner out whose partition went to another while it was away: what it had on its way is written, too.

use std::sync::Arc;

use async_trait::async_trait;

use super::Inner;
use super::client::Role;
use super::consumer::Member;
use super::delivery::Sender;
use crate::backend::{Membership, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::record::FrameBuilder;
use crate::topic::TopicPartition;

/// Commits of one owner.
#[derive(Debug)]
pub(super) struct AtLeastOnce {
    sender: Arc<Sender>,
    /// The partitions that something was appended to.
    places: Vec<TopicPartition>,
    /// For each of them the offsets of what was written last, as [`Sender::finish`] has them; the last record's counts.
    written: Vec<Option<(u64, u64)>>,
    /// Behind the sender: the last that has it waits for all clients.
    inner: Arc<Inner>,
}

impl AtLeastOnce {
    pub(super) fn open(inner: Arc<Inner>) -> Result<Self> {
        let sender = Arc::new(Sender::new(&inner.clients, &inner.clock, Role::Producer)?);
        Ok(Self { inner, sender, places: Vec::new(), written: Vec::new() })
    }

    /// Notes what a wait has found to be written since the one before.
    fn note(&mut self, written: Vec<Option<(u64, u64)>>) {
        if self.written.len() < written.len() {
            self.written.resize(written.len(), None);
        }
        for (known, new) in self.written.iter_mut().zip(written) {
            *known = new.or(*known);
        }
    }
}

fn unsettled(error: Error) -> Error {
    Error::new(ErrorKind::Unsettled, "a commit was not written").with_source(error)
}

#[async_trait]
impl Transaction for AtLeastOnce {
    async fn begin(&mut self) -> Result<()> {
        self.places.clear();
        self.written.clear();
        Ok(())
    }

    async fn append(&mut self, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()> {
        let place = super::transaction::place_of(&mut self.places, to);
        self.sender.send(&self.inner.clients.named(&to.topic), to.partition, place, frame)
    }

    async fn put_behind(&mut self) -> Result<()> {
        if !self.places.is_empty() {
            let sender = self.sender.clone();
            let written = super::blocking(move || sender.finish().map_err(unsettled)).await?;
            self.note(written);
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
        // The last commit in the changelog may be another where one has ended half-way.
        _number: u64,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        let (inner, sender, group, positions) =
            (self.inner.clone(), self.sender.clone(), group.clone(), positions.to_vec());
        let written = super::blocking(move || {
            let Some(member) = group.proof::<Member>() else {
                return Err(Error::new(ErrorKind::Unsupported, "the member of the group is of another backend"));
            };
            let places = sender.finish().map_err(unsettled)?;
            member.commit(&inner.clients, &inner.clock, &positions).map_err(unsettled)?;
            Ok(places)
        });
        let written = written.await?;
        self.note(written);
        Ok(super::transaction::last_offsets(&self.places, &self.written))
    }
}
