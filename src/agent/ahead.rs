//! The records that are walked over before the agent asks for them: a group of a frame at a time.

use super::task::Mail;
use crate::record::{Cursor, Frames, RawRecord, Spot};

/// Records in a group at most.
pub(super) const AHEAD: usize = 32;

/// A group of records behind the buffer's `next`, of which the first few are handed out.
///
/// While there is one, the buffer's own cursors stay before and behind the group: [`Ahead::settle`] brings them to where
/// the agent is.
#[derive(Debug)]
pub(super) struct Ahead {
    items: [Item; AHEAD],
    count: usize,
    handed_out: usize,
    /// In the frame that the group is in.
    frame: Cursor,
    /// Where that frame's rest begins in the buffer; the items count from there.
    base: usize,
    /// Tombstones before the first of them.
    tombstones: u64,
}

/// A record that was walked over, in words that need no search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Item {
    value: Part,
    key: Part,
    pub(super) timestamp: i64,
    pub(super) offset: u64,
    /// Behind it.
    after: Spot,
}

/// Bytes of a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    at: u32,
    /// [`NO_PART`] stands for none.
    len: u32,
}

const NO_PART: u32 = u32::MAX;

impl Part {
    #[inline(always)]
    fn of(part: &[u8], whole: &[u8]) -> Self {
        Self { at: (part.as_ptr() as usize - whole.as_ptr() as usize) as u32, len: part.len() as u32 }
    }

    #[inline(always)]
    fn find(self, base: usize, frames: &Frames) -> Option<&[u8]> {
        let at = base + self.at as usize;
        frames.bytes.get(at..at + self.len as usize)
    }
}

/// What became of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// Tombstones that were passed over.
    pub(super) tombstones: u64,
    /// The largest timestamp that was handed out, ms.
    pub(super) timestamp: i64,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self {
            items: [Item::default(); AHEAD],
            count: 0,
            handed_out: 0,
            frame: Cursor::default(),
            base: 0,
            tombstones: 0,
        }
    }

    /// Whether all of the group are handed out.
    #[inline(always)]
    pub(super) fn is_used_up(&self) -> bool {
        self.handed_out >= self.count
    }

    /// Walks over the next records, at most `most`, and tells their keys, of which an empty one stands for none. The group
    /// before was settled. None are left if it is used up then.
    #[inline]
    pub(super) fn fill(&mut self, mail: &mut Mail, most: usize, tell: impl FnOnce(&[&[u8]])) {
        let Mail { frames, next, .. } = mail;
        let mut keys: [&[u8]; AHEAD] = [&[]; AHEAD];
        while let Some(mut walk) = next.rest_of_frame_or_next(frames) {
            let whole = walk.rest();
            (self.frame, self.base) = (*next, whole.as_ptr() as usize - frames.bytes.as_ptr() as usize);
            for (item, key) in self.items.iter_mut().zip(&mut keys).take(most) {
                let before = walk.clone();
                let (value, timestamp, offset) = match walk.next_plain() {
                    Some(plain) => {
                        (*key, item.key) = (plain.key, Part::of(plain.key, whole));
                        (plain.value, plain.timestamp, plain.offset)
                    }
                    None => {
                        let Some(raw) = walk.next() else { break };
                        let Some(value) = raw.value else {
                            if self.count > 0 {
                                // It is passed over when the record behind it is asked for.
                                walk = before;
                                break;
                            }
                            // The walk begins anew behind it, so that the first record is the first of the group.
                            self.tombstones += 1;
                            break;
                        };
                        *key = raw.key.unwrap_or_default();
                        item.key = raw.key.map_or(Part { at: 0, len: NO_PART }, |key| Part::of(key, whole));
                        (value, raw.timestamp, raw.offset)
                    }
                };
                item.value = Part::of(value, whole);
                (item.timestamp, item.offset, item.after) = (timestamp, offset, Spot::of(&walk));
                self.count += 1;
            }
            let before = *next;
            next.advance_to(&walk);
            // A record that cannot be walked over ends the buffer.
            if self.count > 0 || *next == before {
                break;
            }
        }
        tell(&keys[..self.count]);
    }

    /// Hands the next out, and says its place in the group. There must be one.
    #[inline(always)]
    pub(super) fn step(&mut self) -> (usize, &Item) {
        let place = self.handed_out % AHEAD;
        self.handed_out += 1;
        (place, &self.items[place])
    }

    #[inline(always)]
    fn at_hand(&self) -> &Item {
        &self.items[self.handed_out.wrapping_sub(1) % AHEAD]
    }

    /// The value of the record that was handed out last.
    #[inline(always)]
    pub(super) fn value<'a>(&self, frames: &'a Frames) -> Option<&'a [u8]> {
        self.at_hand().value.find(self.base, frames)
    }

    /// Its key.
    #[inline(always)]
    pub(super) fn key<'a>(&self, frames: &'a Frames) -> Option<&'a [u8]> {
        Some(self.at_hand().key).filter(|key| key.len != NO_PART)?.find(self.base, frames)
    }

    /// The same record with all that came with it.
    pub(super) fn raw<'a>(&self, mail: &'a Mail) -> Option<RawRecord<'a>> {
        let mut cursor = self.behind(self.handed_out.checked_sub(1)?, mail);
        loop {
            let raw = cursor.next(&mail.frames)?;
            // Tombstones before it were passed over.
            if raw.value.is_some() {
                return Some(raw);
            }
        }
    }

    /// Behind so many of the group.
    fn behind(&self, records: usize, mail: &Mail) -> Cursor {
        match records.checked_sub(1).and_then(|last| self.items.get(last)) {
            Some(item) => self.frame.at_spot(item.after),
            None => mail.begin,
        }
    }

    /// Brings the buffer's cursors to where the agent is, the record at hand `finished` or not. The rest of the group is
    /// walked over again.
    #[inline]
    pub(super) fn settle(&mut self, mail: &mut Mail, finished: bool) -> Option<Settled> {
        if self.count == 0 && self.tombstones == 0 {
            if finished {
                mail.begin = mail.next;
            }
            return None;
        }
        let handed_out = self.handed_out.min(self.count);
        let before = self.behind(handed_out.saturating_sub(1), mail);
        if handed_out < self.count {
            mail.next = self.behind(handed_out, mail);
        }
        mail.begin = if finished { mail.next } else { before };
        // Those before records that nobody asked for are passed over with them.
        let tombstones = if handed_out > 0 || self.count == 0 { self.tombstones } else { 0 };
        let timestamp = self.items[..handed_out].iter().map(|item| item.timestamp).max().unwrap_or(i64::MIN);
        (self.count, self.handed_out, self.tombstones) = (0, 0, 0);
        Some(Settled { tombstones, timestamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Frame, FrameBuilder};

    /// Frames of that many records, of which every fifth is a tombstone, and every third has no key.
    fn frames(counts: &[u64]) -> Frames {
        let (mut frames, mut offset) = (Frames::default(), 0);
        for count in counts {
            let mut builder = FrameBuilder::new();
            for at in offset..offset + count {
                let text = format!("record {at}").into_bytes();
                let key = (at % 3 > 0).then_some(&text[..]);
                builder.push(key, (at % 5 > 0).then_some(&text), 1_000 - at as i64);
            }
            let bytes = builder.seal(0, offset, 0, 0, 0).to_vec();
            frames.push(&Frame::parse(&bytes).unwrap());
            offset += count;
        }
        frames
    }

    /// Hands records out in groups of different sizes, settled after different numbers of them.
    #[test]
    fn wherever_the_agent_stands_the_cursors_are_there() {
        for seed in 0..200_usize {
            let mut mail = Mail { frames: frames(&[1, 40, 5, 0, 1, 7, 33]), ..Mail::default() };
            let mut plain = Cursor::default();
            let (mut ahead, mut tombstones) = (Ahead::new(), 0);
            for turn in seed.. {
                let (most, steps) = (1 + turn * 7 % AHEAD, turn * 5 % (AHEAD + 2));
                let mut told = 0;
                ahead.fill(&mut mail, most, |keys| told = keys.len());
                if ahead.is_used_up() {
                    tombstones += ahead.settle(&mut mail, true).map_or(0, |settled| settled.tombstones);
                    break;
                }
                let begin = plain;
                let (mut before, mut timestamp, mut handed_out) = (plain, i64::MIN, 0);
                while handed_out < steps && !ahead.is_used_up() {
                    before = plain;
                    let raw = std::iter::from_fn(|| plain.next(&mail.frames)).find(|raw| raw.value.is_some()).unwrap();
                    timestamp = timestamp.max(raw.timestamp);
                    let (place, item) = ahead.step();
                    assert_eq!((place, item.offset, item.timestamp), (handed_out, raw.offset, raw.timestamp));
                    assert_eq!(ahead.value(&mail.frames), raw.value);
                    assert_eq!(ahead.key(&mail.frames), raw.key);
                    assert_eq!(ahead.raw(&mail).map(|raw| raw.offset), Some(raw.offset));
                    handed_out += 1;
                }
                assert!(handed_out <= told && told <= most);
                // An unfinished record is handed out once more.
                let finished = turn % 4 > 0;
                let settled = ahead.settle(&mut mail, finished).unwrap();
                assert_eq!(settled.timestamp, timestamp);
                assert_eq!(mail.next.offset(), if handed_out > 0 { plain.offset() } else { begin.offset() });
                if !finished && handed_out > 0 {
                    assert_eq!(mail.begin.offset(), before.offset());
                    let again = std::iter::from_fn(|| before.next(&mail.frames)).find(|raw| raw.value.is_some());
                    assert_eq!(again.map(|raw| raw.offset + 1), Some(plain.offset()));
                }
                mail.begin = mail.next;
                tombstones += settled.tombstones;
            }
            assert!(mail.is_used_up(), "seed {seed}");
            assert_eq!(tombstones, 18, "seed {seed}");
        }
    }
}
