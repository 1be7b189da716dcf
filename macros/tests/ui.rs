//! Every compile error of the macros: a file under `tests/ui` with the compiler's words beside it.
//!
//! `TRYBUILD=overwrite cargo test --release -p gretchen-macros --test ui` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder that the cases are compiled in, which `records!` reads its files from.
fn case_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tests/trybuild/gretchen-macros")
}

fn copy_schemas(from: &Path) {
    let to = case_folder().join("schemas");
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn mistakes_are_explained() {
    copy_schemas(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas"));
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/agent/*.rs");
    cases.compile_fail("tests/ui/aggregate/*.rs");
}
