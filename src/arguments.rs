//! The command line as types: commands, flags, help with examples.

mod archive;
mod database;
mod registration;
mod saga;
mod staff;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use archive::{Archive, Place};
pub use database::{Compact, Database};
pub use registration::{DoorDecision, Registration};
pub use saga::{Decision, Saga};
pub use staff::{Grant, Hold, Override, SetHold, Student};

/// Characters of an id that name it, at least.
const ID_PREFIX_MIN: usize = 4;

/// Course registration that does not fall over on the one morning when everybody comes at once.
#[derive(Debug, Parser)]
#[command(
    name = "matricula",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  \
        matricula up                                      everything in one process, on SQLite\n  \
        matricula register S000001 --add C001-L1          one registration, and its outcome\n  \
        matricula rush campus --speed 60x                 a whole morning, 60 times as fast\n  \
        matricula audit                                   prove that nothing was lost or sold twice\n\n\
        Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 a decision about a saga is recorded and not carried \
        out yet, 64 bad configuration.\n\
        Errors are text on stderr, also with --output json. Colours appear only on a terminal, and never where NO_COLOR is set."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Configuration file [default: matricula.toml where it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one setting, such as `--set orchestrator.listen=127.0.0.1:0`; goes before file and environment.
    #[arg(long = "set", global = true, value_name = "SETTING=VALUE")]
    pub settings: Vec<String>,
    /// Form of what is listed or shown; a watch prints one JSON document a line.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Where the orchestrator is [default: http://127.0.0.1:7450]; once for each replica.
    #[arg(long, global = true, value_name = "URL")]
    pub orchestrator: Vec<String>,
}

impl Arguments {
    /// The settings that flags set, as (name, value).
    pub fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides: Vec<(String, String)> = self
            .settings
            .iter()
            .map(|setting| match setting.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => (setting.clone(), String::new()),
            })
            .collect();
        if !self.orchestrator.is_empty() {
            overrides.push(("client.orchestrator_url".to_owned(), self.orchestrator.join(",")));
        }
        overrides
    }
}

/// Form of what is listed or shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve everything in one process.
    #[command(after_help = "Examples:\n  \
        matricula up\n  \
        matricula up --students 12000 --sections 800\n  \
        matricula up --students 0                         no campus: import one")]
    Up(Up),
    /// Serve one role as its own process.
    #[command(after_help = "Example:\n  \
        matricula serve seats --set seats.database_url=postgres://matricula@db/seats")]
    Serve {
        /// The role.
        role: Role,
    },
    /// Import a OneRoster 1.2 CSV bundle.
    Import(Import),
    /// Make up a campus.
    Campus {
        /// What to do.
        #[command(subcommand)]
        command: Campus,
    },
    /// Register a student, and show the outcome with its reasons.
    Register(Register),
    /// Show registrations; open, pause and close registration.
    Registration {
        /// What to do.
        #[command(subcommand)]
        command: Registration,
    },
    /// Show, watch and change sections.
    Sections {
        /// What to do.
        #[command(subcommand)]
        command: Sections,
    },
    /// Show what is known of a student.
    Student {
        /// What to do.
        #[command(subcommand)]
        command: Student,
    },
    /// Set, lift and list holds, which keep a student from registering.
    Hold {
        /// What to do.
        #[command(subcommand)]
        command: Hold,
    },
    /// Grant and list overrides, which let a student past a reason for a refusal.
    Override {
        /// What to do.
        #[command(subcommand)]
        command: Override,
    },
    /// Play a registration morning against a running system.
    Rush(Rush),
    /// Prove the invariants over the ledgers of all services.
    #[command(after_help = "May run while registrations go on: what is in motion is told apart. Exit code 1: an \
        invariant is broken.\n\nExamples:\n  \
        matricula audit\n  \
        matricula audit --output json")]
    Audit,
    /// Show what sagas do and why they are stuck, and steer them.
    Saga {
        /// What to do.
        #[command(subcommand)]
        command: Saga,
    },
    /// Read the archive of finished sagas: files alone, no running system.
    Archive {
        /// What to do.
        #[command(subcommand)]
        command: Archive,
    },
    /// Convert the databases of an earlier release.
    Database {
        /// What to do.
        #[command(subcommand)]
        command: Database,
    },
    /// Print the configuration in force, secrets masked.
    #[command(after_help = "Examples:\n  \
        matricula config\n  \
        matricula config --set orchestrator.listen=127.0.0.1:0 --output json")]
    Config,
}

/// A part of the system that can be a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Seats.
    Seats,
    /// Enrollments.
    Enrollments,
    /// Academic records and rules.
    Academics,
    /// Fees.
    Fees,
    /// Notifications.
    Notifications,
    /// The saga orchestrator with the APIs for portals and operators.
    Orchestrator,
}

impl Role {
    /// Its name in settings, logs and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seats => "seats",
            Self::Enrollments => "enrollments",
            Self::Academics => "academics",
            Self::Fees => "fees",
            Self::Notifications => "notifications",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// Arguments of `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Students of the campus that is made up when the data is empty; 0 makes none.
    #[arg(long, default_value_t = 1_000)]
    pub students: u32,
    /// Sections of that campus.
    #[arg(long, default_value_t = 200)]
    pub sections: u32,
    /// Seed of that campus.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "One rule: for each file that is there, the bundle is the truth about what the file covers, field by field.\n\
    - An empty cell removes what was there: a rate, a limit, a prerequisite.\n\
    - `tobedeleted`, or absent from its file, closes a term, course, section or student: it takes no new registration and \
    keeps its records. A later bundle that names it again opens it.\n\
    - An absent file, or an absent column, says nothing and changes nothing.\n\
    - What staff have set by a command stays: a hold, a lifted hold, a capacity. A bundle changes a capacity only when it \
    says something else than the last bundle.\n\n\
    The whole bundle is checked first; every problem is named by file, line and column, and nothing of a bad bundle is \
    imported. Then the plan is shown. An import that would close more than 5 % and more than 10 of the students, sections \
    or courses, or lift as many holds, or end as many rosters, stops and asks for --yes.\n\n\
    `enrollments.csv` takes over who is in which section already. Rules are not asked, and nothing is charged unless \
    --charge says so. What students have registered or dropped themselves stays.\n\n\
    Examples:\n  matricula import campus --dry-run\n  matricula import campus.zip\n  matricula import campus --yes --output json"
)]
pub struct Import {
    /// Folder or zip file of the bundle.
    pub bundle: PathBuf,
    /// Show the plan, and import nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Import also when much would be closed.
    #[arg(long)]
    pub yes: bool,
    /// Charge students whom rosters (enrollments.csv) add; otherwise a roster costs nothing.
    #[arg(long)]
    pub charge: bool,
}

/// Verbs of `campus`.
#[derive(Debug, Subcommand)]
pub enum Campus {
    /// Write a bundle with `registrations.csv`, shaped like a real registration day.
    #[command(after_help = "Example:\n  matricula campus generate campus --students 3000 --sections 500 --seed 7")]
    Generate {
        /// Folder to write to.
        dir: PathBuf,
        /// How many students.
        #[arg(long, default_value_t = 1_000)]
        students: u32,
        /// How many sections.
        #[arg(long, default_value_t = 200)]
        sections: u32,
        /// The same seed makes the same campus.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Arguments of `register`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    matricula register S000001 --add C001-L1 C001-B1\n  \
    matricula register S000001 --add C002-L1 --drop C001-L1 C001-B1     a swap: both happen or neither\n  \
    matricula register S000001 --add C002-L1 --seen C002-L1=17          a refusal tells what has happened since")]
pub struct Register {
    /// The student.
    pub student: String,
    /// Sections to add.
    #[arg(long, num_args = 1.., value_name = "SECTION")]
    pub add: Vec<String>,
    /// Sections to drop.
    #[arg(long, num_args = 1.., value_name = "SECTION")]
    pub drop: Vec<String>,
    /// Versions of sections that the student saw, as `sections show` prints them.
    #[arg(long, num_args = 1.., value_name = "SECTION=VERSION", value_parser = seen)]
    pub seen: Vec<(String, i64)>,
    /// Idempotency key [default: a new one].
    #[arg(long)]
    pub key: Option<String>,
    /// How long to wait for the outcome: at most 30s.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub wait: Duration,
}

/// Verbs of `sections`.
#[derive(Debug, Subcommand)]
pub enum Sections {
    /// Show sections with their free seats; without ids, the first hundred.
    #[command(after_help = "On a narrow terminal, columns that do not fit are left out; --output json has all.\n\n\
        Examples:\n  \
        matricula sections show\n  \
        matricula sections show C001-L1 C001-B1")]
    Show {
        /// Their ids.
        ids: Vec<String>,
    },
    /// Watch free seats change, until interrupted.
    #[command(after_help = "Examples:\n  \
        matricula sections watch\n  \
        matricula sections watch C001-L1 --output json")]
    Watch {
        /// Their ids; none: all sections.
        ids: Vec<String>,
    },
    /// Set a section's capacity. Below what is taken nobody is evicted; 0 freezes it.
    #[command(after_help = "Examples:\n  \
        matricula sections set-capacity C001-L1 40\n  \
        matricula sections set-capacity C001-L1 0         nothing more is granted")]
    SetCapacity {
        /// The section.
        id: String,
        /// Seats.
        capacity: i32,
    },
}

/// Arguments of `rush`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every click is sent when it is due, whatever became of the earlier ones, and followed until it is \
    decided: turned away it comes back, after a lost answer it asks again with the same key, and the next replica where \
    there are several. At the end the invariants are proved as by `matricula audit`. Ctrl-C ends the clicks; those that \
    were sent are followed, and the report says so.\nExit code 1: a click has no outcome, a repeated key got another \
    answer, or an invariant is broken.\n\nExamples:\n  \
    matricula rush campus --speed 60x                          an hour in a minute\n  \
    matricula rush campus --speed 600x --connections 32 --report rush.json"
)]
pub struct Rush {
    /// Folder of a bundle with `registrations.csv`; it must have been imported.
    pub dir: PathBuf,
    /// How much faster than in the file: `60x`.
    #[arg(long, default_value = "1x", value_parser = speed)]
    pub speed: f64,
    /// Connections to the orchestrators, spread over them.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Ask for the acknowledgement first and for the outcome then. The report shows how long acceptance takes, the longest
    /// line and wait, and how the given waits compare with the real ones; outcomes are told up to 100 ms late.
    #[arg(long)]
    pub acknowledge: bool,
    /// Write the report to this file, too, as JSON.
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

/// The id of a saga or a registration, or its beginning.
fn id_or_prefix(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..ID_PREFIX_MIN => Err(format!("name at least {ID_PREFIX_MIN} characters of the id")),
        _ => Ok(text.to_owned()),
    }
}

fn seen(text: &str) -> Result<(String, i64), String> {
    let parts = text.split_once('=').and_then(|(section, version)| Some((section.to_owned(), version.parse().ok()?)));
    parts.ok_or_else(|| "name section and version: C001-L1=17".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1_000)
    } else {
        return Err("name a unit: 500ms or 10s".to_owned());
    };
    let number: u64 = number.parse().map_err(|_| "not a whole number; such as 500ms or 10s".to_owned())?;
    let wait = Duration::from_millis(number.saturating_mul(unit_ms));
    if wait > Duration::from_secs(30) { Err("at most 30s".to_owned()) } else { Ok(wait) }
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("must be above 0, such as 60x".to_owned()),
    }
}
