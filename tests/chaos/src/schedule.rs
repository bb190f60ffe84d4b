//! The sequence of faults and their lengths, drawn from a seed only.
//!
//! The acts are cards of a deck that holds each kind and is shuffled again when it is used up. So a run of one deck has
//! every kind of fault, and a longer one has them in ever new orders. The seed fixes the faults, and not the reaction
//! of the machine to them.

use std::ops::Range;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::proxy::Fault;

/// Cards that hit a process with SIGKILL, in a deck: services, and orchestrators.
const KILLS_OF_SERVICES: usize = 12;
const KILLS_OF_ORCHESTRATORS: usize = 6;
/// Cards that stop a service with SIGSTOP for a while.
const PAUSES_OF_SERVICES: usize = 2;
/// Cards that stop an orchestrator for longer than its lease.
const PAUSES_OF_ORCHESTRATORS: usize = 2;
/// Further cards of network faults, besides one of each kind.
const NETWORK_MORE: usize = 3;

/// The targets of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Processes that are services.
    pub services: usize,
    /// Processes that are orchestrators.
    pub orchestrators: usize,
    /// Proxies that can fail.
    pub links: usize,
    /// Whether there is a PostgreSQL server to restart.
    pub postgres: bool,
}

/// How fast faults follow each other, and how long they last. All in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tempo {
    /// From one act to the next.
    pub gap_ms: Range<u64>,
    /// From a kill to the process's next start.
    pub down_ms: Range<u64>,
    /// How long a service is stopped.
    pub pause_ms: Range<u64>,
    /// How long a network fails.
    pub network_ms: Range<u64>,
    /// How long PostgreSQL refuses writes.
    pub read_only_ms: Range<u64>,
    /// How long an instance counts as living after its last sign; orchestrators are stopped for longer.
    pub lease_ttl_ms: u64,
}

impl Tempo {
    /// For a run of minutes, with the default lease.
    pub fn of_minutes() -> Self {
        Self {
            gap_ms: 200..1_400,
            down_ms: 50..1_500,
            pause_ms: 200..4_000,
            network_ms: 300..7_000,
            read_only_ms: 500..5_000,
            lease_ttl_ms: 6_000,
        }
    }

    /// For a run of seconds: everything is shorter, the lease too.
    pub fn of_seconds() -> Self {
        Self {
            gap_ms: 100..400,
            down_ms: 20..300,
            pause_ms: 100..800,
            network_ms: 200..1_500,
            read_only_ms: 200..800,
            lease_ttl_ms: 1_000,
        }
    }
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL, and a restart after `down`.
    Kill {
        /// Which.
        process: Process,
        /// How long it is away.
        down: Duration,
    },
    /// SIGSTOP, and SIGCONT after `length`.
    Pause {
        /// Which.
        process: Process,
        /// How long it is stopped.
        length: Duration,
    },
    /// A proxy fails for `length`.
    Network {
        /// Number of the proxy.
        link: usize,
        /// How.
        fault: Fault,
        /// How long.
        length: Duration,
    },
    /// The PostgreSQL server.
    Postgres(Postgres),
}

/// A process by its number among its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// A service.
    Service(usize),
    /// An orchestrator.
    Orchestrator(usize),
}

/// What happens to the PostgreSQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postgres {
    /// It ends in order and starts again.
    RestartFast,
    /// It crashes and recovers from its log.
    RestartImmediate,
    /// It crashes, and again after this time, when clients are just reconnecting.
    RestartTwice(Duration),
    /// It takes no writes for this long, and closes every connection.
    ReadOnly(Duration),
    /// It closes every connection.
    CutConnections,
}

#[derive(Debug, Clone, Copy)]
enum Card {
    KillService,
    KillOrchestrator,
    PauseService,
    PauseOrchestrator,
    Network(Fault),
    RestartFast,
    RestartImmediate,
    RestartTwice,
    ReadOnly,
    CutConnections,
}

/// An endless sequence of acts.
#[derive(Debug)]
pub struct Schedule {
    rng: ChaCha8Rng,
    shape: Shape,
    tempo: Tempo,
    deck: Vec<Card>,
}

impl Schedule {
    /// The same arguments give the same acts.
    pub fn new(seed: u64, shape: Shape, tempo: Tempo) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), shape, tempo, deck: Vec::new() }
    }

    /// The next act, and the time from it to the one after.
    pub fn draw(&mut self) -> (Act, Duration) {
        if self.deck.is_empty() {
            self.deck = self.new_deck();
        }
        let card = self.deck.pop().expect("a new deck has cards");
        let act = self.act(card);
        let gap = self.tempo.gap_ms.clone();
        (act, self.time(gap))
    }

    fn new_deck(&mut self) -> Vec<Card> {
        let mut deck = vec![Card::KillService; KILLS_OF_SERVICES];
        deck.extend([Card::KillOrchestrator; KILLS_OF_ORCHESTRATORS]);
        deck.extend([Card::PauseService; PAUSES_OF_SERVICES]);
        deck.extend([Card::PauseOrchestrator; PAUSES_OF_ORCHESTRATORS]);
        deck.extend(Fault::ALL.map(Card::Network));
        for _ in 0..NETWORK_MORE {
            deck.push(Card::Network(Fault::ALL[self.rng.random_range(0..Fault::ALL.len())]));
        }
        if self.shape.postgres {
            deck.extend([Card::RestartFast, Card::RestartImmediate, Card::RestartTwice]);
            deck.extend([Card::ReadOnly, Card::CutConnections]);
        }
        deck.shuffle(&mut self.rng);
        deck
    }

    fn act(&mut self, card: Card) -> Act {
        let tempo = self.tempo.clone();
        match card {
            Card::KillService => Act::Kill { process: self.service(), down: self.time(tempo.down_ms) },
            Card::KillOrchestrator => Act::Kill { process: self.orchestrator(), down: self.time(tempo.down_ms) },
            Card::PauseService => Act::Pause { process: self.service(), length: self.time(tempo.pause_ms) },
            Card::PauseOrchestrator => {
                let lease_ms = tempo.lease_ttl_ms;
                let length = self.time(lease_ms * 5 / 4..lease_ms * 2);
                Act::Pause { process: self.orchestrator(), length }
            }
            Card::Network(fault) => {
                let link = self.rng.random_range(0..self.shape.links);
                Act::Network { link, fault, length: self.time(tempo.network_ms) }
            }
            Card::RestartFast => Act::Postgres(Postgres::RestartFast),
            Card::RestartImmediate => Act::Postgres(Postgres::RestartImmediate),
            Card::RestartTwice => Act::Postgres(Postgres::RestartTwice(self.time(tempo.down_ms))),
            Card::ReadOnly => Act::Postgres(Postgres::ReadOnly(self.time(tempo.read_only_ms))),
            Card::CutConnections => Act::Postgres(Postgres::CutConnections),
        }
    }

    fn service(&mut self) -> Process {
        Process::Service(self.rng.random_range(0..self.shape.services))
    }

    fn orchestrator(&mut self) -> Process {
        Process::Orchestrator(self.rng.random_range(0..self.shape.orchestrators))
    }

    fn time(&mut self, range_ms: Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range_ms))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SHAPE: Shape = Shape { services: 5, orchestrators: 3, links: 8, postgres: true };

    fn acts(seed: u64, count: usize) -> Vec<(Act, Duration)> {
        let mut schedule = Schedule::new(seed, SHAPE, Tempo::of_minutes());
        (0..count).map(|_| schedule.draw()).collect()
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(acts(7, 200), acts(7, 200));
        assert_ne!(acts(7, 200), acts(8, 200));
    }

    #[test]
    fn one_deck_has_every_kind() {
        let kind = |act: &Act| match act {
            Act::Kill { process: Process::Service(_), .. } => "kill of a service".to_owned(),
            Act::Kill { .. } => "kill of an orchestrator".to_owned(),
            Act::Pause { process: Process::Service(_), .. } => "pause of a service".to_owned(),
            Act::Pause { length, .. } => {
                assert!(length.as_millis() > 6_000, "{length:?} is within the lease");
                "pause of an orchestrator".to_owned()
            }
            Act::Network { fault, .. } => fault.name().to_owned(),
            Act::Postgres(Postgres::RestartTwice(_)) => "restart twice".to_owned(),
            Act::Postgres(Postgres::ReadOnly(_)) => "read-only".to_owned(),
            Act::Postgres(postgres) => format!("{postgres:?}"),
        };
        let cards = KILLS_OF_SERVICES + KILLS_OF_ORCHESTRATORS + PAUSES_OF_SERVICES + PAUSES_OF_ORCHESTRATORS;
        let kinds: BTreeSet<String> =
            acts(1, cards + NETWORK_MORE + Fault::ALL.len() + 5).iter().map(|(act, _)| kind(act)).collect();
        assert_eq!(kinds.len(), 4 + Fault::ALL.len() + 5, "{kinds:?}");
    }
}
