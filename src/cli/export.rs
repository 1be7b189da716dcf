//! `read --format avro`: records as an object container file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::IsTerminal;

use super::args::{Codec, ReadArgs, ReadFormat};
use super::context::Context;
use super::failure::{Done, Failure};
use super::output::{counted, safe};
use super::values::Values;
use crate::record::{Compression, ContainerWriter, DynamicSchema, RawRecord, Translation};

/// A container that is being written: every value as the topic's newest schema has it.
pub(super) struct Export {
    compression: Compression,
    /// What all values become; the schema of the first one where the topic has none.
    schema: Option<DynamicSchema>,
    /// Collects blocks; what is in it goes to the standard output.
    writer: Option<ContainerWriter<Vec<u8>>>,
    translations: HashMap<u64, Translation>,
    datum: Vec<u8>,
    /// Records without a value, which a container cannot hold.
    empty: u64,
}

impl Export {
    /// Refuses what does not go together, before anything is opened.
    pub(super) fn check(context: &Context, args: &ReadArgs) -> Done {
        if args.format != ReadFormat::Avro {
            return match args.codec {
                Some(_) => Err(Failure::usage("--codec is for containers").help("add --format avro, or leave it out")),
                None => Ok(()),
            };
        }
        if context.out.json || args.keys {
            return Err(Failure::usage("a container holds the values alone, without JSON, keys and positions")
                .help("leave --json and --keys out, or read with --format avro-json"));
        }
        if std::io::stdout().is_terminal() {
            return Err(
                Failure::usage("a container is no text for a terminal").help("send it to a file: … > records.avro")
            );
        }
        Ok(())
    }

    pub(super) fn new(values: &Values, args: &ReadArgs) -> Self {
        let compression = match args.codec {
            Some(Codec::Null) => Compression::Null,
            Some(Codec::Deflate) | None => Compression::Deflate,
            Some(Codec::Snappy) => Compression::Snappy,
            Some(Codec::Zstandard) => Compression::Zstandard,
        };
        Self {
            compression,
            schema: values.schema.clone(),
            writer: None,
            translations: HashMap::new(),
            datum: Vec::new(),
            empty: 0,
        }
    }

    pub(super) fn push(
        &mut self,
        context: &mut Context,
        values: &mut Values,
        partition: u32,
        record: &RawRecord<'_>,
    ) -> Done {
        let Some(wire) = record.value else {
            self.empty += 1;
            return Ok(());
        };
        let topic = values.topic.clone();
        let at = |why: String| {
            Failure::new(format!("topic {topic}, partition {partition}, offset {}: {why}", record.offset))
        };
        let Some((schema, datum)) = values.split(wire).map_err(&at)? else {
            return Err(at("a plain value, without a schema; a container holds records".to_owned())
                .help("read it with --format json"));
        };
        let target = self.schema.get_or_insert_with(|| schema.clone());
        let translation = match self.translations.entry(schema.fingerprint()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Translation::compile(schema, target).map_err(|why| at(why.to_string()))?)
            }
        };
        self.datum.clear();
        translation.run(datum, &mut self.datum).map_err(|why| at(why.to_string()))?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(ContainerWriter::new(Vec::new(), target, self.compression)?),
        };
        writer.push(&self.datum)?;
        Self::hand_over(context, writer)
    }

    /// Ends the block, so that a follower has everything that there is.
    pub(super) fn flush(&mut self, context: &mut Context) -> Done {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.flush()?;
        Self::hand_over(context, writer)
    }

    fn hand_over(context: &mut Context, writer: &mut ContainerWriter<Vec<u8>>) -> Done {
        let written = writer.get_mut();
        context.out.bytes(written)?;
        written.clear();
        Ok(())
    }

    /// Ends the container; one without records has a schema all the same.
    pub(super) fn finish(mut self, context: &mut Context) -> Done {
        if self.writer.is_none() {
            let Some(schema) = &self.schema else {
                return Err(Failure::new("the topic has no schema and no records, so there is no container to write")
                    .help("read it with --format json"));
            };
            self.writer = Some(ContainerWriter::new(Vec::new(), schema, self.compression)?);
        }
        self.flush(context)?;
        if self.empty > 0 {
            let left_out = counted(self.empty, "record");
            tracing::warn!("{} without a value left out: a container cannot hold them", safe(&left_out));
        }
        Ok(())
    }
}
