//! `throughline token`, `throughline token verify` and `throughline key`, as a person uses them: what they make is let
//! in, and what they say of a token helps.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{SECRET, Signer, forge};

/// A configuration in a file of its own.
fn config(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("token_command_{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

fn throughline(arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_throughline"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn status(node: &Node, request: Vec<u8>) -> u16 {
    let mut link = Link::connect(node.address, Receive::Usual).await.unwrap();
    link.send(&request).await.unwrap();
    Head::read(&mut link).await.unwrap().unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_token_is_let_in_and_explained() {
    let auth = format!("[[auth.issuers]]\nissuer = \"me\"\naudience = [\"edge\"]\nsecret = \"{SECRET}\"\n");
    let path = config("minted", &auth);
    let path = path.to_str().unwrap();
    let made = throughline(&["token", "--config", path, "--sub", "ada", "--history", "chat:*"], "");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let token = text(&made.stdout).trim();
    let node = Node::start(Setup::auth(&auth.replace("[[auth.issuers]]", "[[issuers]]")));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(
        status(&node, http::get("/v1/history?channel=chat:1", &headers)).await,
        200
    );
    assert_eq!(
        status(&node, http::get("/v1/history?channel=news", &headers)).await,
        403
    );

    let explained = throughline(&["token", "verify", "--config", path], token);
    let said = text(&explained.stdout);
    assert_eq!(explained.status.code(), Some(0), "{said}");
    for part in ["\"HS256\"", "\"ada\"", "(in 59 min)", "accepted"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let expired = forge(
        r#"{"alg":"HS256"}"#,
        r#"{"iss":"me","aud":"edge","sub":"ada","exp":1}"#,
        Signer::Hmac(SECRET.as_bytes()),
    );
    let explained = throughline(&["token", "verify", "--config", path, &expired], "");
    let said = text(&explained.stdout);
    assert_eq!(explained.status.code(), Some(1), "{said}");
    assert!(
        said.contains("days ago)") && said.contains("refused: the token has expired"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_key_is_let_in_by_the_lines_that_come_with_it() {
    let made = throughline(
        &["key", "--name", "a \"b\"", "--scope", "publish", "--channel", "chat:*"],
        "",
    );
    assert!(made.status.success(), "{}", text(&made.stderr));
    let lines = text(&made.stdout);
    let key = lines.lines().find_map(|line| line.strip_prefix("# tlk_")).unwrap();
    let node = Node::start(Setup::auth(&lines.replace("[[auth.api_keys]]", "[[api_keys]]")));
    let key = format!("tlk_{key}");
    let publish = |channel: &str| {
        let body = format!("{{\"channel\":\"{channel}\",\"data\":1}}");
        http::post("/v1/publish", &[("x-api-key", &key)], body.as_bytes())
    };
    assert_eq!(status(&node, publish("chat:1")).await, 200);
    assert_eq!(status(&node, publish("news")).await, 403);
    let wrong = throughline(&["key", "--scope", "everything"], "");
    assert_eq!(wrong.status.code(), Some(2));
}

/// What an operator may do is bounded by no channels, so none are promised.
#[test]
fn a_key_for_operators_alone_has_no_channels() {
    let made = throughline(&["key", "--scope", "operator"], "");
    assert!(
        text(&made.stdout).contains("scopes = [\"operator\"]\nchannels = []\n"),
        "{made:?}"
    );
    let both = throughline(&["key", "--scope", "operator", "--scope", "history"], "");
    assert!(text(&both.stdout).contains("channels = [\"*\"]\n"), "{both:?}");
    let bounded = throughline(&["key", "--scope", "operator", "--channel", "chat:*"], "");
    assert_eq!(bounded.status.code(), Some(2));
    assert!(text(&bounded.stderr).contains("for the whole node"), "{bounded:?}");
}

#[test]
fn a_configuration_that_is_wrong_says_where_and_shows_no_secret() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys");
    let issuer = |rest: &str| format!("[[auth.issuers]]\n{rest}\n");
    for (name, text_of, expected) in [
        (
            "short",
            issuer("secret = \"hush hush\""),
            "auth.issuers[0].secret: a secret for HS256 must have at least 32",
        ),
        ("quote", "[[auth.issuers]]\nsecret = \"hush hush\n".to_owned(), "line 2"),
        ("nothing", issuer("issuer = \"a\""), "needs exactly one of `secret`"),
        (
            "two",
            issuer("secret = \"hush hush\"\njwks_url = \"https://a\""),
            "needs exactly one of `secret`",
        ),
        (
            "algorithm",
            issuer(&format!(
                "algorithm = \"RS256\"\npublic_key_file = \"{keys}/ec.pub.pem\""
            )),
            "one for ES256",
        ),
        (
            "private",
            issuer(&format!("public_key_file = \"{keys}/rsa.pem\"")),
            "not a public key",
        ),
        (
            "url",
            issuer("jwks_url = \"file:///etc/passwd\""),
            "must be a URL that begins with https://",
        ),
        (
            "password",
            issuer("jwks_url = \"https://ada:hush hush@id.example/keys\""),
            "must be a URL that begins with https://",
        ),
        (
            "user",
            issuer(&format!(
                "jwks_url = \"https://ada:{}@id.example/keys\"",
                SECRET.replace(' ', "-")
            )),
            "auth.issuers[0].jwks_url: must not have a user or a password before the `@`",
        ),
        ("cookie", "[auth]\ncookie = \"a\"\n".to_owned(), "everything is open"),
        (
            "same",
            issuer(&format!("secret = \"{SECRET}\"")) + &issuer(&format!("secret = \"{SECRET}\"")),
            "each must have an `issuer` of its own",
        ),
        (
            "hash",
            "[[auth.api_keys]]\nname = \"a\"\nhash = \"x\"\nscopes = []\nchannels = []\n".to_owned(),
            "64 hexadecimal digits",
        ),
    ] {
        let path = config(name, &text_of);
        // It ends whatever it finds, as a server would not.
        let ended = throughline(&["token", "verify", "--config", path.to_str().unwrap(), "x"], "");
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(78), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains("hush hush") && !said.contains(SECRET), "{name}: {said}");
        assert!(!said.contains(&SECRET.replace(' ', "-")), "{name}: {said}");
    }
}

#[test]
fn what_is_wrong_with_a_token_says_what_would_be_right() {
    let path = config("help", &format!("[[auth.issuers]]\nsecret = \"{SECRET}\"\n"));
    let sign = |claims: &str| forge(r#"{"alg":"HS256"}"#, claims, Signer::Hmac(SECRET.as_bytes()));
    let good = sign(r#"{"sub":"ada","exp":99999999999}"#);
    for (token, expected) in [
        (good.clone(), "accepted"),
        (format!("Bearer {good}"), "leave it out here"),
        (format!("bearer  {good}"), "leave it out here"),
        (format!("tlk_{}", "x".repeat(43)), "this is an API key and not a token"),
        (
            sign(r#"{"sub":"ada","exp":4000000000000}"#),
            "the token's `exp` must be in seconds since 1970, and is too far away; are these milliseconds?",
        ),
        (
            sign(r#"{"sub":7,"exp":99999999999}"#),
            "the token's `sub` must be a string",
        ),
        (
            sign(r#"{"sub":"ada","exp":99999999999,"throughline":{"subscribe":["x"],"subscribe":["*"]}}"#),
            "the token's `throughline` has a field twice",
        ),
    ] {
        let ended = throughline(&["token", "verify", "--config", path.to_str().unwrap(), &token], "");
        let said = text(&ended.stdout);
        assert!(said.contains(expected), "{said}\n{}", text(&ended.stderr));
        assert_eq!(ended.status.success(), expected == "accepted", "{said}");
        // What stands behind the word is explained all the same.
        assert_eq!(said.contains("\"HS256\""), !token.starts_with("tlk_"), "{said}");
    }
}

/// A private key signs for the issuer that is meant: the one that is named, or the only one that it can be.
#[test]
fn a_private_key_signs_for_the_issuer_that_is_meant() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys");
    let issuer = |name: &str, key: &str| format!("[[auth.issuers]]\nissuer = \"{name}\"\n{key}\n");
    let secret = issuer("hs", &format!("secret = \"{SECRET}\""));
    let ed = issuer("ed", &format!("public_key_file = \"{keys}/ed.pub.pem\""));
    let ec = issuer("ec", &format!("public_key_file = \"{keys}/ec.pub.pem\""));
    let two = config("issuers_two", &format!("{secret}{ed}"));
    let three = config("issuers_three", &format!("{secret}{ed}{ec}"));
    let (two, three) = (two.to_str().unwrap(), three.to_str().unwrap());
    let (ed_key, of_curve) = (format!("{keys}/ed.pem"), format!("{keys}/ec.pem"));
    for (config, rest) in [
        (two, &["--key-file", &*ed_key][..]),
        (three, &["--key-file", &ed_key, "--issuer", "ed"]),
        (three, &["--key-file", &of_curve, "--issuer", "ec"]),
        (three, &[]),
        (three, &["--issuer", "hs"]),
    ] {
        let made = throughline(&[&["token", "--config", config][..], rest].concat(), "");
        assert!(made.status.success(), "{rest:?}: {}", text(&made.stderr));
        let verified = throughline(&["token", "verify", "--config", config], text(&made.stdout));
        assert!(verified.status.success(), "{rest:?}: {}", text(&verified.stdout));
    }
    for (rest, expected) in [
        (&["--key-file", &*ed_key][..], "--issuer NAME; there are \"ed\", \"ec\""),
        (
            &["--key-file", &ed_key, "--issuer", "eg"],
            "there are \"hs\", \"ed\", \"ec\"",
        ),
        (&["--issuer", "ed"], "name its private key with --key-file"),
        (&["--issuer", "eg"], "the configuration has no such issuer"),
    ] {
        let refused = throughline(&[&["token", "--config", three][..], rest].concat(), "");
        assert_eq!(refused.status.code(), Some(78), "{rest:?}");
        let said = text(&refused.stderr);
        assert!(said.contains(expected), "{rest:?}: {said}");
    }
}

#[test]
fn what_is_shown_of_the_configuration_has_no_secret() {
    let rest = format!("issuer = \"a\"\nsecret = \"{SECRET}\"\n");
    let path = config("shown", &format!("[[auth.issuers]]\n{rest}"));
    let shown = throughline(&["config", "show", "--config", path.to_str().unwrap()], "");
    let said = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(said.contains("***") && !said.contains(SECRET), "{said}");
    let urls = "[webhooks]\nurl = [\"https://ada:hunter2@app.example/a\", \"https://app.example/b?key=hunter2\"]\n\
                [hooks]\nconnect_url = \"https://app.example/c?key=hunter2\"\n\
                [[auth.issuers]]\njwks_url = \"https://app.example/d?key=hunter2\"\n";
    let path = config("shown_urls", urls);
    let shown = throughline(&["config", "show", "--config", path.to_str().unwrap()], "");
    let said = text(&shown.stdout);
    assert!(!said.contains("hunter2") && !said.contains("ada"), "{said}");
    for part in ["https://***@app.example/a", "/b?***", "/c?***", "/d?***"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (name, wrong) in [
        ("one", format!("[auth.issuers]\n{rest}")),
        ("section", format!("[[auth]]\n{rest}")),
        ("type", format!("[[auth.issuers]]\n{rest}audience = 5\n")),
        ("field", format!("[[auth.issuers]]\n{rest}secrets = 5\n")),
    ] {
        let path = config(&format!("shown_{name}"), &wrong);
        let checked = throughline(&["check", "--config", path.to_str().unwrap()], "");
        let said = text(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{name}: {said}");
        assert!(said.contains("line 1") && said.contains("auth"), "{name}: {said}");
        assert!(!said.contains(SECRET), "{name}: {said}");
    }
}
