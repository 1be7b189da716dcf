//! What rdkafka does not wrap of administration: a group's positions deleted, the ids of topics, and topics' settings asked for
//! and changed one by one, with the reason where the broker refuses.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use raw::rd_kafka_AlterConfigOpType_t as AlterOp;
use raw::rd_kafka_admin_op_t as AdminOp;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as raw;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{IsError, KafkaError, RDKafkaErrorCode};
use rdkafka::types::{RDKafka, RDKafkaQueue, RDKafkaRespErr};

use super::client::Context;

type Client = BaseConsumer<Context>;

/// Why a broker does not do what it is asked to.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) code: RDKafkaErrorCode,
    /// In the broker's words, where it says more than the code.
    pub(super) why: Option<String>,
}

impl From<RDKafkaRespErr> for Refused {
    fn from(error: RDKafkaRespErr) -> Self {
        Self { code: error.into(), why: None }
    }
}

impl From<Refused> for KafkaError {
    fn from(refused: Refused) -> Self {
        Self::AdminOp(refused.code)
    }
}

/// Sends a request of that kind and hands on the answer. Blocks.
///
/// # Safety
///
/// `send` must send one request of that kind with these options, to be answered in that queue; `answer` must not keep
/// anything of the event.
unsafe fn request<T>(
    client: &Client,
    kind: AdminOp,
    timeout: Duration,
    send: impl FnOnce(*mut RDKafka, *const raw::rd_kafka_AdminOptions_t, *mut RDKafkaQueue),
    answer: impl FnOnce(*mut raw::rd_kafka_event_t) -> Result<T, Refused>,
) -> Result<T, Refused> {
    let handle = client.client().native_ptr();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: everything that is made here is destroyed here, and nothing of the event is used after it is.
    unsafe {
        let queue = raw::rd_kafka_queue_new(handle);
        let options = raw::rd_kafka_AdminOptions_new(handle, kind);
        raw::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        send(handle, options, queue);
        let event = raw::rd_kafka_queue_poll(queue, timeout_ms);
        let answered = if event.is_null() {
            Err(RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT.into())
        } else {
            let error = raw::rd_kafka_event_error(event);
            let answered = if error.is_error() { Err(error.into()) } else { answer(event) };
            raw::rd_kafka_event_destroy(event);
            answered
        };
        raw::rd_kafka_AdminOptions_destroy(options);
        raw::rd_kafka_queue_destroy(queue);
        answered
    }
}

/// # Safety
///
/// `text` must be null or a string that ends with a zero.
unsafe fn text(text: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

/// Deletes a group's positions in these partitions. Blocks.
pub(super) fn delete_positions(
    client: &Client,
    group: &str,
    places: &TopicPartitionList,
    timeout: Duration,
) -> Result<(), KafkaError> {
    let group = CString::new(group)?;
    // SAFETY: the request outlives its sending, and the event's parts live as long as it does and are counted by the lengths
    // beside them.
    let deleted = unsafe {
        let deletion = raw::rd_kafka_DeleteConsumerGroupOffsets_new(group.as_ptr(), places.ptr());
        let deleted = request(
            client,
            AdminOp::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
            timeout,
            |handle, options, queue| {
                raw::rd_kafka_DeleteConsumerGroupOffsets(handle, [deletion].as_mut_ptr(), 1, options, queue);
            },
            |event| {
                let result = raw::rd_kafka_event_DeleteConsumerGroupOffsets_result(event);
                let mut count = 0;
                let groups = raw::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count);
                for at in 0..count {
                    let group = *groups.add(at);
                    let error = raw::rd_kafka_group_result_error(group);
                    if !error.is_null() {
                        return Err(raw::rd_kafka_error_code(error).into());
                    }
                    let list = raw::rd_kafka_group_result_partitions(group);
                    if list.is_null() {
                        continue;
                    }
                    for at in 0..usize::try_from((*list).cnt).unwrap_or(0) {
                        let error = (*(*list).elems.add(at)).err;
                        if error.is_error() {
                            return Err(error.into());
                        }
                    }
                }
                Ok(())
            },
        );
        raw::rd_kafka_DeleteConsumerGroupOffsets_destroy(deletion);
        deleted
    };
    deleted.map_err(KafkaError::from)
}

/// The id that the broker has given a topic, in the letters of Kafka's own tools; `None` where it gives none, which is
/// before Kafka 2.8. Blocks.
pub(super) fn topic_id(client: &Client, topic: &str, timeout: Duration) -> Result<Option<String>, KafkaError> {
    let name = CString::new(topic)?;
    // SAFETY: the names outlive the sending, and the event's parts live as long as it does and are counted by the lengths
    // beside them.
    let found = unsafe {
        let topics = raw::rd_kafka_TopicCollection_of_topic_names([name.as_ptr()].as_mut_ptr(), 1);
        let found = request(
            client,
            AdminOp::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
            timeout,
            |handle, options, queue| raw::rd_kafka_DescribeTopics(handle, topics, options, queue),
            |event| {
                let result = raw::rd_kafka_event_DescribeTopics_result(event);
                let mut count = 0;
                let topics = raw::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                if count == 0 {
                    return Err(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART.into());
                }
                let topic = *topics;
                let error = raw::rd_kafka_TopicDescription_error(topic);
                if !error.is_null() && raw::rd_kafka_error_code(error).is_error() {
                    return Err(raw::rd_kafka_error_code(error).into());
                }
                let id = raw::rd_kafka_TopicDescription_topic_id(topic);
                let none = id.is_null()
                    || (raw::rd_kafka_Uuid_most_significant_bits(id) == 0
                        && raw::rd_kafka_Uuid_least_significant_bits(id) == 0);
                Ok(text(if none { ptr::null() } else { raw::rd_kafka_Uuid_base64str(id) }))
            },
        );
        raw::rd_kafka_TopicCollection_destroy(topics);
        found
    };
    found.map_err(KafkaError::from)
}

/// A topic's settings with their values; those that have none, or are secret, are left out. Blocks.
pub(super) fn settings_of(client: &Client, topic: &str, timeout: Duration) -> Result<Vec<(String, String)>, Refused> {
    let name = c_string(topic)?;
    // SAFETY: the resource outlives the sending, and the event's parts live as long as it does and are counted by the
    // lengths beside them.
    unsafe {
        let resource = raw::rd_kafka_ConfigResource_new(TOPIC, name.as_ptr());
        let found = request(
            client,
            AdminOp::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS,
            timeout,
            |handle, options, queue| raw::rd_kafka_DescribeConfigs(handle, [resource].as_mut_ptr(), 1, options, queue),
            |event| {
                let result = raw::rd_kafka_event_DescribeConfigs_result(event);
                let mut count = 0;
                let resources = raw::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
                check(resources, count)?;
                let mut settings = Vec::new();
                for at in 0..count {
                    let mut entries = 0;
                    let list = raw::rd_kafka_ConfigResource_configs(*resources.add(at), &raw mut entries);
                    for at in 0..entries {
                        let entry = *list.add(at);
                        let name = text(raw::rd_kafka_ConfigEntry_name(entry));
                        settings.extend(name.zip(text(raw::rd_kafka_ConfigEntry_value(entry))));
                    }
                }
                Ok(settings)
            },
        );
        raw::rd_kafka_ConfigResource_destroy(resource);
        found
    }
}

/// Changes some of a topic's settings, all or none, and leaves the others; what gets no value gets the broker's. Blocks.
pub(super) fn change_settings(
    client: &Client,
    topic: &str,
    changes: &[(&str, Option<&str>)],
    timeout: Duration,
) -> Result<(), Refused> {
    let topic = c_string(topic)?;
    // SAFETY: the resource outlives the sending, copies what is added to it, and the event's parts live as long as it does
    // and are counted by the lengths beside them.
    unsafe {
        let resource = raw::rd_kafka_ConfigResource_new(TOPIC, topic.as_ptr());
        let added = changes.iter().try_for_each(|(name, value)| {
            let (name, value) = (c_string(name)?, value.map(c_string).transpose()?);
            let (op, value) = match &value {
                Some(value) => (AlterOp::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET, value.as_ptr()),
                None => (AlterOp::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE, ptr::null()),
            };
            let error = raw::rd_kafka_ConfigResource_add_incremental_config(resource, name.as_ptr(), op, value);
            if error.is_null() {
                return Ok(());
            }
            let refused =
                Refused { code: raw::rd_kafka_error_code(error).into(), why: text(raw::rd_kafka_error_string(error)) };
            raw::rd_kafka_error_destroy(error);
            Err(refused)
        });
        let changed = added.and_then(|()| {
            request(
                client,
                AdminOp::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
                timeout,
                |handle, options, queue| {
                    raw::rd_kafka_IncrementalAlterConfigs(handle, [resource].as_mut_ptr(), 1, options, queue);
                },
                |event| {
                    let result = raw::rd_kafka_event_IncrementalAlterConfigs_result(event);
                    let mut count = 0;
                    check(raw::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count), count)
                },
            )
        });
        raw::rd_kafka_ConfigResource_destroy(resource);
        changed
    }
}

const TOPIC: raw::rd_kafka_ResourceType_t = raw::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;

fn c_string(text: &str) -> Result<CString, Refused> {
    CString::new(text).map_err(|_| RDKafkaRespErr::RD_KAFKA_RESP_ERR__INVALID_ARG.into())
}

/// The first error among what was asked of several resources.
///
/// # Safety
///
/// `resources` must be so many of an answer that is not destroyed yet.
unsafe fn check(resources: *mut *const raw::rd_kafka_ConfigResource_t, count: usize) -> Result<(), Refused> {
    for at in 0..count {
        // SAFETY: as the caller promises.
        let (error, why) = unsafe {
            let resource = *resources.add(at);
            (raw::rd_kafka_ConfigResource_error(resource), text(raw::rd_kafka_ConfigResource_error_string(resource)))
        };
        if error.is_error() {
            return Err(Refused { code: error.into(), why });
        }
    }
    Ok(())
}
