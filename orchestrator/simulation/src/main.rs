//! `cargo xtask simulate`: runs histories for a while, or one seed with its whole log.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use matricula_simulation::{Budget, Simulation, campaign};

/// The product's allocator: with it there are a twentieth more histories a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs simulated histories and checks every invariant after every event.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate")]
struct Cli {
    /// How long to go on, in minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many histories to run at most.
    #[arg(long)]
    histories: Option<u64>,
    /// Without --histories and --first: runs this one history and prints its log.
    #[arg(long)]
    seed: Option<u64>,
    /// Seed of the first history; by default from the clock.
    #[arg(long, conflicts_with = "seed")]
    first: Option<u64>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.seed {
        Some(seed) if cli.histories.is_none() => replay(seed),
        seed => run(seed.or(cli.first).unwrap_or_else(random_seed), &cli),
    }
}

/// Different in every run, and small enough to read aloud.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % 1_000_000_000_000
}

fn replay(seed: u64) -> ExitCode {
    let report = Simulation::default().run_with_log(seed);
    for line in &report.log {
        println!("{line}");
    }
    eprintln!("{}", report.tally);
    match report.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            eprintln!("seed {seed} violates {:?}: {}", violation.invariant, violation.what);
            ExitCode::FAILURE
        }
    }
}

fn run(first_seed: u64, cli: &Cli) -> ExitCode {
    let budget = Budget {
        first_seed,
        histories: cli.histories.unwrap_or(u64::MAX),
        time: Duration::from_secs_f64(cli.minutes.max(0.0) * 60.0),
    };
    eprintln!("histories from seed {first_seed} on");
    let line = |campaign: &campaign::Campaign| {
        eprintln!("{} histories, {:.0} a second", campaign.histories, campaign.rate());
    };
    let campaign = campaign::run(&Simulation::default, budget, line);
    println!(
        "{} histories in {:.1} s: {:.0} a second",
        campaign.histories,
        campaign.took.as_secs_f64(),
        campaign.rate()
    );
    for (name, count) in campaign.tally.named() {
        println!("{name:>14} {count}");
    }
    match campaign.failure() {
        None => {
            println!("no violation");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}
