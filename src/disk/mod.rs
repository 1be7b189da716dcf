//! The only place that touches the files of a data folder: the machine's file system, or a simulated one.
//!
//! The log, the positions of tasks and whatever else must survive a crash go through a [`Disk`]. The interface is
//! narrow on purpose: what is not in it cannot be used without being simulated, too. Calls are those of the
//! operating system and promise no more than it does; above all, nothing survives a loss of power that was not synced,
//! and a name only if its folder was.

mod system;

use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a page that processes share.
pub const PAGE_BYTES: usize = 4096;

/// What a shared page holds.
pub type PageWords = [AtomicU64; PAGE_BYTES / 8];

/// Work that may block.
pub type Work = Box<dyn FnOnce() + Send>;

/// What a process keeps until it ends.
pub type Kept = Box<dyn Send>;

/// Looks at what a page says, and returns the first four bytes of it as they were, or `None` to end.
pub type Look = Box<dyn FnMut() -> Option<u32> + Send>;

/// How a file is opened: always for reading and writing, close-on-exec, and for this user only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist.
    Existing,
    /// It is created where it is missing.
    OrCreate,
    /// It must not exist yet.
    New,
    /// It is created, or emptied.
    Emptied,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Those that may still be written.
    pub free: u64,
    /// All of them.
    pub total: u64,
}

/// A file system as one process sees it.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn OpenFile>>;
    /// Creates a folder and those above it, for this user only. No error if it exists.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder.
    fn names(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether there is a folder of that name.
    fn is_folder(&self, path: &Path) -> bool;
    /// Gives a file or a folder another name; a file that has it is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with everything in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// A name that nobody else makes up.
    fn unique_name(&self) -> String;
    /// How much of the disk that a path is on is free, where that is known.
    fn room(&self, path: &Path) -> Option<Room>;
    /// Names this run of the machine, where the system tells.
    fn boot(&self) -> Option<[u64; 2]>;
    /// Whether it is the machine's own, which programs that know nothing of it see, too.
    fn is_system(&self) -> bool;
    /// Runs what may block, beside the runtime's threads; forgets it where there is no runtime.
    fn beside(&self, work: Work);
    /// Keeps what holds files and locks until the process ends.
    fn keep(&self, what: Kept);
}

/// An open file. Locks belong to it and end with it, whatever else is open.
pub trait OpenFile: Send + Sync + fmt::Debug {
    /// Reads up to `into.len()` bytes; fewer at the end, or for no reason.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    /// Reads into the spare capacity of `into`, as [`OpenFile::read_at`] does.
    fn read_spare_at(&self, into: &mut Vec<u8>, at: u64) -> io::Result<usize>;
    /// Writes some of `bytes`, at least one.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it by zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves space for `len` bytes from `at` on and extends the file by zeroes;
    /// [`io::ErrorKind::Unsupported`] where the file system cannot.
    fn allocate(&self, at: u64, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes everything about the file durable, but not its name.
    fn sync_all(&self) -> io::Result<()>;
    /// Takes the lock alone; `false` when somebody has it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Waits for the lock: on a thread that may block only.
    fn lock(&self) -> io::Result<()>;
    /// Takes a lock that others may hold too, in the place of whatever this file holds.
    fn lock_shared(&self) -> io::Result<()>;
    /// Gives the lock back.
    fn unlock(&self) -> io::Result<()>;
    /// Whether it still has a name.
    fn is_linked(&self) -> io::Result<bool>;
    /// Maps the first [`PAGE_BYTES`], which the file must have, into memory that all share who map it.
    fn map(&self) -> io::Result<Arc<dyn SharedPage>>;
}

/// Memory that is shared between processes. It outlives them, but not the machine.
pub trait SharedPage: Send + Sync + fmt::Debug {
    /// The memory.
    fn words(&self) -> &PageWords;
    /// Calls `look` now and after every [`SharedPage::wake`] that follows, until it returns `None`; also once in a while for
    /// nothing. A call that changes the first four bytes before it wakes is never missed.
    fn listen(self: Arc<Self>, look: Look) -> io::Result<()>;
    /// Wakes all who listen, in every process.
    fn wake(&self);
}

/// A file system; clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct Disk(Arc<dyn FileSystem>);

impl Default for Disk {
    fn default() -> Self {
        Self::system()
    }
}

impl Disk {
    /// The machine's own.
    pub fn system() -> Self {
        Self(Arc::new(system::System))
    }

    /// Another one.
    pub fn new(files: Arc<dyn FileSystem>) -> Self {
        Self(files)
    }

    /// Opens a file.
    pub fn open(&self, path: &Path, how: Open) -> io::Result<DiskFile> {
        self.0.open(path, how).map(DiskFile)
    }

    /// The whole content of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Existing)?;
        let mut bytes = Vec::new();
        loop {
            // One more than is there, to see that nothing was added.
            let rest = file.length()?.saturating_sub(bytes.len() as u64);
            bytes.reserve(rest as usize + 1);
            let at = bytes.len() as u64;
            if file.read_spare_at(&mut bytes, at)? == 0 {
                return Ok(bytes);
            }
        }
    }

    /// Replaces a file as a whole, durably: a reader and a crash find the old content or the new. It is written under
    /// the name `draft` first, in the same folder.
    pub fn replace(&self, path: &Path, draft: &Path, content: &[u8]) -> io::Result<()> {
        let file = self.open(draft, Open::Emptied)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        self.rename(draft, path)?;
        self.sync_folder(path.parent().unwrap_or(Path::new(".")))
    }

    /// Runs what may block beside the runtime's threads.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (done, result) = oneshot::channel();
        self.beside(move || {
            // Whoever asked may have gone.
            let _ = done.send(work());
        });
        result.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Closed, "the runtime is shutting down").with_source(error))
        })
    }

    /// Runs what may block beside the runtime's threads, without waiting for it; forgets it where there is no runtime.
    pub fn beside(&self, work: impl FnOnce() + Send + 'static) {
        self.0.beside(Box::new(work));
    }
}

impl std::ops::Deref for Disk {
    type Target = dyn FileSystem;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// An open file of a [`Disk`].
#[derive(Debug)]
pub struct DiskFile(Box<dyn OpenFile>);

impl DiskFile {
    /// Reads exactly `into.len()` bytes.
    pub fn read_exact_at(&self, mut into: &mut [u8], mut at: u64) -> io::Result<()> {
        while !into.is_empty() {
            let count = self.read_at(into, at)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            into = &mut into[count..];
            at += count as u64;
        }
        Ok(())
    }

    /// Reads until `into` is full or the file ends; returns how many bytes that are.
    pub fn read_full_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut have = 0;
        while have < into.len() {
            match self.read_at(&mut into[have..], at + have as u64)? {
                0 => break,
                count => have += count,
            }
        }
        Ok(have)
    }

    /// [`DiskFile::read_full_at`] into the spare capacity of `into`.
    pub fn read_spare_full_at(&self, into: &mut Vec<u8>, at: u64) -> io::Result<usize> {
        let before = into.len();
        while into.len() < into.capacity() {
            if self.read_spare_at(into, at + (into.len() - before) as u64)? == 0 {
                break;
            }
        }
        Ok(into.len() - before)
    }

    /// Writes all of `bytes`; after an error some of them may be written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.write_at(bytes, at)?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
            at += count as u64;
        }
        Ok(())
    }
}

impl std::ops::Deref for DiskFile {
    type Target = dyn OpenFile;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// Gives a lock back when dropped.
///
/// Closing the file is not enough: a child process between its fork and its exec has a copy of every descriptor, and
/// the lock would last until that is closed, too.
#[derive(Debug)]
pub struct Unlock<F: Borrow<DiskFile>>(pub F);

impl<F: Borrow<DiskFile>> Drop for Unlock<F> {
    fn drop(&mut self) {
        // It can fail for a closed descriptor only, and this one is open.
        let _ = self.0.borrow().unlock();
    }
}
