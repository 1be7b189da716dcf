//! `read`: the records of a topic, oldest first over all its partitions.

use futures::future::select_all;
use serde_json::{Map, Value, json};

use super::args::{From, ReadArgs, ReadFormat};
use super::context::{Context, Store};
use super::export::Export;
use super::failure::{Done, Failure};
use super::output::{iso, safe, safe_json};
use super::values::{Json, Values, hex, text_or_hex};
use crate::backend::{Reader, Topic};
use crate::error::Result;
use crate::record::{Cursor, Frames, RawRecord};
use crate::topic::TopicPartition;

/// One partition that is being read.
struct Lane {
    partition: u32,
    reader: Box<dyn Reader>,
    frames: Frames,
    cursor: Cursor,
    /// The first record that is wanted.
    from: u64,
    /// Where to stop; nowhere when following.
    end: Option<u64>,
}

impl Lane {
    /// The timestamp of the next record, if there is one.
    fn peek(&mut self) -> Result<Option<i64>> {
        loop {
            let mut cursor = self.cursor;
            while let Some(record) = cursor.next(&self.frames) {
                if self.end.is_some_and(|end| record.offset >= end) {
                    return Ok(None);
                }
                if record.offset >= self.from {
                    return Ok(Some(record.timestamp));
                }
                self.cursor = cursor;
            }
            if self.end.is_some_and(|end| self.reader.position() >= end) || !self.reader.read(&mut self.frames)? {
                return Ok(None);
            }
            self.cursor = Cursor::at_offset(&self.frames, self.from);
        }
    }

    fn take(&mut self) -> Option<RawRecord<'_>> {
        let record = self.cursor.next(&self.frames)?;
        self.from = record.offset + 1;
        Some(record)
    }
}

pub(super) async fn run(context: &mut Context, args: &ReadArgs) -> Done {
    if args.from == From::Latest && !args.follow {
        return Err(Failure::usage("nothing comes after the latest record unless you wait for it").help("add --follow"));
    }
    Export::check(context, args)?;
    let store = context.open_existing()?;
    let topic = store.topic(&args.topic).await?;
    let mut values = Values::of(&topic, store.replay.clone())?;
    values.also_ask(store.topics().await?.iter().map(|topic| topic.spec.name.clone()));
    let mut lanes = lanes(&store, &topic, args)?;
    let mut export = (args.format == ReadFormat::Avro).then(|| Export::new(&values, args));
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        match oldest(&mut lanes)? {
            Some(at) => {
                let lane = &mut lanes[at];
                let partition = lane.partition;
                if let Some(record) = lane.take() {
                    left -= 1;
                    match &mut export {
                        Some(export) => export.push(context, &mut values, partition, &record)?,
                        None => print(context, &mut values, args, partition, &record)?,
                    }
                }
            }
            None if args.follow => {
                if let Some(export) = &mut export {
                    export.flush(context)?;
                }
                context.out.flush()?;
                let (result, ..) = select_all(lanes.iter_mut().map(|lane| lane.reader.ready())).await;
                result?;
            }
            None => break,
        }
    }
    match export {
        Some(export) => export.finish(context),
        None => Ok(()),
    }
}

/// The lane with the oldest next record.
fn oldest(lanes: &mut [Lane]) -> Result<Option<usize>> {
    let mut oldest: Option<(i64, usize)> = None;
    for (at, lane) in lanes.iter_mut().enumerate() {
        if let Some(timestamp) = lane.peek()?
            && oldest.is_none_or(|(least, _)| timestamp < least)
        {
            oldest = Some((timestamp, at));
        }
    }
    Ok(oldest.map(|(_, at)| at))
}

fn lanes(store: &Store, topic: &Topic, args: &ReadArgs) -> Done<Vec<Lane>> {
    let partitions = topic.spec.partitions;
    let wanted = match args.partition {
        Some(partition) if partition >= partitions => {
            return Err(Failure::usage(format!(
                "topic {} has no partition {partition}; it has 0 to {}",
                topic.spec.name,
                partitions - 1
            )));
        }
        Some(partition) => partition..partition + 1,
        None => 0..partitions,
    };
    wanted
        .map(|partition| {
            let place = TopicPartition::new(topic.spec.name.clone(), partition);
            let offsets = store.replay.offsets(&place)?;
            let from = match args.from {
                From::Earliest => offsets.start,
                From::Latest => offsets.end,
                From::Offset(offset) => offset.clamp(offsets.start, offsets.end),
            };
            Ok(Lane {
                partition,
                reader: store.replay.reader(&place, from)?,
                frames: Frames::default(),
                cursor: Cursor::at_offset(&Frames::default(), from),
                from,
                end: (!args.follow).then_some(offsets.end),
            })
        })
        .collect()
}

fn print(context: &mut Context, values: &mut Values, args: &ReadArgs, partition: u32, record: &RawRecord<'_>) -> Done {
    let value = match record.value {
        None => Ok(Value::Null),
        Some(wire) => values.decode(wire, if args.format == ReadFormat::AvroJson { Json::Avro } else { Json::People }),
    };
    let key = record.key.map_or(Value::Null, |key| values.key_json(key));
    let headers: Map<String, Value> =
        record.headers.iter().map(|(name, value)| (name.to_owned(), text_or_hex(value))).collect();
    if context.out.json {
        let mut object = json!({
            "topic": &*values.topic, "partition": partition, "offset": record.offset,
            "timestamp": iso(record.timestamp), "key": key, "headers": headers,
        });
        match value {
            Ok(value) => object["value"] = value,
            Err(why) => {
                object["bytes"] = hex(record.value.unwrap_or_default()).into();
                object["error"] = why.into();
            }
        }
        return Ok(context.out.json_line(&object)?);
    }
    let value = match value {
        Ok(value) => safe_json(&value.to_string()).into_owned(),
        Err(why) => {
            tracing::warn!(partition, offset = record.offset, error = %safe(&why), "a value cannot be read; its bytes follow");
            hex(record.value.unwrap_or_default())
        }
    };
    if !args.keys {
        return Ok(context.out.line(&value)?);
    }
    let key = match &key {
        Value::String(text) => safe(text).into_owned(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut line = format!("{partition}/{}  {}  {key}  {value}", record.offset, iso(record.timestamp));
    if !headers.is_empty() {
        line.push_str("  ");
        line.push_str(&safe_json(&Value::Object(headers).to_string()));
    }
    Ok(context.out.line(&line)?)
}
