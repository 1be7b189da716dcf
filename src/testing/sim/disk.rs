//! The simulated file system as one process sees it.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::names::Node;
use super::world::{Call, Life, World, ended};
use crate::disk::{FileSystem, Kept, Look, Open, OpenFile, PAGE_BYTES, PageWords, Room, SharedPage, Work};

/// Work that would block takes up to so many turns of others until it is done.
const BLOCKED_TURNS: u64 = 4;

/// A process's view of the files.
#[derive(Clone, Debug)]
pub(super) struct SimulatedFiles {
    pub(super) world: Arc<World>,
    pub(super) process: u64,
    pub(super) life: Arc<Life>,
}

#[derive(Debug)]
struct SimulatedFile {
    files: SimulatedFiles,
    id: u64,
    node: Node,
    /// Of so many failed syncs of the file this one was told.
    failures: AtomicU64,
}

#[derive(Debug)]
struct SimulatedPage {
    files: SimulatedFiles,
    node: Node,
    words: Arc<PageWords>,
    /// What a process that has ended goes on with: nobody else sees it.
    after_end: OnceLock<Box<PageWords>>,
}

/// A path for the trace.
fn about(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl SimulatedFiles {
    fn call<T>(
        &self,
        call: Call,
        about: u64,
        act: impl FnOnce(&mut super::world::State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.world.call(self.process, call, about, act)
    }
}

impl FileSystem for SimulatedFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn OpenFile>> {
        let call = if how == Open::Existing { Call::Look } else { Call::Write };
        let (id, node, failures) = self.call(call, about(path), |state| state.open(self.process, path, how))?;
        Ok(Box::new(SimulatedFile { files: self.clone(), id, node, failures: failures.into() }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().filter(|above| above.file_name().is_some()).collect();
        above.reverse();
        for path in above {
            if !self.is_folder(path) {
                self.call(Call::Write, about(path), |state| {
                    let (folder, name) = state.parent(path)?;
                    state.add_folder(folder, name).map(drop)
                })?;
            }
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Sync, about(path), |state| {
            let folder = state.find(path)?;
            let faults = state.faults;
            if state.random.one_in(faults.sync) {
                return Err(rustix::io::Errno::IO.into());
            }
            state.names.sync(folder);
            Ok(())
        })
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.call(Call::Look, about(path), |state| {
            let folder = state.find(path)?;
            let entries = state.names.entries(folder).ok_or(io::ErrorKind::NotADirectory)?;
            Ok(entries.keys().cloned().collect())
        })
    }

    fn is_folder(&self, path: &Path) -> bool {
        let state = self.world.state();
        state.find(path).is_ok_and(|node| state.names.is_folder(node))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Write, about(to), |state| state.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Write, about(path), |state| {
            let (folder, name) = state.parent(path)?;
            state.names.find(folder, name).ok_or(io::ErrorKind::NotFound)?;
            state.names.remove(folder, name);
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        for name in self.names(path)? {
            let within = path.join(name);
            if self.is_folder(&within) {
                self.remove_folder(&within)?;
            } else {
                self.remove(&within)?;
            }
        }
        self.remove(path)
    }

    fn unique_name(&self) -> String {
        format!("{:016x}", self.world.state().random.number())
    }

    fn room(&self, _path: &Path) -> Option<Room> {
        None
    }

    fn boot(&self) -> Option<[u64; 2]> {
        Some([self.world.state().boot(); 2])
    }

    fn is_system(&self) -> bool {
        false
    }

    fn beside(&self, work: Work) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let turns = self.world.state().random.within(0..BLOCKED_TURNS);
        // Dropped with the runtime, as a thread ends with its process.
        runtime.spawn(async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            work();
        });
    }

    fn keep(&self, what: Kept) {
        self.world.keep(self.process, what);
    }
}

impl OpenFile for SimulatedFile {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.files.call(Call::Read, self.node, |state| {
            let faults = state.faults;
            let stops = state.random.one_in(faults.short) && into.len() > 1;
            let most = if stops { state.random.within(1..into.len() as u64) as usize } else { into.len() };
            let have = state.file(self.node)?.content.read(at as usize);
            let count = most.min(have.len());
            into[..count].copy_from_slice(&have[..count]);
            Ok(count)
        })
    }

    fn read_spare_at(&self, into: &mut Vec<u8>, at: u64) -> io::Result<usize> {
        let old = into.len();
        into.resize(into.capacity(), 0);
        let read = self.read_at(&mut into[old..], at);
        into.truncate(old + read.as_ref().copied().unwrap_or(0));
        read
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.files.call(Call::Write, self.node, |state| {
            let faults = state.faults;
            let stops = state.random.one_in(faults.short) && bytes.len() > 1;
            let count = if stops { state.random.within(1..bytes.len() as u64) as usize } else { bytes.len() };
            state.note(u64::from(crc32c::crc32c(&bytes[..count])) << 32 | at);
            state.file(self.node)?.content.write(at as usize, &bytes[..count]);
            Ok(count)
        })
    }

    fn length(&self) -> io::Result<u64> {
        self.files.call(Call::Look, self.node, |state| Ok(state.file(self.node)?.content.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.files.call(Call::Write, self.node, |state| {
            state.file(self.node)?.content.set_len(len as usize);
            Ok(())
        })
    }

    fn allocate(&self, at: u64, len: u64) -> io::Result<()> {
        self.files.call(Call::Write, self.node, |state| {
            let content = &mut state.file(self.node)?.content;
            if content.len() < (at + len) as usize {
                content.set_len((at + len) as usize);
            }
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.files.call(Call::Sync, self.node, |state| {
            let faults = state.faults;
            let fails = state.random.one_in(faults.sync);
            let file = state.files.get_mut(&self.node).ok_or_else(ended)?;
            if fails {
                file.content.fail_sync(&mut state.random);
                file.failures += 1;
            } else {
                file.content.sync();
            }
            match self.failures.swap(file.failures, Ordering::SeqCst) == file.failures {
                true => Ok(()),
                false => Err(rustix::io::Errno::IO.into()),
            }
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.files.call(Call::Lock, self.node, |state| Ok(state.try_lock(self.id, true)))
    }

    fn lock(&self) -> io::Result<()> {
        self.lock_or_fail(true)
    }

    fn lock_shared(&self) -> io::Result<()> {
        self.lock_or_fail(false)
    }

    fn unlock(&self) -> io::Result<()> {
        self.files.world.state().unlock(self.id);
        Ok(())
    }

    fn is_linked(&self) -> io::Result<bool> {
        self.files.call(Call::Look, self.node, |state| Ok(state.names.is_linked(self.node)))
    }

    fn map(&self) -> io::Result<Arc<dyn SharedPage>> {
        let words = self.files.call(Call::Look, self.node, |state| state.map(self.node))?;
        Ok(Arc::new(SimulatedPage { files: self.files.clone(), node: self.node, words, after_end: OnceLock::new() }))
    }
}

impl SimulatedFile {
    /// Nobody can wait on the only thread. No code of ours holds a lock that others wait for over an `.await`.
    fn lock_or_fail(&self, exclusive: bool) -> io::Result<()> {
        self.files.call(Call::Lock, self.node, |state| {
            let taken = state.try_lock(self.id, exclusive);
            taken.then_some(()).ok_or_else(|| rustix::io::Errno::DEADLK.into())
        })
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        self.files.world.state().close(self.id);
    }
}

impl SharedPage for SimulatedPage {
    fn words(&self) -> &PageWords {
        if !self.files.life.has_ended() {
            return &self.words;
        }
        self.after_end.get_or_init(|| {
            let copy: PageWords = std::array::from_fn(|i| AtomicU64::new(self.words[i].load(Ordering::SeqCst)));
            Box::new(copy)
        })
    }

    fn listen(self: Arc<Self>, look: Look) -> io::Result<()> {
        self.files.world.listen(self.files.process, self.node, look);
        Ok(())
    }

    fn wake(&self) {
        if !self.files.life.has_ended() {
            self.files.world.wake(self.node);
        }
    }
}

const _: () = assert!(PAGE_BYTES == size_of::<PageWords>());
