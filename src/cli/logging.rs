//! The program's log, on the standard error.

use std::fmt;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::FormatTime;

use super::output::{colours_stderr, iso, safe};
use crate::clock::Clock;
use crate::config::Settings;

/// The time before each line.
struct Now;

impl FormatTime for Now {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&iso(Clock::system().now_ms()))
    }
}

/// Starts the log, unless the app has set a subscriber of its own.
pub(super) fn start(settings: &Settings, default_level: &str) {
    let level = settings.text("log_level").unwrap_or(default_level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(colours_stderr())
        .with_target(false)
        .with_timer(Now)
        // Where nobody reads the standard error any more, a worker goes on; saying so there would end it.
        .log_internal_errors(false);
    // What fails here is that there is a subscriber already.
    let _ = match settings.text("log_format") {
        Some("json") => builder.json().flatten_event(true).try_init(),
        _ => builder.fmt_fields(debug_fn(field).delimited(" ")).try_init(),
    };
}

/// One field, which may hold the text of users: a key, or the error of an agent.
fn field(writer: &mut Writer<'_>, field: &tracing::field::Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    match field.name() {
        "message" => write!(writer, "{}", safe(&text)),
        name => write!(writer, "{name}={}", safe(&text)),
    }
}
