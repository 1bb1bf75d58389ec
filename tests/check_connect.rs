//! `throughline check --connect`: each thing that is wrong with what a configuration leads to is said, with its fix.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;
mod support;

use std::time::Duration;

use command::{Folder, Ran};
use serde_json::json;
use support::deadline::PATIENCE;
use support::http;
use support::publisher::Publisher;
use support::redis::{Redis, free_port};
use support::redis_cluster::Cluster;
use support::redis_sentinel::Sentinel;
use support::served::Served;
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
    nameless.says(69, &["no-such-host.invalid", "its name leads nowhere", "fix: "]);
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
        .says(78, &["it has no database of that number", "`databases`"]);
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
    let in_another = url.replace("/0", "/1");
    for missing in grants.iter().filter(|grant| *grant != "+wait") {
        let less = missing.replacen('+', "-", 1);
        let words = grant(&["~throughline:*", "&throughline:*", &less]);
        let _: () = redis.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
        check(&in_another, &[]).await.says(78, &[missing]);
    }
    let words = grant(&["~throughline:*", "&throughline:*", "-select"]);
    let _: () = redis.ask(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // Whoever uses the first database is in it.
    check(&url, &[]).await.says(0, &[]);
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
    let why = format!(
        "Redis at another/0: no Sentinel says where the primary is: 127.0.0.1:{}: it watches nothing that is called another",
        sentinel.port
    );
    ran.says(78, &[&why, "fix: the URL ends with /mymaster"]);
    let nobody = url("mymaster?sentinel_username=nobody&sentinel_password=secret-word");
    check(&nobody, &[]).await.says(
        78,
        &[
            "the user or the password is wrong",
            "fix: the Sentinels' own user and password",
        ],
    );
    // All are asked, and each is told of.
    let closed = free_port();
    let both = format!(
        "redis+sentinel://127.0.0.1:{closed},127.0.0.1:{}/another",
        sentinel.port
    );
    let ran = check(&both, &[]).await;
    ran.says(
        78,
        &[&format!("127.0.0.1:{closed}: it cannot be reached"), "called another"],
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
        &["it is a node of a Cluster", "fix: the URL begins with redis+cluster://"],
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

/// Only the first was named, and of `HELLO` what Redis repeats of it: the password.
#[tokio::test]
async fn all_commands_that_are_renamed_are_named_at_once() {
    let wanted = documented_commands();
    // Whether it has started is asked by `PING`.
    let wanted: Vec<_> = wanted.iter().map(|grant| grant[1..].to_uppercase()).collect();
    let renamed: Vec<_> = wanted.iter().filter(|name| *name != "PING").collect();
    let options: Vec<_> = renamed.iter().flat_map(|name| ["--rename-command", name, ""]).collect();
    let redis = Redis::start(&options).await;
    let replicated = [("THROUGHLINE_PUBLISHING__ACK", "replicated")];
    let ran = check(&redis.url().replace("/0", "/1"), &replicated).await;
    let (_, named) = ran.stderr.split_once("it does not know ").expect("what is missing");
    let (named, _) = named.split_once(':').unwrap();
    let (mut named, mut expected): (Vec<_>, Vec<_>) = (named.split(' ').collect(), renamed);
    named.sort_unstable();
    expected.sort_unstable();
    assert_eq!(named, expected);
    ran.says(
        78,
        &["they are renamed or disabled", "fix: remove its `rename-command`"],
    );
    assert!(!ran.stderr.contains("beginning with"), "{ran:#?}");
}

#[tokio::test]
async fn a_redis_that_does_not_know_hello_is_told_what_else_it_lacks_and_no_password() {
    let options = ["HELLO", "XADD", "SUBSCRIBE"].map(|name| ["--rename-command", name, ""]);
    let redis = Redis::start(&options.concat()).await;
    let with_password = format!("redis://:secret-word@127.0.0.1:{}/0", redis.port);
    let unguarded = check(&with_password, &[]).await;
    unguarded.says(78, &["it does not know HELLO", "renamed or disabled"]);
    let _: () = redis.ask(&["CONFIG", "SET", "requirepass", "secret-word"]).await;
    let ran = check(&with_password, &[]).await;
    ran.says(78, &["it does not know HELLO XADD SUBSCRIBE: they are renamed"]);
}

/// That `INFO` was renamed was taken for a right that is missing.
#[tokio::test]
async fn what_cannot_be_seen_for_it_is_renamed_is_said_to_be_so() {
    for (name, what) in [
        ("INFO", "how it is set up cannot be seen: it does not know INFO"),
        (
            "CONFIG",
            "not all of how it is set up can be seen: it does not know CONFIG",
        ),
    ] {
        let redis = Redis::start(&["--rename-command", name, ""]).await;
        let ran = check(&redis.url(), &[]).await;
        ran.says(
            0,
            &["warning: ", what, "fix: see for yourself", "the configuration is well"],
        );
        assert!(!ran.stderr.contains("ACL SETUSER"), "{ran:#?}");
    }
    // Without INFO, who it is is known all the same.
    let primary = Redis::start(&[]).await;
    let port = primary.port.to_string();
    let replica = Redis::start(&["--rename-command", "INFO", "", "--replicaof", "127.0.0.1", &port]).await;
    check(&replica.url(), &[]).await.says(78, &["it is a replica"]);
}

#[tokio::test]
async fn a_redis_that_takes_too_few_connections_is_told_so() {
    let redis = Redis::start(&["--appendonly", "yes", "--maxclients", "5"]).await;
    let roomy = check(&redis.url(), &[]).await;
    roomy.says(0, &["the configuration is well"]);
    let acks = [("THROUGHLINE_PUBLISHING__ACK", "replicated")];
    check(&redis.url(), &acks).await.says(
        78,
        &[
            "it takes 5 connections (maxclients), and each node needs 7",
            "fix: CONFIG SET maxclients",
        ],
    );
    let mut connections = Vec::new();
    let mut hold = async |count: usize| {
        let deadline = Instant::now() + PATIENCE;
        while connections.len() < count {
            // Those of before may be there for another moment.
            connections.extend(redis.try_connect().await.ok());
            assert!(Instant::now() < deadline, "it takes no more connections");
        }
    };
    hold(3).await;
    let crowded = check(&redis.url(), &[]).await;
    crowded.says(
        69,
        &[
            "of the 5 connections that it takes (maxclients), 3 are taken",
            "fix: raise",
        ],
    );
    hold(5).await;
    let full = check(&redis.url(), &[]).await;
    full.says(69, &["it has as many connections as it may (maxclients)", "fix: raise"]);
    let few = Redis::start(&["--appendonly", "yes", "--maxclients", "2"]).await;
    let ran = check(&few.url(), &[]).await;
    ran.says(78, &["it takes 2 connections (maxclients), and each node needs 3"]);
}

#[tokio::test]
async fn a_url_of_another_kind_is_told_what_is_there() {
    let (redis, cluster) = (Redis::start(&[]).await, Cluster::start(2, 0, &[]).await);
    let sentinel = Sentinel::start(redis.port).await;
    let (alone, node, sentinel) = (redis.port, cluster.primaries[0].port, sentinel.port);
    let is_sentinel = [
        "it is a Sentinel",
        &format!("redis+sentinel://127.0.0.1:{sentinel}/mymaster"),
    ];
    let is_node = ["it is a node of a Cluster", "fix: the URL begins with redis+cluster://"];
    let is_no_sentinel = ["it is no Sentinel", "fix: the URL begins with redis://"];
    for (url, said) in [
        (
            format!("redis+cluster://127.0.0.1:{alone}"),
            [
                "it is a Redis by itself, and no node of a Cluster",
                "fix: the URL begins with redis://",
            ],
        ),
        (format!("redis://127.0.0.1:{node}/0"), is_node),
        (format!("redis://127.0.0.1:{node}/1"), is_node),
        (format!("redis+sentinel://127.0.0.1:{alone}/mymaster"), is_no_sentinel),
        (format!("redis+sentinel://127.0.0.1:{node}/mymaster"), is_no_sentinel),
        (format!("redis://127.0.0.1:{sentinel}/0"), is_sentinel),
        (format!("redis://127.0.0.1:{sentinel}/1"), is_sentinel),
        (
            format!("redis+cluster://127.0.0.1:{sentinel}"),
            ["it is a Sentinel", "fix: the URL is redis+sentinel://"],
        ),
        (
            format!("redis+cluster://nobody:secret-word@127.0.0.1:{node}"),
            ["the user or the password is wrong", "fix: redis://USER:PASSWORD"],
        ),
    ] {
        let ran = check(&url, &[]).await;
        ran.says(78, &said);
        let errors = ran.stderr.lines().filter(|line| line.starts_with("error"));
        assert_eq!(errors.count(), 1, "{url}: {ran:#?}");
    }
    // A Cluster of one node keeps everything, whatever the URL calls it.
    let single = Cluster::start(1, 0, &["--appendonly", "yes"]).await;
    check(&single.primaries[0].url(), &[]).await.says(0, &["a primary"]);
    let empty = Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]).await;
    check(&format!("redis+cluster://127.0.0.1:{}", empty.port), &[])
        .await
        .says(69, &["it knows no node that has slots", "fix: make the Cluster"]);
}

/// What a server does that is no Redis.
#[derive(Debug, Clone, Copy)]
enum Manners {
    /// Says this to whoever connects.
    Greets(&'static str),
    /// Answers this, and ends the connection.
    Answers(&'static str),
    Repeats,
    Silent,
    HangsUp,
    /// Says nothing to those who begin with TLS, and ends the connections of others.
    SilentOverTls,
}

/// Starts such a server, and says at which port.
async fn stranger(manners: Manners) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 1024];
                if let Manners::Greets(words) = manners {
                    let _ = socket.write_all(words.as_bytes()).await;
                }
                while let Ok(1..) = socket.read(&mut heard).await {
                    match manners {
                        Manners::Greets(_) | Manners::Silent => {}
                        Manners::SilentOverTls if heard[0] == 0x16 => {}
                        Manners::HangsUp | Manners::SilentOverTls => return,
                        Manners::Answers(words) => {
                            let _ = socket.write_all(words.as_bytes()).await;
                            return;
                        }
                        Manners::Repeats => {
                            let _ = socket.write_all(b"PING\r\n").await;
                        }
                    }
                }
            });
        }
    });
    port
}

const HTTP: Manners = Manners::Answers("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n");

#[tokio::test]
async fn what_is_no_redis_is_told_by_what_it_says() {
    let is_other = "what answers there is no Redis, but ";
    for (manners, code, said) in [
        (HTTP, 78, "an HTTP server (HTTP/1.1 400 Bad Request)"),
        (Manners::Answers("<html><head>\r\n"), 78, "an HTTP server"),
        (Manners::Answers("ERROR\r\n"), 78, "something that says \"ERROR\""),
        (
            Manners::Greets("SSH-2.0-Other\r\n"),
            78,
            "something that says \"SSH-2.0-Other\"",
        ),
        (Manners::Repeats, 78, "something that says \"PING\""),
        (
            Manners::HangsUp,
            69,
            "it takes the connection and ends it without a word",
        ),
        (Manners::Silent, 69, "it takes the connection and does not answer"),
    ] {
        let port = stranger(manners).await;
        for (scheme, path) in [
            ("redis", "/0"),
            ("rediss", "/0"),
            ("redis+sentinel", "/mymaster"),
            ("redis+cluster", ""),
        ] {
            let asked = Instant::now();
            let ran = check(&format!("{scheme}://app:secret-word@127.0.0.1:{port}{path}"), &[]).await;
            ran.says(code, &[said, "fix: "]);
            assert_eq!(ran.stderr.contains(is_other), code == 78, "{manners:?}: {ran:#?}");
            assert!(
                asked.elapsed() < Duration::from_secs(15),
                "{manners:?} took {:?}",
                asked.elapsed()
            );
        }
    }
}

/// A Redis that stood still for a moment was said to end all connections: it ends those without TLS.
#[tokio::test]
async fn who_is_late_over_tls_is_not_judged_by_what_it_does_without() {
    let url = format!("rediss://127.0.0.1:{}/0", stranger(Manners::SilentOverTls).await);
    let ran = check(&url, &[]).await;
    ran.says(69, &["it does not answer", "fix: see whether a firewall"]);
}

/// A Redis that speaks TLS at one port, and does not at the other; its own authority is in the folder.
async fn redis_with_tls(folder: &Folder) -> (Redis, u16) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let (certificate, key, port) = (certificate.to_str().unwrap(), key.to_str().unwrap(), free_port());
    let options = [
        ["--tls-port", &port.to_string()],
        ["--tls-cert-file", certificate],
        ["--tls-key-file", key],
        ["--tls-ca-cert-file", certificate],
        ["--tls-auth-clients", "no"],
        ["--appendonly", "yes"],
    ];
    (Redis::start(&options.concat()).await, port)
}

#[tokio::test]
async fn whether_there_is_tls_is_found_out() {
    let folder = Folder::new();
    let (redis, with_tls) = redis_with_tls(&folder).await;
    let without = redis.port;
    let trusted = folder.path().join("cert.pem");
    let trusted = [("SSL_CERT_FILE", trusted.to_str().unwrap())];
    let lacks = [
        "it does not speak TLS there",
        "fix: the URL begins with redis:// instead of rediss://",
    ];
    let wants = [
        "it speaks TLS there",
        "fix: the URL begins with rediss:// instead of redis://",
    ];
    for (url, said) in [
        (format!("rediss://127.0.0.1:{without}/0"), lacks),
        (format!("rediss+sentinel://127.0.0.1:{without}/mymaster"), lacks),
        (format!("rediss+cluster://127.0.0.1:{without}"), lacks),
        (format!("redis://127.0.0.1:{with_tls}/0"), wants),
        (format!("redis+sentinel://127.0.0.1:{with_tls}/mymaster"), wants),
        (format!("redis+cluster://127.0.0.1:{with_tls}"), wants),
    ] {
        check(&url, &trusted).await.says(78, &said);
        // Whoever signed its certificate.
        check(&url, &[]).await.says(78, &said);
    }
    let url = format!("rediss://127.0.0.1:{with_tls}/0");
    check(&url, &trusted).await.says(0, &["a primary"]);
    check(&url, &[]).await.says(78, &["TLS fails", "SSL_CERT_FILE"]);
    let nowhere = [("SSL_CERT_FILE", "/nowhere/cert.pem")];
    let ran = check(&url, &nowhere).await;
    ran.says(
        78,
        &["the authorities for TLS cannot be read here", "fix: see SSL_CERT_FILE"],
    );
}

/// What a server says of its Redis: in its log, and to whoever asks whether it is ready.
async fn is_said(url: &str, logged: &str, answered: &str) {
    let node = Served::start(&[
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", url),
    ])
    .await;
    let mut publisher = Publisher::new(node.address);
    let (mut said, mut detail) = (String::new(), String::new());
    let deadline = Instant::now() + PATIENCE;
    while !said.contains(logged) || !detail.contains(answered) {
        assert!(Instant::now() < deadline, "{url}: {detail}\n{said}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (status, ready) = publisher.send(&http::get("/readyz", &[])).await.unwrap();
        assert_eq!(status, 503, "{url}");
        said = node.said_from_the_start();
        ready["detail"].as_str().unwrap().clone_into(&mut detail);
    }
    let lines = said.lines().filter(|line| line.contains(logged));
    assert_eq!(lines.count(), 1, "once, however many connections there are:\n{said}");
    assert!(said.contains("\"fix\":"), "{said}");
    assert!(
        !said.contains("secret-word") && !detail.contains("127.0.0.1"),
        "{detail}\n{said}"
    );
}

async fn all_are_said(cases: &[(String, &str, &str)]) {
    let all = cases
        .iter()
        .map(|(url, logged, answered)| is_said(url, logged, answered));
    futures_util::future::join_all(all).await;
}

/// `/readyz` said nothing but that Redis could not be reached, or was well though no publication could be stored.
#[tokio::test]
async fn the_server_says_as_the_check_does_what_a_redis_lacks() {
    let redis = Redis::start(&[]).await;
    let lacking = Redis::start(&["--rename-command", "XADD", "", "--rename-command", "EVALSHA", ""]).await;
    let greeted = Redis::start(&["--rename-command", "HELLO", ""]).await;
    let full = Redis::start(&["--maxclients", "2"]).await;
    let mut connections = Vec::new();
    while connections.len() < 2 {
        connections.extend(full.try_connect().await.ok());
    }
    let at = |redis: &Redis| format!("redis://app:secret-word@127.0.0.1:{}/0", redis.port);
    let _: () = redis
        .ask(&[
            "ACL",
            "SETUSER",
            "other",
            "on",
            ">secret-word",
            "~other:*",
            "&*",
            "+@all",
        ])
        .await;
    let other = at(&redis).replace("app", "other");
    let is_denied = "the user may not do all that is needed";
    let is_unknown = "a command that is needed is not known";
    let is_full = "it has as many connections as it may";
    let is_wrong = "the user or the password is wrong";
    all_are_said(&[
        (lacking.url(), "it does not know EVALSHA XADD", is_unknown),
        (at(&greeted), "it does not know HELLO", is_unknown),
        (full.url(), is_full, is_full),
        (at(&redis), is_wrong, is_wrong),
        (other, is_denied, is_denied),
    ])
    .await;
}

#[tokio::test]
async fn the_server_says_as_the_check_does_what_is_there_instead() {
    let (redis, cluster) = (Redis::start(&[]).await, Cluster::start(2, 0, &[]).await);
    let sentinel = Sentinel::start(redis.port).await;
    let folder = Folder::new();
    let (guarded, with_tls) = redis_with_tls(&folder).await;
    let (http, silent) = (stranger(HTTP).await, stranger(Manners::Silent).await);
    let at = |port: u16| format!("redis://app:secret-word@127.0.0.1:{port}/0");
    let (alone, sentinel) = (redis.port, sentinel.port);
    let nothing = "the Sentinel watches nothing of that name";
    let mut cases = vec![
        (
            at(http),
            "but an HTTP server (HTTP/1.1 400",
            "what answers there is no Redis",
        ),
        (
            at(silent),
            "does not answer",
            "it takes the connection and does not answer",
        ),
        (at(free_port()), "Connection refused", "Redis cannot be reached"),
        (format!("redis+sentinel://127.0.0.1:{sentinel}/other"), nothing, nothing),
    ];
    for (url, said) in [
        (cluster.primaries[0].url(), "it is a node of a Cluster"),
        (format!("redis://127.0.0.1:{sentinel}"), "it is a Sentinel"),
        (format!("redis+cluster://127.0.0.1:{alone}"), "it is a Redis by itself"),
        (format!("redis+sentinel://127.0.0.1:{alone}/m"), "it is no Sentinel"),
        (at(with_tls), "it speaks TLS there"),
        (
            format!("rediss://127.0.0.1:{}", guarded.port),
            "it does not speak TLS there",
        ),
    ] {
        cases.push((url, said, said));
    }
    all_are_said(&cases).await;
}
