//! Names of segments' files, and which of them count.
//!
//! A segment as it was appended is called by its first offset, what compaction leaves of one or more by the offsets
//! from its first to that of the segment after it: `00000000000000000000-00000000000000004711.log`. It takes the place
//! of every segment that begins in between from the moment at which it has its name, and of those that nobody has removed
//! yet nothing is read.

use std::path::{Path, PathBuf};

use super::files::names_in;
use crate::disk::Disk;
use crate::error::Result;

/// The name of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentName {
    /// Offset of its first record.
    pub(super) base: u64,
    /// Of a compacted one, the offset after its last.
    pub(super) end: Option<u64>,
}

impl SegmentName {
    /// A segment as it is appended to.
    pub(super) fn appended(base: u64) -> Self {
        Self { base, end: None }
    }

    /// Its file.
    pub(super) fn path(self, folder: &Path) -> PathBuf {
        folder.join(match self.end {
            None => format!("{:020}.log", self.base),
            Some(end) => format!("{:020}-{end:020}.log", self.base),
        })
    }

    fn parse(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".log")?;
        match name.split_once('-') {
            None => Some(Self::appended(name.parse().ok()?)),
            Some((base, end)) => Some(Self { base: base.parse().ok()?, end: Some(end.parse().ok()?) }),
        }
    }
}

/// The segments of a partition.
#[derive(Debug, Default)]
pub(super) struct SegmentNames {
    /// Those that count, in order of offsets.
    pub(super) live: Vec<SegmentName>,
    /// Those that a compacted one has taken the place of.
    pub(super) replaced: Vec<SegmentName>,
}

impl SegmentNames {
    /// Looks at what is in a partition's folder.
    pub(super) fn list(disk: &Disk, folder: &Path) -> Result<Self> {
        Ok(Self::of(&names_in(disk, folder)?))
    }

    fn of(names: &[String]) -> Self {
        let mut all: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        // Of two that begin at one offset the one that reaches further counts.
        all.sort_by_key(|name| (name.base, std::cmp::Reverse(name.end)));
        let mut found = Self::default();
        let mut from = 0;
        for name in all {
            let replaced = name.base < from;
            if replaced { &mut found.replaced } else { &mut found.live }.push(name);
            from = from.max(name.end.unwrap_or(0));
        }
        found
    }

    /// The segment that holds an offset, or the first if it is before all.
    pub(super) fn holding(&self, offset: u64) -> Option<SegmentName> {
        self.live.iter().rev().find(|name| name.base <= offset).or(self.live.first()).copied()
    }
}

/// The segments of a partition that count, in order of offsets.
pub(super) fn segments_in(disk: &Disk, folder: &Path) -> Result<Vec<SegmentName>> {
    Ok(SegmentNames::list(disk, folder)?.live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[SegmentName]) -> String {
        let text = |name: &SegmentName| match name.end {
            None => name.base.to_string(),
            Some(end) => format!("{}-{end}", name.base),
        };
        list.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// Every state that a crash may leave, in whatever order names come and go.
    #[test]
    fn a_compacted_segment_takes_the_place_of_others_by_its_name() {
        for (there, live, replaced) in [
            ("0 10 20", "0 10 20", ""),
            ("0 0-20 10 20", "0-20 20", "0 10"),
            ("0-20 10 20", "0-20 20", "10"),
            ("0-20 0 20", "0-20 20", "0"),
            ("0-10 0-20 10-20 20", "0-20 20", "0-10 10-20"),
            ("0-10 10-20 0-30 15 20 30", "0-30 30", "0-10 10-20 15 20"),
            ("10 20", "10 20", ""),
            ("5-10 10", "5-10 10", ""),
        ] {
            let files: Vec<String> = there
                .split(' ')
                .map(|name| match name.split_once('-') {
                    None => format!("{:020}.log", name.parse::<u64>().unwrap()),
                    Some((a, b)) => {
                        format!("{:020}-{:020}.log", a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap())
                    }
                })
                .chain(["append.lock", "end", "00000000000000000000.index", "x.log"].map(Into::into))
                .collect();
            let found = SegmentNames::of(&files);
            assert_eq!((names(&found.live).as_str(), names(&found.replaced).as_str()), (live, replaced), "{there}");
        }
    }

    #[test]
    fn the_holder_of_an_offset_is_found() {
        let files = ["00000000000000000005-00000000000000000010.log", "00000000000000000010.log"].map(String::from);
        let found = SegmentNames::of(&files);
        for (offset, base) in [(0, 5), (5, 5), (9, 5), (10, 10), (99, 10)] {
            assert_eq!(found.holding(offset).unwrap().base, base, "{offset}");
        }
        assert_eq!(SegmentNames::default().holding(3), None);
    }
}
