//! `examples/cluster/run`, as its README says: three nodes behind nginx, of which one is killed, and Redis too.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;
use support::deadline::{PATIENCE, within};
use support::http;
use support::publisher::Publisher;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// The script at work.
struct Cluster {
    script: Child,
    nginx: SocketAddr,
    folder: PathBuf,
}

impl Cluster {
    /// Starts it, and reads where everything is.
    async fn start() -> Self {
        for _ in 0..10 {
            // Below those that the system gives to connections; some may be taken all the same, and then others.
            if let Some(cluster) = Self::start_at(fastrand::u16(20_000..30_000)).await {
                return cluster;
            }
        }
        panic!("it does not start; are redis-server and nginx installed? scripts/test installs them");
    }

    async fn start_at(port: u16) -> Option<Self> {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/cluster/run"))
            .env("PORT", port.to_string())
            .env("THROUGHLINE", env!("CARGO_BIN_EXE_throughline"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let folder = within("the lines that say where everything is", async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some(folder) = line.trim().strip_prefix("logs, pids") {
                    return Some(PathBuf::from(folder.trim()));
                }
            }
            None
        });
        let folder = folder.await?;
        // What else it says must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self {
            script,
            nginx: SocketAddr::from(([127, 0, 0, 1], port)),
            folder,
        })
    }

    fn pid(&self, name: &str) -> String {
        let pid = std::fs::read_to_string(self.folder.join(format!("{name}.pid"))).unwrap();
        pid.trim().to_owned()
    }

    /// Ends a node in good order, and waits until another has taken its place.
    async fn restart(&self, name: &str) {
        let (before, log) = (self.pid(name), self.folder.join(format!("{name}.log")));
        let starts = || std::fs::read_to_string(&log).unwrap().matches("listening").count();
        let started = starts();
        signal("-TERM", &before).await;
        within("the node that takes its place", async {
            while self.pid(name) == before || starts() == started {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn kill(&self, name: &str) {
        let pid = self.pid(name);
        signal("-KILL", &pid).await;
        within("the end of it", async {
            while is_running(&pid) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// Publishes a number until it is answered.
    async fn publish(&self, number: u64) {
        let key = format!("n-{number}");
        let body = json!({"channel": "news", "data": number}).to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let request = http::post("/v1/publish", &headers, body.as_bytes());
        let deadline = Instant::now() + PATIENCE;
        loop {
            // An answer that is nginx' own is no JSON, and an error here.
            if let Ok((200, _)) = Publisher::new(self.nginx).send(&request).await {
                return;
            }
            assert!(Instant::now() < deadline, "{number} is not published");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Reads on from a cursor, on whichever node nginx leads to, until `count` numbers came.
    async fn read(&self, cursor: &mut String, count: usize) -> Vec<u64> {
        let deadline = Instant::now() + PATIENCE;
        let mut numbers = Vec::new();
        while numbers.len() < count {
            assert!(Instant::now() < deadline, "only {numbers:?} came");
            let target = http::target("/v1/poll", &[("channel", "news"), ("since", cursor), ("wait", "1")]);
            let Ok((200, answer)) = Publisher::new(self.nginx).send(&http::get(&target, &[])).await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            answer["cursor"].as_str().unwrap().clone_into(cursor);
            for push in answer["pushes"].as_array().unwrap() {
                match push["type"].as_str().unwrap() {
                    "publication" => numbers.push(push["data"].as_u64().unwrap()),
                    "subscribed" | "closing" => {}
                    _ => panic!("nothing was lost: {push}"),
                }
            }
        }
        numbers
    }
}

impl Drop for Cluster {
    /// Where a test has failed, all of it is still running.
    fn drop(&mut self) {
        if let Some(pid) = self.script.id() {
            let _ = std::process::Command::new("kill")
                .args(["-INT", &pid.to_string()])
                .status();
        }
    }
}

async fn signal(signal: &str, pid: &str) {
    let told = Command::new("kill").args([signal, pid]).status().await;
    assert!(told.unwrap().success(), "kill {signal} {pid}");
}

/// Whether a process is there, and not only its remains.
fn is_running(pid: &str) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state
        .rsplit_once(')')
        .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// What a process has started.
fn children(pid: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap();
    let names = all.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let is_child = |name: &String| {
        let state = std::fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
        let parent = state
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent == Some(pid)
    };
    names.filter(is_child).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_behind_nginx_lose_nothing_when_one_of_them_and_then_redis_is_killed() {
    let mut cluster = Cluster::start().await;
    let all = ["redis", "node-1", "node-2", "node-3", "nginx"];
    let (mut cursor, mut number) = ("start".to_owned(), 0);
    let workers = children(&cluster.pid("nginx"));
    assert!(!workers.is_empty(), "nginx has no workers");
    for victim in ["nobody", "node-1", "redis", "nginx"] {
        if victim != "nobody" {
            cluster.kill(victim).await;
        }
        let expected: Vec<u64> = (number..number + 20).collect();
        for number in &expected {
            cluster.publish(*number).await;
        }
        number += 20;
        assert_eq!(
            cluster.read(&mut cursor, 20).await,
            expected,
            "after {victim} was killed"
        );
    }
    // What was killed is there again, as another process.
    let is_back = async {
        while !all.iter().all(|name| is_running(&cluster.pid(name))) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("all of them, again", is_back).await;
    assert!(
        !workers.iter().any(|pid| is_running(pid)),
        "orphans of nginx: {workers:?}"
    );
    let mut pids = all.map(|name| cluster.pid(name)).to_vec();
    pids.extend(children(&cluster.pid("nginx")));
    let ready = Publisher::new(cluster.nginx).status(&http::get("/readyz", &[])).await;
    assert_eq!(ready.unwrap(), 200);
    // Ctrl-C.
    signal("-INT", &cluster.script.id().unwrap().to_string()).await;
    let ended = within("the end of the script", cluster.script.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
    assert!(!pids.iter().any(|pid| is_running(pid)), "something is left: {pids:?}");
    assert!(!cluster.folder.exists(), "{} is left", cluster.folder.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_behind_nginx_are_restarted_one_after_the_other_and_no_publication_fails() {
    const PUBLISHERS: u64 = 4;
    let cluster = Cluster::start().await;
    let url = format!("http://{}", cluster.nginx);
    let mut publishers = Vec::new();
    for publisher in 0..PUBLISHERS {
        let mut process = Command::new(env!("CARGO_BIN_EXE_throughline"))
            .args(["publish", "--lines", "--url", &url, &format!("p:{publisher}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (over, mut is_over) = tokio::sync::oneshot::channel::<()>();
        let mut stdin = process.stdin.take().unwrap();
        let feeding = tokio::spawn(async move {
            let mut number = 0_u64;
            // The command ends when its input does.
            while is_over.try_recv().is_err() {
                stdin.write_all(format!("{number}\n").as_bytes()).await.unwrap();
                number += 1;
                tokio::time::sleep(std::time::Duration::from_millis(25)).await;
            }
            number
        });
        publishers.push((process, over, feeding));
    }
    for name in ["node-1", "node-2", "node-3"] {
        cluster.restart(name).await;
    }
    // As a user counts: a publication has failed if the command that publishes it says so.
    for (publisher, (process, over, feeding)) in publishers.into_iter().enumerate() {
        over.send(()).unwrap();
        let count = feeding.await.unwrap();
        let ended = within("the publisher's end", process.wait_with_output()).await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success(), "{}: {said}", ended.status);
        let channel = format!("p:{publisher}");
        let mut held = Vec::new();
        let mut since = "start".to_owned();
        while held.len() < usize::try_from(count).unwrap() {
            let target = http::target(
                "/v1/history",
                &[("channel", &channel), ("since", &since), ("limit", "1000")],
            );
            let (status, answer) = Publisher::new(cluster.nginx)
                .send(&http::get(&target, &[]))
                .await
                .unwrap();
            let publications = answer["publications"].as_array().unwrap();
            assert!(status == 200 && !publications.is_empty(), "{answer}");
            held.extend(
                publications
                    .iter()
                    .map(|publication| publication["data"].as_u64().unwrap()),
            );
            publications.last().unwrap()["position"]
                .as_str()
                .unwrap()
                .clone_into(&mut since);
        }
        assert_eq!(held, (0..count).collect::<Vec<_>>(), "each once, and in order");
    }
}
