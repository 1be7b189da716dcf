//! Commits without transactions, for who would rather have some records counted twice after a crash than wait for a broker's
//! transactions: what was put out is written first, then the positions.
//!
//! A crash in between leaves outputs and states that count already, and their records are processed again on top of them.
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
    inner: Arc<Inner>,
    sender: Arc<Sender>,
    /// The partitions that something was appended to.
    places: Vec<TopicPartition>,
}

impl AtLeastOnce {
    pub(super) fn open(inner: Arc<Inner>) -> Result<Self> {
        let sender = Arc::new(Sender::new(&inner.clients, &inner.clock, Role::Producer)?);
        Ok(Self { inner, sender, places: Vec::new() })
    }
}

#[async_trait]
impl Transaction for AtLeastOnce {
    async fn begin(&mut self) -> Result<()> {
        self.places.clear();
        Ok(())
    }

    async fn append(&mut self, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()> {
        let place = super::transaction::place_of(&mut self.places, to);
        self.sender.send(&self.inner.clients.named(&to.topic), to.partition, place, frame)
    }

    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
    ) -> Result<Vec<(TopicPartition, u64)>> {
        let (inner, sender, group, positions) =
            (self.inner.clone(), self.sender.clone(), group.clone(), positions.to_vec());
        let places = super::blocking(move || {
            let unsettled = |error| Error::new(ErrorKind::Unsettled, "a commit was not written").with_source(error);
            let Some(member) = group.proof::<Member>() else {
                return Err(Error::new(ErrorKind::Unsupported, "the member of the group is of another backend"));
            };
            let places = sender.finish().map_err(unsettled)?;
            member.commit(&inner.clients, &inner.clock, &positions).map_err(unsettled)?;
            Ok(places)
        });
        Ok(super::transaction::last_offsets(&self.places, &places.await?))
    }
}
