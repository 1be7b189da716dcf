//! The grammar of `schema`.

use clap::{Args, Subcommand, ValueEnum};

/// What to do with schemas.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SchemaCommand {
    /// Checks files, which may name each other's types, and shows what is in them
    Check {
        /// The .avsc files, or folders of them; - is the standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<String>,
    },
    /// Shows field by field what is another in the second schema, and who can read whom
    Diff {
        /// BEFORE AFTER: each a file, topic:NAME for the newest schema of a topic, registry:SUBJECT for the latest version
        /// of a subject, or a folder, whose files are one version; with --to the files of the first alone, which may name
        /// each other's types
        #[arg(value_name = "SCHEMA", required = true)]
        schemas: Vec<String>,
        /// The files of the second, which may name each other's types
        #[arg(long, value_name = "SCHEMA", num_args = 1..)]
        to: Vec<String>,
    },
    /// Checks the latest schema against older ones; exit code 1 when they do not fit
    Compat {
        /// backward: the latest reads what the one before it wrote; forward: that one reads what the latest writes;
        /// full: both; -transitive: the same with all earlier ones
        #[arg(long, value_name = "MODE", default_value = "backward", hide_possible_values = true)]
        mode: Mode,
        /// Versions, the latest last: each a file, topic:NAME for all schemas that a topic keeps, registry:SUBJECT for all
        /// versions of a subject, or a folder, whose files are one version; with --to the earlier ones alone, and all files
        /// are of one
        #[arg(value_name = "SCHEMA", required = true)]
        schemas: Vec<String>,
        /// The files of the latest, which may name each other's types
        #[arg(long, value_name = "SCHEMA", num_args = 1..)]
        to: Vec<String>,
    },
    /// Prints the fingerprint of the canonical form
    Fingerprint {
        /// How it is computed; records in topics carry crc64
        #[arg(long, value_name = "crc64|md5|sha256", default_value = "crc64", hide_possible_values = true)]
        algorithm: Algorithm,
        /// Files or folders of them, which may name each other's types, topic:NAME for all schemas that a topic keeps, or
        /// registry:SUBJECT for all versions of a subject
        #[arg(value_name = "SCHEMA", required = true)]
        schemas: Vec<String>,
    },
    /// Prints the canonical form of the specification
    Canonical {
        /// A file, topic:NAME for the newest schema of a topic, or registry:SUBJECT for the latest version of a subject; of
        /// several files, which may name each other's types, a line each
        #[arg(value_name = "SCHEMA", required = true)]
        schemas: Vec<String>,
    },
    /// Prints the Rust that records! makes of files
    Expand {
        /// All types beside each other, as records! makes them with namespaces = flat, not in modules by their namespaces
        #[arg(long)]
        flat: bool,
        /// The .avsc files as records! gets them, or folders of them; - is the standard input
        #[arg(value_name = "FILE", required = true)]
        files: Vec<String>,
    },
    /// Makes a schema a version of a subject in the registry, unless it is one, and shows its number
    Register(RegisterArgs),
    /// Lists the subjects of the registry with the latest version of each, or all versions of one
    List {
        /// The subject
        subject: Option<String>,
    },
    /// Prints a schema of the registry
    Get {
        /// A subject, or the number of a schema, as values carry it
        #[arg(value_name = "SUBJECT|ID")]
        what: String,
        /// The version of the subject [default: the latest]
        #[arg(long, value_name = "N")]
        version: Option<u32>,
    },
    /// Shows, or sets, what the registry asks of new versions of a subject
    Compatibility {
        /// The subject [default: what holds for all that say nothing else]
        subject: Option<String>,
        /// none; backward: a new version reads what the latest wrote; forward: the reverse; full: both; -transitive: the
        /// same with all versions
        #[arg(long, value_name = "LEVEL", hide_possible_values = true)]
        set: Option<Level>,
    },
}

#[derive(Args, Debug)]
pub(in crate::cli) struct RegisterArgs {
    /// The .avsc file, and behind it those whose types it names; - is the standard input
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<String>,
    /// The subject
    #[arg(long, value_name = "SUBJECT", required_unless_present = "topic", conflicts_with = "topic")]
    pub(in crate::cli) subject: Option<String>,
    /// The topic whose values the schema is for, in the place of a subject: TOPIC-value, or what registry_naming says
    #[arg(long, value_name = "TOPIC")]
    pub(in crate::cli) topic: Option<String>,
    /// A type that the file names and another subject defines: NAME=SUBJECT:VERSION, or NAME=SUBJECT for the latest
    #[arg(long, value_name = "NAME=SUBJECT[:VERSION]")]
    pub(in crate::cli) reference: Vec<ReferenceArg>,
}

/// A type that another subject defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct ReferenceArg {
    pub(in crate::cli) name: String,
    pub(in crate::cli) subject: String,
    pub(in crate::cli) version: Option<u32>,
}

impl std::str::FromStr for ReferenceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("write NAME=SUBJECT or NAME=SUBJECT:VERSION")?;
        // A subject may have a colon in it, a version has none.
        let (subject, version) = match rest.rsplit_once(':').map(|(subject, version)| (subject, version.parse())) {
            Some((subject, Ok(version))) => (subject, Some(version)),
            _ => (rest, None),
        };
        if name.is_empty() || subject.is_empty() {
            return Err("write NAME=SUBJECT or NAME=SUBJECT:VERSION".to_owned());
        }
        Ok(Self { name: name.to_owned(), subject: subject.to_owned(), version })
    }
}

/// What a registry asks of new versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Level {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    /// As the registry calls it.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

/// Who must be able to read whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Mode {
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Mode {
    /// The latest must read what earlier ones wrote.
    pub(in crate::cli) fn backward(self) -> bool {
        !matches!(self, Self::Forward | Self::ForwardTransitive)
    }

    /// Earlier ones must read what the latest writes.
    pub(in crate::cli) fn forward(self) -> bool {
        !matches!(self, Self::Backward | Self::BackwardTransitive)
    }

    /// All earlier ones count, not only the one before the latest.
    pub(in crate::cli) fn transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }

    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::BackwardTransitive => "backward-transitive",
            Self::Forward => "forward",
            Self::ForwardTransitive => "forward-transitive",
            Self::Full => "full",
            Self::FullTransitive => "full-transitive",
        }
    }
}

/// How a fingerprint is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Algorithm {
    /// CRC-64-AVRO, the Rabin fingerprint of the specification
    Crc64,
    Md5,
    Sha256,
}

impl Algorithm {
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Crc64 => "crc64",
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
        }
    }
}
