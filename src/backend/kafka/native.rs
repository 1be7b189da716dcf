//! What rdkafka does not wrap of reading and writing: one partition read apart from any group, whole batches at a time, a
//! group's positions set with a note, and a wait for events. With [`admin`](super::admin) the only unsafe code of this backend.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::future::poll_fn;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as raw;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::{RDKafka, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr, RDKafkaTopic};

use super::client::Context;

/// Messages that are taken at once, at most.
const MOST_MESSAGES: usize = 4096;

/// Rung by librdkafka's threads when a queue that was empty is not any more.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
}

impl Bell {
    /// Waits until something has come. Cancel-safe.
    pub(super) async fn rung(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.rung.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// # Safety
///
/// `bell` must point to a [`Bell`] that lives until the call-back is taken off its queue.
unsafe extern "C" fn ring(_client: *mut RDKafka, bell: *mut c_void) {
    // SAFETY: as the caller promises.
    let bell = unsafe { &*bell.cast::<Bell>() };
    bell.rung.store(true, Ordering::SeqCst);
    bell.waker.wake();
}

/// Waits for a producer's events, reports of delivery among them.
///
/// The producer's own call to wait for them goes on until its time is over, whatever comes, and asks over and over without
/// a pause in its last millisecond.
pub(super) struct Events {
    queue: *mut RDKafkaQueue,
    knocks: Arc<Knocks>,
}

/// How often something has come where nothing was.
#[derive(Debug, Default)]
struct Knocks {
    count: Mutex<u64>,
    changed: Condvar,
}

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Events {}
// SAFETY: as above.
unsafe impl Sync for Events {}

impl Events {
    /// Must be dropped before the producer is; there may be one for a producer.
    pub(super) fn of<C: ProducerContext>(producer: &BaseProducer<C>) -> Self {
        let knocks = Arc::new(Knocks::default());
        // SAFETY: the client is alive; `knocks` outlives the call-back, which `drop` takes off first.
        let queue = unsafe {
            let queue = raw::rd_kafka_queue_get_main(producer.client().native_ptr());
            raw::rd_kafka_queue_cb_event_enable(queue, Some(knock), Arc::as_ptr(&knocks).cast_mut().cast());
            queue
        };
        Self { queue, knocks }
    }

    /// To be asked for before events are polled for, and handed to [`Events::wait`] after it.
    pub(super) fn so_far(&self) -> u64 {
        *self.knocks.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for what has come since then, or is there still.
    pub(super) fn wait(&self, since: u64, at_most: Duration) {
        // SAFETY: the queue is there until `drop`.
        if unsafe { raw::rd_kafka_queue_length(self.queue) } > 0 {
            return;
        }
        let count = self.knocks.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.knocks.changed.wait_timeout_while(count, at_most, |count| *count == since));
    }
}

/// # Safety
///
/// `knocks` must point to [`Knocks`] that live until the call-back is taken off its queue.
unsafe extern "C" fn knock(_client: *mut RDKafka, knocks: *mut c_void) {
    // SAFETY: as the caller promises.
    let knocks = unsafe { &*knocks.cast::<Knocks>() };
    *knocks.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    knocks.changed.notify_all();
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: the call-back goes first, so that nobody knocks at what is gone; the client is still there.
        unsafe {
            raw::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            raw::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// What a partition's queue holds.
#[derive(Debug)]
pub(super) enum Polled<'a> {
    Record {
        offset: u64,
        timestamp: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: &'a [(&'a str, &'a [u8])],
    },
    /// Nothing is left to read; the next record will not come before this offset.
    End(u64),
    Failed(RDKafkaErrorCode),
}

/// One partition as a client fetches it, from an offset on.
pub(super) struct PartitionQueue {
    topic: *mut RDKafkaTopic,
    partition: i32,
    queue: *mut RDKafkaQueue,
    batch: Vec<*mut RDKafkaMessage>,
    // Behind the pointers, so that whoever reads sees: the call-back and the topic need both of them.
    bell: Arc<Bell>,
    client: Arc<BaseConsumer<Context>>,
}

// SAFETY: librdkafka's handles may be used from any thread, and every use here has the queue for itself (`&mut`).
unsafe impl Send for PartitionQueue {}

impl fmt::Debug for PartitionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionQueue").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl PartitionQueue {
    /// Begins to fetch. A client fetches a partition for one queue at a time.
    pub(super) fn start(
        client: Arc<BaseConsumer<Context>>,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<Self, KafkaError> {
        let name = CString::new(topic)?;
        let bell = Arc::new(Bell::default());
        let handle = client.client().native_ptr();
        // SAFETY: the client outlives topic and queue, which this keeps together; `bell` outlives the call-back, which
        // `drop` takes off first.
        unsafe {
            let topic = raw::rd_kafka_topic_new(handle, name.as_ptr(), ptr::null_mut());
            if topic.is_null() {
                return Err(KafkaError::Global(raw::rd_kafka_last_error().into()));
            }
            let queue = raw::rd_kafka_queue_new(handle);
            raw::rd_kafka_queue_cb_event_enable(queue, Some(ring), Arc::as_ptr(&bell).cast_mut().cast());
            if raw::rd_kafka_consume_start_queue(topic, partition, offset, queue) != 0 {
                let error = raw::rd_kafka_last_error();
                raw::rd_kafka_queue_cb_event_enable(queue, None, ptr::null_mut());
                raw::rd_kafka_queue_destroy(queue);
                raw::rd_kafka_topic_destroy(topic);
                return Err(KafkaError::Global(error.into()));
            }
            Ok(Self { topic, partition, queue, batch: vec![ptr::null_mut(); MOST_MESSAGES], bell, client })
        }
    }

    /// Hands on what is there, `most` at most; waits for a first one if there is nothing. Returns how many there were.
    pub(super) fn take(&mut self, most: usize, wait: Duration, mut each: impl FnMut(Polled<'_>)) -> usize {
        let most = most.clamp(1, self.batch.len());
        let mut taken = self.take_batch(most, Duration::ZERO, &mut each);
        if taken == 0 && !wait.is_zero() {
            // A call for several would wait until it has them all.
            taken = self.take_batch(1, wait, &mut each);
            if taken > 0 && most > 1 {
                taken += self.take_batch(most - 1, Duration::ZERO, &mut each);
            }
        }
        taken
    }

    fn take_batch(&mut self, most: usize, wait: Duration, each: &mut impl FnMut(Polled<'_>)) -> usize {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `batch` has room for `most` pointers, and librdkafka fills as many as it returns.
        let count = unsafe { raw::rd_kafka_consume_batch_queue(self.queue, wait_ms, self.batch.as_mut_ptr(), most) };
        let count = usize::try_from(count).unwrap_or(0);
        for message in &self.batch[..count] {
            // SAFETY: the message is ours until it is destroyed, right after its last use.
            unsafe {
                hand_on(*message, each);
                raw::rd_kafka_message_destroy(*message);
            }
        }
        count
    }

    /// The bell, which is rung by what comes from here on.
    pub(super) fn cleared_bell(&self) -> Arc<Bell> {
        self.bell.rung.store(false, Ordering::SeqCst);
        self.bell.clone()
    }
}

/// # Safety
///
/// `message` must be a message of librdkafka's that is not destroyed yet.
unsafe fn hand_on(message: *mut RDKafkaMessage, each: &mut impl FnMut(Polled<'_>)) {
    // SAFETY: all pointers in a message are valid until it is destroyed, and are null or have the lengths beside them.
    unsafe {
        let it = &*message;
        let offset = u64::try_from(it.offset).unwrap_or(0);
        match it.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => return each(Polled::End(offset)),
            error => return each(Polled::Failed(error.into())),
        }
        let bytes =
            |at: *mut c_void, len: usize| (!at.is_null()).then(|| std::slice::from_raw_parts(at.cast::<u8>(), len));
        let mut kind = raw::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        let timestamp = raw::rd_kafka_message_timestamp(message, &raw mut kind);
        let mut list = ptr::null_mut();
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if !raw::rd_kafka_message_headers(message, &raw mut list).is_error() {
            for at in 0.. {
                let (mut name, mut value, mut len) = (ptr::null(), ptr::null(), 0);
                if raw::rd_kafka_header_get_all(list, at, &raw mut name, &raw mut value, &raw mut len).is_error() {
                    break;
                }
                let name = CStr::from_ptr(name).to_str().unwrap_or("\u{fffd}");
                headers.push((name, bytes(value.cast_mut(), len).unwrap_or_default()));
            }
        }
        each(Polled::Record {
            offset,
            timestamp,
            key: bytes(it.key, it.key_len),
            value: bytes(it.payload, it.len),
            headers: &headers,
        });
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the call-back goes first, so that nobody rings a bell that is gone; then nothing is fetched any more, and
        // the client is still there.
        unsafe {
            raw::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            raw::rd_kafka_consume_stop(self.topic, self.partition);
            raw::rd_kafka_queue_destroy(self.queue);
            raw::rd_kafka_topic_destroy(self.topic);
        }
        debug_assert!(Arc::strong_count(&self.client) > 0);
    }
}

/// The note that was committed with the first of these positions, where it is a text.
pub(super) fn note_of(places: &TopicPartitionList) -> Option<String> {
    // SAFETY: the elements are counted by the number beside them, and live as long as the list; a note has as many bytes as
    // the element says.
    let note = unsafe {
        let list = &*places.ptr();
        if list.cnt < 1 {
            return None;
        }
        let element = &*list.elems;
        if element.metadata.is_null() {
            return None;
        }
        std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
    };
    // Others may have put anything there.
    std::str::from_utf8(note).ok().map(str::to_owned)
}

/// Adds a note to a position that is to be committed: for everybody to see, until the next commit.
pub(super) fn annotate(places: &mut TopicPartitionList, note: &str) {
    // SAFETY: librdkafka frees the note together with the list, so it must be memory of its own, and none may be there
    // before; the elements are counted by the number beside them.
    unsafe {
        let list = &mut *places.ptr();
        for at in 0..usize::try_from(list.cnt).unwrap_or(0) {
            let element = &mut *list.elems.add(at);
            let copy = raw::rd_kafka_mem_malloc(ptr::null_mut(), note.len());
            if element.metadata.is_null() && !copy.is_null() {
                ptr::copy_nonoverlapping(note.as_ptr(), copy.cast(), note.len());
                element.metadata = copy;
                element.metadata_size = note.len();
            }
        }
    }
}
