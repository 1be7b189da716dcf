//! Brokers of a test's own, which it may end and start again.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Brokers in a folder of their own, which end with the test.
pub(super) struct Cluster {
    pub(super) folder: TempDir,
    pub(super) servers: String,
}

impl Cluster {
    pub(super) fn start(brokers: usize) -> Self {
        Self::start_with(&["--brokers", &brokers.to_string()])
    }

    /// One that also listens for clients with a password and for those with TLS.
    pub(super) fn start_secured() -> Self {
        Self::start_with(&["--secured"])
    }

    /// One that is reached under that address of this machine's.
    pub(super) fn start_at(host: &str) -> Self {
        Self::start_with(&["--host", host])
    }

    /// A broker that sends the clients of its other listener to that port.
    pub(super) fn start_behind(port: u16) -> Self {
        Self::start_with(&["--behind", &port.to_string()])
    }

    fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::with_prefix("gretchen-brokers-").unwrap();
        let mut cluster = Self { folder, servers: String::new() };
        let while_pid = std::process::id().to_string();
        cluster.servers = cluster.call(&[&["start", "--while", &while_pid][..], options].concat());
        cluster
    }

    /// The script that starts them, with these arguments.
    pub(super) fn script(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/services/kafka"));
        command.args(args).env("SERVICES_DIR", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// What the script says.
    pub(super) fn call(&self, args: &[&str]) -> String {
        let output = self.script(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tests/services/kafka {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.script(&["stop"]).output();
    }
}
