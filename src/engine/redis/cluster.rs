//! Following a Cluster: its nodes are asked who has which slots, every second, and whenever there is a reason.
//!
//! The library's own client for Clusters is not used: it sends again what was not answered, so that a publication
//! without a key could be stored twice, and it does not say when its connections break, so that nothing would be compared
//! then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult, Value};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::Shared;
use super::link::{dial, too_late};
use super::nodes::{Host, Primary, View};
use super::sentinel::with_host;
use super::shard::Shard;
use super::topology::{Map, Member, Route};
use super::trouble::{Trouble, answered};

/// How often nodes are asked while all is well, and while something is not.
const PERIOD: Duration = Duration::from_secs(1);
const PERIOD_IN_TROUBLE: Duration = Duration::from_millis(250);

/// The least time between two questions, whatever the reason.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_millis(400);

/// How many nodes are asked at once.
const ASKED_MAX: usize = 3;

/// For how long a node that knows an older epoch is not believed: then the Cluster was made anew.
const EPOCH_TTL: Duration = Duration::from_secs(10);

/// Keeps the map as the nodes say, for as long as this future lives.
pub(super) async fn follow(shared: Arc<Shared>, seeds: Vec<ConnectionInfo>) {
    let mut follower = Follower {
        known: seeds.iter().map(|seed| seed.addr().clone()).map(Asked::new).collect(),
        seeds,
        shared,
        tasks: HashMap::new(),
        newest: (0, Instant::now()),
    };
    loop {
        if let Some(view) = follower.look().await {
            follower.adopt(&view);
        }
        let map = follower.shared.map();
        let is_well = !map.members().is_empty() && map.members().iter().all(Member::is_up);
        let period = if is_well { PERIOD } else { PERIOD_IN_TROUBLE };
        tokio::time::sleep(PAUSE).await;
        let _ = timeout(period, follower.shared.look_again.notified()).await;
    }
}

/// Where the primaries are at this moment, and who has which slots, if a node says so.
pub(super) async fn primaries(seeds: &[ConnectionInfo]) -> Option<(Vec<ConnectionInfo>, Route)> {
    let mut nodes: Vec<_> = seeds.iter().map(|seed| Asked::new(seed.addr().clone())).collect();
    let asked = join_all(nodes.iter_mut().map(|node| node.ask(&seeds[0]))).await;
    let view = answered(asked).unwrap_or_default().into_iter().max()?;
    let info = |primary: &Primary| {
        let address = address(&seeds[0], &primary.host, primary.hostname.as_deref());
        seeds[0].clone().set_addr(address)
    };
    Some((view.primaries.iter().map(info).collect(), view.route()))
}

/// Where a node is: with TLS at the name that its certificate is for.
fn address(like: &ConnectionInfo, (host, port): &Host, hostname: Option<&str>) -> ConnectionAddr {
    match (like.addr(), hostname) {
        (like @ ConnectionAddr::TcpTls { .. }, Some(hostname)) => with_host(like, (hostname, *port)),
        (like, _) => with_host(like, (host, *port)),
    }
}

struct Follower {
    shared: Arc<Shared>,
    seeds: Vec<ConnectionInfo>,
    /// Those that can be asked: the seeds, and whoever they named last.
    known: Vec<Asked>,
    /// What keeps the shards' connections, by the shards' names.
    tasks: HashMap<Arc<str>, JoinSet<()>>,
    /// The newest epoch that a node knew, and when.
    newest: (u64, Instant),
}

/// A node, and the connection on which it is asked, if there is one.
struct Asked {
    address: ConnectionAddr,
    connection: Option<MultiplexedConnection>,
}

impl Follower {
    /// What some of the nodes say, chosen by chance.
    async fn look(&mut self) -> Option<View> {
        for at in 0..self.known.len().min(ASKED_MAX) {
            let rest = (self.known.len() - at) as u64;
            let chosen = at + usize::try_from(self.shared.outside.random() % rest).unwrap_or(0);
            self.known.swap(at, chosen);
        }
        let like = &self.seeds[0];
        let asking = self.known.iter_mut().take(ASKED_MAX).map(|node| node.ask(like));
        let newest = match answered(join_all(asking).await) {
            Ok(views) => {
                self.shared.troubles.are_over();
                views.into_iter().max()?
            }
            Err((at, error)) => {
                self.tell_trouble(&self.known[at], &error);
                return None;
            }
        };
        if newest.epoch < self.newest.0 && self.newest.1.elapsed() < EPOCH_TTL {
            return None;
        }
        self.newest = (newest.epoch, Instant::now());
        Some(newest)
    }

    fn tell_trouble(&self, node: &Asked, error: &RedisError) {
        let (info, address) = (
            self.seeds[0].clone().set_addr(node.address.clone()),
            node.address.to_string(),
        );
        self.shared.troubles.note(error, &info, move |trouble| {
            let fix = trouble.fix();
            tracing::warn!(
                redis = address,
                error = %trouble,
                fix,
                "no node of the Cluster says who has which slots; asking on"
            );
        });
    }

    fn adopt(&mut self, view: &View) {
        self.remember(view);
        let before = self.shared.map();
        let members: Vec<_> = view
            .primaries
            .iter()
            .filter_map(|primary| self.member(primary))
            .collect();
        let map = Map::new(members, view.route());
        // A primary without a place would shift the others' indices; its URL came from the Cluster, so there is none.
        if map.members().len() == view.primaries.len() && !map.is_like(&before) {
            tracing::info!(
                primaries = map.members().len(),
                epoch = view.epoch,
                "the Cluster's slots"
            );
            self.shared.change_map(|_| map);
        }
        let map = self.shared.map();
        self.tasks
            .retain(|name, _| map.members().iter().any(|member| member.name == *name));
    }

    /// A primary's part in the map; its shard is begun if it is new.
    fn member(&mut self, primary: &Primary) -> Option<Member> {
        let name: Arc<str> = format!("{}:{}", primary.host.0, primary.host.1).into();
        let map = self.shared.map();
        if let Some(known) = map.members().iter().find(|member| member.name == name) {
            return Some(known.clone());
        }
        let address = address(&self.seeds[0], &primary.host, primary.hostname.as_deref());
        let info = self.seeds[0].clone().set_addr(address);
        let place = self.shared.place(info);
        let place = place.inspect_err(|error| tracing::warn!(%error, redis = &*name, "a node cannot be used"));
        let alias = primary
            .hostname
            .as_ref()
            .map(|hostname| format!("{hostname}:{}", primary.host.1));
        let place = place
            .ok()?
            .in_cluster([Some(name.to_string()), alias].into_iter().flatten().collect());
        let home = Shard::start(&self.shared, place, self.tasks.entry(Arc::clone(&name)).or_default());
        Some(Member {
            name,
            database: 0,
            home: Some(home),
        })
    }

    /// Whom to ask from now on.
    fn remember(&mut self, view: &View) {
        let primaries = view.primaries.iter();
        let named = primaries.map(|primary| address(&self.seeds[0], &primary.host, primary.hostname.as_deref()));
        let replicas = view
            .replicas
            .iter()
            .map(|replica| address(&self.seeds[0], replica, None));
        let mut addresses: Vec<_> = self.seeds.iter().map(|seed| seed.addr().clone()).collect();
        for address in named.chain(replicas) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        self.known.retain(|node| addresses.contains(&node.address));
        for address in addresses {
            if !self.known.iter().any(|node| node.address == address) {
                self.known.push(Asked::new(address));
            }
        }
    }
}

impl Asked {
    fn new(address: ConnectionAddr) -> Self {
        Self {
            address,
            connection: None,
        }
    }

    async fn ask(&mut self, like: &ConnectionInfo) -> RedisResult<View> {
        let asked = timeout(TIMEOUT, self.try_ask(like)).await;
        let asked = asked.unwrap_or_else(|_| Err(too_late()));
        if asked.is_err() {
            self.connection = None;
        }
        asked
    }

    async fn try_ask(&mut self, like: &ConnectionInfo) -> RedisResult<View> {
        if self.connection.is_none() {
            let client = redis::Client::open(like.clone().set_addr(self.address.clone()))?;
            self.connection = Some(dial(&client, AsyncConnectionConfig::new()).await?);
        }
        let Some(connection) = &mut self.connection else {
            return Err(too_late());
        };
        let (info, nodes) = what_it_says(connection).await?;
        let (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = &self.address else {
            return Err(std::io::Error::other("a Cluster's node has an address").into());
        };
        View::read(&info, &nodes, host).ok_or_else(|| Trouble::NoSlots.into())
    }
}

/// `CLUSTER INFO` and `CLUSTER NODES`.
pub(super) async fn what_it_says(connection: &mut MultiplexedConnection) -> RedisResult<(String, String)> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES");
    let mut said = Vec::new();
    // What is refused says why, which it would not as a part of the whole.
    for answer in connection.send_packed_commands(&pipeline, 0, 2).await? {
        if let Value::ServerError(error) = answer {
            return Err(error.into());
        }
        said.push(redis::from_redis_value::<String>(answer)?);
    }
    let [info, nodes] = <[String; 2]>::try_from(said).map_err(|_| too_late())?;
    Ok((info, nodes))
}
