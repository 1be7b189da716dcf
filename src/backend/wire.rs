//! Topics whose values have another form on the wire than single objects, as a layer over any backend.
//!
//! Above the layer every value of a record is a single object, whatever its topic holds: readers put the header in
//! front that names the schema, producers take it off. Topics of single objects pass untouched, and so do those of plain
//! values, of which producers only see whether they are such.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Appended, AssignmentSet, Backend, Capabilities, Cleaned, Compaction, Consumer, Membership, Need, Offsets, Owner,
    Producer, ProducerId, Reader, Replay, Topic, Transaction, Transactions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, FrameHeader, Frames, Plain, SINGLE_OBJECT_MARKER, split_single_object};
use crate::topic::{TopicPartition, TopicSettings, TopicSpec, WireFormat};

/// Byte that begins a value with a Confluent header; the number of its schema follows, big-endian.
const CONFLUENT_MAGIC: u8 = 0;

/// Length of that header.
const CONFLUENT_HEADER_LEN: usize = 5;

/// The plain values that a topic of this format holds; `None` for records.
pub fn plain_of(format: WireFormat) -> Option<Plain> {
    match format {
        WireFormat::SingleObject | WireFormat::Bare | WireFormat::Confluent => None,
        WireFormat::Text => Some(Plain::Text),
        WireFormat::Bytes => Some(Plain::Bytes),
        WireFormat::Int => Some(Plain::Int),
        WireFormat::Long => Some(Plain::Long),
        WireFormat::Float => Some(Plain::Float),
        WireFormat::Double => Some(Plain::Double),
    }
}

/// A backend whose topics may hold values in any [`WireFormat`].
#[derive(Clone, Debug)]
pub struct WireLayer {
    inner: Arc<dyn Backend>,
    replay: Option<Arc<WireReplay>>,
    /// What the app says of its topics.
    formats: Arc<BTreeMap<String, WireFormat>>,
    settings: Arc<BTreeMap<String, TopicSettings>>,
}

impl WireLayer {
    /// The layer over a backend; topics that are created get the format that `formats` says for them.
    pub fn new(inner: Arc<dyn Backend>, formats: BTreeMap<String, WireFormat>) -> Self {
        let replay = inner.replay().map(|inner| Arc::new(WireReplay { inner, formats: Mutex::default() }));
        Self { inner, replay, formats: Arc::new(formats), settings: Arc::default() }
    }

    /// Topics that are created also get the settings that are said for them here.
    #[must_use]
    pub fn with_settings(self, settings: BTreeMap<String, TopicSettings>) -> Self {
        Self { settings: Arc::new(settings), ..self }
    }
}

#[async_trait]
impl Backend for WireLayer {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<Topic> {
        let mut spec = spec.clone();
        spec.format = self.formats.get(&*spec.name).copied().or(spec.format);
        spec.settings = self.settings.get(&*spec.name).copied().unwrap_or(spec.settings);
        self.inner.create_topic(&spec).await
    }

    async fn topics(&self) -> Result<Vec<Topic>> {
        self.inner.topics().await
    }

    async fn producer(&self, id: ProducerId) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(id).await?;
        Ok(match &self.replay {
            Some(replay) => Box::new(WireProducer { inner, converter: Converter::new(replay.clone()) }),
            None => inner,
        })
    }

    async fn consumer(&self, group: &str, sets: &[AssignmentSet]) -> Result<Box<dyn Consumer>> {
        self.inner.consumer(group, sets).await
    }

    fn check_room(&self, need: Need) -> Result<()> {
        self.inner.check_room(need)
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        self.replay.clone().map(|replay| replay as _)
    }

    fn transactions(&self) -> Option<Arc<dyn Transactions>> {
        let inner = self.inner.transactions()?;
        Some(match &self.replay {
            Some(replay) => Arc::new(WireTransactions { inner, replay: replay.clone() }),
            None => inner,
        })
    }
}

/// The other side of the layer: what reads.
#[derive(Debug)]
struct WireReplay {
    inner: Arc<dyn Replay>,
    /// A topic's format never changes, and every commit opens a reader.
    formats: Mutex<HashMap<Arc<str>, WireFormat>>,
}

impl WireReplay {
    fn formats(&self) -> MutexGuard<'_, HashMap<Arc<str>, WireFormat>> {
        self.formats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done with the topic's values.
    fn form(&self, topic: &Arc<str>) -> Result<Form> {
        let known = self.formats().get(topic).copied();
        if let Some(form) = known.and_then(Form::of_untouched) {
            return Ok(form);
        }
        let found = self.inner.topic(topic)?;
        let format = found.spec.format.unwrap_or_default();
        self.formats().insert(topic.clone(), format);
        Ok(Form::of_untouched(format)
            .unwrap_or_else(|| Form::Wire(Box::new(Wire::new(self.inner.clone(), format, &found)))))
    }
}

#[async_trait]
impl Replay for WireReplay {
    fn reader(&self, partition: &TopicPartition, from: u64) -> Result<Box<dyn Reader>> {
        let inner = self.inner.reader(partition, from)?;
        Ok(match self.form(&partition.topic)? {
            Form::Wire(wire) => {
                Box::new(WireReader { inner, wire: *wire, raw: Frames::default(), frame: FrameBuilder::new() })
            }
            Form::Single | Form::Plain(_) => inner,
        })
    }

    fn offsets(&self, partition: &TopicPartition) -> Result<Offsets> {
        self.inner.offsets(partition)
    }

    fn reads_committed(&self) -> bool {
        self.inner.reads_committed()
    }

    async fn sync(&self, partition: &TopicPartition, up_to: u64) -> Result<()> {
        self.inner.sync(partition, up_to).await
    }

    fn next_sequence(&self, partition: &TopicPartition, producer: ProducerId) -> Result<u64> {
        self.inner.next_sequence(partition, producer)
    }

    fn position(&self, group: &str, partition: &TopicPartition) -> Result<Option<u64>> {
        self.inner.position(group, partition)
    }

    fn owners(&self, group: &str, set: &AssignmentSet) -> Result<Vec<Option<Owner>>> {
        self.inner.owners(group, set)
    }

    fn forget(&self, group: &str, partition: &TopicPartition) -> Result<()> {
        self.inner.forget(group, partition)
    }

    fn set_position(&self, group: &str, partition: &TopicPartition, position: u64) -> Result<()> {
        self.inner.set_position(group, partition, position)
    }

    fn offset_at(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<Option<u64>> {
        self.inner.offset_at(partition, timestamp_ms)
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.inner.topic(name)
    }

    fn schema(&self, topic: &str, fingerprint: u64) -> Result<Option<Arc<str>>> {
        self.inner.schema(topic, fingerprint)
    }

    async fn set_topic(&self, name: &str, settings: &TopicSettings) -> Result<Topic> {
        self.inner.set_topic(name, settings).await
    }

    async fn clean(&self, partition: &TopicPartition, thorough: bool) -> Result<Cleaned> {
        self.inner.clean(partition, thorough).await
    }

    async fn delete_before(&self, partition: &TopicPartition, offset: u64) -> Result<Cleaned> {
        self.inner.delete_before(partition, offset).await
    }

    async fn compact(
        &self,
        partition: &TopicPartition,
        before: u64,
        rules: Box<dyn Compaction>,
        thorough: bool,
    ) -> Result<Cleaned> {
        self.inner.compact(partition, before, rules, thorough).await
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        self.inner.delete_topic(name).await?;
        self.formats().remove(name);
        Ok(())
    }
}

/// What is done with the values of one topic.
enum Form {
    /// They are single objects already.
    Single,
    /// They go as they are; those that are appended must be such.
    Plain(Plain),
    /// They are turned into single objects and back.
    Wire(Box<Wire>),
}

impl Form {
    /// The form of values that go as they are.
    fn of_untouched(format: WireFormat) -> Option<Self> {
        match plain_of(format) {
            Some(plain) => Some(Self::Plain(plain)),
            None => (format == WireFormat::SingleObject).then_some(Self::Single),
        }
    }
}

/// Turns values of one topic into single objects and back.
struct Wire {
    replay: Arc<dyn Replay>,
    topic: Arc<str>,
    format: WireFormat,
    /// Fingerprints of the schemas that the topic keeps: the first is that of bare values, and number n of a Confluent
    /// header stands for the n-th.
    schemas: Vec<u64>,
}

impl Wire {
    fn new(replay: Arc<dyn Replay>, format: WireFormat, topic: &Topic) -> Self {
        let schemas = topic.schemas.iter().map(|schema| schema.fingerprint).collect();
        Self { replay, topic: topic.spec.name.clone(), format, schemas }
    }

    /// Schemas may have come since.
    fn refresh(&mut self) -> Result<()> {
        self.schemas = self.replay.topic(&self.topic)?.schemas.iter().map(|schema| schema.fingerprint).collect();
        Ok(())
    }

    /// Appends the value as a single object. What is not of the topic's format stays as it is, so that whoever decodes
    /// it says what it looks like.
    fn wrap(&self, value: &[u8], out: &mut Vec<u8>) {
        let (fingerprint, datum) = match self.format {
            WireFormat::Confluent => match self.split(value) {
                Some((fingerprint, datum)) => (Some(fingerprint), datum),
                None => (None, value),
            },
            // Ten bytes that are the header of one of the topic's schemas are no coincidence.
            WireFormat::Bare if split_single_object(value).is_some_and(|(found, _)| self.schemas.contains(&found)) => {
                (None, value)
            }
            WireFormat::Bare => (self.schemas.first().copied(), value),
            _ => (None, value),
        };
        if let Some(fingerprint) = fingerprint {
            out.extend_from_slice(&SINGLE_OBJECT_MARKER);
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        out.extend_from_slice(datum);
    }

    /// The fingerprint that a Confluent header's number stands for, and what follows.
    fn split<'a>(&self, value: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (header, datum) = value.split_first_chunk::<CONFLUENT_HEADER_LEN>()?;
        let [CONFLUENT_MAGIC, number @ ..] = *header else { return None };
        let place = (u32::from_be_bytes(number) as usize).checked_sub(1)?;
        Some((*self.schemas.get(place)?, datum))
    }

    /// Appends a single object as the topic has its values.
    fn unwrap(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let refused = |what: String| {
            let message = format!("topic {} has values in the format {}: {what}", self.topic, self.format);
            Err(Error::new(ErrorKind::Encode, message))
        };
        let Some((fingerprint, datum)) = split_single_object(value) else {
            return refused("this one names no schema; put records there, or use another topic".to_owned());
        };
        if !self.schemas.contains(&fingerprint) {
            let schemas = self.replay.topic(&self.topic)?.schemas;
            self.schemas = schemas.iter().map(|schema| schema.fingerprint).collect();
        }
        let place = self.schemas.iter().position(|known| *known == fingerprint);
        match (self.format, place) {
            (WireFormat::Bare, Some(0)) => {}
            (WireFormat::Bare, _) => {
                let first = self.schemas.first().copied().unwrap_or_default();
                return refused(format!(
                    "they are all of schema {first:016x}, and this one is of {fingerprint:016x}; use a new topic for it"
                ));
            }
            (WireFormat::Confluent, Some(place)) => {
                out.push(CONFLUENT_MAGIC);
                out.extend_from_slice(&(place as u32 + 1).to_be_bytes());
            }
            (WireFormat::Confluent, None) => {
                return refused(format!("it does not keep schema {fingerprint:016x} of this one; add it"));
            }
            // Of these no `Wire` is made.
            _ => {
                out.extend_from_slice(value);
                return Ok(());
            }
        }
        out.extend_from_slice(datum);
        Ok(())
    }
}

/// Reads a partition and makes single objects of what is in it.
struct WireReader {
    inner: Box<dyn Reader>,
    wire: Wire,
    raw: Frames,
    frame: FrameBuilder,
}

#[async_trait]
impl Reader for WireReader {
    fn read(&mut self, into: &mut Frames) -> Result<bool> {
        into.clear();
        let found = self.inner.read(&mut self.raw)?;
        if found {
            self.convert(into)?;
        }
        Ok(found)
    }

    fn read_now(&mut self, into: &mut Frames) -> Result<Option<bool>> {
        into.clear();
        let found = self.inner.read_now(&mut self.raw)?;
        if found == Some(true) {
            self.convert(into)?;
        }
        Ok(found)
    }

    async fn ready(&mut self) -> Result<()> {
        self.inner.ready().await
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }
}

impl WireReader {
    /// Makes single objects of the frames that were read.
    fn convert(&mut self, into: &mut Frames) -> Result<()> {
        // Whoever wrote these may have added schemas first.
        self.wire.refresh()?;
        let mut value = Vec::new();
        for frame in self.raw.iter() {
            if frame.header.count == 0 {
                into.push(&frame);
                continue;
            }
            self.frame.clear();
            let mut next = frame.header.base_offset;
            for mut record in frame.records() {
                if let Some(had) = record.value {
                    value.clear();
                    self.wire.wrap(had, &mut value);
                    record.value = Some(&value);
                }
                self.frame.push_after_hole(&mut next, &record);
            }
            let sealed = self.frame.seal_as(&frame.header);
            let header = FrameHeader::parse(sealed).map_err(|error| {
                Error::new(ErrorKind::Corrupt, format!("topic {}: a frame is too large", self.wire.topic))
                    .with_source(error)
            })?;
            into.frames.push((header, into.bytes.len()));
            into.bytes.extend_from_slice(&sealed[sealed.len() - (header.len - crate::record::HEADER_LEN)..]);
        }
        Ok(())
    }
}

/// Appends single objects in the format of their topic.
struct WireProducer {
    inner: Box<dyn Producer>,
    converter: Converter,
}

#[async_trait]
impl Producer for WireProducer {
    async fn append(
        &mut self,
        to: &TopicPartition,
        frame: &mut FrameBuilder,
        sequence: Option<u64>,
    ) -> Result<Appended> {
        self.inner.append(to, self.converter.convert(to, frame)?, sequence).await
    }

    async fn append_at(&mut self, to: &TopicPartition, frame: &mut FrameBuilder, offset: u64) -> Result<Appended> {
        self.inner.append_at(to, self.converter.convert(to, frame)?, offset).await
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner.flush().await
    }
}

/// Opens transactions that append single objects in the format of their topic.
#[derive(Debug)]
struct WireTransactions {
    inner: Arc<dyn Transactions>,
    replay: Arc<WireReplay>,
}

#[async_trait]
impl Transactions for WireTransactions {
    async fn open(&self, name: &str) -> Result<Box<dyn Transaction>> {
        let inner = self.inner.open(name).await?;
        Ok(Box::new(WireTransaction { inner, converter: Converter::new(self.replay.clone()) }))
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
        self.inner.append(to, self.converter.convert(to, frame)?).await
    }

    async fn commit(
        &mut self,
        group: &Membership,
        positions: &[(TopicPartition, u64)],
    ) -> Result<Vec<(TopicPartition, u64)>> {
        self.inner.commit(group, positions).await
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

    /// The records in the topic's format; the frame itself where they go as they are.
    fn convert<'a>(&'a mut self, to: &TopicPartition, frame: &'a mut FrameBuilder) -> Result<&'a mut FrameBuilder> {
        if !self.forms.contains_key(&to.topic) {
            self.forms.insert(to.topic.clone(), self.replay.form(&to.topic)?);
        }
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
