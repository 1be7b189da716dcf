//! The settings that there are.

/// Everything that can be set, with its default and what it means.
pub(super) const KNOWN: &[Known] = &[
    Known {
        name: "data_dir",
        default: "gretchen-data",
        kind: Kind::Text,
        help: "folder of topics, tables and positions",
    },
    Known {
        name: "backend",
        default: "log:",
        kind: Kind::Text,
        help: "where topics are: log: (in the data folder), log:/path or kafka://host:9092",
    },
    Known {
        name: "registry",
        default: "",
        kind: Kind::Text,
        help: "schema registry that numbers the schemas of topics whose format is confluent: http://host:8081",
    },
    Known {
        name: "registry_user",
        default: "",
        kind: Kind::Text,
        help: "user at the registry, with registry_password",
    },
    Known { name: "registry_password", default: "", kind: Kind::Text, help: "password at the registry" },
    Known { name: "registry_token", default: "", kind: Kind::Text, help: "bearer token, in the place of a user" },
    Known {
        name: "registry_register",
        default: "true",
        kind: Kind::OneOf(&["true", "false"]),
        help: "whether a schema that is written is registered; false: it must be there",
    },
    Known {
        name: "registry_naming",
        default: "topic",
        kind: Kind::OneOf(&["topic", "record", "topic-record"]),
        help: "subjects: TOPIC-value, the record's full name, or TOPIC-name",
    },
    Known {
        name: "durability",
        default: "fsync",
        kind: Kind::OneOf(&["fsync", "os"]),
        help: "fsync: records survive a loss of power; os: a killed process",
    },
    Known {
        name: "partitions",
        default: "4",
        kind: Kind::Number(1, 100_000),
        help: "partitions of topics that are created",
    },
    Known {
        name: "commit_interval_ms",
        default: "100",
        kind: Kind::Number(1, 600_000),
        help: "time between two commits while records flow",
    },
    Known {
        name: "checkpoint_interval_ms",
        default: "10000",
        kind: Kind::Number(10, 3_600_000),
        help: "time between two checkpoints of the tables",
    },
    Known {
        name: "checkpoint_records",
        default: "8388608",
        kind: Kind::Number(1, 1 << 40),
        help: "changelog records after which a checkpoint begins before its time, so that a restart replays few more",
    },
    Known {
        name: "clean_interval_ms",
        default: "60000",
        kind: Kind::Number(10, 86_400_000),
        help: "time between two looks for records that may go",
    },
    Known {
        name: "threads",
        default: "",
        kind: Kind::Number(1, 1024),
        help: "threads that agents run on; as many as the machine has",
    },
    Known {
        name: "table_memory_mb",
        default: "256",
        kind: Kind::Number(1, 1 << 20),
        help: "memory of one partition of a table",
    },
    Known {
        name: "output_memory_mb",
        default: "64",
        kind: Kind::Number(1, 1 << 20),
        help: "what one partition may put out before it commits early",
    },
    Known {
        name: "store_memory_mb",
        default: "320",
        kind: Kind::Number(8, 1 << 20),
        help: "memory of what all tables' stores together have read",
    },
    Known {
        name: "store_open_files",
        default: "64",
        kind: Kind::Number(32, 1 << 20),
        help: "files that each store of a table has open",
    },
    Known {
        name: "concurrent_batches",
        default: "8",
        kind: Kind::Number(1, 1 << 20),
        help: "batches, each of read_bytes, whose records an agent with concurrency works on at once in a partition",
    },
    Known {
        name: "stop_timeout_ms",
        default: "5000",
        kind: Kind::Number(0, 3_600_000),
        help: "time that agents get to finish when a worker stops",
    },
    Known {
        name: "standby",
        default: "0",
        kind: Kind::Number(0, 100),
        help: "workers that keep a warm copy of each partition's tables; on Kafka",
    },
    Known {
        name: "segment_bytes",
        default: "134217728",
        kind: Kind::Number(4096, 1 << 40),
        help: "size at which a file of the log ends",
    },
    Known {
        name: "max_record_bytes",
        default: "1048576",
        kind: Kind::Number(16, 31 << 20),
        help: "largest value of a record that is sent, and largest key",
    },
    Known {
        name: "max_batch_bytes",
        default: "16777216",
        kind: Kind::Number(1 << 20, 64 << 20),
        help: "largest batch of records that is appended at once; at least twice max_record_bytes, 256 KiB and batch_bytes (or 256 KiB if that is more)",
    },
    Known {
        name: "batch_bytes",
        default: "262144",
        kind: Kind::Number(4096, 32 << 20),
        help: "bytes of a partition's records that are put together before they are sent",
    },
    Known {
        name: "max_row_bytes",
        default: "67108864",
        kind: Kind::Number(4096, 1 << 30),
        help: "longest row of a file that is sent",
    },
    Known {
        name: "read_bytes",
        default: "262144",
        kind: Kind::Number(4096, 64 << 20),
        help: "bytes of a topic that are read at once",
    },
    Known {
        name: "max_open_files",
        default: "",
        kind: Kind::Number(64, 1 << 20),
        help: "files of the log that a process may have open; as many as the system lets it, less a quarter",
    },
    Known {
        name: "compaction_memory_mb",
        default: "128",
        kind: Kind::Number(1, 1 << 20),
        help: "memory of the one compaction of a topic or changelog that goes on at a time",
    },
    Known {
        name: "log_level",
        default: "",
        kind: Kind::OneOf(&["error", "warn", "info", "debug", "trace"]),
        help: "least severe message of the program's log; info for a worker, else warn",
    },
    Known {
        name: "log_format",
        default: "text",
        kind: Kind::OneOf(&["text", "json"]),
        help: "form of the program's log",
    },
];

/// What can be set.
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// What its value must be.
pub(super) enum Kind {
    Text,
    OneOf(&'static [&'static str]),
    Number(u64, u64),
}
