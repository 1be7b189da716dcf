//! Why an agent failed: errors and panics of user code, and the storage underneath.

use std::any::Any;

use crate::error::{Error, ErrorKind};

/// Whether an error tells of storage that fails, and not of the record.
pub(crate) fn is_storage(error: &(dyn std::error::Error + 'static)) -> bool {
    storage_kind(error).is_some()
}

/// How storage failed, where an error tells of that.
pub(crate) fn storage_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return Some(error.kind()).filter(|kind| {
                matches!(
                    kind,
                    ErrorKind::Io
                        | ErrorKind::Unsettled
                        | ErrorKind::Full
                        | ErrorKind::Corrupt
                        | ErrorKind::Poisoned
                        | ErrorKind::State
                        | ErrorKind::Closed
                )
            });
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
        assert_eq!(storage_kind(&Error::new(ErrorKind::Unsettled, "who knows")), Some(ErrorKind::Unsettled));
    }
}
