//! The core and the waiting line.

use super::*;

/// A core with one slot, which is taken.
fn busy() -> Shell {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    shell.submit(1);
    shell.write_all();
    assert_eq!(kinds(&shell.replies), [(1, "accepted")]);
    shell.replies.clear();
    shell
}

fn firsts(commit: &Commit<&'static str>) -> Vec<(u128, bool)> {
    let row = |admission: &Admission<&'static str>| (admission.id.as_u128(), admission.first.is_some());
    commit.admissions.iter().map(row).collect()
}

fn turns(commit: &Commit<&'static str>) -> Option<(u64, Vec<u64>)> {
    let claim = commit.claim.as_ref()?;
    Some((claim.after.0, claim.turns.iter().map(|turn| turn.ticket.0).collect()))
}

/// Runs the saga at work to its outcome and its end.
fn finish(shell: &mut Shell) {
    for name in ["Reserve", "Hold", "Commit"] {
        shell.write_all();
        shell.done(name);
    }
}

#[test]
fn a_submission_never_begins_before_an_earlier_one_that_is_to_be_queued() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    shell.step([submitted(1), submitted(2)]);
    let first = shell.commit();
    assert_eq!(firsts(&first), [(1, true), (2, false)]);
    // The slot is free again before the database has answered about the second one.
    shell.submit(3);
    let admissions = vec![
        AdmissionOutcome::Existing { id: id(9), same_request: true },
        AdmissionOutcome::Queued { ticket: Ticket(2) },
    ];
    shell.line.last = Ticket(2);
    let line = Some(shell.line.clone());
    let (claimed, appends) = (Vec::new(), Vec::new());
    shell.answer_commit(&first, CommitAnswer::Written { admissions, claimed, appends, line });
    let behind = shell.commit();
    assert_eq!(firsts(&behind), [(3, false)]);
    assert_eq!(kinds(&shell.replies), [(1, "existing"), (2, "queued")]);
    assert_eq!(shell.core.in_memory(), 0, "a queued saga is in no memory");
}

#[test]
fn a_saga_that_the_database_queues_does_not_begin_and_gives_its_slot_back() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    // Another instance has queued sagas, and this one has not read the line.
    shell.line.last = Ticket(5);
    shell.submit(6);
    let commit = shell.commit();
    assert_eq!(firsts(&commit), [(6, true)]);
    shell.write(&commit);
    assert_eq!(kinds(&shell.replies), [(6, "queued")]);
    assert!(shell.rpcs.is_empty() && shell.core.in_memory() == 0);
    shell.read(1..=6);
    let claim = shell.commit();
    assert_eq!(turns(&claim), Some((0, vec![1])), "the slot is there for the one whose turn it is");
}

/// The read of the line comes before the answer of the commit that has queued the saga.
#[test]
fn a_saga_that_is_claimed_before_its_admission_is_answered_keeps_its_slot() {
    let mut shell = busy();
    shell.line.last = Ticket(2);
    shell.step([Input::LineBegun]);
    shell.read([]);
    shell.submit(3);
    let admission = shell.commit();
    let answer = shell.written(&admission);
    finish(&mut shell);
    shell.write_all();
    shell.read([3]);
    let claim = shell.commit();
    assert_eq!(turns(&claim), Some((1, vec![3])));
    shell.answer_commit(&admission, answer);
    shell.adopt([9]);
    assert_eq!(shell.core.adopted_waiting(), 1, "there is one slot, and it is kept");
}

#[test]
fn a_claimed_saga_enters_and_begins_when_that_is_persisted() {
    let mut shell = busy();
    shell.line.last = Ticket(3);
    shell.step([Input::LineBegun]);
    shell.read([]);
    assert!(shell.commits.is_empty(), "no slot is free");
    finish(&mut shell);
    let outcome = shell.commit();
    shell.rpcs.clear();
    shell.write(&outcome);
    shell.read([2, 3]);
    let claim = shell.commit();
    assert_eq!(turns(&claim), Some((1, vec![2])));
    assert!(!shell.names().contains(&"Reserve"), "it is not persisted");
    shell.write(&claim);
    let entered = |change: &Change<&str>| matches!(change, Change::Entered { saga, .. } if *saga == id(2));
    assert!(shell.changes.iter().any(entered));
    assert_eq!(shell.rpc("Reserve").calls[0].saga, id(2));
    assert_eq!(shell.core.line(shell.now).served, Ticket(2));
}

#[test]
fn a_missed_claim_gives_its_slot_back() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    shell.line.last = Ticket(3);
    shell.step([Input::LineBegun]);
    shell.read(1..=3);
    let claim = shell.commit();
    // Another instance has claimed it.
    shell.line.served = Ticket(1);
    let (admissions, appends, line) = (Vec::new(), Vec::new(), Some(shell.line.clone()));
    shell.answer_commit(&claim, CommitAnswer::Written { admissions, claimed: vec![false], appends, line });
    assert_eq!(shell.core.in_memory(), 0);
    let claim = shell.commit();
    assert_eq!(turns(&claim), Some((1, vec![2])));
    shell.write(&claim);
    assert_eq!(shell.core.in_memory(), 1);
}

/// The claim hangs. Another instance claims the saga, and ends.
#[test]
fn a_saga_that_is_adopted_while_it_is_claimed_here_goes_on() {
    let mut shell = Shell::new();
    shell.line.last = Ticket(1);
    shell.step([Input::LineBegun]);
    shell.read([1]);
    let claim = shell.commit();
    shell.adopt([1]);
    assert!(shell.names().contains(&"Reserve"));
    let (admissions, appends, line) = (Vec::new(), Vec::new(), None);
    shell.answer_commit(&claim, CommitAnswer::Written { admissions, claimed: vec![false], appends, line });
    shell.done("Reserve");
    assert!(shell.names().contains(&"Hold"));
}

/// The saga was queued, and the answer was lost. Another instance claims it, and ends.
#[test]
fn a_saga_that_is_adopted_while_it_is_admitted_here_goes_on() {
    for outcome in [AdmissionOutcome::Queued { ticket: Ticket(1) }, AdmissionOutcome::Begun { ticket: Ticket(1) }] {
        let mut shell = Shell::with(&CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
        shell.submit(1);
        let admission = shell.commit();
        shell.adopt([1]);
        let (claimed, appends, line) = (Vec::new(), Vec::new(), None);
        shell.answer_commit(&admission, CommitAnswer::Written { admissions: vec![outcome], claimed, appends, line });
        assert_eq!(shell.core.adopted_waiting(), 0);
        shell.done("Reserve");
        assert!(shell.names().contains(&"Hold"));
    }
}

#[test]
fn a_claim_without_an_answer_is_tried_again() {
    let mut shell = Shell::new();
    shell.line.last = Ticket(1);
    shell.step([Input::LineBegun]);
    shell.read([1]);
    let claim = shell.commit();
    shell.answer_commit(&claim, CommitAnswer::Failed);
    shell.until_commit();
    let again = shell.commit();
    assert_eq!((again.number, turns(&again)), (claim.number, Some((0, vec![1]))));
    shell.write(&again);
    assert_eq!(shell.core.in_memory(), 1);
}

#[test]
fn a_cancel_does_not_wait_for_its_turn() {
    let mut shell = busy();
    shell.line.last = Ticket(9);
    shell.step([Input::CommandedInLine { saga: queued(7), command: cancel(), caller: 7 }]);
    let claim = shell.commit();
    assert!(claim.claim.as_ref().is_some_and(|claim| claim.turns[0].is_out_of_order));
    shell.write(&claim);
    assert!(shell.replies.is_empty(), "the cancel is not persisted");
    assert_eq!(shell.line.served, Ticket(1), "those before it have not had their turn");
    let commit = shell.commit();
    assert_eq!(commit.appends[0].saga, id(7));
    shell.write(&commit);
    assert_eq!(kinds(&shell.replies), [(7, "done")]);
    assert!(!shell.rpcs.iter().any(|rpc| rpc.calls[0].saga == id(7) && rpc.name == "Reserve"), "nothing was called");
}

#[test]
fn a_cancel_that_comes_when_the_turn_has_come_elsewhere_is_not_for_this_instance() {
    let mut shell = Shell::new();
    shell.step([Input::CommandedInLine { saga: queued(7), command: cancel(), caller: 7 }]);
    let claim = shell.commit();
    let (admissions, appends, line) = (Vec::new(), Vec::new(), None);
    shell.answer_commit(&claim, CommitAnswer::Written { admissions, claimed: vec![false], appends, line });
    assert_eq!(kinds(&shell.replies), [(7, "not here")]);
    assert!(shell.commits.is_empty() && shell.core.in_memory() == 0);
}

#[test]
fn a_cancelled_saga_is_not_claimed_again() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 2, ..CoreConfig::default() });
    shell.line.last = Ticket(2);
    shell.step([Input::CommandedInLine { saga: queued(1), command: cancel(), caller: 1 }]);
    shell.step([Input::LineBegun]);
    // The line was read before the cancel was written.
    let claim = shell.commit();
    shell.read([1, 2]);
    shell.write(&claim);
    shell.write_all();
    assert_eq!(shell.core.in_memory(), 2);
}

#[test]
fn acceptance_waits_for_no_other_commit_while_there_is_a_line() {
    let mut shell = busy();
    shell.line.last = Ticket(2);
    shell.step([Input::LineBegun]);
    shell.read([2]);
    shell.step([Input::Commanded { saga: id(1), command: cancel(), caller: 100 }]);
    let log = shell.commit();
    assert_eq!(log.number.lane, Lane::Log);
    shell.submit(3);
    let acceptance = shell.commit();
    assert_eq!((acceptance.number.lane, firsts(&acceptance)), (Lane::Acceptance, vec![(3, false)]));
    shell.submit(4);
    assert!(shell.commits.is_empty(), "one commit at a time in each lane");
    shell.write(&acceptance);
    assert_eq!(kinds(&shell.replies), [(3, "queued")]);
    assert_eq!(firsts(&shell.commit()), [(4, false)]);
    shell.write(&log);
    assert_eq!(kinds(&shell.replies)[1], (100, "done"));
}

#[test]
fn a_closed_door_is_answered_by_the_database() {
    let mut shell = Shell::new();
    shell.submit(1);
    let commit = shell.commit();
    let door = Door { state: DoorState::Closed, sentence: "next week".to_owned() };
    shell.line.door = door.clone();
    let admissions = vec![AdmissionOutcome::Closed { sentence: door.sentence }];
    let (claimed, appends, line) = (Vec::new(), Vec::new(), Some(shell.line.clone()));
    shell.answer_commit(&commit, CommitAnswer::Written { admissions, claimed, appends, line });
    assert_eq!(shell.replies, [(1, Reply::Closed { sentence: "next week".to_owned() })]);
    shell.submit(2);
    assert_eq!(firsts(&shell.commit()), [(2, false)], "it may have been opened: the database knows");
}

#[test]
fn staff_submit_past_the_door() {
    let by_staff = |number| match submitted(number) {
        Input::Submitted { submission, caller } => {
            Input::Submitted { submission: Submission { is_by_staff: true, ..submission }, caller }
        }
        other => other,
    };
    for state in [DoorState::Paused, DoorState::Closed] {
        let mut shell = Shell::new();
        shell.line.door.state = state;
        shell.submit(1);
        let commit = shell.commit();
        let (admissions, line) = (vec![AdmissionOutcome::OverQuota], Some(shell.line.clone()));
        let (claimed, appends) = (Vec::new(), Vec::new());
        shell.answer_commit(&commit, CommitAnswer::Written { admissions, claimed, appends, line });
        shell.step([by_staff(2), submitted(3), by_staff(4)]);
        let commit = shell.commit();
        // It has to wait too, because another saga is in line.
        assert_eq!(firsts(&commit), [(2, true), (3, false), (4, false)], "{state:?}");
        let by_staff: Vec<bool> = commit.admissions.iter().map(|admission| admission.is_by_staff).collect();
        assert_eq!(by_staff, [true, false, true], "the database has to know");
    }
}

#[test]
fn a_subject_over_its_quota_gets_a_retry_hint() {
    let mut shell = Shell::new();
    shell.submit(1);
    let commit = shell.commit();
    let (claimed, appends, line) = (Vec::new(), Vec::new(), Some(shell.line.clone()));
    let admissions = vec![AdmissionOutcome::OverQuota];
    shell.answer_commit(&commit, CommitAnswer::Written { admissions, claimed, appends, line });
    assert_eq!(kinds(&shell.replies), [(1, "quota")]);
    assert_eq!((shell.core.in_memory(), shell.core.writes_waiting()), (0, 0));
}

#[test]
fn adopted_sagas_go_before_the_line() {
    let mut shell = busy();
    shell.adopt([2]);
    finish(&mut shell);
    shell.line.last = Ticket(5);
    shell.step([Input::LineBegun]);
    shell.read([]);
    let outcome = shell.commit();
    shell.write(&outcome);
    assert_eq!(shell.core.adopted_waiting(), 0);
    assert!(shell.commits.iter().all(|commit| commit.claim.is_none()), "it has the slot");
}

#[test]
fn a_stop_waits_for_both_lanes_and_claims_nothing() {
    let mut shell = busy();
    shell.line.last = Ticket(2);
    shell.step([Input::LineBegun]);
    shell.read([]);
    shell.rpcs.clear();
    shell.step([Input::Commanded { saga: id(1), command: cancel(), caller: 100 }]);
    let log = shell.commit();
    shell.submit(3);
    let acceptance = shell.commit();
    shell.step([Input::Stopped]);
    shell.wait(Duration::from_secs(2));
    assert!(shell.reads.is_empty(), "the line is for other instances");
    shell.step([Input::RpcEnded { number: RpcNo(1), answer: Ok(vec![CallAnswer::Done(String::new())]) }]);
    shell.write(&log);
    assert_eq!(shell.end, None);
    shell.write(&acceptance);
    shell.write_all();
    assert_eq!(shell.end, Some(End::InOrder));
    assert!(kinds(&shell.replies).contains(&(3, "queued")));
}

/// The service of the next step does not answer. Other sagas do not need it.
#[test]
fn a_saga_gives_up_its_slot_while_its_service_is_away() {
    let mut shell = busy();
    let reserve = shell.rpc("Reserve");
    shell.submit(2);
    shell.write_all();
    assert_eq!(kinds(&shell.replies), [(2, "queued")]);
    assert_eq!(shell.core.parked(), 0);
    shell.wait(Duration::from_millis(500));
    assert_eq!(shell.core.parked(), 1);
    shell.step([]);
    shell.read([2]);
    let claim = shell.commit();
    assert_eq!(turns(&claim), Some((1, vec![2])), "the slot is free");
    // An answer comes late: the first saga is at work again beside the second one.
    shell.step([Input::RpcEnded { number: reserve.number, answer: Ok(vec![CallAnswer::Done(String::new())]) }]);
    assert_eq!(shell.core.parked(), 0);
    assert!(shell.names().contains(&"Hold"));
}

/// Of two steps that are called together, one waits for a service that is away. The other goes its way, and takes no
/// slot.
#[test]
fn a_parked_saga_stays_parked_when_another_call_of_it_is_answered() {
    let mut shell = Shell::of(Table::with_check(), &CoreConfig { in_flight_max: 1, ..CoreConfig::default() });
    shell.submit(1);
    shell.write_all();
    let (check, reserve) = (shell.rpc("Check").number, shell.rpc("Reserve").number);
    shell.wait(Duration::from_millis(500));
    assert_eq!(shell.core.parked(), 1);
    let done = |number| Input::RpcEnded { number, answer: Ok(vec![CallAnswer::Done(String::new())]) };
    shell.step([done(reserve)]);
    assert_eq!(shell.core.parked(), 1, "the check has not come back");
    shell.step([done(check)]);
    shell.write_all();
    assert_eq!(shell.core.parked(), 0);
    assert!(shell.names().contains(&"Hold"));
}

/// The database refuses the claim of the second of three sagas.
#[test]
fn a_refused_claim_delays_only_its_own_saga() {
    let mut shell = Shell::with(&CoreConfig { in_flight_max: 3, ..CoreConfig::default() });
    shell.line.last = Ticket(3);
    shell.step([Input::LineBegun]);
    shell.read(1..=3);
    let mut claims = Vec::new();
    while let Some(commit) = shell.commits.pop() {
        let (after, tickets) = turns(&commit).expect("a claim");
        if tickets.contains(&2) {
            shell.answer_commit(&commit, CommitAnswer::Refused { problem: "no".to_owned() });
        } else {
            let answer = shell.written(&commit);
            shell.line.served = Ticket(1);
            let CommitAnswer::Written { admissions, claimed, appends, .. } = answer else { panic!("it is written") };
            let line = Some(shell.line.clone());
            shell.answer_commit(&commit, CommitAnswer::Written { admissions, claimed, appends, line });
        }
        claims.push((after, tickets));
    }
    let expected = [(0, vec![1, 2, 3]), (0, vec![1]), (1, vec![2, 3]), (1, vec![2]), (1, vec![3])];
    assert_eq!(claims, expected, "others go past it");
    let is_shown = |notice: &Notice| matches!(notice, Notice::TurnRefused { saga, .. } if *saga == id(2));
    assert_eq!(shell.notices.iter().filter(|notice| is_shown(notice)).count(), 1);
    assert_eq!(shell.core.in_memory(), 2);
    shell.wait(Duration::from_secs(5));
    let again = shell.commits.iter().find_map(|commit| turns(commit));
    assert_eq!(again, Some((1, vec![2])), "it is tried again by itself");
}
