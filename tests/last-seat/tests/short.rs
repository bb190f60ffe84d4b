//! A short form of the bench for the suite: facts only, no times. Skipped if there is no PostgreSQL server for tests.

use std::time::Duration;

use matricula_last_seat::{Bench, Guard, Kind, RedisServer, Report, Spec};
use matricula_postgres::POSTGRES_URL;

/// Fewer than the clients' minimum of requests: every design sells all of them.
const SEATS: i32 = 20;

async fn run(spec: Spec) -> Option<Report> {
    let Some(postgres) = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty()) else {
        eprintln!("skipped: {POSTGRES_URL} names no server");
        return None;
    };
    let redis = RedisServer::start_if_installed().await.expect("a Redis server that is installed starts");
    if redis.is_none() {
        eprintln!("no redis-server here: the lock in Redis is left out");
    }
    let bench = Bench { postgres: postgres.trim_end_matches('/').to_owned(), postgres_is_ours: false, redis };
    Some(bench.run(&spec).await.expect("every design decides"))
}

fn spec() -> Spec {
    Spec {
        sections: vec![1],
        clients: vec![8],
        capacity: SEATS,
        connections: 8,
        window: Duration::from_millis(200),
        // 80 requests in all, more than there are seats.
        requests_min: 10,
        lapses: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_design_sells_the_last_seat_once() {
    let Some(report) = run(Spec { sections: vec![1, 4], ..spec() }).await else { return };
    let designs = |sections| report.cells.iter().filter(move |cell| cell.sections == sections).map(|cell| cell.design);
    let expected = Kind::ALL.into_iter().filter(|kind| *kind != Kind::RedisLock || has_redis(&report));
    assert!(designs(1).eq(expected.clone()) && designs(4).eq(expected), "{report}");
    for cell in &report.cells {
        assert!(cell.holds_up(), "{cell}: {cell:?}");
        // One section always sells out; of four random ones some may have seats left.
        if cell.sections == 1 {
            assert_eq!(cell.granted, u64::from(SEATS.unsigned_abs()), "{cell}: {cell:?}");
        }
    }
    assert!(report.holds(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lapsed_lock_sells_twice_unless_the_write_is_guarded() {
    let spec = Spec { sections: Vec::new(), lapses: 20, ..spec() };
    let Some(report) = run(spec).await else { return };
    let sold_twice: Vec<u64> = report.lapses.iter().map(|lapse| lapse.sold_twice).collect();
    if has_redis(&report) {
        // Each order of writes with no guard, with the token alone, with the state too.
        assert_eq!(sold_twice, [20, 0, 0, 20, 20, 0], "{report}");
        assert!(report.lapses.iter().all(|lapse| lapse.holds == lapse.rounds + lapse.sold_twice), "{report}");
    } else {
        assert!(sold_twice.is_empty());
    }
    assert!(
        report.lapses.iter().filter(|lapse| lapse.guard == Guard::TokenAndState).all(|lapse| lapse.sold_twice == 0)
    );
}

fn has_redis(report: &Report) -> bool {
    report.redis.is_some()
}
