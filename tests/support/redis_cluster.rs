//! A Redis Cluster of a test's own, whose nodes can be killed and whose slots can be moved.

use super::deadline::until_told;
use super::redis::{Redis, free_port};
use super::redis_sentinel::info;

const SLOTS: usize = 16_384;

/// Running nodes.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) primaries: Vec<Redis>,
    /// The first is the first primary's, and so on; none where there are none.
    pub(crate) replicas: Vec<Redis>,
}

impl Cluster {
    /// So many primaries, each with as many replicas, and all slots among them.
    pub(crate) async fn start(primaries: usize, replicas: usize, options: &[&str]) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..primaries * (1 + replicas) {
            nodes.push(node(options).await);
        }
        for other in &nodes[1..] {
            meet(&nodes[0], other).await;
        }
        for node in &nodes {
            says(node, "cluster_known_nodes", &nodes.len().to_string()).await;
        }
        for (number, node) in nodes.iter().take(primaries).enumerate() {
            let [first, last] = [number, number + 1].map(|number| number * SLOTS / primaries);
            let (first, last) = (first.to_string(), (last - 1).to_string());
            let _: String = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
        }
        let replicas = nodes.split_off(primaries);
        for (number, replica) in replicas.iter().enumerate() {
            let id = id(&nodes[number % primaries]).await;
            let _: String = replica.ask(&["CLUSTER", "REPLICATE", &id]).await;
        }
        let cluster = Self {
            primaries: nodes,
            replicas,
        };
        cluster.is_well().await;
        cluster
    }

    /// Waits until all nodes say that the Cluster is well, and all replicas are.
    async fn is_well(&self) {
        for node in self.primaries.iter().chain(&self.replicas) {
            says(node, "cluster_state", "ok").await;
        }
        for replica in &self.replicas {
            let is_linked = async || info(replica, "replication", "master_link_status").await == "up";
            until_told("replication", is_linked).await;
        }
    }

    /// One node is named; it knows the others.
    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.primaries[0].port)
    }

    /// Adds a primary that has no slots.
    pub(crate) async fn grow(&mut self, options: &[&str]) {
        let fresh = node(options).await;
        meet(&self.primaries[0], &fresh).await;
        let count = (self.primaries.len() + self.replicas.len() + 1).to_string();
        for node in self.primaries.iter().chain([&fresh]) {
            says(node, "cluster_known_nodes", &count).await;
        }
        says(&fresh, "cluster_state", "ok").await;
        self.primaries.push(fresh);
    }

    /// The place of the primary that has a key's slot, among `primaries`.
    pub(crate) async fn owner(&self, key: &str) -> (usize, usize) {
        let slot: usize = self.primaries[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        for (at, primary) in self.primaries.iter().enumerate() {
            let nodes: String = primary.ask(&["CLUSTER", "NODES"]).await;
            let own = nodes.lines().find(|line| line.contains("myself")).unwrap();
            let ranges = own.split(' ').skip(8).filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
            });
            if ranges.into_iter().any(|mut range| range.any(|one| one == slot)) {
                return (at, slot);
            }
        }
        panic!("nobody has the slot {slot}");
    }

    /// Begins to move a slot: from here on its keys may be with either.
    pub(crate) async fn begin_move(&self, slot: usize, (from, to): (usize, usize)) {
        let (from, to) = (&self.primaries[from], &self.primaries[to]);
        let slot = slot.to_string();
        let _: String = to
            .ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from).await])
            .await;
        let _: String = from
            .ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to).await])
            .await;
    }

    /// Moves the keys that are there now.
    pub(crate) async fn move_keys(&self, slot: usize, (from, to): (usize, usize)) -> usize {
        let slot = slot.to_string();
        let keys: Vec<String> = self.primaries[from]
            .ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"])
            .await;
        if !keys.is_empty() {
            let port = self.primaries[to].port.to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            let _: String = self.primaries[from].ask(&words).await;
        }
        keys.len()
    }

    /// Ends the move: the slot is the other's.
    pub(crate) async fn end_move(&self, slot: usize, (from, to): (usize, usize)) {
        let id = id(&self.primaries[to]).await;
        for at in [to, from] {
            let _: String = self.primaries[at]
                .ask(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id])
                .await;
        }
    }
}

async fn node(options: &[&str]) -> Redis {
    // Beside its port, and below 65,536 wherever that is.
    let bus = free_port().to_string();
    let mut all = vec![
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--repl-diskless-sync-delay",
        "0",
    ];
    all.extend(options);
    Redis::start(&all).await
}

async fn meet(node: &Redis, other: &Redis) {
    let config: Vec<String> = other.ask(&["CONFIG", "GET", "cluster-port"]).await;
    let port = other.port.to_string();
    let _: String = node.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &config[1]]).await;
}

async fn id(node: &Redis) -> String {
    node.ask(&["CLUSTER", "MYID"]).await
}

/// Waits until a node says this of the Cluster.
pub(crate) async fn says(node: &Redis, fact: &str, value: &str) {
    let line = format!("{fact}:{value}");
    until_told(&line, async || {
        let info: String = node.ask(&["CLUSTER", "INFO"]).await;
        info.lines().any(|found| found == line)
    })
    .await;
}
