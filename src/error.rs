//! The one error type: what failed, where in the data, and what to do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::topic::TopicPartition;

/// Any error that user code may return.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong, for a program to decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A flag, an environment variable or a line of the configuration file is wrong.
    Config,
    /// The app's agents, tables and topics do not fit together.
    Plan,
    /// A schema is broken, unknown or does not fit.
    Schema,
    /// Bytes that are not what their schema says.
    Decode,
    /// A value that its schema cannot hold.
    Encode,
    /// A key that belongs to another partition, or is missing.
    Key,
    /// A topic, partition, table or file that does not exist.
    NotFound,
    /// Something else holds it, or it exists with other properties.
    Conflict,
    /// The operating system refused.
    Io,
    /// There is no room left where something was to be written; it works again when there is.
    Full,
    /// Larger, or more, than a setting allows.
    Limit,
    /// Stored bytes fail their checksum or contradict each other.
    Corrupt,
    /// An earlier failure made this part read-only until it is opened again.
    Poisoned,
    /// A table's state contradicts its changelog.
    State,
    /// User code returned an error or panicked.
    Agent,
    /// What was on its way has been ended from outside, or nobody knows what became of it: what counts is found out by
    /// opening again.
    Unsettled,
    /// The backend cannot do this.
    Unsupported,
    /// It was closed or is being shut down.
    Closed,
}

/// What failed, where, and what can be done.
///
/// The message is lower case without a full stop; `Display` appends the place and the chain of sources.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    place: Option<TopicPartition>,
    offset: Option<u64>,
    source: Option<BoxError>,
}

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind with a message that says what failed and what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), place: None, offset: None, source: None }))
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds the topic and partition, unless an inner layer already did.
    #[must_use]
    pub fn at(mut self, place: &TopicPartition) -> Self {
        self.0.place.get_or_insert_with(|| place.clone());
        self
    }

    /// Adds the offset, unless an inner layer already did.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, without place and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Where, if it is about one partition.
    pub fn place(&self) -> Option<&TopicPartition> {
        self.0.place.as_ref()
    }

    /// Which record, if it is about one.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// An operating-system error with what was being done, e.g. `cannot open /data/orders/0`.
    pub fn io(doing: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new(ErrorKind::Full, doing.into() + "; make room on that disk").with_source(source)
            }
            _ => Self::new(ErrorKind::Io, doing).with_source(source),
        }
    }

    /// A file of a format that only newer releases know.
    pub(crate) fn newer_format(file: &dyn fmt::Display, format: u32, reads: u32) -> Self {
        let message =
            format!("{file} has format {format}, this build reads up to {reads}; use the release that wrote it");
        Self::new(ErrorKind::Unsupported, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match (&self.0.place, self.0.offset) {
            (Some(place), Some(offset)) => {
                write!(f, " (topic {}, partition {}, offset {offset})", place.topic, place.partition)?
            }
            (Some(place), None) => write!(f, " (topic {}, partition {})", place.topic, place.partition)?,
            (None, Some(offset)) => write!(f, " (offset {offset})")?,
            (None, None) => {}
        }
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            // An `Error` underneath has printed its own chain already.
            if cause.is::<Error>() {
                break;
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
