//! Limits: what a loop that does one thing and no more takes on the same log.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use gretchen::backend::log::LogBackend;
use gretchen::backend::{Backend, Replay};
use gretchen::prelude::*;
use gretchen::record::{Decoder, Frame, Frames, SchemaLookup};
use gretchen::topic::TopicPartition;

use crate::bench::Sale;
use crate::measure::{Outcome, Sample, Totals, longest_gap, parts};

/// Reads all partitions, one after another, and hands out their frames.
fn run(folder: &Path, partitions: u32, mut frame: impl FnMut(&Frame<'_>) -> Result<()>) -> Result<Outcome> {
    let clock = Clock::system();
    let log = open(folder)?;
    let mut records = 0;
    let mut samples = vec![Sample::take(&clock, 0)];
    let mut frames = Frames::default();
    for partition in 0..partitions {
        let mut reader = log.reader(&TopicPartition::new("sales", partition), 0)?;
        while reader.read(&mut frames)? {
            for one in frames.iter() {
                frame(&one)?;
                records += u64::from(one.header.count);
            }
            samples.push(Sample::take(&clock, records));
        }
    }
    let (first, warm) = parts(&samples).ok_or("there are no records")?;
    Ok(Outcome { first, warm, longest_gap_s: longest_gap(&samples), ..Outcome::default() })
}

/// Opens the log for reading.
pub(crate) fn open(folder: &Path) -> Result<Arc<dyn Replay>> {
    let log = LogBackend::open(LogOptions::new(folder), Clock::system())?;
    Ok(log.replay().ok_or("the log can be read again")?)
}

/// Read and checksum.
pub(crate) fn read(folder: &Path, partitions: u32) -> Result<Outcome> {
    let mut bytes = 0;
    let outcome = run(folder, partitions, |frame| {
        bytes += frame.payload.len();
        Ok(())
    })?;
    std::hint::black_box(bytes);
    Ok(outcome)
}

/// Read, checksum, and decode into borrowed views.
pub(crate) fn decode(folder: &Path, partitions: u32) -> Result<Outcome> {
    struct NoOther;
    impl SchemaLookup for NoOther {
        fn schema(&self, _: u64) -> gretchen::error::Result<Option<Arc<str>>> {
            Ok(None)
        }
    }
    let mut decoder = Decoder::<Sale>::new(Arc::new(NoOther));
    let mut sum = 0.0;
    let outcome = run(folder, partitions, |frame| {
        for record in frame.records() {
            let sale = decoder.view(record.value.unwrap_or_default())?;
            sum += sale.price + sale.customer.len() as f64;
        }
        Ok(())
    })?;
    std::hint::black_box(sum);
    Ok(outcome)
}

/// What a loop by hand keeps for each key.
pub(crate) struct Figures {
    pub(crate) sales: i64,
    pub(crate) revenue: f64,
    smallest: f64,
    largest: f64,
}

/// The figures of each key.
pub(crate) type ByHand = HashMap<Box<[u8]>, Figures, foldhash::fast::RandomState>;

/// Decodes what is asked for of a sale.
#[inline(always)]
pub(crate) fn customer_and_price(value: &[u8]) -> Result<(&[u8], f64)> {
    let mut datum = value.get(10..).unwrap_or_default();
    let _sale_id = zigzag(&mut datum);
    let len = zigzag(&mut datum) as usize;
    let (customer, rest) = datum.split_at(len);
    Ok((customer, f64::from_le_bytes(rest[..8].try_into()?)))
}

/// Decodes a sale and adds it. `text` makes sure that a customer is UTF-8.
#[inline(always)]
pub(crate) fn add(
    totals: &mut ByHand,
    value: &[u8],
    text: impl Fn(&[u8]) -> Result<&[u8], std::str::Utf8Error>,
) -> Result<()> {
    let (customer, price) = customer_and_price(value)?;
    let customer = text(customer)?;
    match totals.get_mut(customer) {
        Some(figures) => {
            figures.sales += 1;
            figures.revenue += price;
            figures.smallest = figures.smallest.min(price);
            figures.largest = figures.largest.max(price);
        }
        None => {
            let first = Figures { sales: 1, revenue: price, smallest: price, largest: price };
            totals.insert(customer.into(), first);
        }
    }
    Ok(())
}

/// Read, checksum, decode, fold into a hash map, and nothing else. `text` makes sure that a customer is UTF-8.
pub(crate) fn fold(
    folder: &Path,
    partitions: u32,
    text: impl Fn(&[u8]) -> Result<&[u8], std::str::Utf8Error>,
) -> Result<Outcome> {
    let mut totals = ByHand::default();
    let outcome = run(folder, partitions, |frame| {
        frame.records().try_for_each(|record| add(&mut totals, record.value.unwrap_or_default(), &text))
    })?;
    let rows = totals.into_iter().map(|(customer, figures)| {
        let customer = String::from_utf8_lossy(&customer).into_owned();
        (customer, figures.sales, [figures.revenue, figures.smallest, figures.largest])
    });
    Ok(Outcome { totals: Some(Totals::of(rows)), ..outcome })
}

/// The library's own check.
#[inline]
pub(crate) fn std_check(bytes: &[u8]) -> Result<&[u8], std::str::Utf8Error> {
    std::str::from_utf8(bytes).map(str::as_bytes)
}

/// Two words that overlap say of up to sixteen bytes whether they are ASCII.
#[inline]
pub(crate) fn quick_check(bytes: &[u8]) -> Result<&[u8], std::str::Utf8Error> {
    let ascii = match bytes.len() {
        8..=16 => {
            let word = |chunk: Option<&[u8; 8]>| chunk.map_or(u64::MAX, |chunk| u64::from_le_bytes(*chunk));
            (word(bytes.first_chunk()) | word(bytes.last_chunk())) & 0x8080_8080_8080_8080 == 0
        }
        4..8 => {
            let word = |chunk: Option<&[u8; 4]>| chunk.map_or(u32::MAX, |chunk| u32::from_le_bytes(*chunk));
            (word(bytes.first_chunk()) | word(bytes.last_chunk())) & 0x8080_8080 == 0
        }
        _ => false,
    };
    if ascii { Ok(bytes) } else { std_check(bytes) }
}

#[inline]
fn zigzag(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
        shift += 7;
    }
}

/// A get and a put of RocksDB for each record, without its write-ahead log.
#[cfg(feature = "rocksdb")]
pub(crate) fn rocks(folder: &Path, partitions: u32) -> Result<Outcome> {
    let at = folder.join("get-and-put");
    let db = rocksdb::DB::open_default(&at)?;
    let mut unlogged = rocksdb::WriteOptions::default();
    unlogged.disable_wal(true);
    let outcome = run(folder, partitions, |frame| {
        for record in frame.records() {
            let (customer, price) = customer_and_price(record.value.unwrap_or_default())?;
            let mut figures = [0.0, 0.0, price, price];
            if let Some(stored) = db.get_pinned(customer)? {
                for (figure, bytes) in figures.iter_mut().zip(stored.chunks_exact(8)) {
                    *figure = f64::from_le_bytes(bytes.try_into()?);
                }
            }
            figures = [figures[0] + 1.0, figures[1] + price, figures[2].min(price), figures[3].max(price)];
            db.put_opt(customer, figures.map(f64::to_le_bytes).as_flattened(), &unlogged)?;
        }
        Ok(())
    })?;
    let mut rows = Vec::new();
    for row in db.iterator(rocksdb::IteratorMode::Start) {
        let (customer, stored) = row?;
        let figure = |at: usize| stored.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0.0, f64::from_le_bytes);
        let customer = String::from_utf8_lossy(&customer).into_owned();
        rows.push((customer, figure(0) as i64, [figure(8), figure(16), figure(24)]));
    }
    drop(db);
    std::fs::remove_dir_all(at)?;
    Ok(Outcome { totals: Some(Totals::of(rows)), ..outcome })
}
