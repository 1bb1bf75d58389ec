//! `throughline check --connect`: each thing that is wrong with what a configuration leads to is said, with its fix.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;
mod support;

use command::{Folder, Ran};
use serde_json::json;
use support::deadline::PATIENCE;
use support::redis::{Redis, free_port};
use support::redis_cluster::Cluster;
use support::redis_sentinel::Sentinel;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Checks a configuration whose Redis is there.
async fn check(url: &str, more: &[(&str, &str)]) -> Ran {
    let mut variables = vec![
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", url),
    ];
    variables.extend(more);
    let ran = Folder::new().run_with(&variables, &["check", "--connect"]).await;
    assert!(!ran.stderr.contains("secret-word"), "a password is shown: {ran:#?}");
    ran
}

#[tokio::test]
async fn a_redis_that_is_well_says_what_it_is_and_keeps_nothing_of_the_check() {
    let redis = Redis::start(&["--appendonly", "yes"]).await;
    let ran = check(&redis.url(), &[]).await;
    ran.says(0, &["a primary without replicas", "the configuration is well"]);
    assert!(
        !ran.stderr.contains("error") && !ran.stderr.contains("warning"),
        "{ran:#?}"
    );
    let keys: u64 = redis.ask(&["DBSIZE"]).await;
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn without_the_flag_nothing_is_connected_to() {
    let url = format!("redis://127.0.0.1:{}/0", free_port());
    let variables = [
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &*url),
    ];
    Folder::new()
        .run_with(&variables, &["check"])
        .await
        .says(0, &["the configuration is well"]);
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_by_the_step_that_fails() {
    let nobody = format!("redis://127.0.0.1:{}/0", free_port());
    check(&nobody, &[])
        .await
        .says(69, &["it cannot be reached", "fix: start Redis"]);
    let nameless = check("redis://no-such-host.invalid/0", &[]).await;
    nameless.says(69, &["the name no-such-host.invalid leads nowhere", "fix: "]);
    let no_file = check("redis+unix:///nowhere/redis.sock", &[]).await;
    no_file.says(69, &["it cannot be reached", "unixsocket"]);
    // It takes connections and says nothing, as a Redis does that stands still.
    let redis = Redis::start(&[]).await;
    redis.freeze();
    let silent = check(&redis.url(), &[]).await;
    redis.thaw();
    silent.says(69, &["does not answer", "rediss://"]);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let redis = Redis::start(&[]).await;
    let port = redis.port;
    check(&format!("redis://nobody:secret-word@127.0.0.1:{port}/0"), &[])
        .await
        .says(78, &["user", "password", "fix: "]);
    check(&format!("redis://127.0.0.1:{port}/99"), &[])
        .await
        .says(78, &["out of range", "`databases`"]);
    check(&format!("rediss://127.0.0.1:{port}/0"), &[])
        .await
        .says(69, &["does not answer", "redis://"]);
    let _: () = redis
        .ask(&["ACL", "SETUSER", "app", "on", ">other", "~*", "&*", "+@all"])
        .await;
    let wrong = check(&format!("redis://app:secret-word@127.0.0.1:{port}/0"), &[]).await;
    wrong.says(78, &["the user or the password is wrong", "fix: "]);
    let guarded = Redis::start(&["--appendonly", "yes"]).await;
    let _: () = guarded.ask(&["CONFIG", "SET", "requirepass", "secret-word"]).await;
    check(&guarded.url(), &[])
        .await
        .says(78, &["it wants a password", "fix: "]);
    let with_it = format!("redis://:secret-word@127.0.0.1:{}/0", guarded.port);
    check(&with_it, &[]).await.says(0, &["a primary"]);
}

/// What `docs/redis.md` says that a user needs.
fn documented_commands() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let (_, rest) = page.split_once("A user that may do: `").unwrap();
    let words: Vec<_> = rest.split('`').next().unwrap().split(' ').chain(["WAIT"]).collect();
    words
        .into_iter()
        .map(|word| format!("+{}", word.to_lowercase()))
        .collect()
}

#[tokio::test]
async fn every_right_that_is_missing_is_named_and_those_of_the_page_are_enough() {
    let redis = Redis::start(&["--appendonly", "yes"]).await;
    let url = format!("redis://app:secret-word@127.0.0.1:{}/0", redis.port);
    let grants = documented_commands();
    let grant = |more: &[&str]| {
        let mut words = vec!["ACL", "SETUSER", "app", "reset", "on", ">secret-word"];
        words.extend(grants.iter().map(String::as_str));
        words.extend(more);
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    for (more, code, said) in [
        (&["~throughline:*", "&throughline:*"][..], 0, &["may not do INFO"][..]),
        (
            &["~throughline:*", "&throughline:*", "+info", "+config|get"],
            0,
            &["a primary without replicas"],
        ),
        (
            &["~throughline:*", "&throughline:*", "-xadd", "-unlink"],
            78,
            &["may not do XADD UNLINK", "fix: ACL SETUSER app +xadd +unlink"],
        ),
        (
            &["~other:*", "&throughline:*"],
            78,
            &[
                "keys that begin with \"throughline:\"",
                "ACL SETUSER app ~throughline:*",
            ],
        ),
        (
            &["~throughline:*", "&other:*"],
            78,
            &["Pub/Sub channels", "ACL SETUSER app &throughline:*"],
        ),
        (&["~throughline:*", "&throughline:*", "-evalsha"], 78, &["+evalsha"]),
        (&["~throughline:*", "&throughline:*", "-subscribe"], 78, &["+subscribe"]),
    ] {
        let words = grant(more);
        let _: () = redis.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        check(&url, &[]).await.says(code, said);
    }
    // Each of them is needed: without it something is said.
    for missing in grants
        .iter()
        .filter(|grant| !["+unsubscribe", "+ping", "+wait"].contains(&&***grant))
    {
        let less = missing.replacen('+', "-", 1);
        let words = grant(&["~throughline:*", "&throughline:*", &less]);
        let _: () = redis.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        check(&url, &[]).await.says(78, &[missing]);
    }
}

#[tokio::test]
async fn what_would_lose_logs_is_said() {
    let redis = Redis::start(&[]).await;
    let unkept = check(&redis.url(), &[]).await;
    unkept.says(
        0,
        &["warning: ", "nothing is kept on disk", "fix: CONFIG SET appendonly yes"],
    );
    let set = async |name: &str, value: &str| {
        let _: () = redis.ask(&["CONFIG", "SET", name, value]).await;
        check(&redis.url(), &[]).await
    };
    set("save", "3600 1")
        .await
        .says(0, &["only snapshots are kept on disk"]);
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let evicts = set("maxmemory-policy", policy).await;
        evicts.says(78, &[policy, "fix: CONFIG SET maxmemory-policy noeviction"]);
    }
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    set("maxmemory", "1")
        .await
        .says(78, &["is refused", "raise `maxmemory`"]);
    let _: () = redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    set("min-replicas-to-write", "1")
        .await
        .says(78, &["min-replicas-to-write is 1", "publications are refused"]);
}

#[tokio::test]
async fn replicas_are_counted_and_tried() {
    let replicated = [("THROUGHLINE_PUBLISHING__ACK", "replicated")];
    let primary = Redis::start(&["--appendonly", "yes"]).await;
    let alone = check(&primary.url(), &replicated).await;
    alone.says(
        78,
        &["acks wait for 1 of its replicas, and it has 0", "lower ack_replicas"],
    );
    let port = primary.port.to_string();
    let replica = Redis::start(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"]).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = check(&primary.url(), &replicated).await;
        if ran.code == Some(0) {
            ran.says(0, &["a primary with 1 replica"]);
            break;
        }
        assert!(Instant::now() < deadline, "{ran:#?}");
    }
    let stored = check(&primary.url(), &[]).await;
    stored.says(0, &["warning: ", "min-replicas-to-write 0"]);
    let wrong = check(&replica.url(), &[]).await;
    wrong.says(
        78,
        &["it is a replica of 127.0.0.1:", "fix: lead the URL to the primary"],
    );
    replica.freeze();
    let frozen = check(&primary.url(), &replicated).await;
    replica.thaw();
    frozen.says(78, &["acks wait for 1 of its replicas, and 0 had a write within 1 s"]);
}

#[tokio::test]
async fn key_sets_are_fetched_and_files_are_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = ["{\"keys\":[]}", "no JSON"];
    tokio::spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(socket.read_buf(&mut asked).await.unwrap() > 0, "a whole request");
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            socket.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
            socket.shutdown().await.unwrap();
        }
    });
    let folder = Folder::new();
    let issuers = json!([{"jwks_url": format!("http://{address}/keys?key=hunter2")}]).to_string();
    let issuers = issuers.replace("\":", "\"=");
    let variables = [("THROUGHLINE_AUTH__ISSUERS", &*issuers)];
    let connect = ["check", "--connect"];
    folder
        .run_with(&variables, &connect)
        .await
        .says(78, &["/keys: no key here can be used", "fix: "]);
    let ran = folder.run_with(&variables, &connect).await;
    assert!(!ran.stderr.contains("hunter2"), "{ran:#?}");
    ran.says(69, &["/keys: no keys can be had", "not a JWK set"]);
    folder
        .run_with(&variables, &connect)
        .await
        .says(69, &["no keys can be had"]);
    folder.run_with(&variables, &["check"]).await.says(0, &["well"]);

    let files = [
        ("THROUGHLINE_TLS__CERT_FILE", "/nowhere/cert.pem"),
        ("THROUGHLINE_TLS__KEY_FILE", "/nowhere/key.pem"),
        ("THROUGHLINE_ENGINE__SNAPSHOT", "/nowhere/snapshot"),
    ];
    let ran = folder.run_with(&files, &["check"]).await;
    ran.says(
        78,
        &["/nowhere/cert.pem", "nothing can be written to /nowhere", "fix: "],
    );
    let well = [("THROUGHLINE_ENGINE__SNAPSHOT", "snapshot")];
    folder.run_with(&well, &["check"]).await.says(0, &["well"]);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "the check leaves nothing");
}

#[tokio::test]
async fn the_primary_that_sentinels_name_is_tried_or_it_is_said_that_none_does() {
    let redis = Redis::start(&["--appendonly", "yes"]).await;
    let sentinel = Sentinel::start(redis.port).await;
    let url = |service: &str| format!("redis+sentinel://127.0.0.1:{}/{service}", sentinel.port);
    let ran = check(&url("mymaster"), &[]).await;
    ran.says(0, &[&format!("Redis at 127.0.0.1:{}", redis.port), "a primary"]);
    let ran = check(&url("another"), &[]).await;
    ran.says(
        69,
        &[
            "Redis at another/0",
            "no Sentinel says where the primary is",
            "No such master",
        ],
    );
}

#[tokio::test]
async fn every_primary_of_a_cluster_is_tried() {
    let cluster = Cluster::start(3, 0, &["--appendonly", "yes"]).await;
    let ran = check(&cluster.url(), &[]).await;
    let places: Vec<_> = cluster
        .primaries
        .iter()
        .map(|redis| format!("Redis at 127.0.0.1:{}", redis.port))
        .collect();
    let places: Vec<_> = places.iter().map(String::as_str).collect();
    ran.says(0, &places);
    ran.says(
        0,
        &[
            "warning: ",
            "cluster-require-full-coverage yes",
            "fix: CONFIG SET cluster-require-full-coverage no",
        ],
    );
    for redis in &cluster.primaries {
        let _: String = redis
            .ask(&["CONFIG", "SET", "cluster-require-full-coverage", "no"])
            .await;
    }
    let ran = check(&cluster.url(), &[]).await;
    assert!(!ran.stderr.contains("warning"), "{ran:#?}");
    let odd = &cluster.primaries[1];
    let _: String = odd.ask(&["ACL", "SETUSER", "default", "-spublish"]).await;
    let ran = check(&cluster.url(), &[]).await;
    let place = format!("error: Redis at 127.0.0.1:{}", odd.port);
    ran.says(78, &[&place, "may not do SPUBLISH", "+spublish"]);
    for redis in &cluster.primaries {
        let keys: u64 = redis.ask(&["DBSIZE"]).await;
        assert_eq!(keys, 0, "it leaves nothing behind");
    }
}

#[tokio::test]
async fn a_cluster_of_which_a_part_is_gone_says_which_and_what_to_do() {
    let mut cluster = Cluster::start(3, 0, &["--cluster-node-timeout", "1000"]).await;
    cluster.primaries[2].kill();
    let deadline = Instant::now() + PATIENCE;
    while info(&cluster.primaries[0]).await.contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the Cluster does not notice");
    }
    let gone = format!(
        "error: Redis at 127.0.0.1:{}: it cannot be reached",
        cluster.primaries[2].port
    );
    let down = "is refused: CLUSTERDOWN";
    let fix = "CLUSTER FAILOVER TAKEOVER on its replica; with cluster-require-full-coverage no";
    let ran = check(&cluster.url(), &[]).await;
    ran.says(69, &[&gone, down, fix]);
    assert!(!ran.stderr.contains("redis+cluster://"), "it is one: {ran:#?}");
    // What is asked without its Cluster is another matter.
    let alone = check(&cluster.primaries[0].url(), &[]).await;
    alone.says(
        78,
        &[
            down,
            "this is a node of a Cluster: the URL begins with redis+cluster://",
        ],
    );
}

async fn info(redis: &Redis) -> String {
    redis.ask(&["CLUSTER", "INFO"]).await
}

#[tokio::test]
async fn slots_that_are_nobodys_are_counted() {
    let cluster = Cluster::start(2, 0, &["--cluster-require-full-coverage", "no"]).await;
    for redis in &cluster.primaries {
        let _: String = redis.ask(&["CLUSTER", "DELSLOTSRANGE", "100", "149"]).await;
    }
    let deadline = Instant::now() + PATIENCE;
    let expected = "50 of the Cluster's 16384 slots are nobody's";
    while !check(&cluster.url(), &[]).await.stderr.contains(expected) {
        assert!(Instant::now() < deadline, "it is not said");
    }
    check(&cluster.url(), &[])
        .await
        .says(78, &[expected, "fix: give them to a primary"]);
}

#[tokio::test]
async fn one_redis_under_two_names_is_said() {
    let redis = Redis::start(&["--appendonly", "yes"]).await;
    let port = redis.port;
    let twice = check(
        &format!("redis://127.0.0.1:{port}/0 redis://localhost:{port}/0#other"),
        &[],
    )
    .await;
    twice.says(
        78,
        &[
            &format!("other and 127.0.0.1:{port}/0 are the same Redis and the same database"),
            "fix: name it once",
        ],
    );
    check(&format!("redis://127.0.0.1:{port}/0 redis://localhost:{port}/1"), &[])
        .await
        .says(0, &["the configuration is well"]);
    let plainly = check(
        &format!("redis://127.0.0.1:{port}/0#a redis://127.0.0.1:{port}/0#b"),
        &[],
    )
    .await;
    plainly.says(78, &["a and b are the same Redis and the same database"]);
}

#[tokio::test]
async fn a_url_that_is_empty_is_not_taken_for_a_redis_on_this_machine() {
    for empty in ["", " "] {
        let ran = check(empty, &[]).await;
        ran.says(
            78,
            &["THROUGHLINE_ENGINE__REDIS__URL", "it is empty", "leave the key out"],
        );
    }
}
