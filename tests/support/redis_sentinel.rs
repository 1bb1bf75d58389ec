//! A primary, a replica and three Sentinels of a test's own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::deadline::{until, until_told};
use super::redis::{Redis, free_port, server};

/// A running Sentinel; dropping it kills it and removes its files.
#[derive(Debug)]
pub(crate) struct Sentinel {
    pub(crate) port: u16,
    folder: PathBuf,
    process: Option<Child>,
}

impl Sentinel {
    /// Starts one that watches the primary at a port, with two of three needed to agree.
    pub(crate) async fn start(primary: u16) -> Self {
        Self::start_with(primary, "").await
    }

    /// The same, with more lines in its configuration.
    pub(crate) async fn start_with(primary: u16, more: &str) -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("throughline-sentinel-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("sentinel.conf");
        let lines = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds mymaster 2000\nsentinel failover-timeout mymaster 10000\n{more}",
            folder.display()
        );
        fs::write(&file, lines).unwrap();
        let mut sentinel = Self {
            port,
            folder,
            process: None,
        };
        sentinel.launch().await;
        sentinel
    }

    /// Starts the process, with what it knew when it ended.
    pub(crate) async fn launch(&mut self) {
        let process = Command::new(server())
            .arg(self.folder.join("sentinel.conf"))
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.folder.join("log")).unwrap())
            .spawn()
            .expect("redis-server; scripts/test installs it");
        self.process = Some(process);
        let is_there = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        until("the Sentinel", is_there).await;
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What it knows about the primary.
    pub(crate) async fn fact(&self, name: &str) -> String {
        let facts: std::collections::HashMap<String, String> = self.ask(&["MASTER", "mymaster"]).await;
        facts[name].clone()
    }

    /// Waits until it knows so many replicas, and two other Sentinels.
    pub(crate) async fn knows_all(&self, replicas: usize) {
        let replicas = replicas.to_string();
        until_told("a Sentinel that knows all", async || {
            self.fact("num-slaves").await == replicas && self.fact("num-other-sentinels").await == "2"
        })
        .await;
    }

    /// Asks it something, or has it do something: `SENTINEL` and these words.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut asking = redis::cmd("SENTINEL");
        asking.arg(words);
        asking.query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A primary, its replicas, and three Sentinels that watch them.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) primary: Redis,
    pub(crate) replicas: Vec<Redis>,
    pub(crate) sentinels: Vec<Sentinel>,
}

impl Watched {
    /// Starts them, and waits until a failover would take place: what Sentinels know of replicas, they ask the primary
    /// every ten seconds. `replicate_from`: where each replica finds the primary, a proxy's port perhaps.
    pub(crate) async fn start(primary: Redis, replicate_from: &[u16]) -> Self {
        let mut replicas = Vec::new();
        for from in replicate_from {
            let from = from.to_string();
            let options = ["--replicaof", "127.0.0.1", &from, "--repl-diskless-sync-delay", "0"];
            let replica = Redis::start(&options).await;
            until_replicated(&primary, &replica).await;
            replicas.push(replica);
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Sentinel::start(primary.port).await);
        }
        for sentinel in &sentinels {
            sentinel.knows_all(replicas.len()).await;
        }
        Self {
            primary,
            replicas,
            sentinels,
        }
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self
            .sentinels
            .iter()
            .map(|at| format!("127.0.0.1:{}", at.port))
            .collect();
        format!("redis+sentinel://{}/mymaster/0", hosts.join(","))
    }

    /// Waits until a replica is the primary, and says how long that took.
    pub(crate) async fn fails_over(&self) -> Duration {
        let began = Instant::now();
        until_told("a failover", async || {
            for replica in &self.replicas {
                if is_primary(replica).await {
                    return true;
                }
            }
            false
        })
        .await;
        began.elapsed()
    }
}

/// Whether it takes itself for one.
pub(crate) async fn is_primary(redis: &Redis) -> bool {
    info(redis, "replication", "role").await == "master"
}

/// What a Redis says about itself.
pub(crate) async fn info(redis: &Redis, section: &str, name: &str) -> String {
    let info: String = redis.ask(&["INFO", section]).await;
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

/// How far its replication is.
pub(crate) async fn offset(redis: &Redis) -> u64 {
    let name = ["master_repl_offset", "slave_repl_offset"];
    let is_replica = info(redis, "replication", "role").await == "slave";
    info(redis, "replication", name[usize::from(is_replica)])
        .await
        .parse()
        .unwrap()
}

/// Waits until the replica's link is up, and it has come close.
pub(crate) async fn until_replicated(primary: &Redis, replica: &Redis) {
    let is_linked = async || info(replica, "replication", "master_link_status").await == "up";
    until_told("replication", is_linked).await;
    let least = offset(primary).await;
    until_told("replication", async || offset(replica).await >= least).await;
}
