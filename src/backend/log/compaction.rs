//! Compaction: segments are written anew without the records that later ones have taken the place of.
//!
//! What stays of a group of segments goes into a file under another name, which is synced and then gets its own. From
//! that moment on it takes the place of the whole group, see [`segment_name`](super::segment_name), so that a crash leaves
//! the old or the new at every step. The files of the group are removed when the new name is durable.
//!
//! Frames of the new segment stand for the same offsets as those that they come from, with holes. Nothing changes for
//! whoever reads them but the records.

use std::path::Path;
use std::sync::Arc;

use super::cleaning::{Closed, remove_segment};
use super::descriptors::READER_FILES;
use super::files::{io_error, remove_if_there};
use super::index::index_path;
use super::partition::Partition;
use super::reader::LogReader;
use super::segment::{Ends, KIND_PRODUCERS, SEGMENT_HEADER_LEN, Segment, SegmentHeader};
use super::segment_name::SegmentName;
use super::topic::note_compaction;
use crate::backend::{Cleaned, Compaction, Reader, Stays};
use crate::disk::{DiskFile, Open};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{Frame, FrameBuilder, FrameHeader, Frames, HEADER_LEN, RawRecord};

/// Frames are put together up to this size.
const FRAME_BYTES: usize = 256 << 10;

/// A frame that has become this large ends between two records, far below the largest that is read.
const SPLIT_BYTES: usize = 16 << 20;

/// What is compacted, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) partition: &'a Arc<Partition>,
    /// However little has come since the last time.
    pub(super) thorough: bool,
    pub(super) now: i64,
    /// How long tombstones stay.
    pub(super) tombstones_ms: i64,
}

/// Compacts closed segments, the oldest first.
pub(super) fn compact(scope: &Scope<'_>, closed: &[Closed], mut rules: Box<dyn Compaction>) -> Result<Cleaned> {
    let fresh = |segment: &Closed| segment.header.ends.is_none();
    let clean = closed.iter().position(fresh).unwrap_or(closed.len());
    let bytes = |segments: &[Closed]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
    // To write everything anew for every few records would cost more than it frees.
    if closed.is_empty() || !scope.thorough && bytes(&closed[clean..]) <= bytes(&closed[..clean]) {
        return Ok(Cleaned::default());
    }
    let mut noted = clean;
    for segment in &closed[clean..] {
        if noted > clean && !rules.has_room() {
            break;
        }
        for_each_frame(scope, segment, |frame| match fresh(segment) {
            true => frame.records().try_for_each(|record| rules.note(&record)),
            false => Ok(()),
        })?;
        noted += 1;
    }
    let Some(last) = closed[..noted].last() else { return Ok(Cleaned::default()) };
    if !look_ahead(scope, last.ends.offset, &mut *rules)? {
        return Ok(Cleaned::default());
    }
    if let Some(topic_folder) = scope.partition.folder.parent() {
        note_compaction(scope.partition.disk(), topic_folder)?;
    }
    let mut cleaned = Cleaned::default();
    let mut rest = &closed[..noted];
    while let Some(first) = rest.first() {
        let mut group = 1;
        let mut size = first.bytes;
        while rest.get(group).is_some_and(|next| size + next.bytes <= scope.partition.limits.segment_bytes()) {
            size += rest[group].bytes;
            group += 1;
        }
        cleaned += replace(scope, &rest[..group], &*rules)?;
        rest = &rest[group..];
    }
    let place = &scope.partition.place;
    tracing::info!(topic = %place.topic, partition = place.partition, to = last.ends.offset,
        records = cleaned.compacted_records, bytes = cleaned.freed_bytes, "compacted");
    Ok(cleaned)
}

/// Shows the rules what follows as long as they need it; `false` where it does not suffice.
fn look_ahead(scope: &Scope<'_>, from: u64, rules: &mut dyn Compaction) -> Result<bool> {
    if !rules.is_open() {
        return Ok(true);
    }
    let files = &scope.partition.common.files;
    let permit = files.take(READER_FILES).ok_or_else(|| files.exhausted())?;
    let mut reader = LogReader::new(Arc::clone(scope.partition), from, permit)?;
    let mut frames = Frames::default();
    while reader.read(&mut frames)? {
        for record in frames.iter().flat_map(|frame| frame.records()).filter(|record| record.offset >= from) {
            rules.look_ahead(&record)?;
            if !rules.is_open() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Walks over the frames with records of a closed segment.
fn for_each_frame(scope: &Scope<'_>, closed: &Closed, mut each: impl FnMut(&Frame<'_>) -> Result<()>) -> Result<()> {
    let segment = open(scope, closed.name)?;
    let mut result = Ok(());
    let walked = segment.walk(SEGMENT_HEADER_LEN, segment.len()?, closed.name.base, |frame, _| {
        if result.is_ok() && frame.header.kind == 0 {
            result = each(frame);
        }
    })?;
    result?;
    if walked.offset == closed.ends.offset {
        return Ok(());
    }
    let why = walked.stopped.map_or_else(|| "the file ends here".to_owned(), |why| why.to_string());
    Err(segment.corrupt(walked.at, &format!("{why}; records are lost: restore the file")).at_offset(walked.offset))
}

fn open(scope: &Scope<'_>, name: SegmentName) -> Result<Segment> {
    let folder = &scope.partition.folder;
    Segment::open(scope.partition.disk(), folder, name)?.ok_or_else(|| {
        let message = format!("somebody removes files from {}; stop it and try again", folder.display());
        Error::new(ErrorKind::Conflict, message)
    })
}

/// Puts one segment into the place of a group.
fn replace(scope: &Scope<'_>, group: &[Closed], rules: &dyn Compaction) -> Result<Cleaned> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(Cleaned::default()) };
    let (disk, folder) = (scope.partition.disk(), &scope.partition.folder);
    let name = SegmentName { base: first.name.base, end: Some(last.ends.offset) };
    let path = name.path(folder);
    let draft = path.with_extension("draft");
    let written = write(scope, group, rules, &draft).inspect_err(|_| {
        // It is of no use, and the next one removes what is left.
        let _ = disk.remove(&draft);
    })?;
    if written.gone == 0 && group.len() == 1 && first.header.ends.is_some() {
        remove_if_there(disk, &draft)?;
        return Ok(Cleaned::default());
    }
    // An index of the same name would be that of what is replaced.
    remove_if_there(disk, &index_path(&path))?;
    disk.rename(&draft, &path).map_err(|error| io_error("create", &path, error))?;
    // The group goes when the new name is sure to stay.
    scope.partition.sync_names()?;
    for segment in group.iter().filter(|segment| segment.name != name) {
        remove_segment(scope.partition, segment.name)?;
    }
    scope.partition.sync_names()?;
    let before: u64 = group.iter().map(|segment| segment.bytes).sum();
    Ok(Cleaned {
        compacted_records: written.gone,
        freed_bytes: before.saturating_sub(written.bytes),
        ..Cleaned::default()
    })
}

/// What became of a group.
struct Written {
    /// Records that are gone.
    gone: u64,
    bytes: u64,
}

/// Writes what stays of a group, durably.
fn write(scope: &Scope<'_>, group: &[Closed], rules: &dyn Compaction, draft: &Path) -> Result<Written> {
    let failed = |error| io_error("write", draft, error);
    let ends = group.last().map_or(Ends { offset: 0, pos: 0 }, |last| last.ends);
    let file = scope.partition.disk().open(draft, Open::Emptied).map_err(failed)?;
    let mut output = Output::new(file, group, ends)?;
    output.write(&control_frame(scope, &group[0])?).map_err(failed)?;
    let mut gone = 0;
    for segment in group {
        for_each_frame(scope, segment, |frame| {
            output.make_room(frame).map_err(failed)?;
            for record in frame.records() {
                match scope.stays(frame, &record, rules)? {
                    Some(tombstone_until) => output.push(&record, tombstone_until).map_err(failed)?,
                    None => gone += 1,
                }
            }
            Ok(())
        })?;
    }
    output.end_frame(ends.offset).map_err(failed)?;
    output.file.sync_all().map_err(failed)?;
    Ok(Written { gone, bytes: output.at })
}

impl Scope<'_> {
    /// `None` if a record goes; else until when it stays if it is a tombstone, and 0 if not.
    fn stays(&self, frame: &Frame<'_>, record: &RawRecord<'_>, rules: &dyn Compaction) -> Result<Option<i64>> {
        let compacted = frame.header.compacted;
        let until = match record.value {
            Some(_) => 0,
            None if compacted => frame.header.tombstones_until,
            None => self.now.saturating_add(self.tombstones_ms),
        };
        let over = record.value.is_none() && until <= self.now;
        Ok(match rules.stays(record, compacted)? {
            Stays::No => None,
            Stays::Yes if over => None,
            Stays::Yes | Stays::Always => Some(until),
        })
    }
}

/// The frame that lists producers, as the first segment of a group has it.
fn control_frame(scope: &Scope<'_>, first: &Closed) -> Result<Vec<u8>> {
    let segment = open(scope, first.name)?;
    let mut bytes = vec![0; HEADER_LEN];
    let read = |bytes: &mut [u8]| {
        let read = segment.file.read_exact_at(bytes, SEGMENT_HEADER_LEN);
        read.map_err(|error| io_error("read", &segment.path, error))
    };
    read(&mut bytes)?;
    let damaged = |why: &dyn std::fmt::Display| segment.corrupt(SEGMENT_HEADER_LEN, why);
    let header = FrameHeader::parse(&bytes).map_err(|error| damaged(&error))?;
    bytes.resize(header.len, 0);
    read(&mut bytes)?;
    match Frame::parse(&bytes).map_err(|error| damaged(&error))?.header.kind {
        KIND_PRODUCERS => Ok(bytes),
        _ => Err(damaged(&"its first frame does not list producers")),
    }
}

/// A segment that is being written.
struct Output {
    file: DiskFile,
    at: u64,
    frame: FrameBuilder,
    /// Offset that the frame begins at.
    base: u64,
    /// The offset after its last record.
    next: u64,
    /// Until when the frame's tombstones stay; 0 if it has none.
    tombstones_until: i64,
}

impl Output {
    fn new(file: DiskFile, group: &[Closed], ends: Ends) -> Result<Self> {
        let header = SegmentHeader { ends: Some(ends), ..group[0].header };
        let base = header.base;
        let mut output = Self { file, at: 0, frame: FrameBuilder::new(), base, next: base, tombstones_until: 0 };
        output.write(&header.bytes()).map_err(|error| Error::io("cannot write a compacted segment", error))?;
        Ok(output)
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Ends the frame if what comes next would make it too large.
    fn make_room(&mut self, next: &Frame<'_>) -> std::io::Result<()> {
        match !self.frame.is_empty() && self.frame.len() + next.payload.len() > FRAME_BYTES {
            true => self.end_frame(next.header.base_offset),
            false => Ok(()),
        }
    }

    fn push(&mut self, record: &RawRecord<'_>, tombstone_until: i64) -> std::io::Result<()> {
        let another = tombstone_until != 0 && self.tombstones_until != 0 && tombstone_until != self.tombstones_until;
        if another || self.frame.len() > SPLIT_BYTES {
            self.end_frame(record.offset)?;
        }
        if tombstone_until != 0 {
            self.tombstones_until = tombstone_until;
        }
        self.frame.push_after_hole(&mut self.next, record);
        Ok(())
    }

    /// Writes the frame, which stands for the offsets up to `end`.
    fn end_frame(&mut self, end: u64) -> std::io::Result<()> {
        if self.base < end {
            let bytes = self.frame.seal_compacted(self.base, end, self.tombstones_until);
            self.file.write_all_at(bytes, self.at)?;
            self.at += bytes.len() as u64;
        }
        self.frame.clear();
        (self.base, self.next, self.tombstones_until) = (end, end, 0);
        Ok(())
    }
}
