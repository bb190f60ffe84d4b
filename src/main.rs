//! `matricula`: every role and every command in one binary. It composes the crates of the workspace and contains no
//! business rules.
//!
//! Results go to stdout; messages go to stderr. Errors are text, also with `--output json`. Exit codes: 0 done; 1
//! refused or failed; 2 wrong usage; 64 bad configuration.

// First, because the other modules use its macro.
#[macro_use]
mod output;

mod arguments;
mod clients;
mod commands;
mod config;
mod roles;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use config::{Config, Loaded};

/// A registration makes some hundred small allocations; with the system's allocator they took a quarter of the time.
/// SQLite uses this allocator too, through the crate's feature `override`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for arguments that are wrong.
const EXIT_USAGE: u8 = 2;
/// Exit code for a wrong configuration (`EX_USAGE` of sysexits).
const EXIT_BAD_CONFIGURATION: u8 = 64;

/// With at most this many cores, the six processes of an installation have about one core each.
const CORES_SHARED_MAX: usize = 4;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return not_run(&answer),
    };
    let config = match Config::load(arguments.config.as_deref(), &arguments.overrides()) {
        Ok(Loaded { config, warnings }) => {
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            config
        }
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    };
    let runtime = match runtime(worker_threads(&arguments.command, &config)) {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(arguments, config));
    // A call that still hangs, such as one to a file system that does not respond, must not delay the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the help or version that was requested, or the problem with the arguments.
fn not_run(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if !answer.use_stderr() => output::not_written(&error),
        // Clap's codes are ours: 0 for the help, 2 for usage.
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(EXIT_USAGE)),
    }
}

/// A single thread needs no hand-over between threads, which would cost as much as a call itself.
fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

/// The number of worker threads for the command; 0 means one per core.
fn worker_threads(command: &Command, config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match (config.worker_threads, command) {
        (0, Command::Serve { .. }) if cores <= CORES_SHARED_MAX => 1,
        (threads, _) => threads,
    }
}

async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    roles::stop::survive_file_size_limit();
    let format = arguments.output;
    match arguments.command {
        Command::Up(up) => roles::up(config, up).await,
        Command::Serve { role } => roles::serve_one(config, role).await,
        Command::Config => commands::config::run(&config, format),
        Command::Import(import) => commands::import::run(&config, import, format).await,
        Command::Campus { command } => commands::campus::run(command, format).await,
        Command::Register(register) => commands::register::run(&config, register, format).await,
        Command::Registration { command } => commands::registration::run(&config, command, format).await,
        Command::Sections { command } => commands::sections::run(&config, command, format).await,
        Command::Student { command } => commands::student::run(&config, command, format).await,
        Command::Hold { command } => commands::hold::run(&config, command, format).await,
        Command::Override { command } => commands::overrides::run(&config, command, format).await,
        Command::Rush(rush) => commands::rush::run(&config, rush, format).await,
        Command::Audit => commands::audit::run(&config, format).await,
        Command::Archive { command } => commands::archive::run(&config, command, format),
        Command::Database { command } => commands::database::run(&config, command, format).await,
        Command::Saga { command } => commands::saga::run(&config, command, format).await,
    }
}
