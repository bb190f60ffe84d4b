//! The randomness of a history. Each draw is keyed by its purpose, so that no draw depends on what else is drawn, or
//! when.
//!
//! Two implementations of an orchestrator that run from one seed meet the same faults: the same call of the same
//! attempt is lost, and the same commit reports an error, even if one of them works in another order or in other
//! batches.
//!
//! | a draw for | has the key |
//! |---|---|
//! | a message | the two parties, and the subject of the message |
//! | a call of several operations | the instance and the least of the operations |
//! | a transaction | the instance, the least row that it writes or its number, and its try |
//! | a row that the store refuses | the saga and the first sequence of the append |
//!
//! Sagas and instances are numbered independently of the order of events, too: see [`SagaNo`] and [`InstanceNo`].

use std::hash::{Hash, Hasher};

use crate::clients::Asker;
use crate::names::{Attempt, ClientNo, InstanceNo, OrderNo, ProcessNo, SagaNo};

/// The purpose of a draw. Two draws of one history with the same purpose are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Something that is settled before the history begins.
    SetUp(SetUp),
    /// The fate of a message in the network.
    Message(Message),
    /// Which process a client submits to, and how long the client waits before the next try.
    Submission { client: ClientNo, tries: u16 },
    /// Which process a client sends its cancel to, and when it tries again.
    Cancel { client: ClientNo, cancels: u16 },
    /// Whether a client that has its answer submits again: for the copy of a reply.
    AskedAgain(Asker, u8),
    /// The finding and the order of an operator.
    Look(OrderNo),
    /// Whether a service accepts a call as a whole, or which error it answers: for the copy of a call.
    Service(RpcKey, u8),
    /// The answer of a service to one operation: for the copy of a call.
    Operation(Attempt, u8),
    /// When a call of an instance times out.
    CallTimeout(RpcKey),
    /// How long a transaction takes to reach the store.
    StoreReached(TransactionKey),
    /// Whether a transaction of an instance that has ended still arrives.
    StoreOutlived(TransactionKey),
    /// Whether the store executes a transaction, and when a group commit that begins with it becomes durable.
    StoreExecuted(TransactionKey),
    /// Whether the store reports the commit of a transaction, and how long the answer takes.
    StoreAnswered(TransactionKey),
    /// How long an instance waits for the answer of a transaction that failed.
    StoreFailed(TransactionKey),
    /// Whether a process crashes at a point where it matters, and when it starts again.
    Crash(CrashPoint),
    /// When a process starts again whose instance was fenced or has ended in order.
    Restart(InstanceNo),
    /// Which release of the orchestrator an instance runs.
    Release(InstanceNo),
    /// The seed that spreads the retries of an instance.
    Seed(InstanceNo),
    /// For how long the inputs of an instance gather before a step.
    Gathers(InstanceNo),
    /// The bounds of an instance, except how many sagas it drives at the same time.
    Bounds(InstanceNo),
    /// How many sagas an instance drives at the same time.
    Places(InstanceNo),
    /// How often operators look at an instance.
    Looks(InstanceNo),
    /// Whether an operator looks at an instance after its nth step.
    LookedAt { instance: InstanceNo, step: u32 },
    /// How long an instance waits during its shutdown.
    Grace(InstanceNo),
    /// The turn of something that came while a process was stopped for the nth time.
    Backlog { process: ProcessNo, pause: u16, item: BacklogItem },
    /// Whether the store refuses a row for a while: the first event of the saga, or the append that begins with this
    /// sequence.
    Row { saga: SagaNo, sequence: u64 },
}

/// A part of the plan of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SetUp {
    Shape,
    Weather,
    Trouble,
    Campus,
    StoreClock,
    Processes,
    Students,
    Client(u32),
    Operators,
    Disasters,
    Disaster(u32),
    Limits,
    Doors,
    Upgrade,
}

/// A message between two parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    /// From a client or an operator to a process.
    Ask(Asker),
    /// Back from there.
    Reply(Asker),
    /// From an instance to a service.
    Call(RpcKey),
    /// Back from there, for a copy of the call.
    Answer(RpcKey, u8),
    /// From an instance that has ended in order to another process.
    PeerLeft(InstanceNo, ProcessNo),
    /// From an instance that has queued sagas, for the nth time, to another process.
    LineBegun(InstanceNo, u32, ProcessNo),
}

/// A call of one instance for the operations of several sagas, named by the least of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RpcKey {
    pub instance: InstanceNo,
    pub first: Attempt,
}

/// A transaction of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TransactionKey {
    pub instance: InstanceNo,
    pub kind: TransactionKind,
    /// For a write, the number of its try. Otherwise, how many of this kind the instance has sent.
    pub number: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TransactionKind {
    Register,
    Renew,
    Look,
    Choose,
    Adopt,
    Flag,
    ReadLine,
    ReadRow,
    Release,
    /// Identified by the least of its rows: a saga and the first sequence of the append to it.
    Write(SagaNo, u64),
}

/// Where a crash matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum CrashPoint {
    /// A call has left.
    Called(RpcKey),
    /// A copy of an answer has come.
    Answered(RpcKey, u8),
    /// The store has answered.
    Stored(TransactionKey),
}

/// Something that came while a process was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BacklogItem {
    Ask(Asker),
    Stored(TransactionKey),
    Answer(RpcKey, u8),
    CallTimeout(RpcKey),
    GraceIsOver,
    Wake,
    Gathered,
    Limit,
    PeerLeft(InstanceNo),
    LineBegun(InstanceNo, u32),
}

/// Numbers for one purpose, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Draw(u64);

impl Draw {
    /// The numbers that this seed has for the purpose.
    pub(crate) fn new(seed: u64, purpose: &Purpose) -> Self {
        let mut mixer = Mixer(mixed(seed.wrapping_add(STRIDE)));
        purpose.hash(&mut mixer);
        Self(mixer.finish())
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(STRIDE);
        (mixed(self.0) >> 32) as u32
    }

    /// A number below `bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.any()) * u64::from(bound)) >> 32) as u32
    }

    /// True for so many of 1,024 cases.
    pub(crate) fn chance(&mut self, of_1024: u32) -> bool {
        self.below(1_024) < of_1024
    }
}

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: each bit of the result depends on each bit of `word`.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Takes in a purpose word by word: the same on every machine, unlike the hashers of the standard library.
struct Mixer(u64);

impl Mixer {
    fn take(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(STRIDE);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.take(u64::from(*byte)));
    }

    fn write_u8(&mut self, number: u8) {
        self.take(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.take(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.take(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.take(number);
    }

    fn write_isize(&mut self, number: isize) {
        self.take(number as u64);
    }

    fn finish(&self) -> u64 {
        mixed(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purposes() -> impl Iterator<Item = Purpose> {
        (0..40).flat_map(|saga| (0..25).map(move |sequence| Purpose::Row { saga: SagaNo(saga), sequence }))
    }

    #[test]
    fn a_purpose_always_draws_the_same_and_another_purpose_something_else() {
        let numbers = |seed| purposes().map(move |purpose| Draw::new(seed, &purpose).any());
        assert!(numbers(1).eq(numbers(1)));
        let mut all: Vec<u32> = numbers(1).chain(numbers(2)).collect();
        all.sort_unstable();
        all.dedup();
        // Of 2,000 numbers of 32 bits, two are equal in one of 2,000 cases.
        assert_eq!(all.len(), 2_000);
    }

    #[test]
    fn neighbouring_purposes_are_independent() {
        let numbers: Vec<u32> = purposes().map(|purpose| Draw::new(7, &purpose).any()).collect();
        let flips: u32 = numbers.windows(2).map(|pair| (pair[0] ^ pair[1]).count_ones()).sum();
        let mean = f64::from(flips) / (numbers.len() - 1) as f64;
        assert!((15.5..16.5).contains(&mean), "{mean} of 32 bits differ");
        for bit in 0..32 {
            let ones = numbers.iter().filter(|number| *number >> bit & 1 == 1).count();
            assert!((420..580).contains(&ones), "bit {bit} is set in {ones} of 1,000");
        }
    }

    #[test]
    fn a_chance_is_as_large_as_it_says() {
        let mut draw = Draw::new(3, &Purpose::SetUp(SetUp::Weather));
        let hits = (0..100_000).filter(|_| draw.chance(256)).count();
        assert!((24_000..26_000).contains(&hits), "{hits} of 100,000");
        assert!((0..1_000).all(|_| !draw.chance(0) && draw.chance(1_024) && draw.below(7) < 7 && draw.below(0) == 0));
    }
}
