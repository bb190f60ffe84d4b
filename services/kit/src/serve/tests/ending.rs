//! An orderly end with everything stuck that can be: it is over by one deadline.

use h2::client::Builder;

use super::*;
use crate::testing::Proxy;

const GRACE: Duration = Duration::from_secs(3);
/// What a busy machine may need more.
const MARGIN: Duration = Duration::from_secs(2);
/// A stream of the server that begins with a message.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A reader that never reads: nothing may be sent to it.
async fn deaf(address: SocketAddr) -> ResponseFuture {
    let stream = connect(address).await;
    let (client, connection) =
        Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://test{WATCH}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    let mut client = client.ready().await.expect("a connection");
    let (answer, mut body) = client.send_request(request, false).expect("a stream");
    body.send_data(Bytes::from_static(&[0; 5]), true).expect("data");
    answer
}

#[tokio::test]
async fn all_that_is_stuck_ends_by_one_deadline() {
    let test = empty_database(Backend::Postgres).await;
    let proxy = Proxy::before(&test.url).await;
    let database = Database::open(proxy.url()).await.expect("a way through the proxy");
    let role = role(database.clone());
    role.tasks.must_run("stuck", std::future::pending::<()>());
    let shutdown = Shutdown::new(GRACE);
    let serving = serve(role, anywhere(), shutdown.clone()).await.expect("it is served");
    // A call whose message never comes, over TCP and in memory's place by another connection; a stream that is not
    // read.
    let client = h2(serving.grpc).await;
    let (_body, call) = begin(&client, 1_000, 10).await;
    let mut stream = deaf(serving.grpc).await.await.expect("a head").into_body();
    // A read of the database, and the way to it is gone.
    let mut snapshot = database.snapshot().await.expect("a snapshot");
    snapshot.fetch("SELECT 1 AS one", crate::database::Args::new()).await.expect("a row");
    proxy.refuse(true);
    proxy.hang();
    let begun = Instant::now();
    shutdown.begin();
    tokio::time::timeout(PATIENCE, serving.ended()).await.expect("it ends");
    let took = begun.elapsed();
    println!("it took {took:?}");
    assert!(took < GRACE + MARGIN, "{took:?}");
    // The clients of what was cut off get an error, and do not hang either.
    let call = tokio::time::timeout(PATIENCE, call).await.expect("an end");
    assert!(call.is_err(), "{call:?}");
    let left = async {
        while let Some(Ok(data)) = stream.data().await {
            let _ = stream.flow_control().release_capacity(data.len());
        }
    };
    tokio::time::timeout(PATIENCE, left).await.expect("an end");
    drop(snapshot);
}

#[tokio::test]
async fn what_is_not_stuck_ends_at_once() {
    let served = Served::new(Limits::default()).await;
    let stream = connect(served.serving.grpc).await;
    let (client, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut ping = connection.ping_pong().expect("the first");
    tokio::spawn(connection);
    let (mut body, answer) = begin(&client, 0, 0).await;
    // Its beginning has arrived when what was sent after it is answered; its end comes after the shutdown has begun.
    ping.ping(h2::Ping::opaque()).await.expect("a pong");
    served.shutdown.cancel();
    body.send_data(Bytes::new(), true).expect("the end");
    assert_eq!(ended_with(answer).await.0, "0", "a call in flight is answered");
    let begun = Instant::now();
    served.end().await;
    assert!(begun.elapsed() < GRACE, "{:?}", begun.elapsed());
}
