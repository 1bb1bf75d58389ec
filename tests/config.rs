//! The configuration as an operator meets it: files, variables and flags, and what is said of those that are wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod command;

use std::ffi::OsString;
use std::path::PathBuf;

use command::{Folder, Server};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use throughline::config::{self, Config, Loaded, Secret, Source, Sources};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn each_file_is_well_or_told_all_that_is_wrong_with_it() {
    let folder = Folder::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("fixtures/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("#! "))
            .map(|line| format!("{}{line}", path.display()))
            .collect();
        let ran = folder.run(&["check", "--config", path.to_str().unwrap()]).await;
        if expected.is_empty() {
            ran.says(0, &["the configuration is well", path.to_str().unwrap()]);
        } else {
            let said: Vec<&str> = ran.stderr.lines().map(|line| line[7..].trim_end()).collect();
            assert_eq!(said, expected, "{ran:#?}");
            ran.says(78, &["error: "]);
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen} files");
}

/// What `config show --json` says of a key: its value, and its source.
async fn shown(folder: &Folder, variables: &[(&str, &str)], arguments: &[&str], key: &str) -> (Value, Value) {
    let arguments: Vec<&str> = ["config", "show", "--json"].iter().chain(arguments).copied().collect();
    let ran = folder.run_with(variables, &arguments).await;
    ran.says(0, &[]);
    let lines = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.into_iter().find(|line| line["key"] == key).expect("the key");
    (line["value"].clone(), line["source"].clone())
}

#[tokio::test]
async fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let folder = Folder::new();
    folder.write(
        "throughline.toml",
        "listen = \"127.0.0.1:1\"\n[window]\ncount = 5\nbytes = 6\n",
    );
    let variables = [
        ("THROUGHLINE_LISTEN", "127.0.0.1:2"),
        ("THROUGHLINE_WINDOW__COUNT", "7"),
        ("THROUGHLINE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
    ];
    let flags = ["--listen", "127.0.0.1:3"];
    for (key, value, kind) in [
        ("listen", Value::from("127.0.0.1:3"), "flag"),
        ("window.count", Value::from(7), "variable"),
        ("window.bytes", Value::from(6), "file"),
        ("window.age_s", Value::from(300), "default"),
    ] {
        let (is, source) = shown(&folder, &variables, &flags, key).await;
        assert_eq!((&is, &source["kind"]), (&value, &Value::from(kind)), "{key}");
    }
    let (_, source) = shown(&folder, &variables, &flags, "window.bytes").await;
    assert_eq!(
        (&source["file"], &source["line"]),
        (&"throughline.toml".into(), &4.into())
    );
    let ran = folder.run_with(&variables, &["config", "show"]).await;
    for line in [
        "listen = \"127.0.0.1:2\"  # THROUGHLINE_LISTEN",
        "window.bytes = 6  # throughline.toml, line 4, column 9",
        "drain.window_ms = 5000  # default",
    ] {
        assert!(ran.stdout.lines().any(|shown| shown == line), "{line}: {ran:#?}");
    }
}

#[tokio::test]
async fn what_is_shown_is_a_configuration_itself() {
    let folder = Folder::new();
    let ran = folder
        .run_with(&[("THROUGHLINE_WINDOW__COUNT", "7")], &["config", "show"])
        .await;
    folder.write("throughline.toml", &ran.stdout);
    folder.run(&["check"]).await.says(0, &["throughline.toml"]);
    assert_eq!(shown(&folder, &[], &[], "window.count").await.0, Value::from(7));
}

#[tokio::test]
async fn a_file_that_is_named_beats_those_that_are_found_and_must_be_there() {
    let folder = Folder::new();
    folder.run(&["check"]).await.says(0, &["no file"]);
    folder.write("throughline.toml", "window.count = 1");
    folder.write("other.toml", "window.count = 2");
    assert_eq!(shown(&folder, &[], &[], "window.count").await.0, Value::from(1));
    let by_variable = [("THROUGHLINE_CONFIG", "other.toml")];
    assert_eq!(
        shown(&folder, &by_variable, &[], "window.count").await.0,
        Value::from(2)
    );
    let by_flag = ["--config", "other.toml"];
    assert_eq!(shown(&folder, &[], &by_flag, "window.count").await.0, Value::from(2));
    for ran in [
        folder.run(&["check", "--config", "missing.toml"]).await,
        folder
            .run_with(&[("THROUGHLINE_CONFIG", "missing.toml")], &["serve"])
            .await,
    ] {
        ran.says(78, &["missing.toml", "must be a file that can be read"]);
    }
}

#[test]
fn the_first_file_that_is_there_counts() {
    let folder = Folder::new();
    let places = [folder.path().join("here.toml"), folder.path().join("there.toml")];
    assert_eq!(config::find(&places), None);
    folder.write("there.toml", "");
    assert_eq!(config::find(&places).as_ref(), Some(&places[1]));
    folder.write("here.toml", "");
    assert_eq!(config::find(&places).as_ref(), Some(&places[0]));
    assert_eq!(
        config::PLACES,
        ["throughline.toml", "/etc/throughline/throughline.toml"]
    );
}

#[tokio::test]
async fn variables_that_are_nearly_keys_are_errors_and_name_the_key() {
    let folder = Folder::new();
    for (name, value, words) in [
        (
            "THROUGHLINE_WINDOWS__COUNT",
            "7",
            "did you mean THROUGHLINE_WINDOW__COUNT?",
        ),
        (
            "THROUGHLINE_WINDOW__COUNTS",
            "7",
            "did you mean THROUGHLINE_WINDOW__COUNT?",
        ),
        (
            "THROUGHLINE_WINDOW_COUNT",
            "7",
            "did you mean THROUGHLINE_WINDOW__COUNT?",
        ),
        ("THROUGHLINE_LISTN", "x", "did you mean THROUGHLINE_LISTEN?"),
        (
            "THROUGHLINE_WINDOW__COUNT",
            "many",
            "window.count = \"many\": must be a whole number",
        ),
        ("THROUGHLINE_LISTEN", "nowhere", "not an `ADDR:PORT`"),
    ] {
        let ran = folder.run_with(&[(name, value)], &["check"]).await;
        ran.says(78, &[&format!("error: {name}: "), words]);
    }
    let ours_but_no_keys = [
        ("THROUGHLINE_LOG", "debug"),
        ("THROUGHLINE_URL", "http://127.0.0.1:1"),
        ("THROUGHLINE_TOKEN", "t"),
        ("THROUGHLINE_SERVICE_HOST", "10.0.0.1"),
    ];
    folder.run_with(&ours_but_no_keys, &["check"]).await.says(0, &[]);
    folder
        .run(&["check", "--listen", "nowhere"])
        .await
        .says(78, &["error: --listen: ", "ADDR:PORT"]);
}

/// The configurations of a page, as they stand between its fences.
fn configurations(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let blocks = text.split("```toml\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// The same with its snapshot in a folder that there is.
fn here(text: &str, folder: &Folder) -> String {
    text.replace("/var/lib/throughline", folder.path().to_str().unwrap())
}

#[tokio::test]
async fn what_the_page_on_operations_shows_of_namespaces_is_well() {
    let folder = Folder::new();
    folder.write("secret", "a secret for tests, of which everybody knows");
    let secret = folder.path().join("secret").display().to_string();
    let shown = configurations("docs/operations.md");
    let shown: Vec<_> = shown.iter().filter(|text| text.contains("[[namespaces]]")).collect();
    assert!(!shown.is_empty());
    for text in shown {
        let text = text.replace("/etc/throughline/secret", &secret);
        folder.write("throughline.toml", &here(&text, &folder));
        folder.run(&["check"]).await.says(0, &["throughline.toml"]);
    }
}

/// What is allowed and hardly meant is well, and said.
#[tokio::test]
async fn what_is_seldom_meant_is_a_warning() {
    let folder = Folder::new();
    let key = |name: &str, digits: &str, scopes: &str, channels: &str| {
        format!(
            "[[auth.api_keys]]\nname = \"{name}\"\nhash = \"{}\"\nscopes = [{scopes}]\nchannels = [{channels}]\n",
            digits.repeat(32)
        )
    };
    let text = [
        "trusted_proxies = [\"10.0.0.1\", \"0.0.0.0/0\"]\n",
        &key("app", "00", "\"publish\"", "\"*\""),
        &key("bounded", "a1", "\"operator\", \"history\"", "\"chat:*\""),
        &key("on-call", "b2", "\"operator\"", ""),
        &key("all", "c3", "\"operator\", \"history\"", "\"*\""),
    ]
    .concat();
    folder.write("throughline.toml", &text);
    let ran = folder.run(&["check"]).await;
    ran.says(
        0,
        &[
            "warning: throughline.toml, line 1, column 19: trusted_proxies: 0.0.0.0/0 is everybody",
            "warning: throughline.toml, line 2, column 1: auth.api_keys[0] (app): the hash stands for one",
            "warning: throughline.toml, line 7, column 1: auth.api_keys[1] (bounded): the scope operator is for the whole",
            "the configuration is well",
        ],
    );
    assert_eq!(ran.stderr.matches("warning").count(), 3, "{ran:#?}");
}

#[tokio::test]
async fn the_production_configuration_is_well_and_the_page_shows_it_as_it_is_shipped() {
    let shipped = std::fs::read_to_string(root().join("packaging/production.toml")).unwrap();
    assert!(
        configurations("docs/operations.md").contains(&shipped),
        "docs/operations.md does not show packaging/production.toml as it is"
    );
    let folder = Folder::new();
    let file = folder.write("production.toml", &here(&shipped, &folder));
    let arguments = ["check", "--config", file.to_str().unwrap()];
    folder.run(&arguments).await.says(0, &["production.toml"]);
    // It says something: each of its keys is one, and where it stands on the page it is explained.
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let section = page.split("## Behind a reverse proxy").next().unwrap();
    let table = section.rsplit("```").next().unwrap();
    for name in [
        "listen",
        "trusted_proxies",
        "origins",
        "auth.cookie",
        "[window]",
        "engine.snapshot",
        "[log]",
    ] {
        assert!(table.contains(name), "{name} is not explained");
    }
}

/// With every key's `#` taken away.
fn uncommented(template: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.is_empty() && !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    template.lines().map(line).collect()
}

#[tokio::test]
async fn what_init_writes_is_well_as_it_is_and_with_every_key_in_use() {
    let folder = Folder::new();
    folder.run(&["init"]).await.says(0, &["throughline.toml"]);
    let path = folder.path().join("throughline.toml");
    let template = std::fs::read_to_string(&path).unwrap();
    folder.run(&["check"]).await.says(0, &["throughline.toml"]);
    folder.run(&["init"]).await.says(73, &["there already", "--stdout"]);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        template,
        "it is left as it was"
    );
    assert_eq!(folder.run(&["init", "--stdout"]).await.stdout, template);
    folder
        .run(&["init", "elsewhere.toml"])
        .await
        .says(0, &["elsewhere.toml"]);
    folder
        .run(&["init", "no/such/folder.toml"])
        .await
        .says(73, &["no/such/folder.toml"]);

    folder.write("throughline.toml", &uncommented(&template));
    folder.run(&["check"]).await.says(0, &["throughline.toml"]);
    let ran = folder.run(&["config", "show"]).await;
    for line in ran.stdout.lines() {
        assert!(
            line.ends_with("# default") || line.contains("# throughline.toml, line "),
            "{line}"
        );
        let is_unset = line.starts_with("# ");
        assert!(is_unset || line.contains("throughline.toml"), "not in the file: {line}");
    }
}

#[tokio::test]
async fn a_server_says_by_which_file_it_runs() {
    let folder = Folder::new();
    folder.write("throughline.toml", "listen = \"127.0.0.1:0\"\nlog.format = \"json\"\n");
    let server = Server::start_by(folder.command(&[])).await;
    let line: Value = serde_json::from_str(server.said.lines().last().unwrap()).unwrap();
    assert_eq!(line["config"], "throughline.toml");
    assert!(line["message"].as_str().unwrap().contains("curl -d"), "{line}");
    assert_eq!(server.interrupt().await, Some(0));
}

#[tokio::test]
async fn a_log_that_makes_no_sense_is_a_wrong_configuration() {
    let folder = Folder::new();
    let arguments = ["serve", "--listen", "127.0.0.1:0"];
    let ran = folder.run_with(&[("THROUGHLINE_LOG", "a=b=c")], &arguments).await;
    ran.says(78, &["THROUGHLINE_LOG=a=b=c", "debug"]);
}

#[test]
fn the_reference_has_every_key() {
    let path = root().join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let table = config::table::<Config>();
    let Some((before, rest)) = text.split_once("<!-- keys -->\n") else {
        panic!("docs/configuration.md has no mark where the keys begin")
    };
    let (_, after) = rest
        .split_once("<!-- end of keys -->\n")
        .expect("a mark where the keys end");
    let right = format!("{before}<!-- keys -->\n{table}<!-- end of keys -->\n{after}");
    if std::env::var_os("THROUGHLINE_TEST_WRITE_DOCS").is_some() {
        std::fs::write(&path, &right).unwrap();
    }
    assert!(
        text == right || std::fs::read_to_string(&path).unwrap() == right,
        "docs/configuration.md is not in step; THROUGHLINE_TEST_WRITE_DOCS=1 cargo test --test config writes it anew"
    );
}

/// A configuration with what the server's own does not have yet: secrets, lists, and keys without a default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Other {
    /// Where to listen.
    listen: Option<Listen>,
    /// What is deep.
    deep: Deep,
    /// A secret.
    token: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Listen {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Deep {
    /// What is deeper.
    er: Deeper,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Deeper {
    /// Numbers.
    numbers: Vec<u16>,
    /// Nothing, unless told.
    maybe: Option<u32>,
    /// Another secret.
    key: Option<Secret>,
}

fn load(file: Option<PathBuf>, variables: &[(&str, &str)]) -> Result<Loaded<Other>, String> {
    let owned = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    let sources = Sources {
        file,
        environment: variables.iter().map(owned).collect(),
        flags: Vec::new(),
    };
    config::load(&sources).map_err(|error| error.to_string())
}

/// Who writes a rate down has configured one, be it the number that holds anyway: then nobody is free by default.
#[test]
fn a_rate_that_is_named_is_configured_whatever_it_is() {
    let allowed = |text: &str, variables: &[(&str, &str)]| {
        let folder = Folder::new();
        let owned = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        let sources = Sources {
            file: Some(folder.write("throughline.toml", text)),
            environment: variables.iter().map(owned).collect(),
            flags: Vec::new(),
        };
        Config::load(&sources).unwrap().config.rates().allow.len()
    };
    assert_eq!(allowed("", &[]), 2);
    assert_eq!(allowed("[rates]\n", &[]), 2);
    assert_eq!(allowed("[window]\ncount = 1000\n", &[]), 2);
    assert_eq!(allowed("[rates]\nip_polls_per_s = 100\n", &[]), 0);
    assert_eq!(allowed("[rates]\ndry_run = false\n", &[]), 0);
    assert_eq!(allowed("", &[("THROUGHLINE_RATES__IP_POLLS_PER_S", "100")]), 0);
    assert_eq!(
        allowed("[rates]\nip_polls_per_s = 100\nallow = [\"::1/128\"]\n", &[]),
        1
    );
}

#[test]
fn variables_reach_every_key_at_any_depth() {
    let loaded = load(
        None,
        &[
            ("THROUGHLINE_DEEP__ER__NUMBERS", "1, 2,3"),
            ("THROUGHLINE_DEEP__ER__MAYBE", "9"),
            ("THROUGHLINE_LISTEN", "a:1,b:2"),
        ],
    );
    let config = loaded.unwrap().config;
    assert_eq!(config.deep.er.numbers, [1, 2, 3]);
    assert_eq!(config.deep.er.maybe, Some(9));
    assert_eq!(
        config.listen,
        Some(Listen::Many(vec!["a:1".to_owned(), "b:2".to_owned()]))
    );
    let one = load(
        None,
        &[("THROUGHLINE_LISTEN", "a:1"), ("THROUGHLINE_DEEP__ER__MAYBE", "")],
    )
    .unwrap();
    assert_eq!(one.config.listen, Some(Listen::One("a:1".to_owned())));
    assert_eq!(
        one.config.deep.er.maybe, None,
        "nothing is no number, but no value either"
    );
    let error = load(None, &[("THROUGHLINE_DEEP__ER__NUMBERS", "1,two")]).unwrap_err();
    assert!(error.contains("a list of whole numbers"), "{error}");
}

#[test]
fn a_secret_may_stand_in_a_file_and_is_never_shown() {
    let folder = Folder::new();
    let secret = folder.write("secret", "hunter2\r\n");
    let secret = secret.to_str().unwrap();
    let file = folder.write(
        "a.toml",
        &format!("token = \"{0}\"\n[deep.er]\nkey_file = {secret:?}\n", "in-the-file"),
    );
    let loaded = load(Some(file.clone()), &[("THROUGHLINE_TOKEN_FILE", secret)]).unwrap();
    assert_eq!(
        loaded.config.token.as_ref().map(Secret::reveal),
        Some("hunter2"),
        "a later layer wins"
    );
    assert_eq!(loaded.config.deep.er.key.as_ref().map(Secret::reveal), Some("hunter2"));
    assert_eq!(
        loaded.source("token"),
        Source::Variable("THROUGHLINE_TOKEN_FILE".to_owned())
    );
    let shown = format!("{loaded:?}{:?}", loaded.shown().collect::<Vec<_>>());
    assert!(!shown.contains("hunter2") && !shown.contains("in-the-file"), "{shown}");

    let both = folder.write("both.toml", &format!("token = \"x\"\ntoken_file = {secret:?}\n"));
    let error = load(Some(both), &[]).unwrap_err();
    assert!(
        error.contains("line 2") && error.contains("both by itself and by `token_file`"),
        "{error}"
    );
    let error = load(None, &[("THROUGHLINE_DEEP__ER__KEY_FILE", "/no/such/file")]).unwrap_err();
    assert!(
        error.contains("THROUGHLINE_DEEP__ER__KEY_FILE") && error.contains("/no/such/file"),
        "{error}"
    );
    let wrong = folder.write("wrong.toml", "[deep.er]\nkey = 12345\n");
    let error = load(Some(wrong), &[]).unwrap_err();
    assert!(
        error.contains("deep.er.key = ***: must be text") && !error.contains("12345"),
        "{error}"
    );
    let near = load(None, &[("THROUGHLINE_DEEP__ER__KEY_FIEL", secret)]).unwrap_err();
    assert!(near.contains("THROUGHLINE_DEEP__ER__KEY_FILE"), "{near}");
}

#[test]
fn the_file_to_begin_with_has_keys_without_a_default_and_secrets() {
    let folder = Folder::new();
    let template = config::template::<Other>();
    assert!(template.contains("\n[deep.er]"), "{template}");
    let file = folder.write("all.toml", &uncommented(&template));
    assert_eq!(load(Some(file), &[]).unwrap().config, Other::default());
}
