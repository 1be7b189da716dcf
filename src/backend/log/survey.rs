//! A partition looked at as a whole: its segments, what holds in them, and what is known to have been durable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::append_lock::lock_to_append;
use super::files::{open_if_there, try_lock};
use super::partition::users_path;
use super::recovery::note_sequences;
use super::scan::{Hole, Scanned, scan};
use super::segment::{SEGMENT_HEADER_LEN, Segment};
use super::segment_name::{SegmentName, segments_in};
use super::shared::EndPage;
use crate::disk::{Disk, DiskFile, PAGE_BYTES, Unlock};
use crate::error::{Error, ErrorKind, Result};
use crate::record::{FrameError, HEADER_LEN};
use crate::topic::TopicPartition;

/// A partition's files as they were found.
pub(super) struct Survey {
    pub(super) segments: Vec<Surveyed>,
    /// Segments that cannot be read: their header is damaged, or a newer release wrote them.
    pub(super) unread: Vec<(SegmentName, Error)>,
    /// The first segment, where a loss of power left its beginning out and nothing in it was ever durable: whoever opens
    /// the partition writes it, and until then nothing is looked at.
    pub(super) unwritten: Option<PathBuf>,
    /// Byte position and offset up to which the shared page says that records are durable.
    pub(super) noted: (u64, u64),
    /// The furthest byte position that a frame or a segment says was durable.
    pub(super) durable: u64,
    /// Whether a process reads or writes it; what lies behind the published end is not looked at then.
    pub(super) in_use: bool,
}

/// A segment as it was found.
pub(super) struct Surveyed {
    pub(super) segment: Segment,
    /// Byte of the file at which the next segment takes over, or what was published ends.
    pub(super) limit: u64,
    /// Whether another segment follows.
    pub(super) complete: bool,
    pub(super) scanned: Scanned,
    /// What was known of producers before it, where the segments before tell: every one since the first is there, and what
    /// was compacted, which says nothing of producers, has a list behind it.
    pub(super) producers: Option<BTreeMap<u64, u64>>,
}

impl Surveyed {
    /// Whether a hole is space that was reserved ahead. In a segment that another follows it is what a cut has left, by a
    /// process that was killed before it removed those behind.
    pub(super) fn is_reserved(&self, hole: &Hole) -> bool {
        hole.why == FrameError::Empty && hole.next.is_none() && !self.complete
    }
}

/// The locks of a partition, while nobody opens it.
pub(super) struct Held {
    page: Option<EndPage>,
    /// Held alone where nobody uses the partition.
    users: Option<Unlock<DiskFile>>,
    _append: Option<Unlock<DiskFile>>,
}

impl Held {
    /// Takes the append lock, so that nobody opens the partition meanwhile, and finds out whether somebody uses it. One
    /// that was never opened has no files to lock.
    pub(super) fn take(disk: &Disk, folder: &Path, place: &TopicPartition) -> Result<Self> {
        let append_path = folder.join("append.lock");
        let users_path = users_path(folder);
        let Some(append) = open_if_there(disk, &append_path)? else {
            return Ok(Self { page: None, users: None, _append: None });
        };
        lock_to_append(disk, place, &append, &append_path)?;
        let append = Unlock(append);
        let Some(users) = open_if_there(disk, &users_path)? else {
            return Ok(Self { page: None, users: None, _append: Some(append) });
        };
        let len = users.length().map_err(|error| super::files::io_error("look at", &users_path, error))?;
        let page = if len >= PAGE_BYTES as u64 { Some(EndPage::open(&users, &users_path)?) } else { None };
        let users = try_lock(&users, &users_path)?.then(|| Unlock(users));
        let in_use = users.is_none();
        // Those who use it go on to append.
        Ok(Self { page, users, _append: (!in_use).then_some(append) })
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.page.is_some() && self.users.is_none()
    }

    pub(super) fn page(&self) -> Option<&EndPage> {
        self.page.as_ref().filter(|page| page.is_initialised())
    }

    /// The page also where it says nothing: a loss of power takes what was not synced of it.
    pub(super) fn any_page(&self) -> Option<&EndPage> {
        self.page.as_ref()
    }
}

impl Survey {
    /// Looks at everything in a partition's folder.
    pub(super) fn take(disk: &Disk, folder: &Path, held: &Held) -> Result<Self> {
        let in_use = held.is_in_use();
        let end = held.page().map(EndPage::end);
        let noted = held.page().map_or((0, 0), EndPage::durable);
        let mut survey = Self { segments: Vec::new(), unread: Vec::new(), unwritten: None, noted, durable: 0, in_use };
        let names = segments_in(disk, folder)?;
        if !in_use && let Some((_, path)) = Segment::unwritten_first(disk, folder, &names, noted.0)? {
            survey.unwritten = Some(path);
            return Ok(survey);
        }
        let mut opened = Vec::new();
        for name in names {
            // Written by somebody who has not published it yet.
            if in_use && end.is_some_and(|end| name.base > end.segment_base) {
                continue;
            }
            match Segment::open(disk, folder, name) {
                Ok(Some(segment)) => opened.push(segment),
                // Gone since the folder was listed.
                Ok(None) => {}
                Err(error) => survey.unread.push((name, error)),
            }
        }
        let (mut producers, mut is_known) = (BTreeMap::new(), true);
        let mut segments = opened.into_iter().peekable();
        while let Some(segment) = segments.next() {
            let follows = survey.unread.iter().map(|(name, _)| name.base).find(|base| *base > segment.base);
            let next = segments.peek().filter(|next| follows.is_none_or(|unread| next.base < unread));
            let complete = next.is_some() || follows.is_some();
            let limit = match (next, end) {
                // What compaction wrote is as long as its file, and stands for more bytes than it has.
                _ if segment.ends.is_some() => segment.len()?,
                (Some(next), _) => next.start.saturating_sub(segment.start),
                (None, Some(end)) if in_use && end.segment_base == segment.base => {
                    end.pos.saturating_sub(segment.start)
                }
                _ => segment.len()?,
            };
            let known =
                segment.base == 0 || survey.segments.last().is_some_and(|before| before.scanned.offset == segment.base);
            let before = (known && is_known).then(|| producers.clone());
            let mut scanned = match scan(&segment, limit, |frame| note_sequences(&mut producers, frame)) {
                // A frame of a newer format. What it holds is not known, and what follows is not looked for.
                Err(error) if error.kind() == ErrorKind::Unsupported => {
                    let end = segment.ends.map(|ends| ends.offset);
                    survey.unread.push((SegmentName { base: segment.base, end }, error));
                    continue;
                }
                scanned => scanned?,
            };
            let has_list = scanned.holes.first().is_none_or(|hole| hole.from > SEGMENT_HEADER_LEN);
            is_known = (has_list || before.is_some()) && segment.ends.is_none();
            survey.durable = survey.durable.max(scanned.durable);
            // What compaction wrote is shorter than what it stands for, and never the last one.
            if !complete && segment.ends.is_none() && scanned.holes.last().is_none_or(|hole| hole.next.is_some()) {
                // A file that was cut between two frames has no damaged one to show for it.
                let (at, offset) = (scanned.at, scanned.offset);
                let why = FrameError::Short { have: 0, need: HEADER_LEN };
                let cut = Hole { from: at, to: at, why, offset, next: None };
                scanned.holes.extend((!in_use && survey.was_durable(&segment, &cut)).then_some(cut));
            }
            survey.segments.push(Surveyed { segment, limit, complete, scanned, producers: before });
        }
        Ok(survey)
    }

    /// Whether records that were durable are missing where a segment has a hole.
    pub(super) fn was_durable(&self, segment: &Segment, hole: &Hole) -> bool {
        let pos = segment.start + hole.from;
        let noted = self.noted.0 > pos && self.noted.1 > hole.offset;
        // A segment's first frame is durable before anything names the segment.
        self.in_use || self.durable > pos || noted || hole.from <= SEGMENT_HEADER_LEN
    }

    /// The offset after the last record that can be read.
    pub(super) fn end(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.scanned.offset)
    }
}
