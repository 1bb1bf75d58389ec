//! What operators decide, over several nodes and over restarts: real processes on one Redis, and one with a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;
use support::client::{self, Client, TRANSPORTS, code_of, operate, token_of};
use support::deadline::{until_told, within};
use support::folder::Folder;
use support::redis::Redis;
use support::redis_proxy::Proxy;
use support::redis_sentinel::until_replicated;
use support::served::Served;

/// A configuration with tokens and an operator's key.
fn configuration(folder: &Folder) -> PathBuf {
    let file = folder.path().join("throughline.toml");
    std::fs::write(&file, format!("[auth]\n{}\n", client::auth())).unwrap();
    file
}

async fn serve(file: &Path, url: &str) -> Served {
    let variables = [
        ("THROUGHLINE_CONFIG", file.to_str().unwrap()),
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", url),
    ];
    let node = Served::start(&variables).await;
    is_ready(node.address).await;
    node
}

async fn is_ready(address: SocketAddr) {
    until_told("a node that is ready", async || {
        client::read(address, "/readyz").await.0 == 200
    })
    .await;
}

/// Somebody on each transport of each node.
async fn everywhere(nodes: &[&Served], token: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in nodes {
        for transport in TRANSPORTS {
            clients.push(Client::open(node.address, transport, token, &["chat:1"]).await.unwrap());
        }
    }
    clients
}

async fn are_refused(nodes: &[&Served], token: &str) {
    for node in nodes {
        for transport in TRANSPORTS {
            let opened = Client::open(node.address, transport, token, &["chat:1"]).await;
            assert_eq!(opened.unwrap_err(), "denied", "{transport}");
        }
    }
}

/// What is to be refused is refused as soon as a node has heard of it.
async fn come_to_be_refused(node: &Served, token: &str) {
    until_told("a refusal", async || {
        Client::open(node.address, "sse", token, &["chat:1"]).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_sent_away_from_two_nodes_on_three_transports_and_a_restart_changes_nothing() {
    let (redis, folder) = (Redis::start(&[]).await, Folder::new("operators"));
    let file = configuration(&folder);
    let (one, other) = (serve(&file, &redis.url()).await, serve(&file, &redis.url()).await);
    let (ada, bob) = (token_of("ada"), token_of("bob"));
    let mut hers = everywhere(&[&one, &other], &ada).await;
    let mut his = everywhere(&[&one, &other], &bob).await;
    let (status, answer) = operate(one.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 600})).await;
    assert_eq!(status, 200, "{answer}");
    for client in &mut hers {
        let told = within("what an operator decided", client.next()).await;
        // A poll that had not begun to wait on the other node is refused as a whole.
        assert!(told == "closing denied" || matches!(client, Client::Poll(_)), "{told}");
    }
    are_refused(&[&one], &ada).await;
    come_to_be_refused(&other, &ada).await;
    are_refused(&[&one, &other], &ada).await;
    // From one channel only, and by a session's name, from the other node.
    let body = json!({"user": "bob", "channel": "chat:1", "deny_s": 600});
    assert_eq!(operate(other.address, "/v1/unsubscribe", &body).await.0, 200);
    for client in &mut his {
        let told = within("the end of a subscription", client.next()).await;
        assert!(
            told == "unsubscribed chat:1 denied" || matches!(client, Client::Poll(_)),
            "{told}"
        );
    }
    // A crash forgets nothing, nor does a restart, nor a node that was never there before.
    one.kill().await;
    other.stop().await;
    let (one, other) = (serve(&file, &redis.url()).await, serve(&file, &redis.url()).await);
    are_refused(&[&one, &other], &ada).await;
    are_refused(&[&one, &other], &bob).await;
    for transport in TRANSPORTS {
        Client::open(one.address, transport, &bob, &["chat:2"]).await.unwrap();
    }
    // It is taken back on one, and so on both.
    operate(other.address, "/v1/disconnect", &json!({"user": "ada"})).await;
    for node in [&one, &other] {
        until_told("the end of a refusal", async || {
            Client::open(node.address, "sse", &ada, &["chat:1"]).await.is_ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_node_is_found_and_its_token_refused_on_all() {
    let (redis, folder) = (Redis::start(&[]).await, Folder::new("operators"));
    let file = configuration(&folder);
    let (one, other) = (serve(&file, &redis.url()).await, serve(&file, &redis.url()).await);
    let ada = token_of("ada");
    let headers = [("authorization", &*client::bearer(&ada))];
    let opened = support::websocket::WebSocket::open_with(one.address, &[], &headers).await;
    let mut socket = opened.unwrap();
    let session = socket.push().await.unwrap().text_of("session").to_owned();
    let body = json!({"session": session, "deny_s": 600});
    let (status, answer) = operate(other.address, "/v1/disconnect", &body).await;
    assert_eq!((status, &answer["sessions"]), (200, &json!(0)));
    let closing = within("the end of the session", socket.push()).await.unwrap();
    assert_eq!(closing.text_of("code"), "denied");
    are_refused(&[&one], &ada).await;
    come_to_be_refused(&other, &ada).await;
    are_refused(&[&one, &other], &ada).await;
    let another = support::tokens::token("ada", 60, &json!({"subscribe": ["*"]}));
    Client::open(other.address, "sse", &another, &["chat:1"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_redis_was_away_catches_up_and_one_that_begins_without_it_lets_nobody_in() {
    let (redis, folder) = (Redis::start(&[]).await, Folder::new("operators"));
    let file = configuration(&folder);
    let port = redis
        .url()
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let way = Proxy::start(port).await;
    let (near, far) = (serve(&file, &redis.url()).await, serve(&file, &way.url()).await);
    let ada = token_of("ada");
    let mut there = Client::open(far.address, "sse", &ada, &["chat:1"]).await.unwrap();
    way.lead_to(0);
    until_told("a node that knows that Redis is away", async || {
        client::read(far.address, "/readyz").await.0 != 200
    })
    .await;
    assert_eq!(
        operate(near.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 600}))
            .await
            .0,
        200
    );
    // Over there nothing can be decided, and it is said so.
    let (status, problem) = operate(far.address, "/v1/disconnect", &json!({"user": "bob", "deny_s": 600})).await;
    assert_eq!((status, &*code_of(&problem)), (503, "engine_unavailable"));
    let variables = [
        ("THROUGHLINE_CONFIG", file.to_str().unwrap()),
        ("THROUGHLINE_ENGINE__KIND", "redis"),
        ("THROUGHLINE_ENGINE__REDIS__URL", &*way.url()),
    ];
    let late = Served::start(&variables).await;
    let refused = Client::open(late.address, "ws", &ada, &[]).await;
    assert_eq!(refused.unwrap_err(), "engine_unavailable");
    way.lead_to(port);
    assert_eq!(
        within("what was decided meanwhile", there.next()).await,
        "closing denied"
    );
    for node in [&far, &late] {
        is_ready(node.address).await;
        come_to_be_refused(node, &ada).await;
    }
    are_refused(&[&near, &far, &late], &ada).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_node_remembers_in_its_snapshot() {
    let folder = Folder::new("operators");
    let file = configuration(&folder);
    let snapshot = folder.path().join("snapshot");
    let variables = [
        ("THROUGHLINE_CONFIG", file.to_str().unwrap()),
        ("THROUGHLINE_ENGINE__SNAPSHOT", snapshot.to_str().unwrap()),
    ];
    let ada = token_of("ada");
    let node = Served::start(&variables).await;
    operate(node.address, "/v1/disconnect", &json!({"user": "ada", "deny_s": 600})).await;
    are_refused(&[&node], &ada).await;
    node.stop().await;
    let node = Served::start(&variables).await;
    are_refused(&[&node], &ada).await;
    // Without one, what was decided ends with the process.
    node.kill().await;
    let node = Served::start(&variables[..1]).await;
    for transport in TRANSPORTS {
        Client::open(node.address, transport, &ada, &["chat:1"]).await.unwrap();
    }
}

/// The command line asks the same routes.
#[tokio::test(flavor = "multi_thread")]
async fn operators_have_a_command_line() {
    let folder = Folder::new("operators");
    let file = configuration(&folder);
    let node = Served::start(&[("THROUGHLINE_CONFIG", file.to_str().unwrap())]).await;
    let ada = token_of("ada");
    let mut client = Client::open(node.address, "ws", &ada, &["chat:1", "chat:2"])
        .await
        .unwrap();
    let url = format!("http://{}", node.address);
    let run = async |arguments: &[&str], key: &str| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_throughline"));
        command
            .args(arguments)
            .env("THROUGHLINE_URL", &url)
            .env("THROUGHLINE_TOKEN", key);
        let ran = within("a command", command.stdin(std::process::Stdio::null()).output())
            .await
            .unwrap();
        let said = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
        (ran.status.code().unwrap(), said)
    };
    let key = support::tokens::api_key('O');
    let (code, said) = run(&["channels", "--prefix", "chat:", "--limit", "1"], &key).await;
    assert!(
        code == 0 && said.starts_with(r#"{"channels":[{"channel":"chat:1","subscriptions":1,"#),
        "{said}"
    );
    assert!(said.ends_with("\"next\":\"chat:1\"}\n"), "{said}");
    let (code, said) = run(&["unsubscribe", "chat:1", "--user", "ada"], &key).await;
    assert!(code == 0 && said.contains("\"sessions\":1"), "{said}");
    assert_eq!(client.next().await, "unsubscribed chat:1 denied");
    let (code, said) = run(&["disconnect", "--user", "ada", "--deny", "60"], &key).await;
    assert!(code == 0 && said.contains("\"sessions\":1"), "{said}");
    assert_eq!(client.next().await, "closing denied");
    are_refused(&[&node], &ada).await;
    for (arguments, key, expected, words) in [
        (&["disconnect", "--user", "ada"][..], &*ada, 1, "denied"),
        (
            &["disconnect", "--user", "ada", "--deny", "86401"],
            &*key,
            1,
            "at most 86400",
        ),
        (&["disconnect"], &*key, 2, "--user"),
        (
            &["disconnect", "--user", "a", "--session", "b"],
            &*key,
            2,
            "cannot be used with",
        ),
    ] {
        let (code, said) = run(arguments, key).await;
        assert!(code == expected && said.contains(words), "{arguments:?}: {code} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_replicas_are_waited_for_a_failover_lets_nobody_in_again() {
    let (mut primary, folder) = (Redis::start(&[]).await, Folder::new("operators"));
    let (entrance, replication) = (Proxy::start(primary.port).await, Proxy::start(primary.port).await);
    let from = replication.port.to_string();
    let options = ["--replicaof", "127.0.0.1", &from, "--repl-diskless-sync-delay", "0"];
    let replica = Redis::start(&options).await;
    until_replicated(&primary, &replica).await;
    let file = folder.path().join("throughline.toml");
    let lines = format!("[publishing]\nack = \"replicated\"\n[auth]\n{}\n", client::auth());
    std::fs::write(&file, lines).unwrap();
    let node = serve(&file, &entrance.url()).await;
    let refuse = |user: &'static str| {
        let address = node.address;
        async move { operate(address, "/v1/disconnect", &json!({"user": user, "deny_s": 600})).await }
    };
    let (status, answer) = refuse("ada").await;
    assert_eq!(status, 200, "{answer}");
    // Without the replica it counts at once, and it is said that it may be forgotten.
    replication.lead_to(0);
    let (status, problem) = refuse("bob").await;
    assert_eq!((status, &problem["outcome"]), (503, &json!("stored")), "{problem}");
    come_to_be_refused(&node, &token_of("bob")).await;
    // Said again when the replica is back, it is sure.
    replication.lead_to(primary.port);
    until_told("the replica", async || refuse("bob").await.0 == 200).await;
    primary.kill();
    let _: String = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    // A node that knows only what the replica has. Nobody has it beside: acks of the node itself are another matter.
    let late = serve(&file, &replica.url()).await;
    for user in ["ada", "bob"] {
        are_refused(&[&late], &token_of(user)).await;
    }
}
