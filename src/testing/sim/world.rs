//! What all simulated processes share: files, names, locks, pages, and the one sequence of random numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::Content;
use super::names::{Names, Node, ROOT};
use super::random::Random;
use crate::disk::{Kept, Look, Open, PAGE_BYTES, PageWords};

/// One in so many calls a shared page is written back by the kernel.
const WRITE_BACK: u64 = 64;

/// How often calls fail or do less than they were asked for: once in so many, 0 for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Opening, listing, and reading files.
    pub read: u64,
    /// Changing files and names: an I/O error.
    pub write: u64,
    /// Changing files and names: there is no room.
    pub full: u64,
    /// Syncs; what was to be synced is in doubt then. The next sync by whoever had the file open meanwhile fails, too, but
    /// not those by who opens it later, as Linux does it.
    pub sync: u64,
    /// Reads and writes that stop early without an error.
    pub short: u64,
}

/// How the world ends for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It is killed; what it wrote is in the page cache.
    Kill,
    /// The machine loses its power, and every process with it.
    PowerLoss,
}

/// What a call does, for faults and for the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Look,
    Read,
    Write,
    Sync,
    Lock,
}

/// Whether a process still runs.
#[derive(Debug, Default)]
pub(super) struct Life {
    ended: AtomicBool,
}

impl Life {
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// A file that is open somewhere, or has a name.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) content: Content,
    /// How many of its syncs have failed.
    pub(super) failures: u64,
    page: Option<Arc<PageWords>>,
    exclusive: Option<u64>,
    shared: BTreeSet<u64>,
}

pub(super) struct State {
    pub(super) random: Random,
    pub(super) files: BTreeMap<Node, File>,
    pub(super) names: Names,
    pub(super) faults: Faults,
    lives: BTreeMap<u64, Arc<Life>>,
    /// Who has opened what, by the number of the open file: process and file.
    opened: BTreeMap<u64, (u64, Node)>,
    listeners: Vec<(u64, Node, Look)>,
    /// What processes keep until they end.
    kept: Vec<(u64, Kept)>,
    boot: u64,
    next: u64,
    calls: u64,
    trace: u64,
    /// A crash that is to happen at a call, counted down.
    fuse: Option<(u64, u64, Crash)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("calls", &self.calls).field("boot", &self.boot).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct World(Mutex<State>);

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            random: Random::new(seed),
            files: BTreeMap::new(),
            names: Names::new(),
            faults: Faults::default(),
            lives: BTreeMap::new(),
            opened: BTreeMap::new(),
            listeners: Vec::new(),
            kept: Vec::new(),
            boot: 1,
            next: ROOT + 1,
            calls: 0,
            trace: 0,
            fuse: None,
        }))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call of a process: may fail, may be its last.
    pub(super) fn call<T>(
        &self,
        process: u64,
        call: Call,
        about: u64,
        act: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state();
        if state.has_ended(process) {
            return Err(ended());
        }
        state.calls += 1;
        state.note(process << 8 | call as u64);
        state.note(about);
        state.write_back();
        if let Some(crash) = state.burn(process) {
            // The call may still have had its effect.
            if state.random.one_in(2) {
                let _ = act(&mut state);
            }
            let garbage = match crash {
                Crash::Kill => vec![state.kill(process)],
                Crash::PowerLoss => state.lose_power(),
            };
            drop(state);
            drop(garbage);
            return Err(ended());
        }
        if let Some(error) = state.fail(call) {
            return Err(error);
        }
        act(&mut state)
    }

    /// Calls those who listen to a page; none of them may be called while the state is locked.
    pub(super) fn wake(&self, node: Node) {
        let mut due = Vec::new();
        {
            let listeners = &mut self.state().listeners;
            while let Some(at) = listeners.iter().position(|(_, of, _)| *of == node) {
                due.push(listeners.remove(at));
            }
        }
        for (process, node, mut look) in due {
            if look().is_some() {
                let mut state = self.state();
                if !state.has_ended(process) {
                    state.listeners.push((process, node, look));
                    continue;
                }
                drop(state);
            }
        }
    }

    pub(super) fn listen(&self, process: u64, node: Node, mut look: Look) {
        if look().is_some() {
            let mut state = self.state();
            // One that has ended hears nothing, and what it would hear with holds this world.
            if !state.has_ended(process) {
                state.listeners.push((process, node, look));
            }
        }
    }

    /// Keeps something until a process ends; nothing for one that has ended.
    pub(super) fn keep(&self, process: u64, what: Kept) {
        let mut state = self.state();
        if !state.has_ended(process) {
            state.kept.push((process, what));
            return;
        }
        drop(state);
        drop(what);
    }

    pub(super) fn kill(&self, process: u64) {
        let garbage = self.state().kill(process);
        drop(garbage);
    }

    pub(super) fn lose_power(&self) {
        let garbage = self.state().lose_power();
        drop(garbage);
    }
}

/// What ended processes held. It must be dropped without the state, which it closes files of.
#[derive(Default)]
struct Garbage {
    _listeners: Vec<(u64, Node, Look)>,
    _kept: Vec<(u64, Kept)>,
}

/// What a process that has ended is told; it has no effect on anything any more.
pub(super) fn ended() -> io::Error {
    io::Error::other("the simulated process has ended")
}

fn errno(code: rustix::io::Errno) -> io::Error {
    code.into()
}

impl State {
    pub(super) fn start(&mut self) -> (u64, Arc<Life>) {
        let (process, life) = (self.number(), Arc::new(Life::default()));
        self.lives.insert(process, life.clone());
        (process, life)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn has_ended(&self, process: u64) -> bool {
        self.lives.get(&process).is_none_or(|life| life.has_ended())
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// Adds to the trace.
    pub(super) fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    pub(super) fn set_fuse(&mut self, process: u64, calls: u64, crash: Crash) {
        self.fuse = Some((process, calls, crash));
    }

    fn burn(&mut self, process: u64) -> Option<Crash> {
        let (of, left, crash) = self.fuse.as_mut()?;
        if *of != process {
            return None;
        }
        *left = left.saturating_sub(1);
        if *left > 0 {
            return None;
        }
        let crash = *crash;
        self.fuse = None;
        Some(crash)
    }

    fn fail(&mut self, call: Call) -> Option<io::Error> {
        use rustix::io::Errno;
        let faults = self.faults;
        match call {
            Call::Look | Call::Read if self.random.one_in(faults.read) => Some(errno(Errno::IO)),
            Call::Write if self.random.one_in(faults.full) => Some(errno(Errno::NOSPC)),
            Call::Write if self.random.one_in(faults.write) => Some(errno(Errno::IO)),
            _ => None,
        }
    }

    fn write_back(&mut self) {
        if !self.random.one_in(WRITE_BACK) {
            return;
        }
        for file in self.files.values_mut() {
            if let Some(page) = file.page.as_ref().filter(|page| !file.content.is_written_back(page)) {
                file.content.write_back_page(&bytes_of(page));
            }
        }
    }

    /// Ends a process.
    fn kill(&mut self, process: u64) -> Garbage {
        if let Some(life) = self.lives.remove(&process) {
            life.ended.store(true, Ordering::SeqCst);
        }
        let opened: Vec<u64> = self.opened.iter().filter(|(_, (of, _))| *of == process).map(|(id, _)| *id).collect();
        opened.into_iter().for_each(|id| self.close(id));
        Garbage {
            _listeners: self.listeners.extract_if(.., |(of, ..)| *of == process).collect(),
            _kept: self.kept.extract_if(.., |(of, _)| *of == process).collect(),
        }
    }

    fn lose_power(&mut self) -> Vec<Garbage> {
        let processes: Vec<u64> = self.lives.keys().copied().collect();
        let garbage = processes.into_iter().map(|process| self.kill(process)).collect();
        self.boot += 1;
        for file in self.files.values_mut() {
            if let Some(page) = file.page.take().filter(|_| self.random.one_in(2)) {
                file.content.write_back_page(&bytes_of(&page));
            }
            file.content.lose_power(&mut self.random);
        }
        self.names.lose_power(&mut self.random);
        let names = &self.names;
        self.files.retain(|node, _| names.is_linked(*node));
        garbage
    }

    /// The number of the open file, the file, and how many of its syncs have failed.
    pub(super) fn open(&mut self, process: u64, path: &Path, how: Open) -> io::Result<(u64, Node, u64)> {
        let (folder, name) = self.parent(path)?;
        let found = self.names.find(folder, name);
        let node = match found {
            Some(node) if self.names.is_folder(node) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) if how == Open::New => return Err(io::ErrorKind::AlreadyExists.into()),
            Some(node) => node,
            None if how == Open::Existing => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let node = self.number();
                self.names.add_file(folder, name, node);
                node
            }
        };
        let forgets = self.random.one_in(2);
        let File { content, failures, .. } = self.files.entry(node).or_default();
        let failures = *failures;
        if forgets {
            content.forget_clean_pages();
        }
        if how == Open::Emptied && content.len() > 0 {
            content.set_len(0);
        }
        let id = self.number();
        self.opened.insert(id, (process, node));
        Ok((id, node, failures))
    }

    pub(super) fn close(&mut self, id: u64) {
        self.unlock(id);
        let Some((_, node)) = self.opened.remove(&id) else { return };
        if self.files.get(&node).is_none_or(|file| file.page.is_none()) {
            return;
        }
        if self.opened.values().all(|(_, of)| *of != node) && !self.names.is_linked(node) {
            // A name that the disk still has would lead to it again.
            if let Some(file) = self.files.get_mut(&node) {
                file.page = None;
            }
        }
    }

    pub(super) fn file(&mut self, node: Node) -> io::Result<&mut File> {
        self.files.get_mut(&node).ok_or_else(ended)
    }

    /// The folder that holds what a path names, and the name there.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(Node, &'a str)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.find(path.parent().unwrap_or(Path::new("/")))?;
        if !self.names.is_folder(folder) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((folder, name))
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = ROOT;
        for part in path.components() {
            match part {
                Component::RootDir => node = ROOT,
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                    node = self.names.find(node, name).ok_or(io::ErrorKind::NotFound)?;
                }
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        Ok(node)
    }

    /// Adds a folder to one that is there, unless it has it.
    pub(super) fn add_folder(&mut self, folder: Node, name: &str) -> io::Result<Node> {
        match self.names.find(folder, name) {
            Some(node) if self.names.is_folder(node) => Ok(node),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                let node = self.number();
                self.names.add_folder(folder, name, node);
                Ok(node)
            }
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        let node = self.names.find(from.0, from.1).ok_or(io::ErrorKind::NotFound)?;
        if let Some(there) = self.names.find(to.0, to.1)
            && (self.names.is_folder(node) || self.names.is_folder(there))
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.rename(from, to, node);
        Ok(())
    }

    pub(super) fn try_lock(&mut self, id: u64, exclusive: bool) -> bool {
        let Some((_, node)) = self.opened.get(&id).copied() else { return false };
        let Some(file) = self.files.get_mut(&node) else { return false };
        let held = file.exclusive.is_some_and(|by| by != id);
        if held || exclusive && file.shared.iter().any(|by| *by != id) {
            return false;
        }
        file.exclusive = exclusive.then_some(id);
        file.shared.remove(&id);
        if !exclusive {
            file.shared.insert(id);
        }
        true
    }

    pub(super) fn unlock(&mut self, id: u64) {
        let Some((_, node)) = self.opened.get(&id).copied() else { return };
        if let Some(file) = self.files.get_mut(&node) {
            file.exclusive = file.exclusive.filter(|by| *by != id);
            file.shared.remove(&id);
        }
    }

    pub(super) fn map(&mut self, node: Node) -> io::Result<Arc<PageWords>> {
        let file = self.file(node)?;
        if file.content.len() < PAGE_BYTES {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let content = &file.content;
        let page = file.page.get_or_insert_with(|| {
            let bytes = content.read(0);
            let word = |i: usize| u64::from_ne_bytes(std::array::from_fn(|j| bytes[8 * i + j]));
            Arc::new(std::array::from_fn(|i| AtomicU64::new(word(i))))
        });
        Ok(page.clone())
    }
}

fn bytes_of(page: &PageWords) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAGE_BYTES);
    page.iter().for_each(|word| bytes.extend_from_slice(&word.load(Ordering::SeqCst).to_ne_bytes()));
    bytes
}
