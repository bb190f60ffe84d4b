//! The shell's own account of submissions: which ones the core has let in, and what was open when it did.

use matricula_core::{CoreConfig, Input, Moment, Reply as CoreReply};

use super::account::{Account, KnownSaga};
use super::workflow::{Caller, Simulated};
use crate::clients::Asker;
use crate::env::Env;
use crate::names::{SagaNo, StudentNo};

/// How the core takes a submission that it has not seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    LetIn,
    QueueFull { retry_after: Moment },
    OverQuota { retry_after: Moment },
}

/// A submission and what was open at that time. A step may take in several inputs, so some counts are bounds.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub saga: SagaNo,
    pub student: StudentNo,
    pub entry: Entry,
    /// Sagas that were let in here and have no outcome, after the step.
    pub open: usize,
    /// The same of this student, each key once.
    pub open_of_student: usize,
    /// Sagas without an outcome during the step, at most.
    pub open_most: usize,
    pub open_of_student_most: usize,
    /// Sagas in memory before the step.
    pub in_memory: usize,
    /// Sagas in memory during the step, at most.
    pub in_memory_most: usize,
    /// Some saga has left memory in the step.
    pub has_left: bool,
    /// How long ago earlier submissions of the student were let in, in milliseconds: the oldest first.
    pub earlier_ms: Vec<i64>,
    /// Some key of the student came twice while it was open: then it is not known here what each of them costs.
    pub is_repeated: bool,
    /// The instance was asked to end before.
    pub is_too_late: bool,
    pub bounds: CoreConfig,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    saga: SagaNo,
    student: StudentNo,
    is_too_late: bool,
}

impl Asked {
    /// Each client has a key of its own.
    fn has_key_of(self, saga: SagaNo) -> bool {
        self.saga.client() == saga.client()
    }
}

#[derive(Debug, Default)]
pub(super) struct Submissions {
    /// Let in, and the core has not said what became of them.
    entering: Vec<Asked>,
    /// When submissions were let in.
    let_in_ms: Vec<(StudentNo, i64)>,
    repeated: Vec<StudentNo>,
    asked: Vec<Asked>,
    is_stopping: bool,
    /// Before the step.
    open: usize,
    in_memory: usize,
}

impl Submissions {
    /// A step begins.
    pub(super) fn asked(&mut self, account: &Account, inputs: &[Input<Simulated>]) {
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
        if self.asked.is_empty() {
            return;
        }
        self.in_memory = account.sagas.len();
        self.open = self.entering.len() + account.sagas.iter().filter(may_be_open).count();
    }

    /// A step is over: these are its answers, and as many sagas have entered.
    pub(super) fn answered(
        &mut self,
        env: &Env,
        account: &Account,
        bounds: &CoreConfig,
        replies: &[(Caller, CoreReply)],
        entered: usize,
    ) -> Vec<Submitted> {
        if self.asked.is_empty() && (self.entering.is_empty() || replies.is_empty()) {
            return Vec::new();
        }
        let is_asker = |caller: &Caller| matches!(caller.asker, Asker::Submitter { .. });
        let answers = || replies.iter().filter(|(caller, _)| is_asker(caller));
        let before = self.entering.clone();
        self.entering.retain(|asked| !answers().any(|(caller, _)| caller.saga == asked.saga));
        let asked = std::mem::take(&mut self.asked);
        let mut submitted = Vec::with_capacity(asked.len());
        for (place, this) in asked.iter().enumerate() {
            let entry = match answers().find(|(caller, _)| caller.saga == this.saga) {
                None => Entry::LetIn,
                Some((_, CoreReply::QueueFull { retry_after })) => Entry::QueueFull { retry_after: *retry_after },
                Some((_, CoreReply::OverQuota { retry_after, .. })) => Entry::OverQuota { retry_after: *retry_after },
                Some(_) => continue,
            };
            if before.iter().chain(&asked[..place]).any(|other| this.has_key_of(other.saga)) {
                self.repeated.push(this.student);
            }
            let of_student = self.let_in_ms.iter().filter(|(student, _)| *student == this.student);
            submitted.push(Submitted {
                saga: this.saga,
                student: this.student,
                entry,
                open: 0,
                open_of_student: 0,
                open_most: self.open + asked.len() + entered,
                // Those that were open before and have left in the step.
                open_of_student_most: before.len() + (self.in_memory + entered - account.sagas.len()),
                in_memory: self.in_memory,
                in_memory_most: self.in_memory + entered,
                has_left: account.sagas.len() < self.in_memory + entered,
                earlier_ms: of_student.map(|(_, at_ms)| env.now_ms - at_ms).collect(),
                is_repeated: self.repeated.contains(&this.student),
                is_too_late: this.is_too_late,
                bounds: bounds.clone(),
            });
            if entry == Entry::LetIn {
                self.entering.push(*this);
                self.let_in_ms.push((this.student, env.now_ms));
            }
        }
        for submitted in &mut submitted {
            self.count(env, account, &asked, submitted);
        }
        submitted
    }

    fn count(&self, env: &Env, account: &Account, asked: &[Asked], submitted: &mut Submitted) {
        let is_of_student = |saga: SagaNo| env.request(saga).student == submitted.student;
        let is_open = |known: &&KnownSaga| !known.is_adopted && !known.is_settled && !known.is_commanded;
        let open = account.sagas.iter().filter(is_open).map(|known| known.saga);
        let mut open: Vec<SagaNo> = open.chain(self.entering.iter().map(|entering| entering.saga)).collect();
        submitted.open = open.len();
        open.retain(|saga| is_of_student(*saga));
        open.sort_unstable_by_key(|saga| saga.client());
        open.dedup_by_key(|saga| saga.client());
        submitted.open_of_student = open.len();
        let in_memory = account.sagas.iter().filter(|known| is_of_student(known.saga)).count();
        let asked = asked.iter().chain(&self.entering).filter(|asked| asked.student == submitted.student).count();
        submitted.open_of_student_most += in_memory + asked;
    }
}

fn may_be_open(known: &&KnownSaga) -> bool {
    !known.is_settled || known.is_commanded || known.had_outcome
}
