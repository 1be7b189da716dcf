//! The command line: the user's own binary runs, feeds and shows the app.

mod agents;
mod args;
mod clean;
mod context;
mod export;
mod failure;
mod file;
mod groups;
mod log;
mod logging;
mod output;
mod plain;
mod read;
mod reset;
mod schema;
mod send;
mod tables;
mod topics;
mod values;
mod worker;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};

use self::args::{Cli, Command};
use self::context::Context;
use self::failure::{Done, Failure};
use crate::app::App;
use crate::backend::{is_secret, without_secrets};
use crate::config::{Settings, environment};

/// Time that the runtime's threads get after the command is done.
const RUNTIME_END: Duration = Duration::from_millis(200);

/// Runs one command line, the program's own name first.
pub(crate) fn main(app: App, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = args
        .first()
        .and_then(|path| Path::new(path).file_name())
        .map_or_else(|| app.name().to_owned(), |name| name.to_string_lossy().into_owned());
    let mut grammar = grammar(&app, &program);
    let cli = match grammar.try_get_matches_from_mut(&args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to the standard output with code 0, a mistake to the standard error with code 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(app, program, cli, grammar) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn grammar(app: &App, program: &str) -> clap::Command {
    let about = app.about_text().map_or_else(|| format!("The app {}", app.name()), str::to_owned);
    Cli::command()
        .name(program.to_owned())
        .bin_name(program.to_owned())
        .about(about)
        .after_help("Settings also come from the environment (GRETCHEN_DATA_DIR, …) and from gretchen.toml; `config` shows them all.")
}

fn run(app: App, program: String, cli: Cli, mut grammar: clap::Command) -> Done {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut grammar, &program, &mut script);
        return Ok(std::io::Write::write_all(&mut std::io::stdout(), &script)?);
    }
    let settings = Settings::load(
        &cli.global.flags(),
        &environment().map_err(|error| Failure::usage(error.to_string()))?,
        cli.global.config.as_deref(),
    )?;
    let default_level = match (&cli.command, cli.global.quiet) {
        (_, true) => "error",
        (Command::Worker(_), false) => "info",
        _ => "warn",
    };
    logging::start(&settings, default_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start a runtime: {error}")))?;
    let mut context = Context::new(app, program, settings, &cli.global);
    let done = runtime.block_on(dispatch(&mut context, cli.command));
    // Agents that did not stop in time must not keep the process.
    runtime.shutdown_timeout(RUNTIME_END);
    let flushed = context.out.flush();
    done?;
    Ok(flushed?)
}

async fn dispatch(context: &mut Context, command: Command) -> Done {
    match command {
        Command::Worker(args) => worker::run(context, &args).await,
        Command::Send(args) => send::run(context, args).await,
        Command::Read(args) => read::run(context, &args).await,
        Command::Tables(args) => tables::run(context, &args).await,
        Command::Topics(args) => topics::run(context, &args).await,
        Command::Clean(args) => clean::run(context, &args).await,
        Command::Agents => agents::agents(context),
        Command::Models => agents::models(context),
        Command::Model { name } => agents::model(context, &name),
        Command::Groups => groups::run(context).await,
        Command::Reset(args) => reset::run(context, &args).await,
        Command::Log(command) => log::run(context, command).await,
        Command::Schema(command) => schema::run(context, command).await,
        Command::Config => config(context),
        // Done before anything was opened.
        Command::Completion { .. } => Ok(()),
    }
}

fn config(context: &mut Context) -> Done {
    use self::output::Column;
    let columns = [Column::text("setting"), Column::text("value"), Column::text("origin"), Column::text("meaning")];
    let mut rows: Vec<Vec<serde_json::Value>> = context
        .settings
        .all()
        .iter()
        .map(|setting| {
            let value = match setting.value.is_empty() {
                true => serde_json::Value::Null,
                false if is_secret(setting.name) => "(secret)".into(),
                false => without_secrets(&setting.value).into(),
            };
            vec![setting.name.into(), value, setting.origin.to_string().into(), setting.help.into()]
        })
        .collect();
    rows.extend(context.settings.kafka().map(|(name, value, origin)| {
        let value = if is_secret(name) { "(secret)" } else { value };
        let help = "a setting of librdkafka's";
        vec![format!("kafka.{name}").into(), value.into(), origin.to_string().into(), help.into()]
    }));
    Ok(context.out.list(&columns, &rows, "")?)
}
