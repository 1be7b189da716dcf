//! How many files of the log a process has open, and how many it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::error::{Error, ErrorKind};

/// Files of an open partition: the lock of appends, the shared page, the segment that is written and its index.
pub(super) const PARTITION_FILES: usize = 4;

/// Files of a reader: the segment that it reads.
pub(super) const READER_FILES: usize = 1;

/// What is left to everything that is no log where no limit is known.
const NO_LIMIT: usize = 1 << 20;

/// Counts the files of a log.
#[derive(Clone, Debug)]
pub(super) struct OpenFiles(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    open: AtomicUsize,
    most: usize,
}

/// Leave to have some files open, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    files: OpenFiles,
    count: usize,
}

impl OpenFiles {
    /// At most `most`, or what the process may open less a quarter.
    pub(super) fn new(most: Option<usize>) -> Self {
        let allowed = raise_descriptor_limit();
        Self(Arc::new(Counts { open: AtomicUsize::new(0), most: most.unwrap_or(allowed - allowed / 4) }))
    }

    /// Leave for `count` more files, unless they are too many.
    pub(super) fn take(&self, count: usize) -> Option<Permit> {
        let more = |open: usize| Some(open + count).filter(|open| *open <= self.0.most);
        self.0.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Permit { files: self.clone(), count })
    }

    /// The error for whoever gets no leave.
    pub(super) fn exhausted(&self) -> Error {
        Error::new(
            ErrorKind::Limit,
            format!(
                "this process has as many files of the log open as max_open_files allows, {}; raise it and `ulimit -n`, \
                 or let more workers share the partitions",
                self.0.most
            ),
        )
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.files.0.open.fetch_sub(self.count, Ordering::AcqRel);
    }
}

/// The usual limit of 1024 is there for programs that use `select`: it is raised as far as this user may. Returns it.
fn raise_descriptor_limit() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_is_given_up_to_the_limit_and_comes_back() {
        for (asked, fits) in [(9, true), (10, true), (11, false)] {
            assert_eq!(OpenFiles::new(Some(10)).take(asked).is_some(), fits, "{asked}");
        }
        let files = OpenFiles::new(Some(10));
        let first = files.take(6).unwrap();
        assert!(files.take(5).is_none());
        drop(first);
        assert!(files.take(5).is_some());
        assert!(files.exhausted().message().contains("max_open_files allows, 10"));
    }
}
