//! Hostile input: every RPC of every service gets every field bad in every way, at random, and bytes that are no
//! message. Each answers as the contract says, and the server stays up.
//!
//! `HOSTILE_ROUNDS=5000 cargo test --test system hostile` sends so many random messages to every RPC (20 otherwise);
//! `HOSTILE_SEED` repeats a run.

mod raw;
pub mod rpcs;
mod slow;
mod values;
mod verdict;
pub mod wire;

use std::sync::Arc;
use std::time::Instant;

use matricula_harness::{System, submission, submit};
use matricula_kit::testing::Backend;
use matricula_proto::ops::v1::door_service_client::DoorServiceClient;
use matricula_proto::ops::v1::saga_service_client::SagaServiceClient;
use matricula_proto::ops::v1::{Destination, ListDestinationsRequest, SetDestinationLimitRequest, SetDoorRequest};
use matricula_proto::registration::v1::{Door, Outcome};
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tokio::task::JoinSet;
use tonic::Code;

use self::rpcs::Rpc;
use self::values::{Change, Maker, Place, changed};
use crate::campus::bundle;

/// Random messages, and damaged ones, that every RPC gets.
const ROUNDS: usize = 20;
/// Complaints that are shown.
const SHOWN_MAX: usize = 40;

/// How many random messages every RPC gets, and from which seed.
fn rounds_and_seed() -> (usize, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seed = number("HOSTILE_SEED").unwrap_or_else(rand::random);
    println!("HOSTILE_SEED={seed}");
    (number("HOSTILE_ROUNDS").map_or(ROUNDS, |rounds| rounds as usize), seed)
}

/// A system with a campus: `A` and `S1` are left alone, `F1`, `F2` and `S2` are named by hostile messages.
fn prepare(system: &System) {
    system.import(&bundle(&[("A", 50, "T 09:00-09:50"), ("F1", 50, "M 09:00-09:50"), ("F2", 50, "W 09:00-09:50")], 2));
}

/// Sends everything bad to the RPCs that are chosen, and returns what was wrong with the answers.
async fn attack(system: &System, chosen: impl Fn(&Rpc) -> bool) -> Vec<String> {
    let (rounds, seed) = rounds_and_seed();
    let mut tasks = JoinSet::new();
    for (stream, rpc) in rpcs::all().into_iter().enumerate().filter(|(_, rpc)| chosen(rpc)) {
        let channel = rpc.connect(system).await;
        let maker = Maker::new(seed, stream as u64, rpc.role);
        let attack = Attack { maker, channel, rpc: Arc::new(rpc), wrong: Vec::new() };
        tasks.spawn(attack.run(rounds));
    }
    assert!(!tasks.is_empty(), "no RPC was chosen");
    tasks.join_all().await.concat()
}

/// The attack on one RPC.
struct Attack {
    rpc: Arc<Rpc>,
    channel: tonic::transport::Channel,
    maker: Maker,
    wrong: Vec<String>,
}

impl Attack {
    async fn run(mut self, rounds: usize) -> Vec<String> {
        let input = self.rpc.input.clone();
        let good = self.maker.good(&input);
        let answer = self.send(&good, "a good message").await;
        if answer.is_some_and(|(code, _)| code == Code::InvalidArgument) {
            self.wrong.push(format!("{}: a good message is rejected: correct the test's idea of one", self.rpc.path));
        }
        for place in self.maker.places(&good) {
            for change in place.changes() {
                // Ids are made again: otherwise the recorded answer for them would come.
                let base = self.maker.good(&input);
                if !self.maker.places(&base).iter().any(|it| it.name() == place.name()) {
                    continue;
                }
                self.check_change(&changed(&base, &place, &change), &place, &change).await;
            }
        }
        for _ in 0..rounds {
            let random = self.maker.random(&input, 0);
            self.send(&random, "a random message").await;
            let bytes = self.maker.damaged(random.encode_to_vec());
            let begun = Instant::now();
            let answer = self.rpc.call(&self.channel, bytes.clone()).await;
            if let Some(complaint) = verdict::complaint(&self.rpc, None, &answer, begun.elapsed()) {
                self.wrong.push(format!("{}: damaged bytes {bytes:02x?}: {complaint}", self.rpc.path));
            }
        }
        self.wrong
    }

    async fn check_change(&mut self, message: &DynamicMessage, place: &Place, change: &Change) {
        let what = match change {
            Change::Value(value) => format!("{} = {}", place.name(), cut(&value.to_string())),
            other => format!("{}: {other:?}", place.name()),
        };
        let refused = self.send(message, &what).await;
        let Change::Value(Value::String(text)) = change else { return };
        // Trace contexts that make no sense count as none, as in headers.
        // Sentences of other services are made fit for a message: the outcome of a registration must be delivered in
        // spite of them.
        let free = ["traceparent", "tracestate", "message", "conflicts_with", "next_step"];
        let is_free = free.contains(&place.field().name());
        if is_refused_everywhere(text) && !is_free {
            let expect = [place.name()];
            let is_named = refused.as_ref().is_some_and(|(code, fields)| {
                *code == Code::InvalidArgument && fields.iter().all(|field| expect.contains(field))
            });
            if !is_named {
                self.wrong.push(format!("{}: {what}: not rejected by its name: {refused:?}", self.rpc.path));
            }
        }
    }

    /// Sends a message; returns the code and the fields of an error.
    async fn send(&mut self, message: &DynamicMessage, what: &str) -> Option<(Code, Vec<String>)> {
        let begun = Instant::now();
        let answer = self.rpc.call(&self.channel, message.encode_to_vec()).await;
        if let Some(complaint) = verdict::complaint(&self.rpc, Some(message), &answer, begun.elapsed()) {
            let shown = cut(&message.to_string());
            self.wrong.push(format!("{}: {what}: {complaint}\n    sent {shown}", self.rpc.path));
        }
        answer.err().map(|status| (status.code(), verdict::named_fields(&status)))
    }
}

/// Whether no field of any message may be this: no text is so long, and none has a NUL, which one database can't store.
fn is_refused_everywhere(text: &str) -> bool {
    text.len() > 100_000 || text.contains('\0')
}

fn cut(text: &str) -> String {
    if text.len() <= 300 {
        text.to_owned()
    } else {
        format!("{}... ({} bytes)", text.chars().take(300).collect::<String>(), text.len())
    }
}

#[track_caller]
fn assert_none(wrong: Vec<String>) {
    let shown = wrong.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} wrong answers:\n{shown}", wrong.len());
}

/// No panic, and no ERROR: it would mean that a human must look.
#[track_caller]
fn assert_calm(system: &System, name: &'static str) {
    let log = system.log(name);
    let loud: Vec<&String> =
        log.iter().filter(|line| line.contains("panicked") || line.contains(r#""level":"ERROR""#)).take(10).collect();
    assert!(loud.is_empty(), "{name} logged {loud:#?}");
}

/// Staff may stop the calls of a service, and close registration. The attack does both, and here they are undone.
async fn undo_attack(system: &System) {
    let staff = system.channel("orchestrator").await;
    let mut sagas = SagaServiceClient::new(staff.clone());
    let listed = sagas.list_destinations(ListDestinationsRequest {}).await.expect("a list");
    for Destination { name, .. } in listed.into_inner().destinations {
        let request = SetDestinationLimitRequest { name, in_flight_max: 3 };
        sagas.set_destination_limit(request).await.expect("a limit that may be set");
    }
    let (by, reason) = ("test".to_owned(), "the attack is over".to_owned());
    let open = SetDoorRequest { door: Door::Open.into(), sentence: String::new(), by, reason };
    DoorServiceClient::new(staff).set_door(open).await.expect("a door that may be opened");
}

/// A registration of a student that no attack names.
async fn assert_registers(system: &System, key: &str) {
    undo_attack(system).await;
    let portal = system.channel("orchestrator").await;
    let registration = submit(&portal, submission("S1", key, &["A"], &[])).await;
    assert_eq!(registration.outcome(), Outcome::Enrolled, "{registration:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_portals_and_operators_send() {
    let system = System::up();
    prepare(&system);
    assert_none(attack(&system, Rpc::is_public).await);
    assert_calm(&system, "up");
    assert_registers(&system, "k1").await;
    system.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_services_get() {
    let system = System::up();
    prepare(&system);
    // No registration stands behind these calls: what they leave is no concern of an audit.
    assert_none(attack(&system, |rpc| !rpc.is_public()).await);
    assert_calm(&system, "up");
    assert_registers(&system, "k1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_get_on_postgres() {
    let system = System::separate(Backend::Postgres, &[]).await;
    prepare(&system);
    assert_none(attack(&system, |_| true).await);
    for role in matricula_harness::ROLES {
        assert_calm(&system, role);
    }
    assert_registers(&system, "k1").await;
}
