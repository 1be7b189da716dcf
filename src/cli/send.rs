//! `send`: one record, or the rows of a file.

use std::io::Read;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{FileFormat, SendArgs};
use super::context::{Context, Store, unknown};
use super::failure::{Done, Failure};
use super::file::{MAX_ROW_BYTES, RecordFile, Rows};
use super::output::{counted, duration, grouped, iso, safe, thousandths};
use super::values::{Json, Values};
use crate::backend::Topic;
use crate::backend::{Need, ProducerId};
use crate::clock::Moment;
use crate::plan::topic_schema;
use crate::publish::{Published, Publisher};
use crate::record::{FrameBuilder, Frames, SINGLE_OBJECT_HEADER_LEN, oversize};
use crate::topic::{TopicPartition, TopicSpec, partition_of};

/// Files from this size on show a progress bar.
const SLOW_BYTES: u64 = 4 << 20;

pub(super) async fn run(context: &mut Context, args: SendArgs) -> Done {
    if args.value.is_none() && args.file.is_none() {
        return Err(Failure::usage(format!("there is nothing to send to {}", args.to))
            .help("give the record as JSON, - to read it from the standard input, or a file with --file"));
    }
    let json = match args.format {
        Some(FileFormat::AvroJson) => Json::Avro,
        Some(_) if args.file.is_none() => {
            return Err(
                Failure::usage("a single record is JSON").help("--format avro-json is the other form that it may have")
            );
        }
        _ => Json::People,
    };
    let began = context.clock.moment();
    let name = topic_name(context, &args.to)?;
    let store = context.open()?;
    let topic = ensure(context, &store, &name).await?;
    let values = Values::of(&topic, store.replay.clone())?;
    match &args.file {
        Some(path) => send_file(context, &store, &topic, &values, &args, path, began).await,
        None => send_one(context, &store, &topic, &values, &args, json).await,
    }
}

/// The topic that is meant: `@agent` is the topic that the agent reads.
fn topic_name(context: &Context, to: &str) -> Done<String> {
    let Some(agent) = to.strip_prefix('@') else { return Ok(to.to_owned()) };
    let agents = context.agents();
    let def = agents
        .iter()
        .find(|def| def.name == agent)
        .ok_or_else(|| unknown("agent", agent, agents.iter().map(|def| def.name)))?;
    match def.topics {
        [topic] => Ok((*topic).to_owned()),
        several => Err(Failure::usage(format!("agent {agent} reads several topics"))
            .help(format!("name one of them: {}", several.join(", ")))),
    }
}

/// The topic, made if an agent of the app reads it; it knows the schema that the app has for it.
async fn ensure(context: &Context, store: &Store, name: &str) -> Done<Topic> {
    let agents = context.agents();
    let Some(reader) = agents.iter().find(|def| def.topics.contains(&name)) else {
        return match store.topic(name).await {
            Ok(topic) => Ok(topic),
            Err(_) => {
                let mut known: Vec<String> =
                    agents.iter().flat_map(|def| def.topics).map(|name| (*name).to_owned()).collect();
                known.extend(
                    store
                        .topics()
                        .await?
                        .iter()
                        .filter(|topic| !topic.spec.internal)
                        .map(|topic| topic.spec.name.to_string()),
                );
                known.sort();
                known.dedup();
                Err(unknown("topic", name, known.iter().map(String::as_str)))
            }
        };
    };
    context.plan(store).await?;
    let topic = store.topic(name).await?;
    let Some(schema) = reader.input.map(topic_schema) else { return Ok(topic) };
    Ok(store.backend.create_topic(&TopicSpec { schema: Some(schema.clone()), ..topic.spec }).await.map(
        |mut topic| {
            topic.spec.schema = Some(schema);
            topic
        },
    )?)
}

async fn send_one(
    context: &mut Context,
    store: &Store,
    topic: &Topic,
    values: &Values,
    args: &SendArgs,
    json: Json,
) -> Done {
    let text = match args.value.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Failure::new(format!("cannot read the standard input: {error}")))?;
            text.trim_end_matches('\n').to_owned()
        }
        value => value.unwrap_or_default().to_owned(),
    };
    let wire = values.encode_text(&text, json).map_err(|why| {
        let failure = Failure::new(format!("this is not a {} for topic {}: {why}", values.describe(), values.topic));
        match &values.schema {
            Some(schema) => failure.help(format!("`{} model {}` shows its fields", context.program, schema.name())),
            None => failure,
        }
    })?;
    let most = store.backend.capabilities().max_record_bytes;
    let key = match &args.key {
        Some(key) => Some(values.parse_key(key).map_err(|why| Failure::usage(format!("--key {key}: {why}")))?),
        None => values.key_in(&wire).map_err(Failure::new)?,
    };
    if let Some(why) = oversize(key.as_deref(), Some(&wire), most) {
        return Err(Failure::new(format!("this record is too large for topic {}: {why}", values.topic)));
    }
    let partitions = topic.spec.partitions;
    if let (None, Some(field), None) = (&key, &values.key_field, args.partition) {
        return Err(Failure::new(format!("topic {} is keyed by {field}, and the record has none", values.topic))
            .help("give the record that field, or say --key"));
    }
    if let Some(partition) = args.partition.filter(|partition| *partition >= partitions) {
        return Err(Failure::usage(format!(
            "topic {} has no partition {partition}; it has 0 to {}",
            values.topic,
            partitions - 1
        )));
    }
    // Without a key any partition will do; the clock spreads them.
    let spread = context.clock.now_ms().unsigned_abs() % u64::from(partitions);
    let partition =
        args.partition.or_else(|| key.as_deref().map(|key| partition_of(key, partitions))).unwrap_or(spread as u32);
    append(context, store, TopicPartition::new(values.topic.clone(), partition), key.as_deref(), &wire, args.repeat)
        .await
}

/// Appends a record `repeat` times and says where each stands once all are durable.
async fn append(
    context: &mut Context,
    store: &Store,
    place: TopicPartition,
    key: Option<&[u8]>,
    wire: &[u8],
    repeat: u64,
) -> Done {
    let batch_bytes = store.backend.capabilities().batch_bytes;
    let mut producer = store.backend.producer(ProducerId::ANONYMOUS).await?;
    let mut frame = FrameBuilder::new();
    let mut appended = Vec::new();
    for sent in 1..=repeat {
        let timestamp = context.clock.now_ms();
        frame.push(key, Some(wire), timestamp);
        if sent == repeat || frame.len() >= batch_bytes {
            store.backend.check_room(Need::Publish).map_err(|error| error.at(&place))?;
            let base = producer.append(&place, &mut frame, None).await?.base_offset;
            appended.extend(frame.records().zip(base..).map(|(record, offset)| (offset, record.timestamp)));
            frame.clear();
        }
    }
    producer.flush().await?;
    for (offset, timestamp) in appended {
        let metadata = json!({
            "topic": &*place.topic, "partition": place.partition, "offset": offset, "timestamp": iso(timestamp),
        });
        context.out.json_line(&metadata)?;
    }
    Ok(())
}

async fn send_file(
    context: &mut Context,
    store: &Store,
    topic: &Topic,
    values: &Values,
    args: &SendArgs,
    path: &Path,
    began: Moment,
) -> Done {
    let most = context.settings.number("max_row_bytes").unwrap_or(MAX_ROW_BYTES);
    let mut file = RecordFile::open(path, args.format, values, most)?;
    let own_name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let name = args.producer.clone().unwrap_or(own_name);
    let bar = progress_bar(context, file.size);
    let mut publisher = Publisher::open(&store.backend, &values.topic, Some(&name)).await?;
    let mut published = Published::default();
    let mut rows = 0_u64;
    let mut sending = std::time::Duration::ZERO;
    loop {
        let piece = file.piece(values, &|position| bar.set_position(position))?;
        if piece.len() == 0 {
            break;
        }
        if rows == 0 {
            check_same_file(store, values, topic.spec.partitions, &name, &piece)?;
        }
        let timestamp = context.clock.now_ms();
        let from = context.clock.moment();
        for (key, value) in piece.iter() {
            publisher.push(key, Some(value), timestamp).await?;
        }
        published = publisher.flush().await?;
        sending += context.clock.moment().since(from);
        rows += piece.len() as u64;
    }
    bar.finish_and_clear();
    let total = context.clock.moment().since(began);
    tell(context, values, &name, rows, published, sending, total)
}

/// Refuses a file whose first rows are not those that the topic has under the same name: they would be dropped as
/// sent before, and were not.
fn check_same_file(store: &Store, values: &Values, partitions: u32, name: &str, rows: &Rows) -> Done {
    let id = ProducerId::named(name);
    for partition in 0..partitions {
        let place = TopicPartition::new(values.topic.clone(), partition);
        if store.replay.next_sequence(&place, id)? == 0 {
            continue;
        }
        let Some(Numbered { sequence, key, value }) = first_of(store, &place, id)? else { continue };
        // As `Publisher` spreads them: without a key they go round, from partition 1 on.
        let own = rows
            .iter()
            .zip((1..partitions).chain([0]).cycle())
            .filter(|((key, _), unkeyed)| key.map_or(*unkeyed, |key| partition_of(key, partitions)) == partition)
            .nth(sequence as usize);
        // Fewer rows than were sent before, or rows by another schema: no telling.
        let Some(((own_key, own_value), _)) = own else { continue };
        let other_schema = own_value.get(..SINGLE_OBJECT_HEADER_LEN) != value.get(..SINGLE_OBJECT_HEADER_LEN);
        if own_key.map(<[u8]>::to_vec) != key || (own_value != value && !(values.schema.is_some() && other_schema)) {
            return Err(Failure::new(format!(
                "topic {} has other rows from a file named {name:?}, so these would count as sent; nothing was sent",
                values.topic
            ))
            .help("if the rows are new, give them a name of their own: --producer NAME"));
        }
    }
    Ok(())
}

/// A record with its number in the producer's own count.
struct Numbered {
    sequence: u64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

/// The first record that a partition still has of a producer.
fn first_of(store: &Store, place: &TopicPartition, id: ProducerId) -> Done<Option<Numbered>> {
    let mut frames = Frames::default();
    let mut reader = store.replay.reader(place, store.replay.offsets(place)?.start)?;
    while reader.read(&mut frames)? {
        for frame in frames.iter().filter(|frame| frame.header.producer == id.0) {
            if let Some(record) = frame.records().next() {
                let key = record.key.map(<[u8]>::to_vec);
                let value = record.value.unwrap_or_default().to_vec();
                return Ok(Some(Numbered { sequence: frame.header.sequence, key, value }));
            }
        }
    }
    Ok(None)
}

fn tell(
    context: &mut Context,
    values: &Values,
    producer: &str,
    rows: u64,
    published: Published,
    sending: std::time::Duration,
    total: std::time::Duration,
) -> Done {
    let durable = match context.settings.text("durability") {
        Some("os") => "written",
        _ => "durable",
    };
    let rate = (published.added as f64 / sending.as_secs_f64().max(1e-9)) as u64;
    if context.out.json {
        let value = json!({
            "topic": &*values.topic, "producer": producer, "rows": rows, "added": published.added,
            "dropped": published.dropped, "send_ms": thousandths(sending),
            "total_ms": thousandths(total), "records_per_second": rate, "state": durable,
        });
        return Ok(context.out.json_line(&value)?);
    }
    if published.added > 0 || published.dropped == 0 {
        context.out.line(&format!(
            "{} to {} in {} ({durable}, {}/s); {} with reading and checking",
            counted(published.added, "record"),
            values.topic,
            duration(sending),
            grouped(rate),
            duration(total)
        ))?;
    }
    if published.dropped > 0 {
        let were = match published.dropped {
            1 if rows == 1 => "the row was".to_owned(),
            dropped if dropped == rows => format!("all {} were", counted(rows, "row")),
            dropped => format!("{} of {} were", grouped(dropped), counted(rows, "row")),
        };
        context.out.line(&safe(&format!(
            "{were} there already, sent before as {producer:?}; --producer with another name sends everything again"
        )))?;
    }
    Ok(())
}

fn progress_bar(context: &Context, size: u64) -> ProgressBar {
    if context.out.quiet || context.out.json || size < SLOW_BYTES {
        return ProgressBar::hidden();
    }
    // Drawn on the standard error, and only if that is a terminal.
    let bar = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    bar
}
