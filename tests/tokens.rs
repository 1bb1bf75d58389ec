//! Tokens that are forged, broken or not meant for us: each of them is a 401, none asks anybody anything, and no answer
//! repeats what stands in one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::{SocketAddr, TcpListener};

use base64::Engine as _;
use serde_json::{Value, json};
use support::http::{self, Head};
use support::link::{Link, Receive};
use support::node::{Node, Setup};
use support::tokens::{SECRET, Signer, encode, forge, now_s};

const AUTH: &str = r#"
leeway_s = 5
issuers = [
  { issuer = "hs", audience = "edge", secret = "a secret for tests, of which everybody knows" },
  { issuer = "rs", public_key_file = "{keys}/rsa.pub.pem" },
  { issuer = "es", public_key_file = "{keys}/ec.pub.pem" },
  { issuer = "ed", public_key_file = "{keys}/ed.pub.pem", algorithm = "EdDSA" },
  { issuer = "jwks", jwks_file = "{keys}/jwks.json" },
]
"#;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const HMAC: Signer<'static> = Signer::Hmac(SECRET.as_bytes());

/// What must stand in no answer.
const CANARY: &str = "canary-in-the-token";

/// Claims that are as they should be, but for those that are given; `null` takes one away.
fn claims(issuer: &str, changed: &Value) -> String {
    let mut claims = json!({
        "iss": issuer, "sub": "ada", "exp": now_s() + 600, "iat": now_s(), "canary": CANARY,
        "throughline": {"history": ["*"]},
    });
    if issuer == "hs" {
        claims["aud"] = "edge".into();
    }
    for (name, value) in changed.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims.to_string()
}

fn good(issuer: &str, alg: &str, signer: Signer<'_>) -> String {
    forge(&format!(r#"{{"alg":"{alg}"}}"#), &claims(issuer, &json!({})), signer)
}

/// By the secret, with these claims changed.
fn with(changed: &Value) -> String {
    forge(HS256, &claims("hs", changed), HMAC)
}

/// By the secret, with one claim written as it stands here.
fn raw(name: &str, value: &str) -> String {
    let rest = claims("hs", &json!({ name: null }));
    forge(HS256, &format!("{{\"{name}\":{value},{}", &rest[1..]), HMAC)
}

/// By the secret, with this header.
fn header(text: &str) -> String {
    forge(text, &claims("hs", &json!({})), HMAC)
}

async fn ask(address: SocketAddr, token: &str) -> (Head, String) {
    let mut link = Link::connect(address, Receive::Usual).await.unwrap();
    let bearer = format!("Bearer {token}");
    let request = http::get("/v1/history?channel=a", &[("authorization", &bearer)]);
    link.send(&request).await.unwrap();
    let head = Head::read(&mut link).await.unwrap().unwrap();
    let body = head.body().unwrap().read_to_end(&mut link).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// What is no JWT at all, or was cut, padded or glued together.
fn malformed() -> Vec<(&'static str, String)> {
    let good = good("hs", "HS256", HMAC);
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("a JWT has three parts")
    };
    let other = forge(HS256, &claims("hs", &json!({"sub": "eve"})), HMAC);
    let other_body = other.split('.').nth(1).unwrap();
    let mut flipped = signature.to_owned();
    flipped.replace_range(..1, if signature.starts_with('A') { "B" } else { "A" });
    let standard = base64::engine::general_purpose::STANDARD.encode(HMAC.sign(format!("{head}.{body}").as_bytes()));
    let sign = |message: &str| format!("{message}.{}", encode(HMAC.sign(message.as_bytes())));
    let long = claims("hs", &json!({"padding": "x".repeat(9_000)}));
    vec![
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("a word", CANARY.to_owned()),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.{signature}")),
        (
            "five parts, as encrypted ones have",
            format!("{head}.{body}.{signature}.{body}.{signature}"),
        ),
        ("no header", sign(&format!(".{body}"))),
        ("no claims", sign(&format!("{head}."))),
        (
            "a header that is no JSON",
            sign(&format!("{}.{body}", encode("alg=HS256"))),
        ),
        (
            "a header that is an array",
            sign(&format!("{}.{body}", encode(r#"["HS256"]"#))),
        ),
        (
            "claims that are no JSON",
            sign(&format!("{head}.{}", encode("sub=ada"))),
        ),
        (
            "claims that are a string",
            sign(&format!("{head}.{}", encode("\"ada\""))),
        ),
        (
            "claims that are an array",
            sign(&format!("{head}.{}", encode("[1,2,3,4,5,6,7]"))),
        ),
        (
            "claims that are not UTF-8",
            sign(&format!("{head}.{}", encode(b"{\"sub\":\"\xff\"}"))),
        ),
        ("no signature", format!("{head}.{body}.")),
        ("half a signature", format!("{head}.{body}.{}", &signature[..20])),
        ("another signature", format!("{head}.{body}.{flipped}")),
        ("the signature twice", format!("{head}.{body}.{signature}{signature}")),
        ("a padded signature", format!("{good}=")),
        ("a signature in standard base64", format!("{head}.{body}.{standard}")),
        ("a space within", format!("{head}. {body}.{signature}")),
        ("other claims", format!("{head}.{other_body}.{signature}")),
        ("longer than any", forge(HS256, &long, HMAC)),
    ]
}

/// What names another algorithm than the key's, or none.
fn confused() -> Vec<(&'static str, String)> {
    let none = |alg: &str| {
        forge(
            &format!(r#"{{"alg":"{alg}"}}"#),
            &claims("hs", &json!({})),
            Signer::Bytes(b""),
        )
    };
    let public = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys/rsa.pub.pem")).unwrap();
    let rs = |alg: &str, signer| good("rs", alg, signer);
    vec![
        ("none", none("none")),
        ("None", none("None")),
        ("NONE", none("NONE")),
        ("nOnE", none("nOnE")),
        ("no algorithm", header(r#"{"typ":"JWT"}"#)),
        ("an algorithm that is null", header(r#"{"alg":null}"#)),
        ("an algorithm that is a number", header(r#"{"alg":256}"#)),
        ("algorithms", header(r#"{"alg":["HS256"]}"#)),
        ("an algorithm in lower case", header(r#"{"alg":"hs256"}"#)),
        ("an algorithm twice", header(r#"{"alg":"none","alg":"HS256"}"#)),
        ("HS512", header(r#"{"alg":"HS512"}"#)),
        ("the public key as a secret", rs("HS256", Signer::Hmac(&public))),
        ("RSA for HMAC", good("hs", "RS256", Signer::Rsa)),
        ("HMAC for RSA", rs("RS256", HMAC)),
        ("RS512 over RS256", rs("RS512", Signer::Rsa)),
        ("PS256 over RS256", rs("PS256", Signer::Rsa)),
        ("EC for RSA", rs("ES256", Signer::Ec)),
        ("Ed25519 for EC", good("es", "EdDSA", Signer::Ed)),
        ("an EC signature of zeros", good("es", "ES256", Signer::Bytes(&[0; 64]))),
        (
            "an Ed25519 signature of zeros",
            good("ed", "EdDSA", Signer::Bytes(&[0; 64])),
        ),
        ("an RSA signature of zeros", rs("RS256", Signer::Bytes(&[0; 256]))),
        (
            "an RSA signature of one",
            rs("RS256", Signer::Bytes(&[&[0; 255][..], &[1]].concat())),
        ),
        (
            "another secret",
            good(
                "hs",
                "HS256",
                Signer::Hmac(b"a secret that somebody has guessed and got wrong"),
            ),
        ),
        ("an empty secret", good("hs", "HS256", Signer::Hmac(b""))),
    ]
}

/// What brings keys of its own, or names others than are there.
fn with_other_keys(listener: &str) -> Vec<(&'static str, String)> {
    let url = |name: &str| header(&format!(r#"{{"alg":"HS256","{name}":"http://{listener}/{CANARY}"}}"#));
    vec![
        ("jku", url("jku")),
        ("x5u", url("x5u")),
        ("jku of null", header(r#"{"alg":"HS256","jku":null}"#)),
        ("jwk", header(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YQ"}}"#)),
        ("x5c", header(r#"{"alg":"HS256","x5c":["YQ=="]}"#)),
        ("crit", header(r#"{"alg":"HS256","crit":["exp"]}"#)),
        ("b64", header(r#"{"alg":"HS256","b64":false}"#)),
        ("kid of a number", header(r#"{"alg":"HS256","kid":1}"#)),
        (
            "kid of a path",
            forge(
                r#"{"alg":"RS256","kid":"../../../dev/null"}"#,
                &claims("jwks", &json!({})),
                Signer::Rsa,
            ),
        ),
        (
            "kid of another key",
            forge(
                r#"{"alg":"RS256","kid":"ec-1"}"#,
                &claims("jwks", &json!({})),
                Signer::Rsa,
            ),
        ),
        (
            "a secret that was published",
            forge(
                r#"{"alg":"HS256","kid":"oct-1"}"#,
                &claims("jwks", &json!({})),
                Signer::Hmac(b"a secret that was published by mistake"),
            ),
        ),
    ]
}

/// What is signed well and says what is not accepted.
fn wrong_claims() -> Vec<(&'static str, String)> {
    let now = now_s();
    let grants = |grants: Value| with(&json!({ "throughline": grants }));
    vec![
        ("no exp", with(&json!({"exp": null}))),
        ("exp of null", raw("exp", "null")),
        ("exp as a string", with(&json!({"exp": (now + 600).to_string()}))),
        ("exp as an array", with(&json!({"exp": [now + 600]}))),
        ("exp of true", with(&json!({"exp": true}))),
        ("exp below zero", raw("exp", "-1")),
        ("exp beyond all time", raw("exp", "1e300")),
        ("exp twice", raw("exp", &format!("1,\"exp\":{}", now + 600))),
        ("exp past", with(&json!({"exp": now - 60}))),
        (
            "exp past by a fraction more than the leeway",
            raw("exp", &format!("{}.5", now - 6)),
        ),
        ("exp in 1970", with(&json!({"exp": 0}))),
        ("nbf as a string", with(&json!({"nbf": "0"}))),
        ("nbf of null", raw("nbf", "null")),
        ("nbf to come", with(&json!({"nbf": now + 60}))),
        ("iat as a string", with(&json!({"iat": "0"}))),
        ("iat to come", with(&json!({"iat": now + 60}))),
        ("no iss", with(&json!({"iss": null}))),
        ("iss of nobody", with(&json!({"iss": "nobody"}))),
        ("iss as an array", with(&json!({"iss": ["hs"]}))),
        ("iss of null", raw("iss", "null")),
        ("iss of another issuer", with(&json!({"iss": "jwks"}))),
        ("RSA's key under EC's name", good("es", "RS256", Signer::Rsa)),
        (
            "the published key under RSA's other name",
            good("ed", "RS256", Signer::Rsa),
        ),
        ("no aud", with(&json!({"aud": null}))),
        ("aud of another", with(&json!({"aud": "edges"}))),
        ("aud of others", with(&json!({"aud": ["edges", "Edge"]}))),
        ("aud of nobody", with(&json!({"aud": []}))),
        ("aud of a number beside us", with(&json!({"aud": ["edge", 1]}))),
        ("aud of null", raw("aud", "null")),
        (
            "aud where none is expected",
            forge(r#"{"alg":"RS256"}"#, &claims("rs", &json!({"aud": "app"})), Signer::Rsa),
        ),
        ("no sub", with(&json!({"sub": null}))),
        ("sub of null", raw("sub", "null")),
        ("sub of a number", with(&json!({"sub": 7}))),
        ("sub of nothing", with(&json!({"sub": ""}))),
        ("sub with a line feed", with(&json!({"sub": "ada\nroot"}))),
        ("sub with NUL", with(&json!({"sub": "ada\0"}))),
        ("sub with DEL", with(&json!({"sub": "ada\u{7f}"}))),
        ("sub with a C1 control", with(&json!({"sub": "ada\u{85}"}))),
        ("sub of 256 bytes", with(&json!({"sub": "x".repeat(256)}))),
        ("sub twice", raw("sub", r#""eve","sub":"ada""#)),
        ("grants as a string", grants(json!("*"))),
        ("grants of null", raw("throughline", "null")),
        (
            "a grant twice",
            raw("throughline", r#"{"subscribe":["x"],"subscribe":["*"]}"#),
        ),
        (
            "a grant twice, once with an escape",
            raw("throughline", r#"{"publish":["x"],"p\u0075blish":["*"]}"#),
        ),
        ("exp in milliseconds", with(&json!({"exp": (now + 600) * 1000}))),
        ("a grant as a string", grants(json!({"subscribe": "*"}))),
        ("a grant of a number", grants(json!({"publish": [1]}))),
        ("a star in the middle", grants(json!({"history": ["a*b"]}))),
        ("a reserved channel", grants(json!({"subscribe": ["$control"]}))),
        ("reserved channels", grants(json!({"subscribe": ["$*"]}))),
        ("a pattern as a channel", grants(json!({"channels": ["user:*"]}))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_as_they_should_be_are_accepted() {
    let node = Node::start(Setup::auth(AUTH));
    for (name, token) in [
        ("HS256", good("hs", "HS256", HMAC)),
        ("RS256", good("rs", "RS256", Signer::Rsa)),
        ("ES256", good("es", "ES256", Signer::Ec)),
        ("EdDSA", good("ed", "EdDSA", Signer::Ed)),
        ("a published key", good("jwks", "ES256", Signer::Ec)),
        (
            "a published key by name",
            forge(
                r#"{"alg":"RS256","kid":"rsa-1"}"#,
                &claims("jwks", &json!({})),
                Signer::Rsa,
            ),
        ),
        ("a fraction", raw("exp", &format!("{}.25", now_s() + 600))),
        (
            "within the leeway",
            with(&json!({"exp": now_s() - 1, "nbf": now_s() + 2})),
        ),
        ("one of several audiences", with(&json!({"aud": ["app", "edge"]}))),
        ("a long user", with(&json!({"sub": "x".repeat(255)}))),
    ] {
        let (head, body) = ask(node.address, &token).await;
        assert_eq!(head.status, 200, "{name}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broken_token_is_accepted() {
    let node = Node::start(Setup::auth(AUTH));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let there = listener.local_addr().unwrap().to_string();
    let table = [malformed(), confused(), with_other_keys(&there), wrong_claims()].concat();
    assert_eq!(table.len(), 109, "the table is whole");
    for (name, token) in &table {
        let (head, body) = ask(node.address, token).await;
        assert_eq!(head.status, 401, "{name}: {body}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        let expected = if name.starts_with("exp past") || *name == "exp in 1970" {
            "token_expired"
        } else {
            "token_invalid"
        };
        assert_eq!(problem["code"], expected, "{name}: {body}");
        assert!(
            head.header("www-authenticate").contains("error=\"invalid_token\""),
            "{name}"
        );
        for secret in token.split('.').filter(|part| part.len() > 8).chain([CANARY]) {
            assert!(!body.contains(secret), "{name}: the answer repeats the token: {body}");
        }
    }
    let asked = listener.accept().map(|_| "somebody asked");
    assert_eq!(asked.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}
