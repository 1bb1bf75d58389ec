//! Following a primary that Sentinels watch: whoever they say it is, is where the logs are from then on.
//!
//! All of them are asked, every half second, and the answer with the newest configuration counts: one that was cut off
//! from the others may still name the primary of before.
//! What they name is only believed once it says itself that it is a primary (`link::probe`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Shared;
use super::link::{Place, dial, too_late};
use super::shard::Shard;
use super::url::Service;

/// How often they are asked.
const PERIOD: Duration = Duration::from_millis(500);

/// How long one may take to answer.
const TIMEOUT: Duration = Duration::from_millis(400);

/// A Sentinel, and the connection to it, if there is one.
struct Sentinel {
    info: ConnectionInfo,
    connection: Option<MultiplexedConnection>,
}

/// What one says about the primary.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Saying {
    config_epoch: u64,
    host: String,
    port: u16,
}

/// Keeps one member of the map where the Sentinels say, for as long as this future lives.
pub(super) async fn follow(shared: Arc<Shared>, index: usize, service: Service) {
    let mut sentinels = Sentinel::all(&service);
    // The connections to the primary end with these.
    let mut current: Option<(Saying, JoinSet<()>)> = None;
    let mut was_answered = true;
    loop {
        let asked = join_all(sentinels.iter_mut().map(|sentinel| sentinel.ask(&service.name))).await;
        let newest = newest(asked);
        if let Err(error) = &newest
            && was_answered
        {
            tracing::warn!(%error, service = service.name, "no Sentinel says where the primary is; asking on");
        }
        was_answered = newest.is_ok();
        if let Ok(saying) = newest
            && current
                .as_ref()
                .is_none_or(|(before, _)| !before.is_same_place(&saying))
        {
            match Place::new(saying.primary(&service), Arc::clone(&shared.outside)) {
                Ok(place) => {
                    tracing::info!(redis = %place, service = service.name, "Sentinel names the primary");
                    let mut tasks = JoinSet::new();
                    let home = Shard::start(&shared, place, &mut tasks);
                    shared.change_map(|map| map.with(index, home));
                    current = Some((saying, tasks));
                }
                Err(error) => tracing::warn!(%error, "Sentinel names a primary that cannot be used"),
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// Where the primary is at this moment.
pub(super) async fn primary(service: &Service) -> RedisResult<ConnectionInfo> {
    let mut sentinels = Sentinel::all(service);
    let asked = join_all(sentinels.iter_mut().map(|sentinel| sentinel.ask(&service.name))).await;
    newest(asked).map(|saying| saying.primary(service))
}

/// The answer that counts, or why there is none.
fn newest(asked: Vec<RedisResult<Saying>>) -> RedisResult<Saying> {
    let mut why = too_late();
    let answers = asked
        .into_iter()
        .filter_map(|asked| asked.map_err(|error| why = error).ok());
    answers.max().ok_or(why)
}

impl Sentinel {
    fn all(service: &Service) -> Vec<Self> {
        let sentinel = |info: &ConnectionInfo| Self {
            info: info.clone(),
            connection: None,
        };
        service.sentinels.iter().map(sentinel).collect()
    }

    async fn ask(&mut self, service: &str) -> RedisResult<Saying> {
        let asked = timeout(TIMEOUT, self.try_ask(service)).await;
        let asked = asked.unwrap_or_else(|_| Err(too_late()));
        if asked.is_err() {
            self.connection = None;
        }
        asked
    }

    async fn try_ask(&mut self, service: &str) -> RedisResult<Saying> {
        if self.connection.is_none() {
            let client = redis::Client::open(self.info.clone())?;
            self.connection = Some(dial(&client, AsyncConnectionConfig::new()).await?);
        }
        let Some(connection) = &mut self.connection else {
            return Err(too_late());
        };
        let mut asking = redis::cmd("SENTINEL");
        let said: HashMap<String, String> = asking.arg("MASTER").arg(service).query_async(connection).await?;
        Saying::read(&said)
            .ok_or_else(|| RedisError::from(std::io::Error::other("it does not say where the primary is")))
    }
}

impl Saying {
    fn is_same_place(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    fn primary(&self, service: &Service) -> ConnectionInfo {
        let address = with_host(service.primary.addr(), (&self.host, self.port));
        service.primary.clone().set_addr(address)
    }

    fn read(said: &HashMap<String, String>) -> Option<Self> {
        Some(Self {
            config_epoch: said.get("config-epoch")?.parse().ok()?,
            host: said.get("ip")?.clone(),
            port: said.get("port")?.parse().ok()?,
        })
    }
}

/// The same way to talk, to another host.
pub(super) fn with_host(like: &ConnectionAddr, (host, port): (&str, u16)) -> ConnectionAddr {
    let mut address = like.clone();
    if let ConnectionAddr::TcpTls {
        host: known,
        port: known_port,
        ..
    } = &mut address
    {
        host.clone_into(known);
        *known_port = port;
        return address;
    }
    ConnectionAddr::Tcp(host.to_owned(), port)
}
