//! The plan of a history, which is drawn before it begins: the clients and their requests, the looks of operators, and
//! the large faults with their times.

use matricula_core::DoorState;

use crate::clients::{Clients, Request};
use crate::draws::{Draw, Purpose, SetUp};
use crate::env::{Env, Event};
use crate::names::{CLIENTS_MAX, OrderNo, PROCESSES_MAX, ProcessNo, SagaNo, SectionNo, StudentNo};
use crate::operators::{OperatorEvent, Operators};
use crate::participants::Ledgers;
use crate::replica::{DESTINATION_IN_FLIGHT_MAX, ProcessEvent};
use crate::shapes::Does;
use crate::store::LEASE_TTL_MS;

/// The clock that a process sees is wrong by an hour at most, either way.
const SKEW_MAX_MS: u32 = 3_600_000;
/// Faults end after this long at most.
const TROUBLE_MAX_MS: u32 = 20_000;
const DISASTERS_MAX: u32 = 10;
/// Looks of operators, and for how long after the faults there are some.
const LOOKS_MAX: u32 = 12;
const LOOKS_AFTER_MS: u32 = 5_000;

/// A clock that is right, or ahead or behind by up to an hour.
fn skew_ms(draw: &mut Draw) -> i64 {
    match draw.below(3) {
        0 => 0,
        1 => i64::from(draw.below(SKEW_MAX_MS)),
        _ => -i64::from(draw.below(SKEW_MAX_MS)),
    }
}

/// Two processes or three: for each, how far its clock is ahead.
pub(crate) fn clocks_ahead_ms(env: &Env) -> Vec<i64> {
    let mut draw = env.draw(Purpose::SetUp(SetUp::Processes));
    (0..2 + draw.below(u32::from(PROCESSES_MAX) - 1)).map(|_| skew_ms(&mut draw)).collect()
}

/// The store's clock is wrong, too.
pub(crate) fn store_ahead_ms(env: &Env) -> i64 {
    i64::from(env.draw(Purpose::SetUp(SetUp::StoreClock)).below(2 * SKEW_MAX_MS)) - i64::from(SKEW_MAX_MS)
}

/// Draws few seats, and the enrollments that the students have before the history begins.
pub(crate) fn campus(env: &Env) -> Ledgers {
    let mut draw = env.draw(Purpose::SetUp(SetUp::Campus));
    let mut ledgers = Ledgers::default();
    let sections = 1 + draw.below(4);
    for section in 0..sections {
        let seats = draw.below(4) as usize;
        ledgers.capacity.push(seats);
        let section = SectionNo(section as u8);
        // A student with a seat can drop or swap it, if the shape has drops.
        for student in 0..seats.min(2) {
            if env.shape.may_drop() && draw.chance(400) {
                let student = StudentNo(student as u8);
                ledgers.record.add(student, &[section], SagaNo::BEFORE, false);
                ledgers.seats.add(student, &[section], SagaNo::BEFORE, false);
                ledgers.enrollments.add(student, &[section], SagaNo::BEFORE, false);
                ledgers.fees.add(student, &[section], SagaNo::BEFORE, false);
            }
        }
    }
    ledgers
}

/// Draws the clients, with their requests and times.
pub(crate) fn clients(env: &mut Env, processes: u32, sections: usize, trouble_ms: u32) -> Clients {
    let mut clients = Clients::new(processes);
    let mut draw = env.draw(Purpose::SetUp(SetUp::Students));
    let students = 1 + draw.below(4);
    // Without rules nothing keeps a student from the same section twice: then everybody comes once.
    let has_rules = env.shape.has(Does::Reserve);
    for client in 0..1 + draw.below(u32::from(CLIENTS_MAX)) {
        let mut draw = env.draw(Purpose::SetUp(SetUp::Client(client)));
        let student = StudentNo(if has_rules { draw.below(students) as u8 } else { client as u8 });
        let (mut adds, mut drops) = (Vec::new(), Vec::new());
        for section in (0..sections).map(|section| SectionNo(section as u8)) {
            match draw.below(6) {
                0..3 => adds.push(section),
                3 if env.shape.may_drop() => drops.push(section),
                _ => {}
            }
        }
        if adds.is_empty() && drops.is_empty() {
            adds.push(SectionNo(0));
        }
        let plain = draw.any();
        let request = Request { student, key: client as u8, adds, drops, plain };
        let at_ms = i64::from(draw.below(1 + trouble_ms / 2));
        let cancel_at_ms = draw.chance(300).then(|| at_ms + i64::from(draw.below(3_000)));
        clients.add(env, request, at_ms, cancel_at_ms);
    }
    clients
}

/// Draws the operators of one history in four. They look at intervals, and also when the faults have just ended.
pub(crate) fn operators(env: &mut Env, processes: u32, trouble_ms: u32) -> Operators {
    let mut draw = env.draw(Purpose::SetUp(SetUp::Operators));
    let looks = if draw.chance(256) { 1 + draw.below(LOOKS_MAX) } else { 0 };
    for look in 0..looks {
        let at_ms = i64::from(draw.below(trouble_ms + LOOKS_AFTER_MS));
        env.schedule(at_ms, Event::Operator(OperatorEvent::Look(OrderNo(look as u16))));
    }
    Operators::new(processes, looks as usize)
}

/// How long the trouble lasts.
pub(crate) fn trouble_ms(env: &Env) -> u32 {
    1_000 + env.draw(Purpose::SetUp(SetUp::Trouble)).below(TROUBLE_MAX_MS)
}

/// Crashes, stops, outages and jumps of clocks, and the moment when all faults end.
pub(crate) fn schedule(env: &mut Env, processes: u32, sections: usize, trouble_ms: u32) {
    // A process that never comes back needs another instance that adopts its sagas.
    let mut may_go = processes > 1;
    for disaster in 0..env.draw(Purpose::SetUp(SetUp::Disasters)).below(DISASTERS_MAX) {
        let mut draw = env.draw(Purpose::SetUp(SetUp::Disaster(disaster)));
        let at_ms = i64::from(draw.below(trouble_ms));
        let process = ProcessNo(draw.below(processes) as u8);
        let event = match draw.below(16) {
            0..4 => {
                let goes = may_go && draw.chance(200);
                may_go &= !goes;
                let starts_after_ms = (!goes).then(|| i64::from(draw.below(10_000)));
                to_process(process, ProcessEvent::Crash { starts_after_ms })
            }
            4..8 => to_process(process, ProcessEvent::Pause { for_ms: i64::from(draw.below(4 * LEASE_TTL_MS as u32)) }),
            8 => to_process(process, ProcessEvent::Stop),
            9 => to_process(process, ProcessEvent::ClockJump { by_ms: skew_ms(&mut draw) }),
            10..13 => Event::StoreCrash {
                loses_tail: draw.chance(512),
                away_ms: i64::from(draw.below(8_000)),
                clock_jump_ms: if draw.chance(300) { i64::from(draw.below(20_000)) - 10_000 } else { 0 },
            },
            13..15 => {
                let destination = draw.below(env.shape.destinations.len() as u32) as u8;
                Event::Away { destination, for_ms: i64::from(draw.below(10_000)) }
            }
            _ => {
                let section = SectionNo(draw.below(sections as u32) as u8);
                Event::Capacity { section, seats: draw.below(4) as usize }
            }
        };
        env.schedule(at_ms, event);
    }
    limits(env, processes, trouble_ms);
    doors(env, trouble_ms);
    env.schedule(i64::from(trouble_ms), Event::Heal);
}

/// In one history of eight a registrar pauses or closes the door now and then, and opens it again.
fn doors(env: &mut Env, trouble_ms: u32) {
    let mut draw = env.draw(Purpose::SetUp(SetUp::Doors));
    if !draw.chance(128) {
        return;
    }
    for _ in 0..1 + draw.below(3) {
        let (from_ms, for_ms) = (i64::from(draw.below(trouble_ms)), i64::from(draw.below(5_000)));
        let door = if draw.chance(512) { DoorState::Paused } else { DoorState::Closed };
        env.schedule(from_ms, Event::Door(door));
        env.schedule(from_ms + for_ms, Event::Door(DoorState::Open));
    }
}

/// In one history of eight an operator parks a destination at a process for a while, or lets it take one call at a
/// time.
fn limits(env: &mut Env, processes: u32, trouble_ms: u32) {
    let mut draw = env.draw(Purpose::SetUp(SetUp::Limits));
    if !draw.chance(128) {
        return;
    }
    let process = ProcessNo(draw.below(processes) as u8);
    let destination = draw.below(env.shape.destinations.len() as u32) as u8;
    let (from_ms, for_ms) = (i64::from(draw.below(trouble_ms)), i64::from(draw.below(10_000)));
    for (at_ms, in_flight_max) in [(from_ms, draw.below(2) as usize), (from_ms + for_ms, DESTINATION_IN_FLIGHT_MAX)] {
        env.schedule(at_ms, to_process(process, ProcessEvent::Limit { destination, in_flight_max }));
    }
}

fn to_process(process: ProcessNo, event: ProcessEvent) -> Event {
    Event::Process { process, event }
}
