//! Looks at every file of a log and changes none: what is damaged, where, what it means, and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{names_in, read_if_there};
use super::index::index_path;
use super::partition::users_path;
use super::position;
use super::scan::Hole;
use super::segment::SEGMENT_HEADER_LEN;
use super::survey::{Held, Survey, Surveyed};
use super::topic::Topics;
use super::{LogOptions, has_format, time};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::topic::TopicPartition;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing that was durable is missing; the log puts it right by itself.
    Note,
    /// Something that was durable cannot be read.
    Damage,
    /// A newer release wrote it, and this one cannot read it.
    Newer,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The topic, if it is about one.
    pub topic: Option<Arc<str>>,
    /// The partition, if it is about one.
    pub partition: Option<u32>,
    /// The file.
    pub file: PathBuf,
    /// Byte of the file.
    pub byte: Option<u64>,
    /// The first offset that it is about.
    pub offset: Option<u64>,
    /// What it is and what it means.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What a log holds.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Partitions that were looked at.
    pub partitions: u64,
    /// Segments in them.
    pub segments: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Records in those.
    pub records: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Every partition with the offset after the last record that can be read.
    pub ends: Vec<(TopicPartition, u64)>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether anything that was durable cannot be read.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Note)
    }
}

/// Which partitions are meant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Only<'a> {
    /// This topic alone.
    pub topic: Option<&'a str>,
    /// This partition alone.
    pub partition: Option<u32>,
}

impl Only<'_> {
    pub(super) fn has(&self, topic: &str, partition: u32) -> bool {
        self.topic.is_none_or(|only| only == topic) && self.partition.is_none_or(|only| only == partition)
    }
}

const REPAIR: &str = "restore the file from a copy, or let `log repair` take out what is damaged";

/// Goes over segments, frames, indexes, topics, the positions of groups and the log's clock.
///
/// A partition that others use is looked at up to its published end; one that nobody uses cannot be opened meanwhile.
pub fn verify(options: &LogOptions, only: Only<'_>) -> Result<Report> {
    let (disk, dir) = (&options.disk, &options.data_dir);
    let mut report = Report::default();
    let format = dir.join("FORMAT");
    let missing = || Error::new(ErrorKind::Corrupt, "the file that names the format is missing");
    if let Err(error) = has_format(disk, &format).and_then(|there| if there { Ok(()) } else { Err(missing()) }) {
        report.findings.push(plain(format, &error, "write the version of the layout into it, which is 1"));
    }
    if let Err(error) = time::check(disk, &dir.join("time")) {
        let advice = "nothing, where the machine's clock is right: the file is made anew; else set the clock first, because \
                      what is deleted by age goes by it";
        let finding = plain(dir.join("time"), &error, advice);
        let newer = finding.severity == Severity::Newer;
        report.findings.push(if newer { finding } else { Finding { severity: Severity::Note, ..finding } });
    }
    let topics = Topics::of(disk, dir);
    let mut known = Vec::new();
    for name in names_in(disk, &dir.join("topics"))? {
        if only.topic.is_some_and(|only| only != name) {
            continue;
        }
        known.push(name.clone());
        let folder = dir.join("topics").join(&name);
        let partitions = match topics.read(&name) {
            Ok(topic) => {
                let unknown = match topics.read_id(&name) {
                    Ok((Some(_), _)) => None,
                    Ok((None, path)) => Some(Error::new(ErrorKind::Corrupt, format!("{} is damaged", path.display()))),
                    Err(error) => Some(error),
                };
                if let Some(error) = unknown {
                    let advice = "nothing: meanwhile the topic is not told from one of the same name that is made after it was \
                                  deleted; without the file agents take it for another one";
                    let finding =
                        Finding { topic: Some(name.as_str().into()), ..plain(folder.join("id"), &error, advice) };
                    report.findings.push(Finding { severity: Severity::Note, ..finding });
                }
                (0..topic.spec.partitions).collect()
            }
            Err(error) => {
                let advice = "restore topic.json and the folder schemas from a copy; records are not touched by it";
                report.findings.push(Finding {
                    topic: Some(name.as_str().into()),
                    ..plain(folder.join("topic.json"), &error, advice)
                });
                // What can be checked without is checked.
                partitions_in(disk, &folder)?
            }
        };
        for partition in partitions.into_iter().filter(|partition| only.has(&name, *partition)) {
            let place = TopicPartition::new(name.as_str(), partition);
            check_partition(disk, &folder.join(partition.to_string()), &place, &mut report)?;
        }
    }
    if let Some(topic) = only.topic.filter(|topic| !known.iter().any(|name| name == topic)) {
        return Err(Error::new(ErrorKind::NotFound, format!("topic {topic} does not exist")));
    }
    check_positions(disk, &dir.join("groups"), &mut report)?;
    Ok(report)
}

fn plain(file: PathBuf, error: &Error, advice: &str) -> Finding {
    let (severity, advice) = match error.kind() {
        // What an older one would make of it is worse than nothing.
        ErrorKind::Unsupported => (Severity::Newer, "use the release that wrote it"),
        _ => (Severity::Damage, advice),
    };
    let (what, advice) = (error.to_string(), advice.to_owned());
    Finding { severity, topic: None, partition: None, file, byte: None, offset: None, what, advice }
}

fn partitions_in(disk: &Disk, folder: &Path) -> Result<Vec<u32>> {
    let mut partitions: Vec<u32> = names_in(disk, folder)?.iter().filter_map(|name| name.parse().ok()).collect();
    partitions.sort_unstable();
    Ok(partitions)
}

fn check_partition(disk: &Disk, folder: &Path, place: &TopicPartition, report: &mut Report) -> Result<()> {
    report.partitions += 1;
    if !disk.is_folder(folder) {
        let error = Error::new(ErrorKind::Corrupt, "the partition's folder is gone, and its records with it");
        report
            .findings
            .push(at(place, plain(folder.to_owned(), &error, "restore it from a copy, or delete the topic")));
        return Ok(());
    }
    let held = match Held::take(disk, folder, place) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            report.findings.push(at(place, plain(users_path(folder), &error, "")));
            return Ok(());
        }
        held => held?,
    };
    let survey = Survey::take(disk, folder, &held)?;
    drop(held);
    for surveyed in &survey.segments {
        report.segments += 1;
        report.frames += surveyed.scanned.frames;
        report.records += surveyed.scanned.records;
        report.bytes += surveyed.segment.len()?;
    }
    // Where that is not known yet no position is beyond it.
    if survey.unwritten.is_none() {
        report.ends.push((place.clone(), survey.end()));
    }
    report.findings.extend(findings(disk, folder, &survey)?.into_iter().map(|finding| at(place, finding)));
    Ok(())
}

fn at(place: &TopicPartition, finding: Finding) -> Finding {
    Finding { topic: Some(place.topic.clone()), partition: Some(place.partition), ..finding }
}

/// What is wrong with a partition.
pub(super) fn findings(disk: &Disk, folder: &Path, survey: &Survey) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    if let Some(path) = &survey.unwritten {
        let what = "the beginning of the partition was not written before the machine stopped, and nothing in it was ever durable";
        let advice = "nothing: it is written when the partition is opened next, or by `log repair`";
        let note = plain(path.clone(), &Error::new(ErrorKind::Corrupt, what), advice);
        found.push(Finding { severity: Severity::Note, byte: Some(0), offset: Some(0), ..note });
    }
    for (name, error) in &survey.unread {
        let advice =
            "restore the file from a copy; `log repair` writes the header anew if the segment before it is there";
        found.push(Finding { byte: Some(0), offset: Some(name.base), ..plain(name.path(folder), error, advice) });
    }
    for (i, surveyed) in survey.segments.iter().enumerate() {
        for hole in &surveyed.scanned.holes {
            found.extend(of_hole(survey, surveyed, hole));
        }
        if let Some(error) = gap_behind(survey, i) {
            let advice = "restore what is missing or wrong from a copy";
            let offset = Some(surveyed.scanned.offset);
            found.push(Finding { offset, ..plain(surveyed.segment.path.clone(), &error, advice) });
        }
        found.extend(of_index(disk, surveyed)?);
    }
    Ok(found)
}

/// What is missing between a segment, in which nothing is damaged, and the next.
pub(super) fn gap_behind(survey: &Survey, i: usize) -> Option<Error> {
    let before = survey.segments.get(i)?;
    let Some(next) = survey.segments.get(i + 1) else {
        let ends = before.segment.ends.filter(|_| survey.unread.is_empty())?;
        let what = format!("the segment that follows it, from offset {} on, is missing", ends.offset);
        return Some(Error::new(ErrorKind::Corrupt, what));
    };
    if !survey.unread.is_empty() || before.scanned.holes.last().is_some_and(|hole| hole.next.is_none()) {
        return None;
    }
    let (ends, begins) = (before.scanned.offset, next.segment.base);
    let what = match before.segment.ends {
        _ if ends != begins => {
            format!("it ends before offset {ends}, and the next segment begins at {begins}: a segment is missing")
        }
        Some(to) if to.pos != next.segment.start => format!(
            "it stands for what was written up to byte {} of the partition, and the next segment begins at byte {}: one of \
             their headers is wrong",
            to.pos, next.segment.start
        ),
        _ => return None,
    };
    Some(Error::new(ErrorKind::Corrupt, what))
}

/// What a hole means; nothing where it is space that was reserved ahead.
fn of_hole(survey: &Survey, surveyed: &Surveyed, hole: &Hole) -> Option<Finding> {
    let segment = &surveyed.segment;
    let durable = survey.was_durable(segment, hole);
    let finding = |severity, what: String, advice: &str| {
        Some(Finding {
            severity,
            topic: None,
            partition: None,
            file: segment.path.clone(),
            byte: Some(hole.from),
            offset: Some(hole.offset),
            what: format!("{}: {what}", hole.why),
            advice: advice.to_owned(),
        })
    };
    let lost = match lost_until(survey, surveyed, hole) {
        Some(until) if until == hole.offset && hole.from <= SEGMENT_HEADER_LEN => {
            "the list of producers cannot be read; no record is missing".to_owned()
        }
        Some(until) if until == hole.offset => "no record is missing".to_owned(),
        Some(until) if until == hole.offset + 1 => format!("the record at offset {} is lost", hole.offset),
        Some(until) => format!("the records at offsets {} to {} are lost", hole.offset, until - 1),
        None if surveyed.complete => {
            "a frame before it counts on beyond where the next segment begins, so nothing tells what is lost".to_owned()
        }
        None => format!("all records from offset {} on are lost", hole.offset),
    };
    if durable {
        return finding(Severity::Damage, lost, REPAIR);
    }
    if surveyed.is_reserved(hole) {
        return None;
    }
    let what = "a torn tail, which was never durable and never acknowledged as such".to_owned();
    finding(Severity::Note, what, "nothing: it is cut when the partition is opened next, or by `log repair`")
}

/// The offset after the last record that a hole has swallowed, where anything tells.
pub(super) fn lost_until(survey: &Survey, surveyed: &Surveyed, hole: &Hole) -> Option<u64> {
    let next_segment = survey.segments.iter().find(|other| other.segment.base > surveyed.segment.base);
    let noted = Some(survey.noted.1).filter(|noted| !surveyed.complete && *noted > hole.offset);
    let until = hole.next.or(next_segment.filter(|_| surveyed.complete).map(|next| next.segment.base)).or(noted);
    // Frames that count on beyond the segment that follows are damage, too, though their checksums are right.
    until.filter(|until| *until >= hole.offset)
}

fn of_index(disk: &Disk, surveyed: &Surveyed) -> Result<Option<Finding>> {
    // Behind a damaged frame the entries that a scan makes stand elsewhere; `log repair` looks at the index once more.
    if surveyed.scanned.holes.iter().any(|hole| hole.next.is_some()) {
        return Ok(None);
    }
    let path = index_path(&surveyed.segment.path);
    let Some(have) = read_if_there(disk, &path)? else { return Ok(None) };
    let Some(byte) = wrong_entry(&have, &surveyed.scanned.index) else { return Ok(None) };
    Ok(Some(Finding {
        severity: Severity::Note,
        topic: None,
        partition: None,
        file: path,
        byte: Some(byte),
        offset: None,
        what: "the index names a place where no frame begins; it is not believed, and searches take longer".to_owned(),
        advice: "delete it, or let `log repair` make it anew".to_owned(),
    }))
}

/// The byte of the first entry that is none of those that there should be.
pub(super) fn wrong_entry(have: &[u8], right: &[u8]) -> Option<u64> {
    let mut rest = right.chunks_exact(16);
    let wrong = have.chunks(16).position(|entry| !rest.any(|right| right == entry))?;
    Some(wrong as u64 * 16)
}

/// The positions that groups have published, which are for people.
fn check_positions(disk: &Disk, groups: &Path, report: &mut Report) -> Result<()> {
    for group in names_in(disk, groups)? {
        for (place, end) in report.ends.clone() {
            let path = position::position_path(&groups.join(&group), &place)?;
            let (error, advice) = match position::read(disk, &path) {
                Ok(Some(position)) if position > end => {
                    let what = format!("group {group} has come to offset {position}, and the partition ends at {end}");
                    let advice =
                        "restore the partition from a copy, or use `reset` to process the topic from the start";
                    (Error::new(ErrorKind::Corrupt, what), advice)
                }
                Ok(_) => continue,
                Err(error) => (error, "remove it; the group goes on where its last commit says"),
            };
            report.findings.push(at(&place, Finding { byte: Some(0), ..plain(path, &error, advice) }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_may_lack_entries_and_not_have_others() {
        let right: Vec<u8> = (0..4_u8).flat_map(|i| [i; 16]).collect();
        assert_eq!(wrong_entry(&[], &right), None);
        assert_eq!(wrong_entry(&right, &right), None);
        assert_eq!(wrong_entry(&right[32..], &right), None);
        assert_eq!(wrong_entry(&right[..40], &right), Some(32));
        assert_eq!(wrong_entry(&[[2; 16], [1; 16]].concat(), &right), Some(16));
        assert_eq!(wrong_entry(&[9; 16], &right), Some(0));
    }
}
