//! `matricula`: every role and every command in one binary. It composes the crates of the workspace and decides nothing.
//!
//! Data goes to stdout, talk to stderr. Exit code 0: done; 1: refused or failed; 2: usage; 64: bad configuration.

mod arguments;
mod clients;
mod commands;
mod config;
mod output;
mod roles;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use config::Config;

/// Exit code for a configuration that can't be used (`EX_USAGE` of sysexits, as the contract names it).
const EXIT_BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref(), &arguments.overrides()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_BAD_CONFIGURATION);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(arguments, config));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let format = arguments.output;
    match arguments.command {
        Command::Up(up) => roles::up(config, up).await,
        Command::Serve { role } => roles::serve_one(config, role).await,
        Command::Config => commands::config::run(&config),
        Command::Import(import) => commands::import::run(&config, import).await,
        Command::Campus { command } => commands::campus::run(command).await,
        Command::Register(register) => commands::register::run(&config, register, format).await,
        Command::Registration { command } => commands::registration::run(&config, command, format).await,
        Command::Sections { command } => commands::sections::run(&config, command, format).await,
        Command::Rush(rush) => commands::rush::run(&config, rush, format).await,
        Command::Audit => commands::audit::run(&config, format).await,
        Command::Archive { command } => commands::archive::run(&config, command, format),
        Command::Saga { command } => commands::saga::run(&config, command, format).await,
    }
}
