//! The command line.
pub(crate) fn main(_: crate::app::App, _: std::env::ArgsOs) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
