//! With a real schema registry, which `tests/services/registry` starts once for all of these tests.

mod commands;
mod gate;
mod numbers;
mod stage;
mod worker;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use gretchen::backend::registry::{Registry, RegistryOptions, SchemaText};

/// The address of the registry, which ends with this process.
fn address() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/registry");
        let started = Command::new(&script).args(["start", "--while", &std::process::id().to_string()]).output().unwrap();
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(
            started.status.success(),
            "tests of schemas need a registry, and {} could not start one. It needs a JRE of 11 or later and Maven (Debian: \
             apt-get install default-jre-headless maven). It said:\n{said}",
            script.display()
        );
        String::from_utf8(started.stdout).unwrap().trim().to_owned()
    })
}

/// The registry itself, for what others do there.
fn registry() -> Registry {
    Registry::new(RegistryOptions::new(address()).unwrap()).unwrap()
}

/// Registers a schema as somebody else would, and returns its number.
fn registered(subject: &str, schema: &str) -> u32 {
    let (registry, text) = (registry(), SchemaText::new(schema, Vec::new()));
    let whole = registry.whole("a schema of a test", &text).unwrap();
    registry.register(subject, &text, &whole).unwrap()
}
