//! The subcommands of `saga`.

use clap::{ArgGroup, Args, Subcommand};

/// The recorded author when neither `--by` nor `$USER` is set.
const BY_DEFAULT: &str = "operator";

/// Subcommands of `saga`.
#[derive(Debug, Subcommand)]
pub enum Saga {
    /// List sagas, newest first.
    #[command(after_help = "Examples:\n  \
        matricula saga list --needs-attention\n  \
        matricula saga list --student S000007 --limit 10 --output json")]
    List {
        /// Only sagas of this student.
        #[arg(long)]
        student: Option<String>,
        /// Only sagas that need attention.
        #[arg(long)]
        needs_attention: bool,
        /// Only unfinished sagas.
        #[arg(long)]
        unfinished: bool,
        /// Maximum number of sagas.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a saga: steps, attempts, times, errors and compensations, as a tree.
    #[command(after_help = "Examples:\n  \
        matricula saga show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula saga show 01a20394-7eb")]
    Show {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// Explain why a saga is where it is, and what an operator can do about it now.
    #[command(after_help = "Example:\n  \
        matricula saga explain 01a20394-7eb")]
    Explain {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// Send the calls that wait for their next attempt now.
    #[command(after_help = "Examples:\n  \
        matricula saga retry ID --reason \"fees is back\"                  all waiting calls\n  \
        matricula saga retry ID assess_fees --reason \"fees is back\"      one step")]
    Retry {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// Only this step.
        step: Option<String>,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// Give up a failing compensation, or a failing step after the pivot. The saga ends as abandoned.
    #[command(
        after_help = "Refused before the pivot (cancel the saga instead), for the pivot itself, and for steps that have \
        not failed.\n\nExample:\n  \
        matricula saga skip ID notify --reason \"informed by telephone\" --yes"
    )]
    Skip {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The step.
        step: String,
        /// Carry it out; without it, the command only shows its effect, and exits with code 2.
        #[arg(long)]
        yes: bool,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// Record the result of a failing compensation, a failing pivot, or a failing step after the pivot.
    #[command(
        group = ArgGroup::new("answer").required(true),
        after_help = "Examples:\n  \
            matricula saga resolve ID refund_fees --done --reason \"paid out manually\" --yes\n  \
            matricula saga resolve ID enroll --refused --reason \"nothing is enrolled\" --yes\n\n\
            --refused first queries the pivot's service. If the pivot has happened after all, the saga goes forward again. \
            If the service does not answer, --refused with a different reason decides without it. A saga that is already \
            compensating after a cancel or its deadline is querying the service: there the first --refused decides. Then \
            the other steps are undone. The saga ends when the service has confirmed that it rejects a late call of the \
            pivot, or when an operator abandons it."
    )]
    Resolve {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The step.
        step: String,
        /// The step's effect has been achieved.
        #[arg(long, group = "answer")]
        done: bool,
        /// Only for the pivot: it has not happened and never will; the saga compensates.
        #[arg(long, group = "answer")]
        refused: bool,
        /// Carry it out; without it, the command only shows its effect, and exits with code 2.
        #[arg(long)]
        yes: bool,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// End a saga that needs attention, and leave its failing steps undone.
    #[command(after_help = "Refused while its outcome is open.\n\nExample:\n  \
        matricula saga abandon ID --reason \"seats of last term are gone\" --yes")]
    Abandon {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// Carry it out; without it, the command only shows its effect, and exits with code 2.
        #[arg(long)]
        yes: bool,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// Cancel a saga: compensate everything that may have been done.
    #[command(
        after_help = "Refused once its pivot is known to have happened (definition version 1: to have been called). If the \
        pivot may have happened, its service is queried first, and the cancel may come too late: the outcome shows it. While \
        that service is unavailable, nothing is undone.\n\nExample:\n  \
        matricula saga cancel ID --reason \"requested by the student\""
    )]
    Cancel {
        /// The saga's id, or a prefix of it.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The author and the reason of the decision.
        #[command(flatten)]
        decision: Decision,
    },
    /// Watch sagas until interrupted: first all unfinished sagas, oldest first, then every change.
    #[command(after_help = "Examples:\n  \
        matricula saga watch --needs-attention\n  \
        matricula saga watch --output json                one document per line")]
    Watch {
        /// Only sagas that need attention, and their later changes.
        #[arg(long)]
        needs_attention: bool,
    },
    /// Show the limits, queues and breakers between the called replica and each service.
    #[command(after_help = "Example:\n  \
        matricula saga destinations --orchestrator http://10.0.0.7:7450")]
    Destinations,
    /// Limit the calls in flight from the called replica to a service, until the replica restarts.
    #[command(after_help = "Examples:\n  \
        matricula saga limit fees 0       park all calls of fees\n  \
        matricula saga limit fees 8")]
    Limit {
        /// The service's name, as `saga destinations` lists it.
        name: String,
        /// Calls in flight, 0 to 1000; 0 parks all calls.
        in_flight_max: i32,
    },
}

/// The author and the reason of a decision; both are recorded.
#[derive(Debug, Args)]
pub struct Decision {
    /// The reason, as a sentence for later readers of the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The author [default: $USER].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Decision {
    /// The author.
    pub fn by(&self) -> String {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.by.clone().or_else(user).unwrap_or_else(|| BY_DEFAULT.to_owned())
    }
}
