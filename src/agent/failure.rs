//! Why an agent failed: errors and panics of user code, and the storage underneath.

use std::any::Any;

use crate::error::{Error, ErrorKind};
use crate::record::DecodeError;

/// Whether an error tells of storage that fails, and not of the record.
pub(crate) fn is_storage(error: &(dyn std::error::Error + 'static)) -> bool {
    lookup_failed(error).is_some()
        || first::<Error>(error).is_some_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::Io
                    | ErrorKind::Full
                    | ErrorKind::Corrupt
                    | ErrorKind::Poisoned
                    | ErrorKind::State
                    | ErrorKind::Closed
            )
        })
}

/// How the lookup of a record's schema failed, where that is why it cannot be read.
pub(crate) fn lookup_failed(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    first::<DecodeError>(error)?.lookup_failed()
}

fn first<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// A panic of user code as an error.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Agent, format!("the agent panicked: {}", text.unwrap_or("(no message)")))
}

/// An error with everything underneath it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    // Our own errors print their chain themselves.
    let mut source = if error.is::<Error>() { None } else { error.source() };
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = if cause.is::<Error>() { None } else { cause.source() };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::BoxError;

    #[test]
    fn storage_that_fails_is_not_the_records_fault() {
        assert!(is_storage(&Error::new(ErrorKind::Io, "cannot read")));
        assert!(!is_storage(&Error::new(ErrorKind::Key, "the key belongs elsewhere")));
        assert!(!is_storage(&*BoxError::from("no such customer")));
        let own = Error::new(ErrorKind::Agent, "failed").with_source(BoxError::from(Error::new(ErrorKind::Io, "mine")));
        assert_eq!(lookup_failed(&own), None);
    }
}
