//! The waiting line for portals: one response a second for all streams, and the place of each registration.
//!
//! ```text
//! runtime ──LineView──► feed, once a second ──one response──► each stream
//! ```
//!
//! Promises: a stream gets the line at once, and then at most once a second when it has changed. A place comes from
//! memory.

use std::sync::Arc;
use std::time::Duration;

use futures::future;
use futures::stream::{self, Stream, StreamExt as _};
use matricula_kit::tasks::Tasks;
use matricula_kit::time::UnixMs;
use matricula_proto::registration::v1 as wire;
use matricula_registration::{Registrations, view};
use matricula_runtime::{DoorState, LineView, Runtime, Ticket};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::shutting_down;

/// Time between two responses: a person reads no faster, and thousands may watch.
const PAUSE: Duration = Duration::from_secs(1);

/// The responses of all streams.
pub(crate) struct LineFeed {
    responses: watch::Sender<wire::WatchLineResponse>,
    shutdown: CancellationToken,
}

impl LineFeed {
    /// Starts the task that makes the responses.
    pub(crate) fn start(runtime: Arc<Runtime<Registrations>>, shutdown: CancellationToken, tasks: &Tasks) -> Arc<Self> {
        let first = response(&runtime.line().borrow(), runtime.now());
        let feed = Arc::new(Self { responses: watch::Sender::new(first), shutdown });
        let of_task = feed.clone();
        tasks.restarted("line", move || {
            let (feed, runtime) = (of_task.clone(), runtime.clone());
            async move { feed.shutdown.run_until_cancelled(feed.follow(&runtime)).await.unwrap_or_default() }
        });
        feed
    }

    async fn follow(&self, runtime: &Runtime<Registrations>) {
        let mut line = runtime.line();
        // Just after the start the line has not been read from the database yet.
        let _ = tokio::time::timeout(PAUSE, line.changed()).await;
        loop {
            self.publish(response(&line.borrow(), runtime.now()));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Streams get a response that has changed. New streams get the newest moment also when nothing has changed.
    fn publish(&self, now: wire::WatchLineResponse) {
        self.responses.send_if_modified(|published| {
            let has_changed = now != wire::WatchLineResponse { as_of: now.as_of, ..published.clone() };
            *published = now;
            has_changed
        });
    }

    /// The line now, and then each time it has changed, until the shutdown.
    pub(crate) fn watch(&self) -> impl Stream<Item = Result<wire::WatchLineResponse, Status>> + use<> {
        let end = stream::once(future::ready(Err(shutting_down())));
        WatchStream::new(self.responses.subscribe())
            .map(Ok)
            .take_until(self.shutdown.clone().cancelled_owned())
            .chain(end)
    }
}

fn response(line: &LineView, now: UnixMs) -> wire::WatchLineResponse {
    let wire_time = |time: Option<Duration>| time.and_then(|time| time.try_into().ok());
    wire::WatchLineResponse {
        now_serving: number(line.served),
        last_ticket: number(line.last),
        turns_per_second: line.turns_per_1000_s.map(|turns| turns as f64 / 1_000.0),
        work: wire_time(line.work),
        expected_wait: wire_time(wait_of_next(line)),
        door: view::door(line.door.state).into(),
        sentence: line.door.sentence.clone(),
        as_of: Some(now.to_wire()),
    }
}

/// How long a registration that is accepted now takes to its outcome, if that is known.
fn wait_of_next(line: &LineView) -> Option<Duration> {
    match line.door.state {
        DoorState::Paused | DoorState::Closed => None,
        DoorState::Open if line.served >= line.last => line.work,
        DoorState::Open => wait_of(Ticket(line.last.0 + 1), line),
    }
}

/// How long a ticket takes to its outcome; none while the door is paused, because nobody knows when it opens again.
fn wait_of(ticket: Ticket, line: &LineView) -> Option<Duration> {
    line.expected_wait(ticket).filter(|_| line.door.state != DoorState::Paused)
}

/// Adds its place and its expected wait to a registration that waits in line.
pub(crate) fn place(registration: &mut wire::Registration, ticket: Ticket, line: &LineView) {
    registration.place_in_line = line.ahead(ticket).map(|ahead| i32::try_from(ahead).unwrap_or(i32::MAX));
    registration.expected_wait = wait_of(ticket, line).and_then(|wait| wait.try_into().ok());
}

fn number(ticket: Ticket) -> i64 {
    i64::try_from(ticket.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use matricula_runtime::Door;

    use super::*;

    fn line(served: u64, last: u64, rate: Option<u64>) -> LineView {
        let work = Some(Duration::from_millis(200));
        let turns_per_1000_s = rate.map(|rate| rate * 1_000);
        LineView { served: Ticket(served), last: Ticket(last), turns_per_1000_s, work, door: Door::default() }
    }

    #[track_caller]
    fn check(line: &LineView, ticket: u64, place_in_line: Option<i32>, wait_ms: Option<u64>) {
        let mut registration = wire::Registration::default();
        place(&mut registration, Ticket(ticket), line);
        let wait = registration.expected_wait.and_then(|wait| Duration::try_from(wait).ok());
        assert_eq!((registration.place_in_line, wait), (place_in_line, wait_ms.map(Duration::from_millis)));
    }

    #[test]
    fn a_place_is_the_number_of_earlier_tickets() {
        check(&line(100, 500, Some(10)), 101, Some(0), Some(300));
        check(&line(100, 500, Some(10)), 110, Some(9), Some(1_200));
        check(&line(100, 500, None), 110, Some(9), None);
        // Its turn has come.
        check(&line(100, 500, Some(10)), 100, None, None);
        let mut paused = line(100, 500, Some(10));
        paused.door.state = DoorState::Paused;
        check(&paused, 110, Some(9), None);
    }

    #[test]
    fn a_new_registration_has_an_expected_wait() {
        let expected = |line: &LineView| response(line, UnixMs(0)).expected_wait.map(|wait| wait.seconds);
        assert_eq!(expected(&line(100, 499, Some(10))), Some(40));
        assert_eq!(expected(&line(100, 500, None)), None);
        assert_eq!(expected(&line(500, 500, None)), Some(0), "nobody waits");
        let mut paused = line(500, 500, None);
        paused.door.state = DoorState::Paused;
        assert_eq!(expected(&paused), None);
    }

    #[tokio::test]
    async fn a_stream_gets_the_line_at_once_and_then_its_changes() {
        let at = |served, ms| response(&line(served, 500, Some(10)), UnixMs(ms));
        let feed = LineFeed { responses: watch::Sender::new(at(1, 1_000)), shutdown: CancellationToken::new() };
        let mut stream = Box::pin(feed.watch());
        let mut next = || futures::FutureExt::now_or_never(stream.next());
        assert_eq!(next().flatten().and_then(Result::ok), Some(at(1, 1_000)));
        feed.publish(at(1, 2_000));
        assert!(next().is_none(), "nothing has changed");
        feed.publish(at(2, 3_000));
        feed.publish(at(3, 4_000));
        assert_eq!(next().flatten().and_then(Result::ok), Some(at(3, 4_000)), "a slow client gets the last one");
        feed.shutdown.cancel();
        let end = next().flatten().and_then(Result::err).map(|status| status.code());
        assert_eq!(end, Some(tonic::Code::Unavailable));
        assert!(matches!(next(), Some(None)));
    }
}
