//! The command line's grammar.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};

mod schema;

pub(super) use self::schema::{Algorithm, Level, Mode, ReferenceArg, RegisterArgs, SchemaCommand};

/// What stands before or behind any command, and the command.
#[derive(Debug, Parser)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Options of every command. Settings also come from the environment (GRETCHEN_DATA_DIR, …) and the file.
#[derive(Args, Debug)]
pub(super) struct Global {
    /// Folder of topics, tables and positions [default: gretchen-data]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Settings")]
    data_dir: Option<String>,
    /// Where topics are: log: in the data folder, log:/path, or kafka://host:9092[?setting=value] [default: log:]
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    backend: Option<String>,
    /// Schema registry that numbers the schemas of topics whose format is confluent, e.g. http://host:8081
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    registry: Option<String>,
    /// What a commit and a send wait for: fsync (survives a loss of power) or os (survives a kill) [default: fsync]
    #[arg(long, global = true, value_name = "fsync|os", help_heading = "Settings")]
    durability: Option<String>,
    /// Partitions of topics that are created [default: 4]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    partitions: Option<String>,
    /// Time between two commits while records flow [default: 100]
    #[arg(long, global = true, value_name = "MS", help_heading = "Settings", hide_short_help = true)]
    commit_interval_ms: Option<String>,
    /// Time between two checkpoints of the tables [default: 10000]
    #[arg(long, global = true, value_name = "MS", help_heading = "Settings", hide_short_help = true)]
    checkpoint_interval_ms: Option<String>,
    /// Changelog records after which a checkpoint begins before its time [default: 8388608]
    #[arg(long, global = true, value_name = "COUNT", help_heading = "Settings", hide_short_help = true)]
    checkpoint_records: Option<String>,
    /// Time from one look for records that may go to the next [default: 60000]
    #[arg(long, global = true, value_name = "MS", help_heading = "Settings", hide_short_help = true)]
    clean_interval_ms: Option<String>,
    /// Threads that agents run on [default: as many as the machine has]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    threads: Option<String>,
    /// Memory of one partition of a table [default: 256]
    #[arg(long, global = true, value_name = "MB", help_heading = "Settings", hide_short_help = true)]
    table_memory_mb: Option<String>,
    /// What one partition may put out before it commits early [default: 64]
    #[arg(long, global = true, value_name = "MB", help_heading = "Settings", hide_short_help = true)]
    output_memory_mb: Option<String>,
    /// Memory of all tables' stores together [default: 320]
    #[arg(long, global = true, value_name = "MB", help_heading = "Settings", hide_short_help = true)]
    store_memory_mb: Option<String>,
    /// Files that each store of a table has open [default: 64]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    store_open_files: Option<String>,
    /// Batches whose records an agent with concurrency works on at once in a partition [default: 8]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    concurrent_batches: Option<String>,
    /// Time that agents get to finish their records when a worker stops [default: 5000]
    #[arg(long, global = true, value_name = "MS", help_heading = "Settings", hide_short_help = true)]
    stop_timeout_ms: Option<String>,
    /// Workers that keep a warm copy of each partition's tables, on Kafka [default: 0]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    standby: Option<String>,
    /// Size at which a file of the log ends [default: 134217728]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    segment_bytes: Option<String>,
    /// Largest value of a record that is sent, and largest key [default: 1048576]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    max_record_bytes: Option<String>,
    /// Largest batch of records that is appended at once [default: 16777216]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    max_batch_bytes: Option<String>,
    /// Bytes of a partition's records that are put together before they are sent [default: 262144]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    batch_bytes: Option<String>,
    /// Longest row of a file that is sent [default: 67108864]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    max_row_bytes: Option<String>,
    /// Bytes of a topic that are read at once [default: 262144]
    #[arg(long, global = true, value_name = "BYTES", help_heading = "Settings", hide_short_help = true)]
    read_bytes: Option<String>,
    /// Files of the log that a process may have open [default: what the system allows, less a quarter]
    #[arg(long, global = true, value_name = "N", help_heading = "Settings", hide_short_help = true)]
    max_open_files: Option<String>,
    /// Memory of the one compaction that goes on at a time [default: 128]
    #[arg(long, global = true, value_name = "MB", help_heading = "Settings", hide_short_help = true)]
    compaction_memory_mb: Option<String>,
    /// Least severe message of the program's log: error, warn, info, debug or trace
    /// [default: info for worker, else warn]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Settings")]
    log_level: Option<String>,
    /// Form of the program's log: text or json [default: text]
    #[arg(long, global = true, value_name = "text|json", help_heading = "Settings", hide_short_help = true)]
    log_format: Option<String>,
    /// TOML file with settings [default: gretchen.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub(super) config: Option<PathBuf>,
    /// Prints JSON, for programs
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Prints results and errors only
    #[arg(long, short, global = true)]
    pub(super) quiet: bool,
}

impl Global {
    /// The settings that were given as flags, by name.
    pub(super) fn flags(&self) -> BTreeMap<&'static str, String> {
        [
            ("data_dir", &self.data_dir),
            ("backend", &self.backend),
            ("registry", &self.registry),
            ("durability", &self.durability),
            ("partitions", &self.partitions),
            ("commit_interval_ms", &self.commit_interval_ms),
            ("checkpoint_interval_ms", &self.checkpoint_interval_ms),
            ("checkpoint_records", &self.checkpoint_records),
            ("clean_interval_ms", &self.clean_interval_ms),
            ("threads", &self.threads),
            ("table_memory_mb", &self.table_memory_mb),
            ("output_memory_mb", &self.output_memory_mb),
            ("store_memory_mb", &self.store_memory_mb),
            ("store_open_files", &self.store_open_files),
            ("concurrent_batches", &self.concurrent_batches),
            ("stop_timeout_ms", &self.stop_timeout_ms),
            ("standby", &self.standby),
            ("segment_bytes", &self.segment_bytes),
            ("max_record_bytes", &self.max_record_bytes),
            ("max_batch_bytes", &self.max_batch_bytes),
            ("batch_bytes", &self.batch_bytes),
            ("max_row_bytes", &self.max_row_bytes),
            ("read_bytes", &self.read_bytes),
            ("max_open_files", &self.max_open_files),
            ("compaction_memory_mb", &self.compaction_memory_mb),
            ("log_level", &self.log_level),
            ("log_format", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the app's agents until it is stopped
    Worker(WorkerArgs),
    /// Appends one record, or the rows of a file, to a topic
    Send(SendArgs),
    /// Prints the records of a topic as JSON, or writes them as an Avro file
    Read(ReadArgs),
    /// Lists the tables, or shows what one holds, also while a worker runs
    Tables(TablesArgs),
    /// Lists the topics, shows one, or sets what becomes of its old records
    Topics(TopicsArgs),
    /// Lets old records go now that topics let go, and compacts the app's changelogs; workers do so all the time
    Clean(CleanArgs),
    /// Lists the agents
    Agents,
    /// Lists the records that the agents read and write
    Models,
    /// Shows the fields of a record
    Model {
        /// The record's name, with or without its namespace
        name: String,
    },
    /// Shows how far each agent has come in its topics, counted in offsets
    Groups,
    /// Drops the state and the positions of agents, so that they process their topics from the start
    Reset(ResetArgs),
    /// Checks every file of the log, and mends what is damaged
    #[command(subcommand)]
    Log(LogCommand),
    /// Checks, compares and shows Avro schemas, and keeps them in a registry
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Shows every setting and where its value comes from
    Config,
    /// Prints a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args, Debug)]
pub(super) struct WorkerArgs {
    /// Stops when everything in the topics is processed and committed
    #[arg(long)]
    pub(super) until_caught_up: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "A file's rows are all checked before the first one is sent (files over 256 MiB: piece by \
                        piece). They are numbered under the file's name, so that sending a file again adds only the \
                        rows that were appended to it since.")]
pub(super) struct SendArgs {
    /// A topic, or @AGENT for the topic that an agent reads
    #[arg(value_name = "TOPIC|@AGENT")]
    pub(super) to: String,
    /// The record as JSON; plain text for a topic without a schema; - reads it from the standard input
    #[arg(value_name = "JSON", conflicts_with = "file")]
    pub(super) value: Option<String>,
    /// Sends the rows of a .jsonl, .csv or .avro file
    #[arg(long, short, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// What the file holds, where its name does not say: jsonl, csv, avro or avro-json; avro-json is the JSON encoding
    /// of the specification, for a single record, too
    #[arg(long, value_name = "FORMAT", hide_possible_values = true)]
    pub(super) format: Option<FileFormat>,
    /// The name under which the file's rows are numbered [default: the file's name]
    #[arg(long, value_name = "NAME", requires = "file")]
    pub(super) producer: Option<String>,
    /// The key, instead of the one in the record
    #[arg(long, short, value_name = "KEY", conflicts_with = "file")]
    pub(super) key: Option<String>,
    /// The partition, instead of the one that the key belongs to
    #[arg(long, value_name = "N", conflicts_with = "file")]
    pub(super) partition: Option<u32>,
    /// Sends the record so many times
    #[arg(long, short, value_name = "N", default_value_t = 1, conflicts_with = "file", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) repeat: u64,
}

/// What a file of records holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated, the first line names the fields
    Csv,
    /// An Avro object container file
    Avro,
    /// One value a line in the JSON encoding of the Avro specification
    AvroJson,
}

#[derive(Args, Debug)]
pub(super) struct ReadArgs {
    /// The topic
    pub(super) topic: String,
    /// Where to begin: an offset, earliest or latest
    #[arg(long, value_name = "OFFSET|earliest|latest", default_value = "earliest")]
    pub(super) from: From,
    /// Only this partition
    #[arg(long, value_name = "N")]
    pub(super) partition: Option<u32>,
    /// Stops after so many records
    #[arg(long, short = 'n', value_name = "N")]
    pub(super) limit: Option<u64>,
    /// Waits for new records
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Prints partition, offset, time and key before each value
    #[arg(long, short)]
    pub(super) keys: bool,
    /// json: for people; avro-json: the JSON encoding of the specification; avro: an object container file
    #[arg(long, value_name = "json|avro-json|avro", default_value = "json", hide_possible_values = true)]
    pub(super) format: ReadFormat,
    /// How the blocks of a container are packed: null, deflate, snappy or zstandard [default: deflate]
    #[arg(long, value_name = "CODEC", hide_possible_values = true)]
    pub(super) codec: Option<Codec>,
}

/// What `read` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReadFormat {
    Json,
    AvroJson,
    Avro,
}

/// How the blocks of a container are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Codec {
    Null,
    Deflate,
    Snappy,
    Zstandard,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Earliest,
    Latest,
    Offset(u64),
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => text
                .parse()
                .map(Self::Offset)
                .map_err(|_| "give an offset (a whole number), earliest or latest".to_owned()),
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct TablesArgs {
    /// A table to show
    pub(super) name: Option<String>,
    /// The one key to show
    pub(super) key: Option<String>,
    /// Rows to show, sorted by key; 0 shows all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub(super) limit: usize,
}

#[derive(Args, Debug)]
pub(super) struct TopicsArgs {
    /// A topic to show
    pub(super) name: Option<String>,
    /// Lists changelogs and repartition topics, too
    #[arg(long)]
    pub(super) internal: bool,
    /// Sets what becomes of the topic's old records: cleanup=delete, compact or compact,delete; retention_ms=7d,
    /// retention_bytes=10GiB (of a partition), delete_retention_ms=1d, segment_bytes=64MiB, segment_ms=1h; none takes
    /// a bound away
    #[arg(long, value_name = "NAME=VALUE", requires = "name")]
    pub(super) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct CleanArgs {
    /// Only this topic
    pub(super) topic: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct ResetArgs {
    /// Only this agent
    #[arg(long, value_name = "NAME")]
    pub(super) agent: Option<String>,
    /// Lists what would be dropped, and drops nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Does not ask
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) start: StartArgs,
    /// Only in these topics the agents begin anew; in their others they go on where they are, which a log does not know: there
    /// every topic has to be named with this or the next
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',')]
    pub(super) input_topics: Vec<String>,
    /// In these topics the agents begin behind the last record, because others that are reset put out there again what they
    /// had put out
    #[arg(long, value_name = "TOPIC,…", value_delimiter = ',')]
    pub(super) intermediate_topics: Vec<String>,
}

/// Where agents begin in their topics; at the start, if nothing is said.
#[derive(Args, Debug, Default)]
#[group(multiple = false)]
pub(super) struct StartArgs {
    /// They begin at the first record that is there, as they do if nothing is said
    #[arg(long)]
    pub(super) to_earliest: bool,
    /// They begin behind the last record
    #[arg(long)]
    pub(super) to_latest: bool,
    /// They begin at that offset of each partition, or at the end that is nearer
    #[arg(long, value_name = "OFFSET")]
    pub(super) to_offset: Option<u64>,
    /// They begin at the first record of that time or later, e.g. 2026-03-01T08:00:00Z; without a zone it is UTC
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) to_datetime: Option<Timestamp>,
    /// They begin at the first record that is no older than that, e.g. "2h 30m" or P7DT12H; a day has 24 hours
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(super) by_duration: Option<SignedDuration>,
    /// They begin so many offsets behind where they are, or before with a minus (on a Kafka)
    #[arg(long, value_name = "OFFSETS", allow_negative_numbers = true)]
    pub(super) shift_by: Option<i64>,
    /// They begin where a file says: a line "topic,partition,offset" for each partition that they read
    #[arg(long, value_name = "FILE")]
    pub(super) from_file: Option<PathBuf>,
}

/// A time, in UTC unless it says otherwise.
fn parse_time(text: &str) -> Result<Timestamp, jiff::Error> {
    let civil = |error| match text.parse::<jiff::civil::DateTime>() {
        Ok(time) => jiff::tz::Offset::UTC.to_timestamp(time),
        Err(_) => Err(error),
    };
    text.parse().or_else(civil)
}

/// A time span in which days and weeks are always as long.
fn parse_duration(text: &str) -> Result<SignedDuration, jiff::Error> {
    text.parse::<jiff::Span>()?.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
}

/// What to do with the files of the log.
#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Goes over every segment, frame, index, topic, position and table, and changes nothing; exit code 1 if something
    /// that was durable cannot be read
    Verify {
        /// Only this topic, or this partition of it; tables are checked when none is named
        #[arg(value_name = "TOPIC[/PARTITION]")]
        partition: Option<PartitionArg>,
    },
    /// Cuts torn tails, makes indexes anew and takes out damaged frames, which loses their records and no others. Keeps a
    /// copy of every file that it changes in the folder damaged. Refused while a process uses the partition
    Repair {
        /// Only this topic, or this partition of it
        #[arg(value_name = "TOPIC[/PARTITION]")]
        partition: Option<PartitionArg>,
    },
}

/// A topic, or one partition of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionArg {
    pub(super) topic: String,
    pub(super) number: Option<u32>,
}

impl std::str::FromStr for PartitionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (topic, number) = match text.split_once('/') {
            Some((topic, number)) => {
                let number = number.parse().map_err(|_| format!("{number:?} is not the number of a partition"))?;
                (topic, Some(number))
            }
            None => (text, None),
        };
        match crate::topic::check_name(topic) {
            Ok(()) => Ok(Self { topic: topic.to_owned(), number }),
            Err(error) => Err(error.to_string()),
        }
    }
}
