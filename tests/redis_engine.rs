//! What is Redis' own about the engine: where it may be, what it costs there, and what it is told again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;
mod support;

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use support::deadline::{until, until_told, within};
use support::http;
use support::publisher::Publisher;
use support::redis::{Redis, engine, engine_under, free_port};
use support::served::Served;
use throughline::delivery::{
    Ack, ChannelName, Delivery, Draft, Engine, Health, LogPolicy, Position, Since, Subscription, subscribe,
};
use throughline::engine::RedisEngine;
use throughline::engine::redis::Prefix;

fn channel() -> ChannelName {
    ChannelName::parse("}{a}:{}").unwrap()
}

async fn publish(engine: &RedisEngine, data: &'static str) -> Position {
    let draft = Draft {
        channel: channel(),
        data: data.into(),
        event: Some("e".into()),
        sender: Some("s".into()),
        key: None,
        policy: LogPolicy {
            count_max: 1_000,
            bytes_max: 1 << 20,
            age_ms_max: 60_000,
            position_ttl_ms: 60_000,
        },
        ack: Ack::Stored,
    };
    engine.publish(&[draft]).await.remove(0).unwrap().position
}

async fn reader(engine: &Arc<RedisEngine>, since: Since) -> Subscription {
    let engine = Arc::clone(engine) as Arc<dyn Engine>;
    subscribe(engine, channel(), since).await.unwrap().1
}

async fn next(subscription: &mut Subscription) -> (u64, String) {
    match within("a delivery", subscription.next()).await {
        Some(Delivery::Publication(publication)) => {
            let data = String::from_utf8(publication.data.to_vec()).unwrap();
            (publication.position.offset, data)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_unix_socket_a_user_with_few_rights_and_a_database_will_do() {
    let socket = std::env::temp_dir().join(format!("throughline-{}.sock", std::process::id()));
    let redis = Redis::start(&["--unixsocket", socket.to_str().unwrap(), "--unixsocketperm", "700"]).await;
    // The rights that `docs/redis.md` names.
    let document = include_str!("../docs/redis.md");
    let commands = document
        .split("A user that may do: `")
        .nth(1)
        .unwrap()
        .split('`')
        .next()
        .unwrap();
    let mut setting = vec![
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "~throughline:*",
        "&throughline:*",
    ];
    let rights: Vec<_> = commands
        .split(' ')
        .map(|command| format!("+{}", command.to_lowercase()))
        .collect();
    setting.extend(rights.iter().map(String::as_str));
    let _: String = redis.ask(&setting).await;
    let url = format!("redis+unix://{}?db=3&user=app&pass=secret", socket.display());
    let engine = engine(&url).await;
    let mut follower = reader(&engine, Since::Now).await;
    publish(&engine, "1").await;
    assert_eq!(next(&mut follower).await, (1, "1".to_owned()));
    let keyspace: String = redis.ask(&["INFO", "keyspace"]).await;
    assert!(keyspace.contains("db3:keys=2"), "{keyspace}");
}

#[tokio::test]
async fn databases_and_prefixes_are_apart() {
    let redis = Redis::start(&[]).await;
    let other = format!("redis://127.0.0.1:{}/1", redis.port);
    let [a, b] = ["a:", "b:"].map(|text| Prefix::parse(text).unwrap());
    let engines = [
        engine_under(&redis.url(), a.clone()).await,
        engine_under(&redis.url(), b).await,
        engine_under(&other, a).await,
    ];
    let mut followers = join_all(engines.iter().map(|engine| reader(engine, Since::Now))).await;
    for (engine, data) in engines.iter().zip(["1", "2", "3"]) {
        publish(engine, data).await;
        publish(engine, data).await;
    }
    for (follower, data) in followers.iter_mut().zip(["1", "2", "3"]) {
        assert_eq!(next(follower).await, (1, data.to_owned()));
        assert_eq!(next(follower).await, (2, data.to_owned()));
    }
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_told_again() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let mut follower = reader(&engine, Since::Now).await;
    for number in 1..=3 {
        let _: String = redis.ask(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(publish(&engine, "1").await.offset, number);
        assert_eq!(next(&mut follower).await.0, number);
        let _: String = redis.ask(&["SCRIPT", "FLUSH"]).await;
        let page = engine.history(&channel(), Since::Start, 9).await.unwrap();
        assert_eq!(page.top.offset, number);
    }
}

/// The keys of the channel whose names end so.
async fn key_of(redis: &Redis, end: &str) -> String {
    let keys: Vec<String> = redis.ask(&["KEYS", &format!("*{end}")]).await;
    keys.into_iter().next().unwrap()
}

/// A failover, or a restart from an older file, that loses the end of a log: the live end kept what was lost, gave it to
/// whoever came, and told nobody, until the next publication.
#[tokio::test]
async fn a_lost_end_is_told_although_nothing_comes_after_it() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let mut follower = reader(&engine, Since::Now).await;
    for _ in 0..3 {
        publish(&engine, "1").await;
    }
    let (top, log) = (key_of(&redis, ":top").await, key_of(&redis, ":log").await);
    let kept: String = redis.ask(&["GET", &top]).await;
    for _ in 0..2 {
        publish(&engine, "2").await;
    }
    for offset in 1..=5 {
        assert_eq!(next(&mut follower).await.0, offset);
    }
    let lost: u64 = redis.ask(&["XDEL", &log, "4-0", "5-0"]).await;
    assert_eq!(lost, 2, "the end of the log is lost");
    let _: String = redis.ask(&["XSETID", &log, "3-0"]).await;
    let _: String = redis.ask(&["SET", &top, &kept, "PX", "120000"]).await;
    match within("word of it", follower.next()).await {
        // What comes before is still true, and does not come again.
        Some(Delivery::Gap(gap)) => assert_eq!((gap.from.offset, gap.to.offset), (5, 3)),
        other => panic!("{other:?}"),
    }
    let mut newcomer = reader(&engine, Since::Start).await;
    for offset in 1..=3 {
        assert_eq!(next(&mut newcomer).await.0, offset);
    }
    publish(&engine, "3").await;
    assert_eq!(next(&mut newcomer).await, (4, "3".to_owned()));
    assert_eq!(next(&mut follower).await, (4, "3".to_owned()));
}

/// A node that knew an earlier policy renewed the top for too short a time, and with the top the log was gone.
#[tokio::test]
async fn a_top_is_kept_for_as_long_as_its_newest_publication_says() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let _follower = reader(&engine, Since::Now).await;
    publish(&engine, "1").await;
    let top = key_of(&redis, ":top").await;
    let _: String = redis.ask(&["CONFIG", "RESETSTAT"]).await;
    within("two looks at the tops", async {
        loop {
            let stats: String = redis.ask(&["INFO", "commandstats"]).await;
            if stats.contains("cmdstat_mget:calls=2") {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The same words, but for the life: another node has another policy now.
    let said: String = redis.ask(&["GET", &top]).await;
    let mut words: Vec<&str> = said.split(' ').collect();
    let life = words.len() - 1;
    words[life] = "7200000";
    let _: String = redis.ask(&["SET", &top, &words.join(" "), "PX", "10000"]).await;
    within("the longer life", async {
        loop {
            let left: i64 = redis.ask(&["PTTL", &top]).await;
            assert!(left > 0, "it was let go");
            if left > 7_000_000 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_left() {
    let (primary, heir) = (Redis::start(&[]).await, Redis::start(&[]).await);
    let engine = engine(&primary.url()).await;
    let port = heir.port.to_string();
    let _: String = primary.ask(&["REPLICAOF", "127.0.0.1", &port]).await;
    until("doubt", || engine.check().is_err()).await;
    let _: String = primary.ask(&["REPLICAOF", "NO", "ONE"]).await;
    until("trust", || engine.check().is_ok()).await;
    publish(&engine, "1").await;
}

#[tokio::test]
async fn a_channel_is_let_go_some_time_after_its_last_reader() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let readers = join_all((0..10).map(|_| reader(&engine, Since::Now))).await;
    let told = || async { redis.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len() };
    assert_eq!((told().await, engine.channel_count()), (1, 1));
    drop(readers);
    until("its end", || engine.channel_count() == 0).await;
    until_told("the end of what Redis tells of it", async || told().await == 0).await;
    let mut follower = reader(&engine, Since::Now).await;
    let position = publish(&engine, "1").await;
    assert_eq!(next(&mut follower).await.0, position.offset);
}

#[tokio::test]
async fn however_many_wait_the_log_is_read_for_them_at_once() {
    let redis = Redis::start(&[]).await;
    let engine = engine(&redis.url()).await;
    let first = publish(&engine, "1").await;
    for _ in 0..40 {
        publish(&engine, "2").await;
    }
    let calls = || async {
        let stats: String = redis.ask(&["INFO", "commandstats"]).await;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.unwrap().split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = calls().await;
    let mut readers = join_all((0..500).map(|_| reader(&engine, Since::After(first)))).await;
    for reader in &mut readers {
        for offset in 2..=41 {
            assert_eq!(next(reader).await.0, offset);
        }
    }
    let readings = calls().await - before;
    assert!(readings <= 20, "{readings} readings for 500 readers");
}

/// An authority and a certificate for `localhost`, made here and trusted by nobody else.
fn certificates(folder: &std::path::Path) {
    let openssl = |words: &str| {
        let done = std::process::Command::new("openssl")
            .current_dir(folder)
            .args(words.split(' '))
            .stderr(std::process::Stdio::null())
            .status();
        assert!(
            done.expect("openssl; scripts/test installs it").success(),
            "openssl {words}"
        );
    };
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout redis.key -out redis.csr");
    openssl("x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out redis.pem");
}

#[tokio::test]
async fn over_tls_only_a_redis_that_is_trusted_is_taken() {
    let folder = std::env::temp_dir().join(format!("throughline-tls-{}", std::process::id()));
    certificates(&folder);
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let port = free_port();
    let (port_text, certificate, key, authority) =
        (port.to_string(), file("redis.pem"), file("redis.key"), file("ca.pem"));
    let options = [
        ["--tls-port", &*port_text],
        ["--tls-cert-file", &*certificate],
        ["--tls-key-file", &*key],
        ["--tls-ca-cert-file", &*authority],
        ["--tls-auth-clients", "no"],
    ];
    let redis = Redis::start(&options.concat()).await;
    std::fs::write(folder.join("url"), format!("rediss://localhost:{port}/0\n")).unwrap();
    let url_file = file("url");
    let mut variables = vec![
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL_FILE", &*url_file),
    ];
    let stranger = Served::start(&variables).await;
    variables.push(("SSL_CERT_FILE", &*authority));
    let friend = Served::start(&variables).await;
    let ready = |address| async move {
        Publisher::new(address)
            .status(&http::get("/readyz", &[]))
            .await
            .unwrap()
    };
    until_told("a node that is ready", async || ready(friend.address).await == 200).await;
    assert_eq!(ready(stranger.address).await, 503, "it does not know the authority");
    for (environment, code, said) in [
        (&variables[..], 0, "a primary without replicas"),
        (&variables[..2], 78, "SSL_CERT_FILE"),
    ] {
        let folder = command::Folder::new();
        let checked = folder.run_with(environment, &["check", "--connect"]).await;
        checked.says(code, &[said]);
    }
    let mut publisher = Publisher::new(friend.address);
    publisher.publish(r#"{"channel":"a","data":1}"#, "k").await.unwrap();
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    // What the nodes tell each other has a top from the start.
    let keys: Vec<_> = keys.into_iter().filter(|key| !key.contains("{$control}")).collect();
    assert_eq!(keys.len(), 3, "a top, a log and a key: {keys:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
