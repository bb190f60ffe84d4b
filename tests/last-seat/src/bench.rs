//! The whole table: every design with every number of clients and sections; then the effect of a lapsed lock.

use std::sync::Arc;
use std::time::Duration;

use matricula_kit::database::Database;
use matricula_kit::id::SectionId;

use crate::cell::{self, Load, Seen};
use crate::cpu::{self, Meters};
use crate::designs::{self, Kind, Place};
use crate::lapse;
use crate::redis_server::RedisServer;
use crate::report::{Cell, Report};
use crate::store;

/// The warm-up before each window, a tenth of it: connections are opened, statements prepared, pages loaded.
const WARM_UP_PART: u32 = 10;

/// The specification of a run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Sections in which the clients request seats, a table each.
    pub sections: Vec<usize>,
    /// Clients at once, a block of the table each.
    pub clients: Vec<usize>,
    /// Seats in each section.
    pub capacity: i32,
    /// Connections to PostgreSQL of a design with a connection for each request.
    pub connections: u32,
    /// How long each cell is measured.
    pub window: Duration,
    /// The minimum of requests of each client.
    pub requests_min: usize,
    /// How often each case of a lapsed lock is played; 0: not at all.
    pub lapses: usize,
}

/// The servers that it runs on.
pub struct Bench {
    /// URL of the PostgreSQL server, without a database.
    pub postgres: String,
    /// Whether that server is for this run only, so that a checkpoint may be requested.
    pub postgres_is_ours: bool,
    /// The Redis server; without it one design is left out.
    pub redis: Option<RedisServer>,
}

impl Bench {
    /// Measures. Prints a line for each cell to stderr.
    pub async fn run(&self, spec: &Spec) -> anyhow::Result<Report> {
        let url = Database::create_on(&self.postgres).await.expect("a new database");
        let pool = designs::pool(&url, 1).await?;
        let settings = store::settings(&pool).await?;
        let postmaster = cpu::postmaster_of(store::backend_pid(&pool).await?);
        let meters = Meters { postmaster, redis: self.redis.as_ref().map(RedisServer::pid) };
        let mut report = Report::new(spec, settings, self.redis.as_ref().map(|redis| redis.version().to_owned()));
        for &sections in &spec.sections {
            for &clients in &spec.clients {
                for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::RedisLock || self.redis.is_some()) {
                    if self.postgres_is_ours {
                        store::checkpoint(&pool).await?;
                    }
                    let cell = self.cell(spec, kind, sections, clients, &meters).await?;
                    eprintln!("{cell}");
                    report.add(cell);
                }
            }
        }
        if let Some(redis) = self.redis.as_ref().filter(|_| spec.lapses > 0) {
            let url = Database::create_on(&self.postgres).await.expect("a new database");
            report.lapses = lapse::run(&url, redis, spec.lapses).await?;
        }
        pool.close().await;
        Ok(report)
    }

    async fn cell(
        &self,
        spec: &Spec,
        kind: Kind,
        sections: usize,
        clients: usize,
        meters: &Meters,
    ) -> anyhow::Result<Cell> {
        let url = Database::create_on(&self.postgres).await.expect("a new database");
        let ids = (0..sections).map(|number| SectionId::try_new(format!("C{number:03}-L1")));
        let ids: Arc<[SectionId]> = ids.collect::<Result<Vec<_>, _>>()?.into();
        let (capacity, connections) = (spec.capacity, spec.connections);
        let place = Place { url: &url, sections: &ids, capacity, connections, redis: self.redis.as_ref() };
        let design = kind.open(&place).await?;
        let load =
            Load { clients, warm_up: spec.window / WARM_UP_PART, window: spec.window, requests_min: spec.requests_min };
        let seen: Seen = cell::run(&design, &ids, load, meters).await?;
        design.close().await;
        let pool = designs::pool(&url, 1).await?;
        let tally = store::tally(&pool).await?;
        pool.close().await;
        Ok(Cell::new(kind, sections, clients, spec.window, &seen, tally))
    }
}
