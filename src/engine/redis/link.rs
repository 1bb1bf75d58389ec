//! A connection that is kept up: made again whenever it breaks, for ever, with jittered pauses.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, ProtocolVersion, RedisError, RedisResult, Script, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::keys::Prefix;
use super::look::role_of;
use super::needs::Needs;
use super::shard::Shard;
use super::trouble::Trouble;
use crate::delivery::{EngineError, EngineErrorKind, Outside};

/// How long connecting may take, the greeting included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a connection is asked whether it still is one, and how long it may take to say so.
const PROBE_PERIOD: Duration = Duration::from_millis(500);
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a command may take to be answered.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The longest break that is waited for.
pub(super) const BREAK_MAX: Duration = Duration::from_millis(400);

/// Commands that wait to be written; more of them wait with their callers.
const COMMANDS_MAX: usize = 1_024;

/// Where connections go to, and where chance comes from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    client: redis::Client,
    outside: Arc<dyn Outside>,
    /// What a Cluster calls it.
    names: Vec<String>,
    needs: Needs,
}

impl Place {
    /// One that keeps all keys with a prefix.
    pub(super) fn new(info: ConnectionInfo, prefix: &Prefix, outside: Arc<dyn Outside>) -> RedisResult<Self> {
        let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // Many small commands, each of which somebody waits for.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let needs = Needs::alone(prefix, redis.db());
        let info = info.set_redis_settings(redis).set_tcp_settings(tcp);
        Ok(Self {
            client: redis::Client::open(info)?,
            outside,
            names: Vec::new(),
            needs,
        })
    }

    /// The same, a node of a Cluster, which calls it by these names.
    pub(super) fn in_cluster(self, names: Vec<String>) -> Self {
        Self {
            names,
            needs: Needs::InCluster,
            ..self
        }
    }

    /// Whether this is what `address` leads to.
    pub(super) fn is_at(&self, address: &str) -> bool {
        self.names.iter().any(|name| name == address)
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        self.client.get_connection_info()
    }

    /// Connects to the primary, if it is what is needed.
    pub(super) async fn connect(&self, config: AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let mut connection = dial(&self.client, config).await?;
        let is_lack = |error: &RedisError| matches!(Trouble::of(error), Trouble::Unknown(_));
        let fit = self.needs.try_on(&mut connection).await;
        // A Sentinel lacks most commands: who it is counts before what it lacks, and all that it lacks before the first.
        match (fit, probe(&mut connection).await) {
            (Err(error), _) if !is_lack(&error) => Err(error),
            (Err(all), Err(first)) if is_lack(&first) => Err(all),
            (fit, probed) => probed.and(fit).map(|()| connection),
        }
    }

    /// A pause before the next attempt: at least 50 ms, and at most a second and a bit, however many have failed.
    pub(super) async fn pause(&self, failed: u32) {
        const LEAST_MS: u64 = 50;
        let most_ms = LEAST_MS << failed.min(4);
        tokio::time::sleep(Duration::from_millis(LEAST_MS + self.outside.random() % most_ms)).await;
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().addr().fmt(f)
    }
}

/// Connects, to whatever is there.
pub(super) async fn dial(client: &redis::Client, config: AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
    let config = config
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
        .set_pipeline_buffer_size(COMMANDS_MAX);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(too_late()))
}

pub(super) fn too_late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Whether the other side answers, has its data, and is a primary.
pub(super) async fn probe(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("PING").cmd("ROLE");
    let answers = connection.send_packed_commands(&pipeline, 0, 2);
    let answers = timeout(PROBE_TIMEOUT, answers)
        .await
        .unwrap_or_else(|_| Err(too_late()))?;
    for (answer, is_of_ping) in answers.into_iter().zip([true, false]) {
        if let Value::ServerError(error) = answer {
            // A user that may not ask for the role learns from its writes; and whoever cannot save takes no writes, and
            // is there for its readers.
            if !matches!(error.code(), "NOPERM" | "MISCONF") {
                return Err(error.into());
            }
        } else if is_of_ping && !is_pong(&answer) {
            return Err(Trouble::Stranger(None).into());
        } else if role_of(&answer) == Some("slave") {
            return Err(Trouble::Replica.into());
        } else if role_of(&answer) == Some("sentinel") {
            return Err(Trouble::Sentinel.into());
        }
    }
    Ok(())
}

/// Whoever repeats what is said, say, is no Redis.
pub(super) fn is_pong(answer: &Value) -> bool {
    *answer == Value::SimpleString("PONG".to_owned()) || *answer == Value::BulkString(b"PONG".to_vec())
}

/// The connection, while there is one.
#[derive(Debug)]
pub(super) struct Link {
    up: watch::Sender<Option<MultiplexedConnection>>,
    /// When it came or went last.
    changed_at: Mutex<Instant>,
    /// When a question was answered, the last time.
    answered_at: Mutex<Instant>,
    doubted: Notify,
}

impl Link {
    pub(super) fn new() -> Self {
        Self {
            up: watch::Sender::new(None),
            changed_at: Mutex::new(Instant::now()),
            answered_at: Mutex::new(Instant::now()),
            doubted: Notify::new(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.borrow().is_some()
    }

    /// Whether it has been down for longer than a short break takes: then it is of no use to wait.
    pub(super) fn is_away(&self) -> bool {
        let changed_at = *self.changed_at.lock().unwrap_or_else(PoisonError::into_inner);
        !self.is_up() && changed_at.elapsed() > BREAK_MAX
    }

    fn set(&self, connection: Option<MultiplexedConnection>) {
        *self.changed_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.up.send_replace(connection);
    }

    /// The connection, for which it waits until `deadline`.
    pub(super) async fn connection(&self, deadline: Instant) -> Result<MultiplexedConnection, EngineError> {
        let mut up = self.up.subscribe();
        let found = timeout_at(deadline, up.wait_for(Option::is_some)).await;
        let found = found.ok().and_then(Result::ok).and_then(|found| found.clone());
        found.ok_or_else(|| EngineErrorKind::Unavailable.into())
    }

    /// When a question was answered on it, the last time.
    pub(super) fn answered_at(&self) -> Instant {
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question was answered on it.
    pub(super) fn note_answer(&self) {
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Something went wrong with it: it is asked at once whether it still is a connection.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Keeps it up for as long as this future lives, and says whenever it is down.
    pub(super) async fn keep(&self, home: &Shard, scripts: &[&Script], is_down: &Notify) {
        let mut failed = 0;
        loop {
            match self.hold(home, scripts).await {
                Ok(()) => failed = 0,
                Err(error) => {
                    home.tell_trouble(&error);
                    failed += 1;
                }
            }
            is_down.notify_one();
            home.place.pause(failed).await;
        }
    }

    /// One connection's life. An error is one that did not come about.
    async fn hold(&self, home: &Shard, scripts: &[&Script]) -> RedisResult<()> {
        let place = &home.place;
        let mut connection = place.connect(AsyncConnectionConfig::new()).await?;
        load(&mut connection, scripts).await?;
        self.set(Some(connection.clone()));
        home.end_trouble();
        tracing::debug!(redis = %place, "connected to Redis");
        let broken = loop {
            let _ = timeout(PROBE_PERIOD, self.doubted.notified()).await;
            if let Err(error) = probe(&mut connection).await {
                break error;
            }
        };
        self.set(None);
        tracing::warn!(redis = %place, error = %Trouble::of(&broken), "the connection to Redis broke");
        Ok(())
    }
}

/// Makes the scripts known, so that a call names them only.
pub(super) async fn load(connection: &mut MultiplexedConnection, scripts: &[&Script]) -> RedisResult<()> {
    for script in scripts {
        let loading = script.prepare_invoke();
        timeout(PROBE_TIMEOUT, loading.load_async(connection))
            .await
            .unwrap_or_else(|_| Err(too_late()))?;
    }
    Ok(())
}
