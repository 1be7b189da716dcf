//! The machine's own file system.
#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::{FileSystem, Kept, Look, Open, OpenFile, PAGE_BYTES, PageWords, Room, SharedPage, Work};

#[derive(Debug)]
pub(super) struct System;

#[derive(Debug)]
struct SystemFile(File);

#[derive(Debug)]
struct SystemPage(MmapRaw);

impl FileSystem for System {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn OpenFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        match how {
            Open::Existing => &mut options,
            Open::OrCreate => options.create(true).truncate(false),
            Open::New => options.create_new(true),
            Open::Emptied => options.create(true).truncate(true),
        };
        Ok(Box::new(SystemFile(options.open(path)?)))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn unique_name(&self) -> String {
        Uuid::new_v4().to_string()
    }

    fn room(&self, path: &Path) -> Option<Room> {
        let of = rustix::fs::statvfs(path).ok()?;
        Some(Room { free: of.f_bavail.saturating_mul(of.f_frsize), total: of.f_blocks.saturating_mul(of.f_frsize) })
    }

    fn boot(&self) -> Option<[u64; 2]> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = Uuid::parse_str(text.trim()).ok()?.as_u64_pair();
        Some([id.0, id.1])
    }

    fn is_system(&self) -> bool {
        true
    }

    fn beside(&self, work: Work) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(work);
        }
    }

    fn keep(&self, what: Kept) {
        std::mem::forget(what);
    }
}

impl OpenFile for SystemFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        retried(|| self.0.read_at(into, at))
    }

    fn read_spare_at(&self, into: &mut Vec<u8>, at: u64) -> io::Result<usize> {
        retried(|| Ok(rustix::io::pread(&self.0, rustix::buffer::spare_capacity(into), at)?))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        retried(|| self.0.write_at(bytes, at))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), at, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
            done => Ok(done?),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.flock(FlockOperation::NonBlockingLockExclusive) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            done => done.map(|()| true),
        }
    }

    fn lock(&self) -> io::Result<()> {
        self.flock(FlockOperation::LockExclusive)
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.flock(FlockOperation::LockShared)
    }

    fn unlock(&self) -> io::Result<()> {
        self.flock(FlockOperation::Unlock)
    }

    fn is_linked(&self) -> io::Result<bool> {
        Ok(self.0.metadata()?.nlink() > 0)
    }

    fn map(&self) -> io::Result<Arc<dyn SharedPage>> {
        Ok(Arc::new(SystemPage(MmapOptions::new().len(PAGE_BYTES).map_raw(&self.0)?)))
    }
}

impl SystemFile {
    fn flock(&self, operation: FlockOperation) -> io::Result<()> {
        retried(|| Ok(flock(&self.0, operation)?))
    }
}

impl SharedPage for SystemPage {
    fn words(&self) -> &PageWords {
        // SAFETY: the mapping is page-aligned, PAGE_BYTES long, readable and writable, and lives as long as `self`. Any
        // content is valid for atomics, and use by other threads and processes is no data race. The file behind it has
        // that length and no code of ours shortens it.
        unsafe { &*self.0.as_mut_ptr().cast::<PageWords>() }
    }

    fn listen(self: Arc<Self>, mut look: Look) -> io::Result<()> {
        use rustix::thread::futex::{Flags, wait};
        let listen = move || {
            while let Some(seen) = look() {
                match wait(self.first_half(), Flags::empty(), seen, None) {
                    Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => {
                        tracing::error!(%error, "readers are no longer woken by other processes");
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new().name("gretchen-bell".into()).spawn(listen).map(drop)
    }

    fn wake(&self) {
        use rustix::thread::futex::{Flags, wake};
        // It fails for a bad address only, and this one is mapped.
        let _ = wake(self.first_half(), Flags::empty(), i32::MAX as u32);
    }
}

impl SystemPage {
    fn first_half(&self) -> &AtomicU32 {
        // SAFETY: as in `words`; an atomic of four bytes fits where one of eight does. The kernel reads it as such.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU32>() }
    }
}

fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, DiskFile, Unlock};

    #[test]
    fn a_lock_ends_although_a_copy_of_its_descriptor_lives_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = SystemFile(File::create(&path).unwrap());
        // What a child process has until it begins.
        let copy = held.0.try_clone().unwrap();
        let held = DiskFile(Box::new(held));
        assert!(held.try_lock().unwrap());
        let other = Disk::system().open(&path, Open::Existing).unwrap();
        assert!(!other.try_lock().unwrap());
        drop(Unlock(held));
        assert!(other.try_lock().unwrap());
        drop(copy);
    }
}
