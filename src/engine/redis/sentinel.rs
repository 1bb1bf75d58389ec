//! Following a primary that Sentinels watch: whoever they say it is, is where the logs are from then on.
//!
//! All of them are asked, every half second, and what they say is weighed (`sayings`): one that was cut off from the
//! others, or comes back after a failover, may still name the primary of before.
//! What they name is only believed once it says itself that it is a primary (`link::probe`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisResult};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::link::{dial, too_late};
use super::sayings::{Belief, Primary, Saying, Verdict, newest};
use super::shard::Shard;
use super::trouble::{Trouble, answered};
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

/// Keeps one member of the map where the Sentinels say, for as long as this future lives.
pub(super) async fn follow(shared: Arc<Shared>, index: usize, service: Service) {
    let mut follower = Follower {
        sentinels: Sentinel::all(&service),
        belief: Belief::new(service.sentinels.len()),
        shared,
        index,
        service,
        home: None,
        is_in_trouble: false,
    };
    loop {
        follower.look().await;
        tokio::time::sleep(PERIOD).await;
    }
}

struct Follower {
    shared: Arc<Shared>,
    /// The member's place in the map.
    index: usize,
    service: Service,
    sentinels: Vec<Sentinel>,
    belief: Belief,
    /// The primary that is used, and its connections, which end with it.
    home: Option<(Arc<Shard>, JoinSet<()>)>,
    /// None of them said where the primary is, the last time.
    is_in_trouble: bool,
}

impl Follower {
    async fn look(&mut self) {
        let name = self.service.name.clone();
        let asked = join_all(self.sentinels.iter_mut().map(|sentinel| sentinel.ask(&name))).await;
        let answers = answered(asked);
        // Those of another name may be in trouble still.
        if answers.is_ok() && std::mem::take(&mut self.is_in_trouble) {
            self.shared.troubles.are_over();
        }
        if let Err((at, error)) = &answers {
            self.is_in_trouble = true;
            let sentinel = &self.sentinels[*at].info;
            let address = sentinel.addr().to_string();
            self.shared.troubles.note(error, sentinel, move |trouble| {
                let fix = trouble.fix_of_sentinel();
                tracing::warn!(
                    sentinel = address,
                    error = %trouble,
                    fix,
                    service = name,
                    "no Sentinel says where the primary is; asking on"
                );
            });
        }
        let is_up = self.home.as_ref().is_some_and(|(home, _)| home.is_up());
        let primary = if is_up { Primary::Up } else { Primary::Away };
        match self.belief.weigh(&answers.unwrap_or_default(), primary, Instant::now()) {
            Verdict::Stay => {}
            Verdict::Move(saying) => self.move_to(&saying),
            Verdict::Leave => self.leave(),
        }
    }

    fn move_to(&mut self, saying: &Saying) {
        let service = &self.service.name;
        match self.shared.place(saying.primary(&self.service)) {
            Ok(place) => {
                let epoch = saying.config_epoch;
                tracing::info!(redis = %place, service, epoch, "Sentinel names the primary");
                let mut tasks = JoinSet::new();
                let home = Shard::start(&self.shared, place, &mut tasks);
                self.shared
                    .change_map(|map| map.with(self.index, Some(Arc::clone(&home))));
                self.home = Some((home, tasks));
            }
            Err(error) => tracing::warn!(%error, service, "Sentinel names a primary that cannot be used"),
        }
    }

    /// Nothing is written to it any more.
    fn leave(&mut self) {
        self.shared.change_map(|map| map.with(self.index, None));
        self.home = None;
    }
}

/// Where the primary is at this moment, if one of them says so.
pub(super) async fn primary(service: &Service) -> Option<ConnectionInfo> {
    let mut sentinels = Sentinel::all(service);
    let asked = join_all(sentinels.iter_mut().map(|sentinel| sentinel.ask(&service.name))).await;
    let answers = answered(asked).unwrap_or_default();
    newest(&answers).map(|newest| newest.primary(service))
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
        let ask = |what: &str| {
            let mut asking = redis::cmd("SENTINEL");
            asking.arg(what).arg(service);
            asking
        };
        // In this order: who leads a failover may say the new epoch before it says the new address among its facts, and
        // then an old address would pass for a new one.
        let facts: HashMap<String, String> = ask("MASTER").query_async(connection).await?;
        let address: Option<(String, String)> = ask("GET-MASTER-ADDR-BY-NAME").query_async(connection).await?;
        said(&facts, address)
    }
}

/// What it answers, read.
fn said(facts: &HashMap<String, String>, address: Option<(String, String)>) -> RedisResult<Saying> {
    let saying = address.and_then(|address| Saying::read(facts, address));
    saying.ok_or_else(|| Trouble::NoPrimary.into())
}

impl Saying {
    fn primary(&self, service: &Service) -> ConnectionInfo {
        let address = with_host(service.primary.addr(), (&self.host, self.port));
        service.primary.clone().set_addr(address)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// It was told to start Redis, though the Sentinel had answered.
    #[test]
    fn a_sentinel_that_answers_without_a_primary_is_told_so() {
        let error = said(&HashMap::new(), None).unwrap_err();
        assert_eq!(Trouble::of(&error), Trouble::NoPrimary);
    }
}
