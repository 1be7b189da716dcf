//! Mends what can be mended: a torn tail is cut, indexes are made anew, and damaged frames are taken out, each file
//! only after a copy of it was kept.
//!
//! Where frames were taken out one of kind 2 takes their room: its sequence is the offset after the last record that
//! was lost. Bytes and offsets behind it keep their places, so that positions and whatever else names them stay right.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::LogOptions;
use super::files::{create_folder, io_error, names_in, read_if_there, replace, sync_folder};
use super::index::index_path;
use super::partition::start_of;
use super::position;
use super::recovery::recover;
use super::scan::Hole;
use super::segment::{Ends, KIND_LOST, SEGMENT_HEADER_LEN, SegmentHeader, producers_frame};
use super::shared::EndPage;
use super::survey::{Held, Survey, Surveyed};
use super::topic::Topics;
use super::verify::{Only, gap_behind, lost_until, wrong_entry};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameBuilder, HEADER_LEN, MAX_FRAME_LEN};
use crate::topic::{Cleanup, TopicPartition};

/// One thing that was done, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    /// The partition.
    pub place: TopicPartition,
    /// The file.
    pub file: PathBuf,
    /// What was done to it, or why nothing was.
    pub what: String,
    /// The copy of the file as it was, if it was changed.
    pub copy: Option<PathBuf>,
    /// Offsets of the records that were given up: the first, and the one after the last.
    pub lost: Option<(u64, u64)>,
    /// Whether it is as it should be now.
    pub done: bool,
}

/// Mends the partitions that are meant. Each must be in nobody's use.
pub fn repair(options: &LogOptions, only: Only<'_>) -> Result<Vec<Mended>> {
    let (disk, dir) = (&options.disk, &options.data_dir);
    let topics = Topics::of(disk, dir);
    let mut mended = Vec::new();
    let mut known = false;
    for name in names_in(disk, &dir.join("topics"))? {
        if only.topic.is_some_and(|only| only != name) {
            continue;
        }
        known = true;
        let spec = topics.read(&name)?.spec;
        for partition in (0..spec.partitions).filter(|partition| only.has(&name, *partition)) {
            let place = TopicPartition::new(name.as_str(), partition);
            let folder = dir.join("topics").join(&name).join(partition.to_string());
            let mut mending = Mending {
                disk,
                side: Side { disk, data_dir: dir, folder: None },
                folder: &folder,
                place: &place,
                is_changelog: spec.internal && spec.settings.cleanup == Cleanup::Compact,
                segment_bytes: spec.settings.segment_bytes.unwrap_or(options.segment_bytes),
                mended: &mut mended,
            };
            mending.run().map_err(|error| error.at(&place))?;
            mending.positions(&dir.join("groups"))?;
        }
    }
    match only.topic.filter(|_| !known) {
        Some(topic) => Err(Error::new(ErrorKind::NotFound, format!("topic {topic} does not exist"))),
        None => Ok(mended),
    }
}

/// Where copies are kept: a new folder for each partition that is repaired.
struct Side<'a> {
    disk: &'a Disk,
    data_dir: &'a Path,
    folder: Option<PathBuf>,
}

impl Side<'_> {
    /// Copies a file, durably, and returns where to.
    fn keep(&mut self, place: &TopicPartition, file: &Path) -> Result<PathBuf> {
        let folder = match &self.folder {
            Some(folder) => folder,
            None => {
                let damaged = self.data_dir.join("damaged");
                create_folder(self.disk, &damaged)?;
                sync_folder(self.disk, self.data_dir)?;
                let last = names_in(self.disk, &damaged)?.iter().filter_map(|name| name.parse::<u64>().ok()).max();
                let folder =
                    damaged.join(format!("{:04}", last.unwrap_or(0) + 1)).join(place.to_string().replace('/', "-"));
                create_folder(self.disk, &folder)?;
                sync_folder(self.disk, &damaged)?;
                if let Some(number) = folder.parent() {
                    sync_folder(self.disk, number)?;
                }
                self.folder.insert(folder)
            }
        };
        let copy = folder.join(file.file_name().unwrap_or_default());
        if read_if_there(self.disk, &copy)?.is_some() {
            // It is changed a second time, and was kept as it was before the first.
            return Ok(copy);
        }
        let content = read_if_there(self.disk, file)?.unwrap_or_default();
        replace(self.disk, &copy, &content)?;
        Ok(copy)
    }
}

/// One partition under repair.
struct Mending<'a> {
    disk: &'a Disk,
    side: Side<'a>,
    folder: &'a Path,
    place: &'a TopicPartition,
    /// Its records are changes of state: without some of them the state would be wrong without a word.
    is_changelog: bool,
    /// Bytes at which a segment is full.
    segment_bytes: u64,
    mended: &'a mut Vec<Mended>,
}

impl Mending<'_> {
    fn run(&mut self) -> Result<()> {
        let held = Held::take(self.disk, self.folder, self.place)?;
        if held.is_in_use() {
            return Err(Error::new(ErrorKind::Conflict, "a process uses the partition; stop it, then repair"));
        }
        let mut survey = Survey::take(self.disk, self.folder, &held)?;
        if !survey.unread.is_empty() {
            self.headers(&survey)?;
            survey = Survey::take(self.disk, self.folder, &held)?;
        }
        let mut hopeless = !survey.unread.is_empty();
        for (i, surveyed) in survey.segments.iter().enumerate() {
            hopeless |= !self.frames(&survey, surveyed)?;
            if let Some(error) = gap_behind(&survey, i) {
                self.refused(&surveyed.segment.path, error.to_string());
                hopeless = true;
            }
        }
        // What is left is a torn tail at most; the one way to cut it is the one of every opening.
        if !hopeless && let Some(page) = held.any_page() {
            self.tail(page, &survey)?;
        }
        self.indexes(&held)
    }

    fn done(&mut self, file: &Path, what: String, copy: Option<PathBuf>, lost: Option<(u64, u64)>) {
        self.mended.push(Mended { place: self.place.clone(), file: file.to_owned(), what, copy, lost, done: true });
    }

    fn refused(&mut self, file: &Path, what: String) {
        let refused = Mended {
            place: self.place.clone(),
            file: file.to_owned(),
            what: format!("not repaired: {what}; restore the file from a copy"),
            copy: None,
            lost: None,
            done: false,
        };
        self.mended.push(refused);
    }

    /// Writes headers anew where the segment before tells what was in them.
    fn headers(&mut self, survey: &Survey) -> Result<()> {
        for (name, error) in &survey.unread {
            let (base, path) = (name.base, name.path(self.folder));
            let before = survey.segments.iter().rev().find(|other| other.segment.base < base);
            // Of a compacted one only the segment behind it tells where its bytes end.
            let after = survey.segments.iter().find(|other| Some(other.segment.base) == name.end);
            let ends = after.map(|after| Ends { offset: after.segment.base, pos: after.segment.start });
            let start = match before {
                _ if name.end.is_some() && ends.is_none() => None,
                None if base == 0 => Some((0, 0)),
                Some(before) if before.scanned.offset == base && before.scanned.holes.is_empty() => {
                    let start = before.segment.ends.map_or(before.segment.start + before.scanned.at, |ends| ends.pos);
                    Some((start, before.scanned.durable))
                }
                _ => None,
            };
            if error.kind() != ErrorKind::Corrupt {
                self.refused(&path, error.to_string());
                continue;
            }
            let mut content = read_if_there(self.disk, &path)?.unwrap_or_default();
            let (Some((start, durable)), true) = (start, content.len() > SEGMENT_HEADER_LEN as usize) else {
                self.refused(&path, format!("{error}, and nothing tells what its header said"));
                continue;
            };
            let copy = self.side.keep(self.place, &path)?;
            let header = SegmentHeader { base, start, durable, created_ms: 0, ends };
            content[..SEGMENT_HEADER_LEN as usize].copy_from_slice(&header.bytes());
            replace(self.disk, &path, &content)?;
            self.done(&path, "its header was written anew".to_owned(), Some(copy), None);
        }
        Ok(())
    }

    /// Takes out the damaged frames of a segment; `false` where some damage must stay.
    fn frames(&mut self, survey: &Survey, surveyed: &Surveyed) -> Result<bool> {
        let segment = &surveyed.segment;
        let damaged = |hole: &&Hole| survey.was_durable(segment, hole);
        let holes: Vec<&Hole> = surveyed.scanned.holes.iter().filter(damaged).collect();
        if holes.is_empty() {
            return Ok(true);
        }
        if self.is_changelog {
            let why = "its records are changes of state, and without some of them tables would be wrong without a word: \
                       `reset` the agent, which drops the state and computes it again";
            self.refused(&segment.path, why.to_owned());
            return Ok(false);
        }
        let mut content = read_if_there(self.disk, &segment.path)?.unwrap_or_default();
        let mut lost = Vec::new();
        for hole in holes {
            let until = lost_until(survey, surveyed, hole);
            let to = match hole.next {
                Some(_) => hole.to,
                None if surveyed.complete => surveyed.limit,
                // The page says where the last record that was durable ended.
                None => survey.noted.0.saturating_sub(segment.start),
            };
            let fits = to > hole.from && to - hole.from <= self.longest(survey)?;
            if fits && (content.len() < to as usize || hole.next.is_none()) {
                content.resize(to as usize, 0);
            }
            let room = content.get_mut(hole.from as usize..to as usize).filter(|_| fits);
            let filled = until.zip(room).is_some_and(|(until, room)| fill(room, surveyed, hole, until));
            let Some(until) = until.filter(|_| filled) else {
                let why = format!("at byte {} {}, and nothing tells where it ends", hole.from, hole.why);
                self.refused(&segment.path, why);
                return Ok(false);
            };
            lost.push((hole.offset, until));
        }
        let copy = self.side.keep(self.place, &segment.path)?;
        replace(self.disk, &segment.path, &content)?;
        for (from, until) in lost {
            let (what, lost) = match until - from {
                0 => ("its list of producers, or what belonged to no record, was written anew".to_owned(), None),
                1 => (format!("the damaged record at offset {from} was taken out"), Some((from, until))),
                _ => (
                    format!("the damaged records at offsets {from} to {} were taken out", until - 1),
                    Some((from, until)),
                ),
            };
            self.done(&segment.path, what, Some(copy.clone()), lost);
        }
        Ok(true)
    }

    /// More than this is no piece of a file that was there, whatever headers say.
    fn longest(&self, survey: &Survey) -> Result<u64> {
        let mut longest = self.segment_bytes;
        for surveyed in &survey.segments {
            longest = longest.max(surveyed.segment.len()?);
        }
        Ok(longest.saturating_add(MAX_FRAME_LEN as u64))
    }

    /// Cuts what is torn, as opening does, and says from which offset on.
    fn tail(&mut self, page: &EndPage, survey: &Survey) -> Result<()> {
        if let Some(path) = &survey.unwritten {
            let copy = self.side.keep(self.place, path)?;
            let end = self.open_anew(page)?;
            let what = format!("its beginning was written; the partition ends before offset {end}");
            self.done(path, what, Some(copy), None);
            return Ok(());
        }
        let torn = survey.segments.iter().find_map(|surveyed| {
            let torn = |hole: &&Hole| !survey.was_durable(&surveyed.segment, hole);
            let hole = surveyed.scanned.holes.iter().find(torn)?;
            (!surveyed.is_reserved(hole)).then_some((surveyed, hole))
        });
        let Some((surveyed, hole)) = torn else { return Ok(()) };
        let mut copies = Vec::new();
        for later in survey.segments.iter().filter(|later| later.segment.base >= surveyed.segment.base) {
            copies.push(self.side.keep(self.place, &later.segment.path)?);
        }
        let end = self.open_anew(page)?;
        let what = format!("a torn tail was cut at byte {}; the partition ends before offset {end}", hole.from);
        self.done(&surveyed.segment.path, what, copies.into_iter().next(), None);
        Ok(())
    }

    /// Does what whoever opens the partition does, and returns the offset that it ends before.
    fn open_anew(&self, page: &EndPage) -> Result<u64> {
        // As after a restart of the machine: every segment that can be torn is looked at.
        let found = recover(self.disk, self.folder, page, false)?;
        page.reset(self.disk.boot(), start_of(self.disk, self.folder)?, found.end, found.durable);
        Ok(found.end.offset)
    }

    fn indexes(&mut self, held: &Held) -> Result<()> {
        for surveyed in Survey::take(self.disk, self.folder, held)?.segments {
            let path = index_path(&surveyed.segment.path);
            let Some(have) = read_if_there(self.disk, &path)? else { continue };
            if wrong_entry(&have, &surveyed.scanned.index).is_some() {
                replace(self.disk, &path, &surveyed.scanned.index)?;
                self.done(&path, "the index was made anew".to_owned(), None, None);
            }
        }
        Ok(())
    }

    /// Sets positions aside that cannot be read: they are for people, commits have their own.
    fn positions(&mut self, groups: &Path) -> Result<()> {
        for group in names_in(self.disk, groups)? {
            let path = position::position_path(&groups.join(&group), self.place)?;
            let damaged = position::read(self.disk, &path).is_err_and(|error| error.kind() == ErrorKind::Corrupt);
            if damaged {
                let copy = self.side.keep(self.place, &path)?;
                self.disk.remove(&path).map_err(|error| io_error("remove", &path, error))?;
                self.done(&path, format!("the position of group {group} was forgotten"), Some(copy), None);
            }
        }
        Ok(())
    }
}

/// A frame with bytes behind its last record that belong to none.
fn padded(mut frame: Vec<u8>, len: usize) -> Vec<u8> {
    frame.resize(len, 0);
    frame[..4].copy_from_slice(&((len - 8) as u32).to_le_bytes());
    let crc = crc32c::crc32c(&frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Puts into the room that a hole has what says which records are lost; `false` where nothing fits there.
fn fill(mut room: &mut [u8], surveyed: &Surveyed, hole: &Hole, until: u64) -> bool {
    let segment = &surveyed.segment;
    if hole.from <= SEGMENT_HEADER_LEN {
        let producers = match &surveyed.producers {
            Some(known) => known,
            // Nobody asks what was compacted for producers: there is a list behind it, and the last segment never is.
            None if segment.ends.is_some() => &BTreeMap::new(),
            None => return false,
        };
        let list = producers_frame(producers, segment.base, segment.durable);
        let Some(left) = room.len().checked_sub(list.len()) else { return false };
        if left > 0 && left < HEADER_LEN {
            // Shorter than the one that was there, and nothing else fits behind it.
            room.copy_from_slice(&padded(list, room.len()));
            return until == hole.offset;
        }
        let (head, rest) = room.split_at_mut(list.len());
        head.copy_from_slice(&list);
        room = rest;
    }
    // Without a frame of its own nothing says that records are missing.
    let mut says_so = until == hole.offset;
    while !room.is_empty() {
        let len = match room.len() {
            len @ ..=MAX_FRAME_LEN => len,
            // What is left must have room for a header, too.
            _ => MAX_FRAME_LEN - HEADER_LEN,
        };
        if len < HEADER_LEN {
            return false;
        }
        let (piece, rest) = room.split_at_mut(len);
        let next = if rest.is_empty() { until } else { hole.offset };
        says_so |= rest.is_empty();
        piece.copy_from_slice(FrameBuilder::padding(len).seal(KIND_LOST, hole.offset, 0, next, 0));
        room = rest;
    }
    says_so
}
