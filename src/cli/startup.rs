//! The start-up block: where everything is, with lines to try.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use throughline::config::Openness;
use throughline::engine::Contents;

use crate::telemetry::Format;

/// What a server that has just started says.
#[derive(Debug)]
pub(crate) struct Startup<'a> {
    /// Where it listens, as URLs; at least one.
    pub(crate) urls: Vec<String>,
    /// Where operators look, if that is a place of its own.
    pub(crate) operations: Option<String>,
    /// Whether a service manager handed the sockets over.
    pub(crate) are_handed_over: bool,
    /// The file that it was configured by.
    pub(crate) config: Option<&'a Path>,
    /// Whether everything is open, or `[auth]` says who may come in.
    pub(crate) openness: Openness,
    /// Where the logs are when it is not running.
    pub(crate) logs: Logs<'a>,
}

/// Where the logs are when a server is not running.
#[derive(Debug)]
pub(crate) enum Logs<'a> {
    Nowhere,
    /// In a snapshot's file, of which so much was loaded.
    Snapshot(&'a Path, Contents),
    /// In Redis, there.
    Redis(String),
}

impl Logs<'_> {
    fn text(&self) -> String {
        match self {
            Self::Nowhere => "in memory alone: a restart loses them (engine.snapshot)".to_owned(),
            Self::Snapshot(path, loaded) => format!(
                "in memory, over a restart in {}  ({} channels, {} publications, {} keys loaded)",
                path.display(),
                loaded.channels,
                loaded.publications,
                loaded.keys
            ),
            Self::Redis(place) => format!("in Redis: {place}  (throughline check --connect)"),
        }
    }
}

impl Startup<'_> {
    /// Says it: as a block for people, as a line of the log for programs.
    pub(crate) fn announce(&self, format: Format) {
        match format {
            Format::Pretty => {
                let _ = std::io::stderr().lock().write_all(self.block().as_bytes());
            }
            Format::Json => tracing::info!(
                version = env!("CARGO_PKG_VERSION"),
                urls = self.urls.join(" "),
                are_handed_over = self.are_handed_over,
                config = self.config_text(),
                logs = self.logs.text(),
                operations = self.operations.as_deref().unwrap_or_default(),
                needs_credentials = self.openness == Openness::Guarded,
                "listening; try: {}",
                Curl::to(self.first()).publish_line(),
            ),
        }
    }

    fn first(&self) -> &str {
        self.urls.first().map_or("", String::as_str)
    }

    fn config_text(&self) -> String {
        self.config
            .map_or_else(|| "no file".to_owned(), |path| path.display().to_string())
    }

    fn block(&self) -> String {
        let url = self.first();
        let mut block = format!("throughline {} listens on {url}\n", env!("CARGO_PKG_VERSION"));
        for other in self.urls.iter().skip(1) {
            let _ = writeln!(block, "  and on {other}");
        }
        if self.are_handed_over {
            block.push_str("  handed over by a service manager (LISTEN_FDS): `listen` does not count\n");
        }
        let curl = Curl::to(url);
        let Curl { command, base } = &curl;
        let websocket = base.replacen("http", "ws", 1);
        let operations = Curl::to(self.operations.as_deref().unwrap_or(url));
        let look = |path: &str| match &self.operations {
            Some(unix) if unix.starts_with("unix:") => format!("{} {}{path}", operations.command, operations.base),
            _ => format!("{}{path}", operations.base),
        };
        let rows = [
            ("subscribe", format!("{command} -N '{base}/v1/sse?channel=news'")),
            ("publish", curl.publish_line()),
            ("WebSocket", format!("{websocket}/v1/ws?channel=news")),
            ("long-poll", format!("{base}/v1/poll?channel=news")),
            ("health", format!("{}  {}", look("/livez"), look("/readyz"))),
            ("metrics", look("/metrics")),
            ("config", format!("{}  (throughline config show)", self.config_text())),
            ("logs", self.logs.text()),
        ];
        block.push('\n');
        for (name, what) in rows {
            let _ = writeln!(block, "  {name:<11} {what}");
        }
        let openness = match self.openness {
            Openness::Guarded => "Credentials are needed: `throughline token` makes one to try.",
            Openness::LoopbackOnly | Openness::Insecure => {
                "Everything is open: whoever reaches this address may publish and subscribe."
            }
        };
        let _ = write!(block, "\n  {openness} Stop with ctrl-c.\n\n");
        block
    }
}

/// How curl gets there.
struct Curl {
    command: String,
    base: String,
}

impl Curl {
    fn to(url: &str) -> Self {
        match url.strip_prefix("unix:") {
            Some(path) => Self {
                command: format!("curl --unix-socket '{path}'"),
                base: "http://localhost".to_owned(),
            },
            None => Self {
                command: "curl".to_owned(),
                base: url.to_owned(),
            },
        }
    }

    fn publish_line(&self) -> String {
        let Self { command, base } = self;
        format!("{command} -d '{{\"channel\":\"news\",\"data\":\"hello\"}}' {base}/v1/publish")
    }
}
