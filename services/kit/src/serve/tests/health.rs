//! Health for the empty service name, `/readyz` and `/healthz` follow what is true: the database, the tasks, the
//! shutdown.

use tokio::sync::oneshot;
use tonic::Streaming;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::*;
use crate::testing::Proxy;

/// What the whole server says as it changes.
struct Watched {
    stream: Streaming<HealthCheckResponse>,
    client: HealthClient<Channel>,
}

impl Watched {
    async fn new(serving: &Serving) -> Self {
        let channel = Channel::from_shared(format!("http://{}", serving.grpc)).expect("a URL").connect().await;
        let mut client = HealthClient::new(channel.expect("it listens"));
        let stream = client.watch(HealthCheckRequest::default()).await.expect("a watch").into_inner();
        let mut watched = Self { stream, client };
        watched.becomes(ServingStatus::Serving).await;
        watched
    }

    /// Waits for the next change.
    async fn becomes(&mut self, expect: ServingStatus) {
        let next = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("a change");
        assert_eq!(next.expect("a message").map(|change| change.status()), Some(expect));
    }

    async fn check(&mut self) -> ServingStatus {
        self.client.check(HealthCheckRequest::default()).await.expect("an answer").into_inner().status()
    }

    async fn ends(&mut self) {
        let next = tokio::time::timeout(PATIENCE, self.stream.message()).await.expect("an end");
        assert!(matches!(next, Ok(None)), "{next:?}");
    }
}

/// What a probe is answered: good or not, and why.
async fn probe(serving: &Serving, path: &str) -> (bool, String) {
    let answer = get(serving.http.expect("it has an HTTP port"), path).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.starts_with("HTTP/1.1 200"), body.to_owned())
}

fn broken() {
    panic!("no ledger");
}

#[tokio::test]
async fn a_dead_task_is_seen_by_every_probe() {
    let test = empty_database(Backend::Sqlite).await;
    let (kill, killed) = oneshot::channel::<()>();
    let role = role(test.database.clone());
    role.tasks.must_run("writer", async {
        let _ = killed.await;
        broken();
    });
    let shutdown = CancellationToken::new();
    let serving = serve(role, anywhere(), shutdown.clone()).await.expect("it is served");
    let mut watched = Watched::new(&serving).await;
    assert_eq!(probe(&serving, "/readyz").await, (true, "ready\n".to_owned()));
    assert_eq!(probe(&serving, "/healthz").await, (true, "ok\n".to_owned()));
    kill.send(()).expect("it runs");
    watched.becomes(ServingStatus::NotServing).await;
    assert_eq!(watched.check().await, ServingStatus::NotServing);
    let why = "nothing: the task writer has ended: it panicked: no ledger\n".to_owned();
    assert_eq!(probe(&serving, "/readyz").await, (false, why.clone()));
    assert_eq!(probe(&serving, "/healthz").await, (false, why));
    let failure = tokio::time::timeout(PATIENCE, serving.failed()).await.expect("it is reported");
    assert_eq!((failure.task, failure.problem.as_str()), ("writer", "it panicked: no ledger"));
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
}

/// The port of a role can outlive the role, because it speaks for the whole process.
#[tokio::test]
async fn probes_are_answered_until_they_are_ended() {
    let test = empty_database(Backend::Sqlite).await;
    let shutdown = Shutdown::new(PATIENCE);
    let serving = serve(role(test.database.clone()), anywhere(), shutdown.clone()).await.expect("it is served");
    let http = serving.http.expect("it has an HTTP port");
    shutdown.begin();
    let ended = tokio::time::timeout(PATIENCE, serving.ended_before_probes()).await.expect("it ends");
    let answer = get(http, "/readyz").await.expect("an answer");
    assert!(answer.ends_with("nothing: the role is shutting down\n"), "{answer}");
    let ending = ended.expect("it has probes").end(shutdown.begun().await);
    tokio::time::timeout(PATIENCE, ending).await.expect("they end");
    get(http, "/readyz").await.expect_err("the port is closed");
}

/// What publishes the health of a role may be stuck; the failure of a task is seen nevertheless.
#[tokio::test]
async fn a_dead_task_is_seen_before_the_health_is_published() {
    let test = empty_database(Backend::Sqlite).await;
    let role = role(test.database.clone());
    let probed =
        Probed { role: "nothing", health: watch::channel(RoleHealth::default()).1, tasks: role.tasks.health() };
    let any_port = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
    let address = any_port.local_addr().expect("bound");
    let end = CancellationToken::new();
    let serving =
        tokio::spawn(super::super::http::serve("nothing", any_port, vec![probed], Limits::default(), end.clone()));
    assert!(get(address, "/healthz").await.expect("an answer").ends_with("ok\n"));
    let mut tasks = role.tasks.health();
    role.tasks.must_run("writer", async { broken() });
    tasks.wait_for(|tasks| tasks.failed.is_some()).await.expect("it is reported");
    for path in ["/healthz", "/readyz"] {
        let answer = get(address, path).await.expect("an answer");
        assert!(answer.ends_with("nothing: the task writer has ended: it panicked: no ledger\n"), "{answer}");
    }
    end.cancel();
    tokio::time::timeout(PATIENCE, serving).await.expect("it ends").expect("no panic");
}

#[tokio::test]
async fn a_task_that_is_started_again_is_seen_meanwhile() {
    let test = empty_database(Backend::Sqlite).await;
    let (kill, killed) = oneshot::channel::<()>();
    let mut killed = Some(killed);
    let role = role(test.database.clone());
    role.tasks.restarted("mailer", move || {
        let killed = killed.take();
        async move {
            match killed {
                Some(killed) => drop(killed.await),
                None => std::future::pending().await,
            }
            broken();
        }
    });
    let shutdown = CancellationToken::new();
    let serving = serve(role, anywhere(), shutdown.clone()).await.expect("it is served");
    let mut watched = Watched::new(&serving).await;
    let mut states = serving.health();
    states.mark_unchanged();
    kill.send(()).expect("it runs");
    let down = states.wait_for(|state| state.not_ready.is_some()).await.expect("a change").clone();
    let why = "the task mailer has ended and is being started again: it panicked: no ledger";
    assert_eq!((down.not_ready.as_deref(), down.failed), (Some(why), None));
    watched.becomes(ServingStatus::NotServing).await;
    watched.becomes(ServingStatus::Serving).await;
    assert!(probe(&serving, "/readyz").await.0 && probe(&serving, "/healthz").await.0);
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
}

#[tokio::test]
async fn a_database_that_is_away_is_seen() {
    let test = empty_database(Backend::Postgres).await;
    let proxy = Proxy::before(&test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let shutdown = CancellationToken::new();
    let serving = serve(role(database), anywhere(), shutdown.clone()).await.expect("it is served");
    let mut watched = Watched::new(&serving).await;
    proxy.refuse(true);
    proxy.hang();
    watched.becomes(ServingStatus::NotServing).await;
    let (is_ready, why) = probe(&serving, "/readyz").await;
    assert!(!is_ready && why.starts_with("nothing: the database does not answer: "), "{why}");
    // A new process would find it no better.
    assert!(probe(&serving, "/healthz").await.0);
    proxy.refuse(false);
    watched.becomes(ServingStatus::Serving).await;
    assert!(probe(&serving, "/readyz").await.0);
    shutdown.cancel();
    tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
}

/// In one process of several roles, the port of one speaks for all.
#[tokio::test]
async fn the_probes_of_a_process_see_all_its_roles() {
    let test = empty_database(Backend::Sqlite).await;
    let (kill, killed) = oneshot::channel::<()>();
    let other = role(test.database.clone());
    other.tasks.must_run("writer", async { drop(killed.await) });
    let shutdown = CancellationToken::new();
    let listen = Listen { http: None, ..anywhere() };
    let others = [serve(other, listen, shutdown.clone()).await.expect("it is served")];
    let own = Role { name: "own", ..role(test.database.clone()) };
    let serving = serve_beside(own, &others, anywhere(), shutdown.clone()).await.expect("it is served");
    let mut watched = Watched::new(&serving).await;
    kill.send(()).expect("it runs");
    let [other] = others;
    tokio::time::timeout(PATIENCE, other.failed()).await.expect("it is reported");
    let why = "nothing: the task writer has ended: it returned before the shutdown\n".to_owned();
    assert_eq!(probe(&serving, "/readyz").await, (false, why.clone()));
    assert_eq!(probe(&serving, "/healthz").await, (false, why));
    // Its own port of gRPC speaks for itself.
    assert_eq!(watched.check().await, ServingStatus::Serving);
    shutdown.cancel();
    for serving in [serving, other] {
        tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
    }
}

#[tokio::test]
async fn a_shutdown_is_seen_while_it_goes_on() {
    let test = empty_database(Backend::Sqlite).await;
    let (finish, finished) = oneshot::channel::<()>();
    let role = role(test.database.clone());
    // Something takes its time.
    role.tasks.must_run("writer", async { drop(finished.await) });
    let shutdown = Shutdown::new(PATIENCE);
    let serving = serve(role, anywhere(), shutdown.clone()).await.expect("it is served");
    let mut watched = Watched::new(&serving).await;
    shutdown.begin();
    watched.becomes(ServingStatus::NotServing).await;
    watched.ends().await;
    assert_eq!(probe(&serving, "/readyz").await, (false, "nothing: the role is shutting down\n".to_owned()));
    assert!(probe(&serving, "/healthz").await.0, "it need not be killed");
    finish.send(()).expect("it waits");
    tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
}
