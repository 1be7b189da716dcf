//! Folders that a target fills anew for every input: in memory where there is such a place, because nothing of them is kept.

use std::path::{Path, PathBuf};

/// An empty folder for this process. Earlier ones of the same name go: a run that found something removes nothing.
pub fn fresh(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = above.join(format!("gretchen-fuzz-{}-{name}", std::process::id()));
    empty(&folder);
    folder
}

/// Makes a folder an empty one.
pub fn empty(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", folder.display()),
        _ => std::fs::create_dir_all(folder).expect("a folder"),
    }
}

/// Every file below a folder with its content, by its path from there.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").map(|entry| entry.expect("a name").path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => {
                    let bytes = std::fs::read(&entry).expect("a file");
                    found.push((entry.strip_prefix(folder).expect("a path below").to_owned(), bytes));
                }
            }
        }
    }
    found.sort();
    found
}

/// Writes files as [`files`] returned them.
pub fn restore(folder: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }
}
