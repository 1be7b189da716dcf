//! The names of files and folders, and which of them a loss of power leaves.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;

/// A file or folder, whatever it is called.
pub(super) type Node = u64;

/// The folder that everything is in.
pub(super) const ROOT: Node = 0;

/// What a folder holds.
type Entries = BTreeMap<String, Node>;

/// A change of names that was not synced.
#[derive(Clone, Debug)]
enum Change {
    Added { folder: Node, name: String, node: Node },
    Removed { folder: Node, name: String },
    Renamed { from: (Node, String), to: (Node, String), node: Node },
}

impl Change {
    fn folders(&self) -> [Node; 2] {
        match self {
            Self::Added { folder, .. } | Self::Removed { folder, .. } => [*folder; 2],
            Self::Renamed { from, to, .. } => [from.0, to.0],
        }
    }

    fn apply(&self, folders: &mut BTreeMap<Node, Entries>) {
        match self {
            Self::Added { folder, name, node } => {
                folders.entry(*folder).or_default().insert(name.clone(), *node);
            }
            Self::Removed { folder, name } => {
                folders.entry(*folder).or_default().remove(name);
            }
            Self::Renamed { from, to, node } => {
                let source = folders.entry(from.0).or_default();
                if source.get(&from.1) == Some(node) {
                    source.remove(&from.1);
                }
                folders.entry(to.0).or_default().insert(to.1.clone(), *node);
            }
        }
    }
}

/// All names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// As every process sees them.
    now: BTreeMap<Node, Entries>,
    /// As the disk has them.
    disk: BTreeMap<Node, Entries>,
    /// What leads from the one to the other, in order.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        let root = BTreeMap::from([(ROOT, Entries::new())]);
        Self { now: root.clone(), disk: root, pending: Vec::new() }
    }

    pub(super) fn is_folder(&self, node: Node) -> bool {
        self.now.contains_key(&node)
    }

    pub(super) fn find(&self, folder: Node, name: &str) -> Option<Node> {
        self.now.get(&folder)?.get(name).copied()
    }

    pub(super) fn entries(&self, folder: Node) -> Option<&Entries> {
        self.now.get(&folder)
    }

    /// Whether anything is called so.
    pub(super) fn is_linked(&self, node: Node) -> bool {
        self.now.values().any(|entries| entries.values().any(|have| *have == node))
    }

    pub(super) fn add_file(&mut self, folder: Node, name: &str, node: Node) {
        self.change(Change::Added { folder, name: name.to_owned(), node });
    }

    pub(super) fn add_folder(&mut self, folder: Node, name: &str, node: Node) {
        self.now.insert(node, Entries::new());
        self.change(Change::Added { folder, name: name.to_owned(), node });
    }

    pub(super) fn remove(&mut self, folder: Node, name: &str) {
        self.change(Change::Removed { folder, name: name.to_owned() });
    }

    pub(super) fn rename(&mut self, from: (Node, &str), to: (Node, &str), node: Node) {
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.change(Change::Renamed { from, to, node });
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.pending.push(change);
    }

    /// Makes the names in a folder durable, and with them what came before in other folders that they depend on.
    pub(super) fn sync(&mut self, folder: Node) {
        let mut folders = BTreeSet::from([folder]);
        let mut later = Vec::new();
        let mut synced = Vec::new();
        for change in self.pending.drain(..).rev() {
            if change.folders().iter().any(|of| folders.contains(of)) {
                folders.extend(change.folders());
                synced.push(change);
            } else {
                later.push(change);
            }
        }
        synced.iter().rev().for_each(|change| change.apply(&mut self.disk));
        later.reverse();
        self.pending = later;
    }

    /// Any part of what was not synced is gone, each change as a whole.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let style = random.within(0..4);
        let first = random.within(0..self.pending.len() as u64 + 1);
        let keep = random.within(1..16);
        for (number, change) in self.pending.drain(..).enumerate() {
            let kept = match style {
                0 => false,
                1 => true,
                2 => (number as u64) < first,
                _ => random.within(0..16) < keep,
            };
            if kept {
                change.apply(&mut self.disk);
            }
        }
        // What no name leads to is gone; a folder that lost its names is still one.
        let folders: BTreeSet<Node> = self.now.keys().copied().collect();
        let mut reached = BTreeMap::new();
        let mut next = vec![ROOT];
        while let Some(folder) = next.pop() {
            let entries = self.disk.get(&folder).cloned().unwrap_or_default();
            next.extend(entries.values().filter(|node| folders.contains(node)));
            reached.insert(folder, entries);
        }
        self.now = reached.clone();
        self.disk = reached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seed: u64, prepare: impl Fn(&mut Names)) -> (Option<Node>, Option<Node>) {
        let mut names = Names::new();
        names.add_folder(ROOT, "a", 1);
        names.add_folder(ROOT, "b", 2);
        names.sync(ROOT);
        prepare(&mut names);
        names.lose_power(&mut Random::new(seed));
        (names.find(1, "draft"), names.find(2, "file"))
    }

    #[test]
    fn a_name_survives_with_its_folder_synced() {
        for seed in 0..100 {
            let left = after(seed, |names| {
                names.add_file(1, "draft", 7);
                names.rename((1, "draft"), (2, "file"), 7);
                names.sync(2);
            });
            assert_eq!(left, (None, Some(7)));
        }
    }

    #[test]
    fn a_name_that_was_not_synced_may_survive_or_not_and_is_never_there_twice() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            seen.insert(after(seed, |names| {
                names.add_file(1, "draft", 7);
                names.rename((1, "draft"), (2, "file"), 7);
            }));
        }
        assert_eq!(seen, BTreeSet::from([(None, None), (Some(7), None), (None, Some(7))]));
    }
}
