//! Locks in Redis, as its manual describes them: `SET key token NX PX ttl`, released only with the same token. Each
//! lock comes with a number that grows, the fencing token.

use std::time::Duration;

use matricula_kit::id::SectionId;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult, Script};

use crate::redis_server::RedisServer;

/// A server that does not answer for this long is broken, not slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets the key if it is missing, and counts the fencing token in the same step. 0: another client has the lock.
const ACQUIRE: &str = "if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then \
    return redis.call('INCR', KEYS[2]) end return 0";
/// A lock that has lapsed may belong to another client now.
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// All clients of this process share one connection, on which their commands follow each other without waiting.
pub struct Locks {
    connection: MultiplexedConnection,
    acquire: Script,
    release: Script,
    ttl: Duration,
}

/// A lock. It may have lapsed since it was acquired.
pub struct Held {
    key: String,
    token: String,
    /// Larger than that of every earlier owner of this lock.
    pub fence: i64,
}

impl Locks {
    /// Connects. Locks lapse after `ttl`, which counts in whole milliseconds.
    pub async fn open(redis: &RedisServer, ttl: Duration) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER_TIMEOUT));
        let client = redis::Client::open(redis.url())?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self { connection, acquire: Script::new(ACQUIRE), release: Script::new(RELEASE), ttl })
    }

    /// Takes the lock of a section; `None` when another client has it.
    pub async fn acquire(&self, section: &SectionId) -> RedisResult<Option<Held>> {
        let key = format!("lock:{section}");
        let token = format!("{:032x}", rand::random::<u128>());
        let mut acquire = self.acquire.key(&key);
        acquire.key(format!("fence:{section}")).arg(&token).arg(self.ttl.as_millis() as u64);
        let fence: i64 = acquire.invoke_async(&mut self.connection.clone()).await?;
        Ok((fence > 0).then_some(Held { key, token, fence }))
    }

    /// Releases a lock; returns whether it was still held.
    pub async fn release(&self, held: &Held) -> RedisResult<bool> {
        let mut release = self.release.key(&held.key);
        let deleted: i64 = release.arg(&held.token).invoke_async(&mut self.connection.clone()).await?;
        Ok(deleted == 1)
    }
}
