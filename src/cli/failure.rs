//! What ends a command that did not work out.

use std::error::Error as StdError;
use std::io::{self, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use super::output::safe_lines;
use crate::error::{Error, ErrorKind};

/// Why a command ends, what the user can do, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    help: Option<String>,
    code: u8,
    quiet: bool,
}

/// What a command comes to.
pub(super) type Done<T = ()> = Result<T, Failure>;

impl Failure {
    /// Something did not work: exit code 1.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, code: 1, quiet: false }
    }

    /// The command was not understood: exit code 2.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(message) }
    }

    /// The exit code alone: everything has been said.
    pub(super) fn said() -> Self {
        Self { quiet: true, ..Self::new("") }
    }

    /// Adds what the user can do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says it, unless whoever listened has gone.
    pub(super) fn report(&self) -> ExitCode {
        if !self.quiet {
            let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
            let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
            let coloured = super::output::colours_stderr();
            let label = |style: Style, text: &str| match coloured {
                true => format!("{style}{text}{style:#}"),
                false => text.to_owned(),
            };
            let mut err = io::stderr().lock();
            // Nobody is left to tell if this fails.
            let _ = writeln!(err, "{} {}", label(red, "error:"), safe_lines(&self.message));
            if let Some(help) = &self.help {
                let _ = writeln!(err, "{} {}", label(cyan, "help:"), safe_lines(help));
            }
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = if error.kind() == ErrorKind::Config { 2 } else { 1 };
        Self { code, ..Self::new(error.to_string()) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // `… | head` has seen enough.
            return Self { code: 0, ..Self::said() };
        }
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        Self::new(format!("cannot write the output: {error}{source}"))
    }
}
