//! A strategy of our own for the sharing out of partitions, by which they go to where their state is warm.
//!
//! librdkafka has no public way to that. Its `cooperative-sticky` is a list of call-backs, and those of a member are replaced
//! here, in place, before it joins. The name stays, so that members of older builds, or of other libraries, are in the same
//! group: where one of them is, or leads, Kafka's own strategy shares out, and nobody keeps standbys meanwhile.
//!
//! What is written here of librdkafka's own structures is of one version, which `Cargo.toml` pins; with any other, members
//! stay with Kafka's strategy and say so.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::{mem, ptr, slice};

use rdkafka::bindings as raw;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::{RDKafka, RDKafkaRespErr};

use super::exchange::{Joined, Partition, share_out};

/// The only version of librdkafka whose insides are known here: 2.12.1.
const VERSION: c_int = 0x020c_01ff;

const STRATEGY: &CStr = c"cooperative-sticky";

type List = raw::rd_kafka_topic_partition_list_t;

/// `rd_kafkap_str_t`.
#[repr(C)]
struct Text {
    len: c_int,
    text: *const c_char,
}

/// `rd_kafkap_bytes_t`; what it holds stands behind it, after its length.
#[repr(C)]
struct Bytes {
    len: i32,
    data: *const c_void,
    _first: [u8; 1],
}

/// `rd_list_t`.
#[repr(C)]
struct Elements {
    _size: c_int,
    _count: c_int,
    _elements: *mut *mut c_void,
    _free: Option<unsafe extern "C" fn(*mut c_void)>,
    _flags: c_int,
    _element_size: c_int,
    _memory: *mut c_void,
}

/// `rd_kafka_group_member_t`.
#[repr(C)]
struct GroupMember {
    _subscription: *mut List,
    assignment: *mut List,
    owned: *mut List,
    _eligible: Elements,
    id: *mut Text,
    _instance: *mut Text,
    userdata: *mut Bytes,
    _metadata: *mut Bytes,
    generation: c_int,
    _rack: *mut Text,
}

type AssignCb = unsafe extern "C" fn(
    *mut RDKafka,
    *const Assignor,
    *const c_char,
    *const raw::rd_kafka_metadata_t,
    *mut GroupMember,
    usize,
    *mut *mut c_void,
    usize,
    *mut c_char,
    usize,
    *mut c_void,
) -> RDKafkaRespErr;

type GetMetadataCb =
    unsafe extern "C" fn(*const Assignor, *mut c_void, *const Elements, *const List, *const Text) -> *mut Bytes;

type OnAssignmentCb = unsafe extern "C" fn(
    *const Assignor,
    *mut *mut c_void,
    *const List,
    *const Bytes,
    *const raw::rd_kafka_consumer_group_metadata_t,
);

/// `rd_kafka_assignor_t`.
#[repr(C)]
struct Assignor {
    protocol_type: *mut Text,
    name: *mut Text,
    enabled: c_int,
    _index: c_int,
    /// 2 where partitions are given back one by one.
    protocol: c_int,
    assign: Option<AssignCb>,
    get_metadata: Option<GetMetadataCb>,
    on_assignment: Option<OnAssignmentCb>,
    _destroy_state: Option<unsafe extern "C" fn(*mut c_void)>,
    _unittest: Option<unsafe extern "C" fn() -> c_int>,
    opaque: *mut c_void,
}

#[cfg(target_pointer_width = "64")]
const _: () =
    assert!(mem::size_of::<Assignor>() == 80 && mem::size_of::<GroupMember>() == 112 && mem::size_of::<Bytes>() == 24);

unsafe extern "C" {
    fn rd_kafka_assignor_find(client: *mut RDKafka, protocol: *const c_char) -> *mut Assignor;

    fn rd_kafka_consumer_protocol_member_metadata_new(
        topics: *const Elements,
        userdata: *const c_void,
        userdata_size: usize,
        owned: *const List,
        generation: c_int,
        rack: *const Text,
    ) -> *mut Bytes;
}

/// A member's side of the strategy.
pub(super) trait Strategist: Send + Sync {
    /// What the leader is to know of it, now that it joins.
    fn tell(&self) -> Vec<u8>;

    /// What the leader tells it, with each new assignment. Called on librdkafka's thread.
    fn given(&self, given: &[u8]);
}

/// What the call-backs know. It must outlive its client.
pub(super) struct Strategy {
    strategist: Arc<dyn Strategist>,
    generation: AtomicI32,
    /// librdkafka's own.
    replaced: OnceLock<(AssignCb, GetMetadataCb, OnAssignmentCb)>,
}

impl std::fmt::Debug for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strategy").finish_non_exhaustive()
    }
}

impl Strategy {
    pub(super) fn new(strategist: Arc<dyn Strategist>) -> Arc<Self> {
        Arc::new(Self { strategist, generation: AtomicI32::new(-1), replaced: OnceLock::new() })
    }

    /// Makes it the strategy of a client that has not joined its group yet and whose context holds it. Says why it cannot.
    pub(super) fn install<C: ConsumerContext>(self: &Arc<Self>, client: &BaseConsumer<C>) -> Result<(), String> {
        // SAFETY: a function without arguments.
        let version = unsafe { raw::rd_kafka_version() };
        if version != VERSION {
            return Err(format!("this is librdkafka {version:#x}, and only {VERSION:#x} is known"));
        }
        // SAFETY: the client lives; it looks at its strategies when it joins, which it does later and by way of a lock. The
        // version says what is there, and it is looked at before anything is written. The strategy outlives the client.
        unsafe {
            let assignor = rd_kafka_assignor_find(client.client().native_ptr(), STRATEGY.as_ptr());
            let Some(assignor) = assignor.as_mut() else { return Err("the strategy is not there".to_owned()) };
            let known = text_of(assignor.name) == STRATEGY.to_bytes()
                && text_of(assignor.protocol_type) == b"consumer"
                && (assignor.enabled, assignor.protocol) == (1, 2)
                && assignor.opaque.is_null();
            let replaced = assignor.assign.zip(assignor.get_metadata).zip(assignor.on_assignment);
            let (true, Some(((assign, get_metadata), on_assignment))) = (known, replaced) else {
                return Err("the strategy does not look as expected".to_owned());
            };
            if self.replaced.set((assign, get_metadata, on_assignment)).is_err() {
                return Err("it is the strategy of another member already".to_owned());
            }
            assignor.opaque = Arc::as_ptr(self).cast_mut().cast();
            assignor.assign = Some(assign_all);
            assignor.get_metadata = Some(metadata_of_member);
            assignor.on_assignment = Some(assigned);
        }
        Ok(())
    }
}

/// # Safety
///
/// `text` must be null or one of librdkafka's.
unsafe fn text_of<'a>(text: *const Text) -> &'a [u8] {
    // SAFETY: as the caller promises; a length below 0 stands for null.
    unsafe {
        match text.as_ref() {
            Some(Text { len, text }) if *len > 0 => slice::from_raw_parts(text.cast(), *len as usize),
            _ => &[],
        }
    }
}

/// # Safety
///
/// `bytes` must be null or some of librdkafka's.
unsafe fn bytes_of<'a>(bytes: *const Bytes) -> &'a [u8] {
    // SAFETY: as the caller promises; a length below 0 stands for null.
    unsafe {
        match bytes.as_ref() {
            Some(Bytes { len, data, .. }) if *len > 0 => slice::from_raw_parts(data.cast(), *len as usize),
            _ => &[],
        }
    }
}

/// # Safety
///
/// `list` must be null or one of librdkafka's.
unsafe fn partitions_of(list: *const List) -> Vec<Partition> {
    // SAFETY: as the caller promises; the names end with a zero.
    unsafe {
        let Some(list) = list.as_ref().filter(|list| list.cnt > 0) else { return Vec::new() };
        let elements = slice::from_raw_parts(list.elems, list.cnt as usize);
        let name = |topic| CStr::from_ptr(topic).to_string_lossy().into_owned();
        elements.iter().map(|element| (name(element.topic), element.partition)).collect()
    }
}

/// # Safety
///
/// `assignor` must be one that [`Strategy::install`] has changed.
unsafe fn strategy<'a>(assignor: *const Assignor) -> Option<&'a Strategy> {
    // SAFETY: as the caller promises, and the strategy outlives its client.
    unsafe { (*assignor).opaque.cast::<Strategy>().as_ref() }
}

/// Tells the leader of this member.
unsafe extern "C" fn metadata_of_member(
    assignor: *const Assignor,
    state: *mut c_void,
    topics: *const Elements,
    owned: *const List,
    rack: *const Text,
) -> *mut Bytes {
    // SAFETY: librdkafka calls this with what is its own, for an assignor that was changed.
    unsafe {
        let Some(strategy) = strategy(assignor) else { return ptr::null_mut() };
        match catch_unwind(AssertUnwindSafe(|| strategy.strategist.tell())) {
            Ok(told) => rd_kafka_consumer_protocol_member_metadata_new(
                topics,
                told.as_ptr().cast(),
                told.len(),
                owned,
                strategy.generation.load(Ordering::SeqCst),
                rack,
            ),
            Err(_) => match strategy.replaced.get() {
                Some((_, get_metadata, _)) => get_metadata(assignor, state, topics, owned, rack),
                None => ptr::null_mut(),
            },
        }
    }
}

/// Hears what the leader has decided for this member.
unsafe extern "C" fn assigned(
    assignor: *const Assignor,
    state: *mut *mut c_void,
    assignment: *const List,
    userdata: *const Bytes,
    group: *const raw::rd_kafka_consumer_group_metadata_t,
) {
    // SAFETY: librdkafka calls this with what is its own, for an assignor that was changed.
    unsafe {
        let Some(strategy) = strategy(assignor) else { return };
        strategy.generation.store(raw::rd_kafka_consumer_group_metadata_generation_id(group), Ordering::SeqCst);
        let given = bytes_of(userdata);
        let _ = catch_unwind(AssertUnwindSafe(|| strategy.strategist.given(given)));
        // It keeps what it needs should it ever share out.
        if let Some((_, _, on_assignment)) = strategy.replaced.get() {
            on_assignment(assignor, state, assignment, userdata, group);
        }
    }
}

/// Shares out, as the group's leader. Who owns a partition that is to be another's gives it back first: librdkafka takes it
/// out of what is said here, and the group shares out again when it is free.
unsafe extern "C" fn assign_all(
    client: *mut RDKafka,
    assignor: *const Assignor,
    member_id: *const c_char,
    metadata: *const raw::rd_kafka_metadata_t,
    members: *mut GroupMember,
    count: usize,
    topics: *mut *mut c_void,
    topic_count: usize,
    error: *mut c_char,
    error_size: usize,
    opaque: *mut c_void,
) -> RDKafkaRespErr {
    // SAFETY: librdkafka calls this with what is its own, for an assignor that was changed.
    unsafe {
        let all = slice::from_raw_parts_mut(members, count);
        let joined: Vec<Joined> = all
            .iter()
            .map(|member| Joined {
                id: String::from_utf8_lossy(text_of(member.id)).into_owned(),
                told: bytes_of(member.userdata).to_vec(),
                owns: partitions_of(member.owned),
                generation: member.generation,
            })
            .collect();
        let known = topics_of(metadata);
        let partitions = |topic: &str| known.iter().find(|(name, _)| name == topic).map_or(0, |(_, count)| *count);
        match catch_unwind(AssertUnwindSafe(|| share_out(&joined, partitions))).ok().flatten() {
            Some(shares) => {
                for (member, share) in all.iter_mut().zip(shares) {
                    give(member, &share.owns, &share.given);
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
            }
            None => {
                tracing::info!("not all members of the group know of standbys; partitions are shared out without them");
                let Some((assign, ..)) = strategy(assignor).and_then(|strategy| strategy.replaced.get()) else {
                    return RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL;
                };
                assign(
                    client,
                    assignor,
                    member_id,
                    metadata,
                    members,
                    count,
                    topics,
                    topic_count,
                    error,
                    error_size,
                    opaque,
                )
            }
        }
    }
}

/// # Safety
///
/// `metadata` must be null or of librdkafka.
unsafe fn topics_of(metadata: *const raw::rd_kafka_metadata_t) -> Vec<(String, usize)> {
    // SAFETY: as the caller promises; the names end with a zero.
    unsafe {
        let Some(metadata) = metadata.as_ref().filter(|metadata| metadata.topic_cnt > 0) else { return Vec::new() };
        let topics = slice::from_raw_parts(metadata.topics, metadata.topic_cnt as usize);
        let name = |topic| CStr::from_ptr(topic).to_string_lossy().into_owned();
        topics.iter().map(|topic| (name(topic.topic), usize::try_from(topic.partition_cnt).unwrap_or(0))).collect()
    }
}

/// Replaces what a member is to get.
///
/// # Safety
///
/// `member` must be one of librdkafka's that is about to get its assignment.
unsafe fn give(member: &mut GroupMember, owns: &[Partition], given: &[u8]) {
    // SAFETY: as the caller promises. What is put in place is made as `rd_kafkap_bytes_new` does, by the allocator by which
    // librdkafka frees it.
    unsafe {
        for at in (0..(*member.assignment).cnt).rev() {
            raw::rd_kafka_topic_partition_list_del_by_idx(member.assignment, at);
        }
        for (topic, partition) in owns {
            let Ok(topic) = CString::new(topic.as_str()) else { continue };
            raw::rd_kafka_topic_partition_list_add(member.assignment, topic.as_ptr(), *partition);
        }
        let Ok(len) = i32::try_from(given.len()) else { return };
        let bytes =
            raw::rd_kafka_mem_malloc(ptr::null_mut(), mem::size_of::<Bytes>() + 4 + given.len()).cast::<Bytes>();
        let behind = bytes.add(1).cast::<u8>();
        behind.cast::<[u8; 4]>().write_unaligned(len.to_be_bytes());
        ptr::copy_nonoverlapping(given.as_ptr(), behind.add(4), given.len());
        bytes.write(Bytes { len, data: behind.add(4).cast(), _first: [0] });
        if !member.userdata.is_null() {
            raw::rd_kafka_mem_free(ptr::null_mut(), member.userdata.cast());
        }
        member.userdata = bytes;
    }
}
