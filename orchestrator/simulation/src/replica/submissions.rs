//! The shell's own account of submissions: which ones the core has accepted, and the load at that time.

use matricula_core::{CoreConfig, Input, Moment, Reply as CoreReply};

use super::broken_core::BrokenCore;
use super::workflow::{Caller, Simulated};
use crate::clients::Asker;
use crate::env::Env;
use crate::names::{SagaNo, StudentNo};

/// The core's decision about a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    LetIn,
    QueueFull { retry_after: Moment },
    OverQuota { retry_after: Moment },
}

/// A submission and the load at that time.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub saga: SagaNo,
    pub student: StudentNo,
    pub entry: Entry,
    /// The core had no other input in that step, so this is exactly the load that it used.
    pub is_alone: bool,
    /// Sagas in line, by the core's copy of the line.
    pub in_line: u64,
    /// Sagas in memory, and sagas whose first event is being written.
    pub in_memory: usize,
    /// Accepted submissions without an answer, and since when the first of them waits.
    pub unanswered: usize,
    pub unanswered_ms: i64,
    /// How long ago earlier submissions of the student were accepted, in milliseconds, the oldest first.
    pub earlier_ms: Vec<i64>,
    /// The shutdown of the instance had begun before.
    pub is_too_late: bool,
    pub bounds: CoreConfig,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    saga: SagaNo,
    student: StudentNo,
    is_too_late: bool,
}

#[derive(Debug, Default)]
pub(super) struct Submissions {
    /// Let in and not answered, and since when.
    unanswered: Vec<(SagaNo, i64)>,
    /// When submissions were let in.
    let_in_ms: Vec<(StudentNo, i64)>,
    asked: Vec<Asked>,
    is_stopping: bool,
    /// Before the step.
    is_alone: bool,
    in_line: u64,
    in_memory: usize,
}

impl Submissions {
    /// A step begins.
    pub(super) fn asked(&mut self, core: &BrokenCore, inputs: &[Input<Simulated>]) {
        self.asked.clear();
        for input in inputs {
            match input {
                Input::Submitted { submission, caller } => {
                    let (student, is_too_late) = (submission.request.student, self.is_stopping);
                    self.asked.push(Asked { saga: caller.saga, student, is_too_late });
                }
                Input::Stopped => self.is_stopping = true,
                _ => {}
            }
        }
        self.is_alone = inputs.len() == 1;
        self.in_line = core.core().in_line();
        self.in_memory = core.core().in_memory() + core.core().about_to_begin();
    }

    /// A step is over: these are its answers.
    pub(super) fn answered(
        &mut self,
        env: &Env,
        bounds: &CoreConfig,
        replies: &[(Caller, CoreReply)],
    ) -> Vec<Submitted> {
        let is_asker = |caller: &Caller| matches!(caller.asker, Asker::Submitter { .. });
        let answers = || replies.iter().filter(|(caller, _)| is_asker(caller));
        self.unanswered.retain(|(saga, _)| !answers().any(|(caller, _)| caller.saga == *saga));
        let mut submitted = Vec::with_capacity(self.asked.len());
        for asked in std::mem::take(&mut self.asked) {
            let entry = match answers().find(|(caller, _)| caller.saga == asked.saga) {
                None => Entry::LetIn,
                Some((_, CoreReply::QueueFull { retry_after })) => Entry::QueueFull { retry_after: *retry_after },
                Some((_, CoreReply::OverQuota { retry_after, .. })) => Entry::OverQuota { retry_after: *retry_after },
                Some(_) => continue,
            };
            let of_student = self.let_in_ms.iter().filter(|(student, _)| *student == asked.student);
            submitted.push(Submitted {
                saga: asked.saga,
                student: asked.student,
                entry,
                is_alone: self.is_alone,
                in_line: self.in_line,
                in_memory: self.in_memory,
                unanswered: self.unanswered.len(),
                unanswered_ms: self.unanswered.first().map_or(0, |(_, since_ms)| env.now_ms - since_ms),
                earlier_ms: of_student.map(|(_, at_ms)| env.now_ms - at_ms).collect(),
                is_too_late: asked.is_too_late,
                bounds: bounds.clone(),
            });
            if entry == Entry::LetIn {
                self.unanswered.push((asked.saga, env.now_ms));
                self.let_in_ms.push((asked.student, env.now_ms));
            }
        }
        submitted
    }
}
