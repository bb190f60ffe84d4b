//! The subcommands of `student`, `hold` and `override`: what staff see of a student, and what they decide.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use matricula_kit::answer::Reason;

use super::Decision;

/// Subcommands of `student`.
#[derive(Debug, Subcommand)]
pub enum Student {
    /// Show a student: record, holds, overrides, latest registrations, balance.
    #[command(after_help = "The registrations and the balance are omitted while their services are unavailable.\n\n\
        Examples:\n  \
        matricula student show S000007\n  \
        matricula student show S000007 --output json")]
    Show {
        /// The student.
        student: String,
    },
}

/// Subcommands of `hold`.
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Set a hold, or change its text: the student can't register until it is lifted.
    #[command(after_help = "Example:\n  \
        matricula hold set S000007 library --text \"Unpaid library fine: pay at the desk\" --reason \"ticket 7\"")]
    Set(SetHold),
    /// Lift a hold.
    #[command(after_help = "Example:\n  \
        matricula hold lift S000007 library --reason \"paid at the desk\"")]
    Lift {
        /// The student.
        student: String,
        /// The hold's name, as `hold list` shows it.
        hold: String,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// List the holds of a student.
    #[command(after_help = "Example:\n  \
        matricula hold list S000007")]
    List {
        /// The student.
        student: String,
    },
}

/// Arguments of `hold set`.
#[derive(Debug, Args)]
pub struct SetHold {
    /// The student.
    pub student: String,
    /// The hold's name, unique for the student.
    pub hold: String,
    /// The text for the student: what the hold is, and what to do about it.
    #[arg(long, value_name = "TEXT")]
    pub text: String,
    /// The author and the reason of the decision.
    #[command(flatten)]
    pub decision: Decision,
}

/// Subcommands of `override`.
#[derive(Debug, Subcommand)]
pub enum Override {
    /// Exempt a student from one reason for a refusal.
    #[command(after_help = "The student must register again: a refused registration stays refused.\n\n\
        Examples:\n  \
        matricula override grant S000007 CLOSED_SECTION --section C001-L1 --reason \"needs it to graduate\"\n  \
        matricula override grant S000007 HOLD --until 2026-12-01T17:00:00Z --by ada --reason \"pays tomorrow\"")]
    Grant(Grant),
    /// List the overrides of a student.
    #[command(after_help = "Example:\n  \
        matricula override list S000007")]
    List {
        /// The student.
        student: String,
    },
}

/// Arguments of `override grant`.
#[derive(Debug, Args)]
pub struct Grant {
    /// The student.
    pub student: String,
    /// The reason, as the refusal names it.
    #[arg(value_name = "REASON", ignore_case = true, value_parser = overridable(), hide_possible_values = true)]
    pub past: Reason,
    /// Only for this section [default: for every section].
    #[arg(long, value_name = "SECTION")]
    pub section: Option<String>,
    /// Only for registrations until this moment, such as 2026-12-01T17:00:00Z [default: no limit].
    #[arg(long, value_name = "MOMENT")]
    pub until: Option<Timestamp>,
    /// The author and the reason of the decision.
    #[command(flatten)]
    pub decision: Decision,
}

/// Parses the reasons that can be overridden, by their names.
fn overridable() -> impl clap::builder::TypedValueParser<Value = Reason> {
    let reasons = || Reason::ALL.iter().copied().filter(|reason| reason.overridable());
    let names = PossibleValuesParser::new(reasons().map(Reason::name));
    names.try_map(move |name| {
        let mut reasons = reasons();
        reasons.find(|reason| reason.name().eq_ignore_ascii_case(&name)).ok_or("this reason can't be overridden")
    })
}
