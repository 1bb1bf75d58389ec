//! Sentinels and a Cluster over TLS: real ones, with certificates that a real server checks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;
mod support;

use std::time::Duration;

use command::Folder;
use serde_json::json;
use support::deadline::until_told;
use support::edge::took_at_most;
use support::http;
use support::publisher::Publisher;
use support::redis::{Redis, free_port};
use support::redis_cluster::says;
use support::redis_sentinel::{Sentinel, info, until_replicated};
use support::served::Served;
use tokio::time::Instant;

/// A certificate for this machine, which everybody trusts who is told so.
struct Certificate {
    folder: Folder,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let folder = Folder::new();
        folder.write("cert.pem", &made.cert.pem());
        folder.write("key.pem", &made.signing_key.serialize_pem());
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// What makes a server speak TLS at a port, and replicate over it: names and values.
    fn settings(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("tls-port", port.to_string()),
            ("tls-cert-file", self.file("cert.pem")),
            ("tls-key-file", self.file("key.pem")),
            ("tls-ca-cert-file", self.file("cert.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
    }

    /// A Redis with TLS, and its port. The tests themselves ask it without.
    async fn redis(&self, more: &[&str]) -> (Redis, u16) {
        let port = free_port();
        let named = self.settings(port).into_iter();
        let mut options: Vec<_> = named.flat_map(|(name, value)| [format!("--{name}"), value]).collect();
        options.extend(more.iter().map(ToString::to_string));
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        (Redis::start(&options).await, port)
    }

    async fn sentinel(&self, primary: u16) -> (Sentinel, u16) {
        let port = free_port();
        let lines = self.settings(port).into_iter();
        let lines: Vec<_> = lines.map(|(name, value)| format!("{name} {value}\n")).collect();
        (Sentinel::start_with(primary, &lines.concat()).await, port)
    }

    /// A server on it, and what `check --connect` says.
    async fn serve(&self, url: &str) -> (Served, command::Ran) {
        let trusted = self.file("cert.pem");
        let variables = [
            ("THROUGHLINE_ENGINE__KIND", "redis"),
            ("THROUGHLINE_ENGINE__REDIS__URL", url),
            ("SSL_CERT_FILE", &*trusted),
        ];
        let checked = self.folder.run_with(&variables, &["check", "--connect"]).await;
        (Served::start(&variables).await, checked)
    }

    /// What somebody is told who does not trust it.
    async fn is_not_trusted(&self, url: &str) {
        let variables = [
            ("THROUGHLINE_ENGINE__KIND", "redis"),
            ("THROUGHLINE_ENGINE__REDIS__URL", url),
        ];
        let ran = self.folder.run_with(&variables, &["check", "--connect"]).await;
        assert_ne!(ran.code, Some(0), "{ran:#?}");
    }
}

/// Publishes until it is stored, and says where.
async fn publish(served: &Served, channel: &str, number: u64) -> u64 {
    let body = json!({"channel": channel, "data": number}).to_string();
    let key = format!("n-{number}");
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let request = http::post("/v1/publish", &headers, body.as_bytes());
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, answer) = Publisher::new(served.address).send(&request).await.unwrap();
        if status == 200 {
            let position = answer["position"].as_str().unwrap();
            return position.split('-').nth(1).unwrap().parse().unwrap();
        }
        assert!(status == 503 && Instant::now() < deadline, "{status}: {answer}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The numbers that a channel holds.
async fn held(served: &Served, channel: &str) -> Vec<u64> {
    let target = http::target("/v1/history", &[("channel", channel), ("since", "start")]);
    let (status, answer) = Publisher::new(served.address)
        .send(&http::get(&target, &[]))
        .await
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    let publications = answer["publications"].as_array().unwrap();
    publications
        .iter()
        .map(|publication| publication["data"].as_u64().unwrap())
        .collect()
}

/// Waits until a Redis has all three connections of a node, by the port with TLS.
async fn is_reached_over_tls(redis: &Redis, port: u16) {
    let place = format!("laddr=127.0.0.1:{port} ");
    until_told("a node that came over TLS", async || {
        let clients: String = redis.ask(&["CLIENT", "LIST"]).await;
        clients.lines().filter(|line| line.contains(&place)).count() >= 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_another_primary_over_tls() {
    let certificate = Certificate::new();
    let (mut primary, primary_port) = certificate.redis(&["--appendonly", "yes"]).await;
    let from = primary_port.to_string();
    let options = ["--replicaof", "127.0.0.1", &from, "--repl-diskless-sync-delay", "0"];
    let (replica, replica_port) = certificate.redis(&options).await;
    until_replicated(&primary, &replica).await;
    let mut sentinels = Vec::new();
    for _ in 0..3 {
        sentinels.push(certificate.sentinel(primary_port).await);
    }
    for (sentinel, _) in &sentinels {
        sentinel.knows_all(1).await;
    }
    let hosts: Vec<_> = sentinels.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
    let url = format!("rediss+sentinel://{}/mymaster", hosts.join(","));
    certificate.is_not_trusted(&url).await;
    let (served, checked) = certificate.serve(&url).await;
    checked.says(
        0,
        &[
            &format!("Redis at 127.0.0.1:{primary_port}"),
            "a primary with 1 replica",
        ],
    );
    for number in 0..20 {
        assert_eq!(publish(&served, "news", number).await, number + 1);
    }
    is_reached_over_tls(&primary, primary_port).await;
    until_replicated(&primary, &replica).await;
    primary.kill();
    let began = Instant::now();
    assert_eq!(publish(&served, "news", 20).await, 21);
    took_at_most("publishing on the other", began.elapsed(), Duration::from_secs(6));
    assert_eq!(info(&replica, "replication", "role").await, "master");
    is_reached_over_tls(&replica, replica_port).await;
    assert_eq!(held(&served, "news").await, (0..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_speaks_tls_and_its_nodes_are_known_by_the_names_of_their_certificates() {
    const SLOTS: usize = 16_384;
    let certificate = Certificate::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--tls-cluster",
            "yes",
            "--cluster-announce-hostname",
            "localhost",
            "--cluster-require-full-coverage",
            "no",
            "--appendonly",
            "yes",
        ];
        nodes.push((certificate.redis(&options).await, bus));
    }
    for ((_, port), bus) in &nodes[1..] {
        let first = &nodes[0].0.0;
        let _: String = first
            .ask(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), bus])
            .await;
    }
    for (number, ((node, _), _)) in nodes.iter().enumerate() {
        let [first, last] = [number, number + 1].map(|number| number * SLOTS / nodes.len());
        let (first, last) = (first.to_string(), (last - 1).to_string());
        let _: String = node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
    }
    for ((node, _), _) in &nodes {
        says(node, "cluster_slots_assigned", &SLOTS.to_string()).await;
        says(node, "cluster_state", "ok").await;
    }
    let url = format!("rediss+cluster://localhost:{}", nodes[0].0.1);
    certificate.is_not_trusted(&url).await;
    let (served, checked) = certificate.serve(&url).await;
    let places: Vec<_> = nodes
        .iter()
        .map(|((_, port), _)| format!("Redis at localhost:{port}"))
        .collect();
    checked.says(0, &places.iter().map(String::as_str).collect::<Vec<_>>());
    for number in 0..60 {
        let channel = format!("c:{}", number % 20);
        assert_eq!(publish(&served, &channel, number).await, number / 20 + 1);
    }
    for channel in 0..20 {
        let all = [channel, channel + 20, channel + 40];
        assert_eq!(held(&served, &format!("c:{channel}")).await, all);
    }
    for ((node, port), _) in &nodes {
        is_reached_over_tls(node, *port).await;
        let keys: u64 = node.ask(&["DBSIZE"]).await;
        assert!(keys > 0, "a node keeps nothing");
    }
}
