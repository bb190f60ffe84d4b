//! `matricula`: every role and every command in one binary. It composes the crates of the workspace and decides nothing.
//!
//! Data goes to stdout, talk to stderr, errors as text whatever `--output` says. Exit code 0: done; 1: refused or failed;
//! 2: usage; 64: bad configuration.

// First, because every other module speaks through it.
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

/// A registration is some hundred small allocations on its way; the system's allocator took a quarter of the time. SQLite takes
/// its memory from here, too: that is the crate's feature `override`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for arguments that can't be used.
const EXIT_USAGE: u8 = 2;
/// Exit code for a configuration that can't be used (`EX_USAGE` of sysexits, as the contract names it).
const EXIT_BAD_CONFIGURATION: u8 = 64;

/// On so many cores, the six processes of an installation have hardly one each.
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
    // What still hangs, such as a call to a file system that does not answer, must not hold up the end.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for instead of a command, such as the help; or what is wrong with the arguments.
fn not_run(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if !answer.use_stderr() => output::not_written(&error),
        // Clap has 0 for the help and 2 for usage, as the contract does.
        _ => ExitCode::from(u8::try_from(answer.exit_code()).unwrap_or(EXIT_USAGE)),
    }
}

/// One thread needs no hand-over between threads, which costs as much as a call itself.
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

/// How many threads the command gets; 0: as many as there are cores.
fn worker_threads(command: &Command, config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match (config.worker_threads, command) {
        (0, Command::Serve { .. }) if cores <= CORES_SHARED_MAX => 1,
        (threads, _) => threads,
    }
}

async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    roles::stop::outlive_file_limits();
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
        Command::Override { command } => commands::permit::run(&config, command, format).await,
        Command::Rush(rush) => commands::rush::run(&config, rush, format).await,
        Command::Audit => commands::audit::run(&config, format).await,
        Command::Archive { command } => commands::archive::run(&config, command, format),
        Command::Database { command } => commands::database::run(&config, command, format).await,
        Command::Saga { command } => commands::saga::run(&config, command, format).await,
    }
}
