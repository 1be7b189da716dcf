//! Every compile error of the macros: a file under `tests/ui` with the compiler's words beside it.
//!
//! `TRYBUILD=overwrite cargo test --release --workspace --test ui` writes them anew.

use std::fs;
use std::path::Path;

/// Puts the schemas where the cases are compiled, which is where `records!` looks for them.
fn copy_schemas(from: &Path) -> std::io::Result<()> {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tests/trybuild/gretchen-macros-ui/schemas");
    fs::create_dir_all(&to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

#[test]
fn mistakes_are_explained() {
    copy_schemas(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")).unwrap();
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/agent/*.rs");
    cases.compile_fail("tests/ui/aggregate/*.rs");
    cases.compile_fail("tests/ui/records/*.rs");
}
