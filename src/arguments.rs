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

pub use archive::{Archive, ArchiveFolders};
pub use database::{Compact, Database};
pub use registration::{DoorDecision, Registration};
pub use saga::{Decision, Saga};
pub use staff::{Grant, Hold, Override, SetHold, Student};

/// The minimum length of a prefix that identifies an id.
const ID_PREFIX_MIN: usize = 4;

/// Course registration that stays up when all students register on the same morning.
#[derive(Debug, Parser)]
#[command(
    name = "matricula",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  \
        matricula up                                      everything in one process, on SQLite\n  \
        matricula register S000001 --add C001-L1          one registration, and its outcome\n  \
        matricula rush campus --speed 60x                 a whole morning, 60 times as fast\n  \
        matricula audit                                   check that nothing was lost or sold twice\n\n\
        Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 a decision about a saga is recorded but not carried \
        out yet; 64 bad configuration.\n\
        Errors are text on stderr, also with --output json. Colours appear only on a terminal, unless NO_COLOR is set."
)]
pub struct Arguments {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Configuration file [default: matricula.toml, if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one setting, such as `--set orchestrator.listen=127.0.0.1:0`; overrides the file and the environment.
    #[arg(long = "set", global = true, value_name = "SETTING=VALUE")]
    pub settings: Vec<String>,
    /// Output format; a watch prints one JSON document per line.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// URL of the orchestrator [default: http://127.0.0.1:7450]; repeat it for each replica.
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

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Table,
    /// One JSON document for programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve everything in one process.
    #[command(after_help = "Examples:\n  \
        matricula up\n  \
        matricula up --students 12000 --sections 800\n  \
        matricula up --students 0                         start empty, and import a campus")]
    Up(Up),
    /// Serve one role in a process of its own.
    #[command(after_help = "Example:\n  \
        matricula serve seats --set seats.database_url=postgres://matricula@db/seats")]
    Serve {
        /// The role to serve.
        role: Role,
    },
    /// Import a OneRoster 1.2 CSV bundle.
    Import(Import),
    /// Generate a campus.
    Campus {
        /// The subcommand.
        #[command(subcommand)]
        command: Campus,
    },
    /// Register a student, and show the outcome with its reasons.
    Register(Register),
    /// Show registrations; open, pause and close registration.
    Registration {
        /// The subcommand.
        #[command(subcommand)]
        command: Registration,
    },
    /// Show, watch and change sections.
    Sections {
        /// The subcommand.
        #[command(subcommand)]
        command: Sections,
    },
    /// Show a student's record.
    Student {
        /// The subcommand.
        #[command(subcommand)]
        command: Student,
    },
    /// Set, lift and list holds. A hold blocks the student's registrations.
    Hold {
        /// The subcommand.
        #[command(subcommand)]
        command: Hold,
    },
    /// Grant and list overrides. An override exempts a student from one reason for a refusal.
    Override {
        /// The subcommand.
        #[command(subcommand)]
        command: Override,
    },
    /// Replay a registration morning against a running system.
    Rush(Rush),
    /// Check the invariants over the ledgers of all services.
    #[command(
        after_help = "May run while registrations are in progress; those are counted separately. Exit code 1: an \
        invariant is broken.\n\nExamples:\n  \
        matricula audit\n  \
        matricula audit --output json"
    )]
    Audit,
    /// Show what sagas do and why they are stuck, and control them.
    Saga {
        /// The subcommand.
        #[command(subcommand)]
        command: Saga,
    },
    /// Read the archive of finished sagas from its files. Needs no running system.
    Archive {
        /// The subcommand.
        #[command(subcommand)]
        command: Archive,
    },
    /// Convert the databases of an earlier release.
    Database {
        /// The subcommand.
        #[command(subcommand)]
        command: Database,
    },
    /// Print the effective configuration, with secrets masked.
    #[command(after_help = "Examples:\n  \
        matricula config\n  \
        matricula config --set orchestrator.listen=127.0.0.1:0 --output json")]
    Config,
}

/// A part of the system that can run as a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Seats of sections.
    Seats,
    /// The official record of enrollments.
    Enrollments,
    /// Academic records and rules.
    Academics,
    /// Charges and refunds.
    Fees,
    /// Messages to students.
    Notifications,
    /// The saga orchestrator, with the APIs for portals and operators.
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
    /// Students of the campus that is generated when the database is empty; 0 generates none.
    #[arg(long, default_value_t = 1_000)]
    pub students: u32,
    /// Sections of the generated campus.
    #[arg(long, default_value_t = 200)]
    pub sections: u32,
    /// Seed of the generated campus.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Rule: for each file in the bundle, the bundle is the truth about what the file covers, field by field.\n\
    - An empty cell removes the stored value: a rate, a limit, a prerequisite.\n\
    - A term, course, section or student that is marked `tobedeleted`, or is absent from its file, is closed: it takes no \
    new registration and keeps its records. A later bundle that contains it opens it again.\n\
    - An absent file or column changes nothing.\n\
    - What staff have set by a command stays: a hold, a lifted hold, a capacity. A bundle changes a capacity only when its \
    value differs from that of the last bundle.\n\n\
    The whole bundle is checked first. Every problem is listed with file, line and column, and nothing of a bad bundle is \
    imported. Then the plan is shown. An import that would close more than 5 % and more than 10 of the students, sections \
    or courses, or would lift as many holds or end as many roster rows, stops and requires --yes.\n\n\
    `enrollments.csv` takes over existing enrollments. No rules are checked, and nothing is charged unless --charge is \
    given. Sections that students have registered or dropped themselves stay as they are.\n\n\
    Examples:\n  matricula import campus --dry-run\n  matricula import campus.zip\n  matricula import campus --yes --output json"
)]
pub struct Import {
    /// Folder or zip file of the bundle.
    pub bundle: PathBuf,
    /// Show the plan and import nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Import even if the plan closes many records.
    #[arg(long)]
    pub yes: bool,
    /// Charge the students that rosters (enrollments.csv) add; without it, rosters are free of charge.
    #[arg(long)]
    pub charge: bool,
}

/// Subcommands of `campus`.
#[derive(Debug, Subcommand)]
pub enum Campus {
    /// Write a bundle with `registrations.csv`, modelled on a real registration day.
    #[command(after_help = "Example:\n  matricula campus generate campus --students 3000 --sections 500 --seed 7")]
    Generate {
        /// Output folder.
        dir: PathBuf,
        /// Number of students.
        #[arg(long, default_value_t = 1_000)]
        students: u32,
        /// Number of sections.
        #[arg(long, default_value_t = 200)]
        sections: u32,
        /// Seed: the same seed generates the same campus.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Arguments of `register`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    matricula register S000001 --add C001-L1 C001-B1\n  \
    matricula register S000001 --add C002-L1 --drop C001-L1 C001-B1     a swap: both happen or neither\n  \
    matricula register S000001 --add C002-L1 --seen C002-L1=17          a refusal shows what changed since")]
pub struct Register {
    /// The student's id.
    pub student: String,
    /// Sections to add.
    #[arg(long, num_args = 1.., value_name = "SECTION")]
    pub add: Vec<String>,
    /// Sections to drop.
    #[arg(long, num_args = 1.., value_name = "SECTION")]
    pub drop: Vec<String>,
    /// Section versions that the student saw, as `sections show` prints them.
    #[arg(long, num_args = 1.., value_name = "SECTION=VERSION", value_parser = seen)]
    pub seen: Vec<(String, i64)>,
    /// Idempotency key [default: a new key].
    #[arg(long)]
    pub key: Option<String>,
    /// Maximum time to wait for the outcome, up to 30s.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub wait: Duration,
}

/// Subcommands of `sections`.
#[derive(Debug, Subcommand)]
pub enum Sections {
    /// Show sections with their free seats; without ids, the first 100 sections.
    #[command(
        after_help = "A narrow terminal omits the columns that do not fit; --output json contains all of them.\n\n\
        Examples:\n  \
        matricula sections show\n  \
        matricula sections show C001-L1 C001-B1"
    )]
    Show {
        /// Section ids.
        ids: Vec<String>,
    },
    /// Watch free seats change until interrupted.
    #[command(after_help = "Examples:\n  \
        matricula sections watch\n  \
        matricula sections watch C001-L1 --output json")]
    Watch {
        /// Section ids [default: all sections].
        ids: Vec<String>,
    },
    /// Set a section's capacity. Students who hold a seat keep it; 0 freezes the section.
    #[command(after_help = "Examples:\n  \
        matricula sections set-capacity C001-L1 40\n  \
        matricula sections set-capacity C001-L1 0         no further seat is granted")]
    SetCapacity {
        /// The section.
        id: String,
        /// Number of seats.
        capacity: i32,
    },
}

/// Arguments of `rush`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every click is sent at its time, independently of earlier clicks, and followed until it is decided: a \
    rejected click is sent again later, and a click without an answer is sent again with the same key, to the next replica \
    if there are several. At the end the invariants are checked as by `matricula audit`. Ctrl-C stops new clicks; those \
    that were sent are still followed, and the report is marked as interrupted.\nExit code 1: a click has no outcome, a \
    repeated key got a different answer, or an invariant is broken.\n\nExamples:\n  \
    matricula rush campus --speed 60x                          an hour in a minute\n  \
    matricula rush campus --speed 600x --connections 32 --report rush.json"
)]
pub struct Rush {
    /// Folder of a bundle with `registrations.csv`. The bundle must have been imported.
    pub dir: PathBuf,
    /// Speed compared to the file, such as `60x`.
    #[arg(long, default_value = "1x", value_parser = speed)]
    pub speed: f64,
    /// Number of connections, distributed over the orchestrators.
    #[arg(long, default_value_t = 8)]
    pub connections: usize,
    /// Watch each click, so that its acceptance is measured. The report shows acceptance times, the longest line and
    /// wait, and how the wait estimates compare with the actual waits.
    #[arg(long)]
    pub acknowledge: bool,
    /// Also write the report to this file, as JSON.
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
}

/// Accepts the id of a saga or a registration, or a prefix of it.
fn id_or_prefix(text: &str) -> Result<String, String> {
    match text.chars().count() {
        0..ID_PREFIX_MIN => Err(format!("enter at least {ID_PREFIX_MIN} characters of the id")),
        _ => Ok(text.to_owned()),
    }
}

fn seen(text: &str) -> Result<(String, i64), String> {
    let parts = text.split_once('=').and_then(|(section, version)| Some((section.to_owned(), version.parse().ok()?)));
    parts.ok_or_else(|| "expected SECTION=VERSION, such as C001-L1=17".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1_000)
    } else {
        return Err("the unit is missing: use ms or s, such as 500ms or 10s".to_owned());
    };
    let number: u64 =
        number.parse().map_err(|_| "expected a whole number and a unit, such as 500ms or 10s".to_owned())?;
    let wait = Duration::from_millis(number.saturating_mul(unit_ms));
    if wait > Duration::from_secs(30) { Err("must be at most 30s".to_owned()) } else { Ok(wait) }
}

fn speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("must be above 0, such as 60x".to_owned()),
    }
}
