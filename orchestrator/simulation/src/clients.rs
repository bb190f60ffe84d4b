//! The clients. Each submits a registration with one key until it is answered, often several times and to several
//! replicas. Some cancel later.

use std::rc::Rc;

use crate::draws::{Message, Purpose};
use crate::env::{Env, Event};
use crate::fact::Fact;
use crate::names::{ClientNo, OrderNo, ProcessNo, SagaNo, SectionNo, StudentNo};
use crate::operators::Order;
use crate::replica::ProcessEvent;

/// How often a client tries to cancel: an instance that does not drive the saga rejects the cancel.
const CANCELS_MAX: u16 = 6;

/// The request that a saga carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The student.
    pub student: StudentNo,
    /// Unique for each registration of the student.
    pub key: u8,
    /// Sections to add.
    pub adds: Vec<SectionNo>,
    /// Sections to drop.
    pub drops: Vec<SectionNo>,
    /// Which plain steps apply, one bit for each step.
    pub plain: u32,
}

impl Request {
    /// Whether both have the same content; the students may differ.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        (&self.adds, &self.drops, self.plain) == (&other.adds, &other.drops, other.plain)
    }
}

/// A request to a replica.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub asker: Asker,
    pub asked: Asked,
}

impl Ask {
    /// The saga that it is about; none of a submission.
    pub(crate) fn saga(&self) -> Option<SagaNo> {
        match &self.asked {
            Asked::Submit(..) => None,
            Asked::Cancel(saga) => Some(*saga),
            Asked::Order(order) => Some(order.saga),
        }
    }
}

/// The content of a request to a replica.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// A new saga of this number, unless the client has one.
    Submit(SagaNo, Rc<Request>),
    Cancel(SagaNo),
    Order(Rc<Order>),
}

/// The sender of one copy of a request, which gets the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    Submitter { client: ClientNo, tries: u16, copy: u8 },
    Canceller { client: ClientNo, cancels: u16, copy: u8 },
    Operator { order: OrderNo, copy: u8 },
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Accepted durably, now or before.
    Accepted { saga: SagaNo },
    /// A cancel or a command has taken effect, durably.
    Obeyed { saga: SagaNo },
    /// It is too late, or not safe, or there is nothing to do.
    Refused,
    /// The instance does not drive the saga.
    NotHere,
    /// Come back later.
    Unavailable,
}

#[derive(Debug, Clone)]
pub(crate) enum ClientEvent {
    /// Time to send the request, for the first time or again.
    Submit,
    /// No answer has come to this try.
    Waited {
        tries: u16,
    },
    Cancel,
    /// A copy of a reply to one of its requests.
    Replied {
        to: Asker,
        copy: u8,
        reply: Reply,
    },
}

struct Client {
    request: Rc<Request>,
    answered: Option<SagaNo>,
    tries: u16,
    cancels: u16,
    cancel_answered: bool,
}

pub(crate) struct Clients {
    clients: Vec<Client>,
    processes: u32,
    unanswered: usize,
}

impl Clients {
    pub(crate) fn new(processes: u32) -> Self {
        Self { clients: Vec::new(), processes, unanswered: 0 }
    }

    /// Adds a client with the time of its submission, and perhaps of a cancel.
    pub(crate) fn add(&mut self, env: &mut Env, request: Request, at_ms: i64, cancel_at_ms: Option<i64>) {
        let client = ClientNo(self.clients.len() as u8);
        let request = Rc::new(request);
        env.say(|| format!("{client} will ask for {request:?}"));
        env.requests.push(request.clone());
        self.clients.push(Client { request, answered: None, tries: 0, cancels: 0, cancel_answered: false });
        self.unanswered += 1;
        env.schedule(at_ms, Event::Client { client, event: ClientEvent::Submit });
        if let Some(cancel_at_ms) = cancel_at_ms {
            env.schedule(cancel_at_ms, Event::Client { client, event: ClientEvent::Cancel });
        }
    }

    /// How many have no answer with their saga yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// The request of each client, and the saga in its answer.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (&Request, Option<SagaNo>)> {
        self.clients.iter().map(|client| (&*client.request, client.answered))
    }

    pub(crate) fn handle(&mut self, env: &mut Env, client: ClientNo, event: ClientEvent) {
        match event {
            ClientEvent::Submit => self.submit(env, client),
            ClientEvent::Waited { tries } => {
                let this = &self.clients[usize::from(client)];
                if this.answered.is_none() && this.tries == tries {
                    self.submit(env, client);
                }
            }
            ClientEvent::Cancel => self.cancel(env, client),
            ClientEvent::Replied { to, copy, reply } => self.replied(env, client, (to, copy), &reply),
        }
    }

    fn submit(&mut self, env: &mut Env, client: ClientNo) {
        let this = &mut self.clients[usize::from(client)];
        this.tries += 1;
        let (tries, request) = (this.tries, this.request.clone());
        let mut draw = env.draw(Purpose::Submission { client, tries });
        let process = ProcessNo(draw.below(self.processes) as u8);
        let asker = |copy| Asker::Submitter { client, tries, copy };
        env.send(Message::Ask(asker(0)), |copy| {
            let asked = Asked::Submit(SagaNo::of(client, tries, copy), request.clone());
            Event::Process { process, event: ProcessEvent::Ask(Ask { asker: asker(copy), asked }) }
        });
        let wait_ms = 500 + i64::from(draw.below(2_500));
        env.schedule(wait_ms, Event::Client { client, event: ClientEvent::Waited { tries } });
    }

    fn cancel(&mut self, env: &mut Env, client: ClientNo) {
        let this = &mut self.clients[usize::from(client)];
        if this.cancel_answered || this.cancels >= CANCELS_MAX {
            return;
        }
        this.cancels += 1;
        let cancels = this.cancels;
        let mut draw = env.draw(Purpose::Cancel { client, cancels });
        let process = ProcessNo(draw.below(self.processes) as u8);
        if let Some(saga) = this.answered {
            let asker = |copy| Asker::Canceller { client, cancels, copy };
            env.send(Message::Ask(asker(0)), |copy| {
                let ask = Ask { asker: asker(copy), asked: Asked::Cancel(saga) };
                Event::Process { process, event: ProcessEvent::Ask(ask) }
            });
        }
        let wait_ms = i64::from(draw.below(500));
        env.schedule(wait_ms, Event::Client { client, event: ClientEvent::Cancel });
    }

    fn replied(&mut self, env: &mut Env, client: ClientNo, (to, copy): (Asker, u8), reply: &Reply) {
        let this = &mut self.clients[usize::from(client)];
        match *reply {
            Reply::Accepted { saga } => {
                env.say(|| format!("{client} is answered: {saga} is accepted"));
                env.facts.push(Fact::Acknowledged { client, saga });
                if this.answered.replace(saga).is_none() {
                    self.unanswered -= 1;
                }
                let mut draw = env.draw(Purpose::AskedAgain(to, copy));
                if draw.chance(env.weather.asked_again) {
                    let in_ms = i64::from(draw.below(2_000));
                    env.schedule(in_ms, Event::Client { client, event: ClientEvent::Submit });
                }
            }
            Reply::Obeyed { saga } => {
                env.say(|| format!("{client} is answered: {saga} is cancelled"));
                this.cancel_answered = true;
                env.facts.push(Fact::CancelConfirmed { saga });
            }
            Reply::Refused => this.cancel_answered = true,
            // Both are sent again, when it is time.
            Reply::NotHere | Reply::Unavailable => {}
        }
    }
}
