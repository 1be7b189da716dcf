//! Every compile error of the macros, with what it says.

/// Schema files are named relative to the project that trybuild makes under the workspace's target folder.
#[test]
fn broken_schemas_are_errors_on_their_path() {
    trybuild::TestCases::new().compile_fail("tests/ui/records/*.rs");
}
