//! A segment that is cut at every byte, has garbage behind it, or has any one of its bits flipped: what is read is the
//! intact beginning, or there is an error that names the file; never another record, never fewer without a word.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use gretchen::backend::Replay;
use gretchen::backend::log::LogBackend;
use gretchen::error::{Error, ErrorKind};
use gretchen::record::{Frame, Frames};
use gretchen::topic::TopicPartition;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{append, open, orders, segment};
use crate::support::Random;

/// Bytes before the first frame: the segment's own header.
const HEADER: usize = 64;

/// What a frame of the sound segment says.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: u64,
    to: u64,
    /// The offset after its last record.
    next: u64,
    /// Up to where it says that the partition was durable.
    durable: u64,
}

/// A partition with one segment of a certain length, sound.
struct Sound {
    bytes: Vec<u8>,
    /// The shared page, as its last user left it.
    page: Vec<u8>,
    page_durable: u64,
    frames: Vec<Place>,
    values: Vec<Vec<u8>>,
}

/// A folder without a disk below, where there is one: thousands of files are made and synced.
pub(crate) fn quick_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A log whose segment is as long as asked for. `synced`: all but its end was made durable now and then.
fn make(runtime: &Runtime, folder: &Path, len: usize, synced: bool) -> Sound {
    let mut random = Random::numbered(len as u64);
    let backend = open(folder);
    let mut values = Vec::new();
    let place = runtime.block_on(async {
        let place = orders(&backend, 1).await;
        let mut used = HEADER + 80;
        while used < len {
            let left = len - used;
            let count = random.within(1..4) as usize;
            let mut text = Vec::new();
            for _ in 0..count {
                text.push(letters(&mut random, 20..600));
            }
            let mut size =
                80 + text.iter().map(|value| value.len() + if value.len() < 128 { 2 } else { 3 }).sum::<usize>();
            if size + 400 > left {
                // The last one fills what is left to the byte.
                text = vec![letters(&mut random, left as u64 - 83..left as u64 - 82)];
                size = left;
                if text[0].len() < 128 {
                    text[0].push('+');
                }
            }
            append(&backend, &place, &text.iter().map(String::as_str).collect::<Vec<_>>()).await;
            values.extend(text.into_iter().map(String::into_bytes));
            used += size;
            if synced && used < len * 3 / 4 && random.one_in(4) {
                backend.sync(&place, values.len() as u64).await.unwrap();
            }
        }
        place
    });
    drop(place);
    drop(backend);
    let mut bytes = fs::read(segment(folder, 0)).unwrap();
    bytes.truncate(len);
    let mut frames = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let frame = Frame::parse(&bytes[at..]).unwrap();
        let next = if frame.header.kind == 0 { frame.header.next_offset() } else { frame.header.base_offset };
        let to = at + frame.header.len;
        frames.push(Place { from: at as u64, to: to as u64, next, durable: frame.header.durable });
        at = to;
    }
    assert_eq!((at, frames.last().unwrap().next as usize), (len, values.len()));
    let page = fs::read(end_page(folder)).unwrap();
    // Behind magic, boot, version and two slots of four words.
    let page_durable = u64::from_le_bytes(page[96..104].try_into().unwrap());
    assert_eq!(synced, page_durable > 0);
    assert!(!synced || frames.iter().any(|frame| frame.durable == page_durable));
    Sound { bytes, page, page_durable, frames, values }
}

fn letters(random: &mut Random, len: std::ops::Range<u64>) -> String {
    let len = random.within(len);
    (0..len).map(|_| char::from(b'a' + random.within(0..26) as u8)).collect()
}

fn end_page(folder: &Path) -> PathBuf {
    folder.join("topics/orders/0/end")
}

/// All records, or why not.
fn read_all(folder: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let backend: LogBackend = open(folder);
    let place = TopicPartition::new("orders", 0);
    let mut reader = backend.reader(&place, 0)?;
    let (mut frames, mut values) = (Frames::default(), Vec::new());
    while reader.read(&mut frames)? {
        for record in frames.iter().flat_map(|frame| frame.records()) {
            assert_eq!(record.offset, values.len() as u64);
            values.push(record.value.unwrap().to_vec());
        }
    }
    assert_eq!(backend.offsets(&place)?.end, values.len() as u64);
    Ok(values)
}

/// One way to hurt the segment.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Cut(usize),
    Flip(usize),
    Behind(usize, bool),
}

impl Sound {
    /// Whether `harm` must be reported, or how many records are left.
    fn expected(&self, harm: Harm, page: bool) -> Option<u64> {
        let at = match harm {
            Harm::Cut(at) => at as u64,
            Harm::Flip(bit) => bit as u64 / 8,
            Harm::Behind(..) => return Some(self.values.len() as u64),
        };
        // What the beginning lacks is known, as long as nothing says that it was durable.
        if let Harm::Flip(bit) = harm
            && self.page_durable == 0
            && at < self.frames[0].to
            && self.bytes[bit / 8] == 1 << (bit % 8)
        {
            return Some(self.values.len() as u64);
        }
        let first_hurt = self.frames.iter().position(|frame| frame.to > at).unwrap_or(self.frames.len());
        let hurt_from = if at < HEADER as u64 { 0 } else { self.frames.get(first_hurt).map_or(at, |frame| frame.from) };
        let page = if page { self.page_durable } else { 0 };
        let claims = |frame: &Place| frame.durable > hurt_from;
        let known = match harm {
            // The beginning of a partition that was never synced may be gone in a loss of power; records behind it say
            // that it was not.
            Harm::Flip(_) if first_hurt == 0 => true,
            Harm::Flip(_) => {
                page > hurt_from || self.frames.iter().enumerate().any(|(i, frame)| i != first_hurt && claims(frame))
            }
            _ => page > hurt_from || self.frames[..first_hurt].iter().any(claims),
        };
        let left = if first_hurt == 0 { 0 } else { self.frames[first_hurt - 1].next };
        (!known).then_some(left)
    }

    fn hurt(&self, harm: Harm) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        match harm {
            Harm::Cut(at) => bytes.truncate(at),
            Harm::Flip(bit) => bytes[bit / 8] ^= 1 << (bit % 8),
            Harm::Behind(count, zeroes) => {
                let mut random = Random::numbered(count as u64);
                bytes.extend((0..count).map(|_| if zeroes { 0 } else { random.within(0..256) as u8 }));
            }
        }
        bytes
    }

    fn check(&self, folder: &Path, harm: Harm, page: bool) {
        File::options()
            .write(true)
            .truncate(true)
            .open(segment(folder, 0))
            .unwrap()
            .write_all_at(&self.hurt(harm), 0)
            .unwrap();
        if page {
            fs::write(end_page(folder), &self.page).unwrap();
        } else {
            let _ = fs::remove_file(end_page(folder));
        }
        let what = format!("{harm:?} of {} bytes, durable {}, page kept: {page}", self.bytes.len(), self.page_durable);
        match (read_all(folder), self.expected(harm, page)) {
            (Ok(values), Some(left)) => {
                assert!(values.len() as u64 == left, "{what}: {} records are left, not {left}", values.len());
                assert!(values == self.values[..values.len()], "{what}: other records");
            }
            (Err(error), None) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
                let text = error.to_string();
                assert!(text.contains("00000000000000000000.log"), "{what}: {error}");
            }
            (Ok(values), None) => panic!("{what}: lost records are not reported, {} are left", values.len()),
            (Err(error), Some(left)) => panic!("{what}: {left} records should be left: {error}"),
        }
    }
}

/// Checks every harm on as many threads as there are processors; every second one on the segment that was synced, and
/// of each two one with and one without what the shared page knows.
fn check_all(len: usize, harms: &[Harm]) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let folders = [quick_folder(), quick_folder()];
                let sound =
                    [false, true].map(|synced| make(&runtime, folders[usize::from(synced)].path(), len, synced));
                loop {
                    let from = next.fetch_add(64, Ordering::Relaxed);
                    if from >= harms.len() {
                        break;
                    }
                    for (i, harm) in harms.iter().enumerate().skip(from).take(64) {
                        // Each harm to the one that was synced; the other, where less is at stake, gets every fourth.
                        sound[1].check(folders[1].path(), *harm, i % 2 == 0);
                        if i % 4 == 0 {
                            sound[0].check(folders[0].path(), *harm, i % 8 == 0);
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn a_segment_of_64_kib_cut_at_every_byte() {
    let len = 64 << 10;
    check_all(len, &(0..=len).map(Harm::Cut).collect::<Vec<_>>());
}

#[test]
fn a_segment_of_64_kib_with_up_to_1024_bytes_behind_it() {
    let behind = |zeroes| (0..=1024).map(move |count| Harm::Behind(count, zeroes));
    check_all(64 << 10, &behind(false).chain(behind(true)).collect::<Vec<_>>());
}

#[test]
fn a_segment_of_16_kib_with_every_bit_flipped() {
    let len = 16 << 10;
    check_all(len, &(0..len * 8).map(Harm::Flip).collect::<Vec<_>>());
}
