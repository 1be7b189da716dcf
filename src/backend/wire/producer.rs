//! The layer's side that appends.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::WireReplay;
use super::form::Form;
use crate::backend::{Appended, Membership, Producer, Transaction, Transactions};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, Plain};
use crate::topic::TopicPartition;

/// Appends single objects in the format of their topic.
pub(super) struct WireProducer {
    inner: Box<dyn Producer>,
    converter: Converter,
}

impl WireProducer {
    pub(super) fn new(inner: Box<dyn Producer>, replay: Arc<WireReplay>) -> Self {
        Self { inner, converter: Converter::new(replay) }
    }
}

#[async_trait]
impl Producer for WireProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        self.converter.prepare(to, frame).await?;
        self.inner.append(to, self.converter.convert(to, frame)?, sequence).await
    }

    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended> {
        self.converter.prepare(to, frame).await?;
        self.inner.append_at(to, self.converter.convert(to, frame)?, offset).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner.flush().await
    }
}

/// Opens transactions that append single objects in the format of their topic.
#[derive(Debug)]
pub(super) struct WireTransactions {
    pub(super) inner: Arc<dyn Transactions>,
    pub(super) replay: Arc<WireReplay>,
}

#[async_trait]
impl Transactions for WireTransactions {
    async fn open(&self, name: &str) -> Result<Box<dyn Transaction>> {
        let inner = self.inner.open(name).await?;
        Ok(Box::new(WireTransaction { inner, converter: Converter::new(self.replay.clone()) }))
    }

    fn count_whole(&self) -> bool {
        self.inner.count_whole()
    }
}

struct WireTransaction {
    inner: Box<dyn Transaction>,
    converter: Converter,
}

#[async_trait]
impl Transaction for WireTransaction {
    async fn begin(&mut self) -> Result<()> {
        self.inner.begin().await
    }

    async fn append(&mut self, to: &TopicPartition, frame: &mut FrameBuilder) -> Result<()> {
        self.converter.prepare(to, frame).await?;
        self.inner.append(to, self.converter.convert(to, frame)?).await
    }

    async fn put_behind(&mut self) -> Result<()> {
        self.inner.put_behind().await
    }

    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
        number: u64,
    ) -> Result<Vec<(TopicPartition, u64)>> {
        self.inner.commit(group, positions, number).await
    }
}

/// Puts records into the formats of their topics.
struct Converter {
    replay: Arc<WireReplay>,
    forms: HashMap<Arc<str>, Form>,
    frame: FrameBuilder,
}

impl Converter {
    fn new(replay: Arc<WireReplay>) -> Self {
        Self { replay, forms: HashMap::new(), frame: FrameBuilder::new() }
    }

    /// Gets what must be known before the records can be converted.
    async fn prepare(&mut self, to: &TopicPartition, frame: &FrameBuilder) -> Result<()> {
        if !self.forms.contains_key(&to.topic) {
            self.replay.claim(&to.topic).await.map_err(|error| error.at(to))?;
            self.forms.insert(to.topic.clone(), self.replay.form(&to.topic)?);
        }
        if let Some(Form::Wire(wire)) = self.forms.get_mut(&to.topic) {
            let unnumbered = wire.unnumbered(frame.records().filter_map(|record| record.value));
            if !unnumbered.is_empty() {
                wire.number(unnumbered).await.map_err(|error| error.at(to))?;
            }
        }
        Ok(())
    }

    /// The records in the topic's format; the frame itself where they go as they are.
    fn convert<'a>(&'a mut self, to: &TopicPartition, frame: &'a mut FrameBuilder) -> Result<&'a mut FrameBuilder> {
        let wire = match self.forms.get_mut(&to.topic) {
            Some(Form::Wire(wire)) => wire,
            Some(Form::Plain(plain)) => {
                check_plain(*plain, to, frame)?;
                return Ok(frame);
            }
            Some(Form::Single) | None => return Ok(frame),
        };
        self.frame.clear();
        let mut value = Vec::new();
        for mut record in frame.records() {
            if let Some(single) = record.value {
                value.clear();
                wire.unwrap(single, &mut value).map_err(|error| error.at(to))?;
                record.value = Some(&value);
            }
            self.frame.push_raw(&record);
        }
        Ok(&mut self.frame)
    }
}

/// Refuses values that nobody could read as what the topic holds.
fn check_plain(plain: Plain, to: &TopicPartition, frame: &FrameBuilder) -> Result<()> {
    for value in frame.records().filter_map(|record| record.value) {
        plain.check(value).map_err(|error| {
            let message = format!("topic {} has values in the format {plain}: this one is none", to.topic);
            Error::new(ErrorKind::Encode, message).with_source(error).at(to)
        })?;
    }
    Ok(())
}
