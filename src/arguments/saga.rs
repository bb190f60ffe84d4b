//! The verbs of `saga`.

use clap::{ArgGroup, Args, Subcommand};

/// Name of whoever decides when neither `--by` nor the environment tells.
const BY_DEFAULT: &str = "operator";

/// Verbs of `saga`.
#[derive(Debug, Subcommand)]
pub enum Saga {
    /// List sagas, newest first.
    #[command(after_help = "Examples:\n  \
        matricula saga list --needs-attention\n  \
        matricula saga list --student S000007 --limit 10 --output json")]
    List {
        /// Only those of this student.
        #[arg(long)]
        student: Option<String>,
        /// Only those that need attention.
        #[arg(long)]
        needs_attention: bool,
        /// Only those that are not finished.
        #[arg(long)]
        unfinished: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a saga: steps, attempts, times, errors and compensations, as a tree.
    #[command(after_help = "Examples:\n  \
        matricula saga show 01a20394-7ebb-7176-8acb-23285aac80e3\n  \
        matricula saga show 01a20394-7eb")]
    Show {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// Say why a saga is where it is, and what can be done about it now.
    #[command(after_help = "Example:\n  \
        matricula saga explain 01a20394-7eb")]
    Explain {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
    },
    /// Call at once what waits for its next attempt.
    #[command(after_help = "Examples:\n  \
        matricula saga retry ID --reason \"fees is back\"                  all that waits\n  \
        matricula saga retry ID assess_fees --reason \"fees is back\"      one step")]
    Retry {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// Only this step.
        step: Option<String>,
        /// The person who decides, and the reason.
        #[command(flatten)]
        decision: Decision,
    },
    /// Leave a failing undo, or a failing step after the pivot, undone for good; the saga ends as abandoned.
    #[command(
        after_help = "Refused before the pivot (cancel the saga instead), for the pivot itself, and for what has \
        not failed.\n\nExample:\n  \
        matricula saga skip ID notify --reason \"told by telephone\" --yes"
    )]
    Skip {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The step.
        step: String,
        /// Really do it; without it, what it would do is told.
        #[arg(long)]
        yes: bool,
        /// The person who decides, and the reason.
        #[command(flatten)]
        decision: Decision,
    },
    /// Count a failing undo, a failing pivot or a failing step after it as answered.
    #[command(
        group = ArgGroup::new("answer").required(true),
        after_help = "Examples:\n  \
            matricula saga resolve ID refund_fees --done --reason \"paid out by hand\" --yes\n  \
            matricula saga resolve ID enroll --refused --reason \"nothing is enrolled\" --yes\n\n\
            Of a pivot that is found refused the service is asked first, and if it has happened after all the saga turns back. \
            While the service does not answer, the same with another reason decides the outcome without it. A saga \
            that has turned already, by a cancel or its deadline, is asking: there the first --refused decides. Then \
            the rest is undone, and the saga ends when the service has answered that it rejects a late call of the \
            pivot, or when it is abandoned."
    )]
    Resolve {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The step.
        step: String,
        /// What it is for is done.
        #[arg(long, group = "answer")]
        done: bool,
        /// Only of the pivot: it has not happened and never will; the saga turns round.
        #[arg(long, group = "answer")]
        refused: bool,
        /// Really do it; without it, what it would do is told.
        #[arg(long)]
        yes: bool,
        /// The person who decides, and the reason.
        #[command(flatten)]
        decision: Decision,
    },
    /// End a saga that needs attention, with what is left undone.
    #[command(after_help = "Refused while its outcome is open.\n\nExample:\n  \
        matricula saga abandon ID --reason \"seats of last term are gone\" --yes")]
    Abandon {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// Really do it; without it, what it would do is told.
        #[arg(long)]
        yes: bool,
        /// The person who decides, and the reason.
        #[command(flatten)]
        decision: Decision,
    },
    /// Turn a saga round: all that may have been done is undone.
    #[command(
        after_help = "Refused once its pivot is known to have happened (definition version 1: to have been called). Where \
        it may have happened its service is asked first, and the cancel may come too late: the outcome tells. While that \
        service is away nothing is undone.\n\nExample:\n  \
        matricula saga cancel ID --reason \"the student asked for it\""
    )]
    Cancel {
        /// Its id, or the beginning of its id.
        #[arg(value_parser = super::id_or_prefix)]
        id: String,
        /// The person who decides, and the reason.
        #[command(flatten)]
        decision: Decision,
    },
    /// Watch sagas change, until interrupted: first all that are unfinished, oldest first.
    #[command(after_help = "Examples:\n  \
        matricula saga watch --needs-attention\n  \
        matricula saga watch --output json                one document a line")]
    Watch {
        /// Only those that need attention, and what becomes of them.
        #[arg(long)]
        needs_attention: bool,
    },
    /// Show what stands between the asked replica and each service.
    #[command(after_help = "Example:\n  \
        matricula saga destinations --orchestrator http://10.0.0.7:7450")]
    Destinations,
    /// Change how many calls to a service may be in flight from the asked replica, until it restarts.
    #[command(after_help = "Examples:\n  \
        matricula saga limit fees 0       park all calls of fees\n  \
        matricula saga limit fees 8")]
    Limit {
        /// The service, as `saga destinations` names it.
        name: String,
        /// Calls, 0 to 1000; 0 parks them.
        in_flight_max: i32,
    },
}

impl Saga {
    /// The id that was typed, for the verbs of one saga.
    pub fn id_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Show { id }
            | Self::Explain { id }
            | Self::Retry { id, .. }
            | Self::Skip { id, .. }
            | Self::Resolve { id, .. }
            | Self::Abandon { id, .. }
            | Self::Cancel { id, .. } => Some(id),
            Self::List { .. } | Self::Watch { .. } | Self::Destinations | Self::Limit { .. } => None,
        }
    }
}

/// The person who decides something, and why: both are recorded.
#[derive(Debug, Args)]
pub struct Decision {
    /// Why: some words for those who read the record later.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who decides [default: $USER].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Decision {
    /// Who decides.
    pub fn by(&self) -> String {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.by.clone().or_else(user).unwrap_or_else(|| BY_DEFAULT.to_owned())
    }
}
