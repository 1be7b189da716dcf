//! Opening a partition that nobody uses: where it ends, after whatever happened to its last writer.
//!
//! Frames are verified one by one; the partition ends before the first that does not hold. That is a torn tail, and
//! is cut, unless something that holds says that the bytes there had been synced: then records are lost, and it is an
//! error. What says so is a later frame or segment (each carries the position that was durable when it was written)
//! or the shared page.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::{io_error, open_if_there, sync_folder};
use super::scan::find_frame;
use super::segment::{KIND_PRODUCERS, SEGMENT_HEADER_LEN, Segment, Walked, offset_after, producers_in};
use super::segment_name::segments_in;
use super::shared::{End, EndPage};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Frame;

/// What a partition was found to be.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segment: Segment,
    pub(super) end: End,
    /// Byte position and offset that are known to be durable.
    pub(super) durable: (u64, u64),
    pub(super) sequences: BTreeMap<u64, u64>,
}

/// Finds the end of a partition and cuts what is torn. The caller holds the append lock and is the sole user.
///
/// `same_boot`: the page was written since the machine started, so only the last segment can be torn.
pub(super) fn recover(disk: &Disk, folder: &Path, page: &EndPage, same_boot: bool) -> Result<Recovered> {
    let noted = if page.is_initialised() { page.durable() } else { (0, 0) };
    // One that was killed in a sync may have been killed when it had failed, and before it could say so.
    let in_doubt = page.has_failed() || same_boot && (page.is_syncing() || page.is_rolling());
    if in_doubt {
        // Before anything is verified, so that what is found whole stays so.
        write_again(disk, folder, noted.0)?;
    }
    // After a failed sync everything that was not durable may be torn, whatever the page says.
    let segments = open_segments(disk, folder, same_boot && !in_doubt, noted.0)?;
    let mut found = Found::default();
    let mut walked = Vec::with_capacity(segments.len());
    for (i, segment) in segments.iter().enumerate() {
        found.durable_pos = found.durable_pos.max(segment.durable);
        let len = segments.get(i + 1).map_or(segment.len()?, |next| next.start.saturating_sub(segment.start));
        let at = segment.walk(SEGMENT_HEADER_LEN, len, segment.base, |frame, at| {
            found.note(frame);
            if segment.start + at + frame.header.len as u64 == noted.0 {
                found.noted = Some(offset_after(&frame.header));
            }
        })?;
        let whole = at.stopped.is_none() && segments.get(i + 1).is_none_or(|next| next.base == at.offset);
        walked.push(at);
        if !whole {
            break;
        }
    }
    let last = walked.len() - 1;
    let at = &walked[last];
    // Of the page's two numbers one alone beyond the end says nothing of records: it is damaged itself.
    let claimed = if noted.1 > at.offset { noted.0 } else { 0 };
    refuse_lost_records(&segments[last..], at, found.durable_pos.max(claimed))?;
    let first = (segments[0].start, segments[0].base);
    // What a failed sync holds for clean must be written again before a later one proves anything.
    cut(&segments[last..], at, disk, folder).inspect_err(|_| page.fail())?;
    let segment = segments.into_iter().nth(last).ok_or_else(|| no_segment(folder))?;
    let end =
        End { pos: segment.start + at.at, offset: at.offset, segment_base: segment.base, segment_start: segment.start };
    let durable = match found.noted {
        Some(offset) => (noted.0, offset),
        None if noted.0 <= first.0 => (noted.0, noted.1.min(first.1)),
        // Not where a frame ends: what the page says is not believed, and everything is synced anew.
        None => (0, 0),
    };
    if durable.0 > 0 && (!same_boot || in_doubt) {
        // Somebody may have been killed between a change of names and the sync of the folder: while a new segment was made,
        // which is the last one here, or while another recovery removed what it had cut. Records would be called durable in
        // a segment that a loss of power takes as a whole, or stand beside one that it brings back. Where nothing is durable
        // the first sync does it.
        sync_folder(disk, folder).inspect_err(|_| page.fail())?;
    }
    Ok(Recovered { segment, end, durable, sequences: found.sequences })
}

/// What the frames say.
#[derive(Debug, Default)]
struct Found {
    sequences: BTreeMap<u64, u64>,
    durable_pos: u64,
    /// The offset at the position that the page calls durable.
    noted: Option<u64>,
}

impl Found {
    fn note(&mut self, frame: &Frame<'_>) {
        note_sequences(&mut self.sequences, frame);
        self.durable_pos = self.durable_pos.max(frame.header.durable);
    }
}

/// Remembers what a frame says of producers.
pub(super) fn note_sequences(sequences: &mut BTreeMap<u64, u64>, frame: &Frame<'_>) {
    if frame.header.kind == KIND_PRODUCERS {
        sequences.extend(producers_in(frame));
    } else if frame.header.kind == 0 && frame.header.producer != 0 {
        let next = frame.header.sequence.saturating_add(frame.header.count.into());
        let known = sequences.entry(frame.header.producer).or_default();
        *known = next.max(*known);
    }
}

/// The segments that may be torn, in order: the last one, or those from the one on that holds the position which was
/// durable when the last was made. What compaction wrote is durable, and so is everything before it. A partition
/// without segments gets its first.
fn open_segments(disk: &Disk, folder: &Path, same_boot: bool, durable: u64) -> Result<Vec<Segment>> {
    let names = segments_in(disk, folder)?;
    if names.is_empty() {
        return Ok(vec![Segment::create_first(disk, folder)?]);
    }
    Segment::mend_first(disk, folder, &names, durable)?;
    let mut segments = Vec::new();
    for name in names.into_iter().rev() {
        if name.end.is_some() {
            break;
        }
        segments.push(Segment::open(disk, folder, name)?.ok_or_else(|| no_segment(folder))?);
        let durable = segments[0].durable;
        if same_boot || segments.last().is_some_and(|oldest| oldest.start <= durable) {
            break;
        }
    }
    if segments.is_empty() {
        let message = format!(
            "{} lacks the segment that follows what was compacted, so records are lost: restore the file",
            folder.display()
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    segments.reverse();
    Ok(segments)
}

fn no_segment(folder: &Path) -> Error {
    Error::new(ErrorKind::Conflict, format!("somebody removes files from {}; stop it and try again", folder.display()))
}

/// Fails where what would be cut is known to have been durable. `segments` begins with the damaged one.
fn refuse_lost_records(segments: &[Segment], at: &Walked, durable_pos: u64) -> Result<()> {
    let damaged = &segments[0];
    let pos = damaged.start + at.at;
    let why = at.stopped.as_ref().map_or_else(|| "the file ends here".to_owned(), ToString::to_string);
    let refuse = |who: String| {
        Err(damaged
            .corrupt(
                at.at,
                &format!(
                    "{why}; {who} says that these bytes had been written durably, so records are lost: restore the file"
                ),
            )
            .at_offset(at.offset))
    };
    // A segment and its first frame are durable before anything names them.
    if at.at <= SEGMENT_HEADER_LEN {
        return refuse("the segment's own header".into());
    }
    if durable_pos > pos {
        return refuse("a sync".into());
    }
    if at.stopped.is_none() && segments.len() > 1 {
        return refuse("the next segment, which begins at another offset,".into());
    }
    for (i, segment) in segments.iter().enumerate() {
        if i > 0 && segment.durable > pos {
            return refuse(segment.path.display().to_string());
        }
        let from = if i == 0 { at.at } else { SEGMENT_HEADER_LEN };
        if let Some(later) = claim_beyond(segment, from, pos, at.offset)? {
            return refuse(format!("the frame at byte {later} of {}", segment.path.display()));
        }
    }
    Ok(())
}

/// The byte of the first whole frame at or after `from` that says that more than `pos` was durable.
fn claim_beyond(segment: &Segment, from: u64, pos: u64, offset: u64) -> Result<Option<u64>> {
    let found = find_frame(segment, from, |header, at| {
        header.durable > pos && header.durable <= segment.start + at && offset_after(header) >= offset
    })?;
    Ok(found.map(|(at, _)| at))
}

/// Cuts the first of `segments` where it stops being whole, and removes those after it.
fn cut(segments: &[Segment], at: &Walked, disk: &Disk, folder: &Path) -> Result<()> {
    let Some((torn, later)) = segments.split_first() else { return Ok(()) };
    if let Some(why) = at.stopped.as_ref().filter(|_| torn.len().is_ok_and(|len| len > at.at)) {
        // Reserved space is zeroes and no news.
        if !matches!(why, crate::record::FrameError::Empty) {
            tracing::warn!(file = %torn.path.display(), byte = at.at, %why, "cut a torn tail");
        }
        torn.file.set_len(at.at).map_err(|error| io_error("cut", &torn.path, error))?;
        torn.file.sync_all().map_err(|error| io_error("sync", &torn.path, error))?;
    }
    for segment in later {
        tracing::warn!(file = %segment.path.display(), "removed a segment behind a torn tail");
        disk.remove(&segment.path).map_err(|error| io_error("remove", &segment.path, error))?;
    }
    if later.is_empty() { Ok(()) } else { sync_folder(disk, folder) }
}

/// Writes everything beyond a byte position again as it is.
///
/// After a failed sync the kernel may hold pages for clean that never reached the disk: the next sync would pass them
/// over and succeed, and until then they may be read from the disk again at any time.
fn write_again(disk: &Disk, folder: &Path, from: u64) -> Result<()> {
    for name in segments_in(disk, folder)?.into_iter().rev().take_while(|name| name.end.is_none()) {
        let path = name.path(folder);
        let file = open_if_there(disk, &path)?.ok_or_else(|| no_segment(folder))?;
        let to = file.length().map_err(|error| io_error("look at", &path, error))?;
        // Of one whose header does not hold everything; whoever reads it next reports the damage.
        let start = Segment::open(disk, folder, name).ok().flatten().map(|segment| segment.start);
        let mut at = start.map_or(0, |start| from.saturating_sub(start));
        let mut bytes = vec![0; to.saturating_sub(at).min(1 << 20) as usize];
        while at < to {
            let len = bytes.len().min((to - at) as usize);
            let piece = &mut bytes[..len];
            file.read_exact_at(piece, at).map_err(|error| io_error("read", &path, error))?;
            file.write_all_at(piece, at).map_err(|error| io_error("write", &path, error))?;
            at += len as u64;
        }
        if start.is_some_and(|start| start <= from) {
            break;
        }
    }
    Ok(())
}
