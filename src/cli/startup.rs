//! The start-up block: where everything is, with lines to try.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use crate::telemetry::Format;

/// What a server that has just started says.
#[derive(Debug)]
pub(crate) struct Startup<'a> {
    /// Where it listens, as URLs; at least one.
    pub(crate) urls: Vec<String>,
    /// The file that it was configured by.
    pub(crate) config: Option<&'a Path>,
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
                config = self.config_text(),
                "listening; try: {}",
                publish_line(self.first()),
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
        let websocket = url.replacen("http", "ws", 1);
        let rows = [
            ("subscribe", format!("curl -N '{url}/v1/sse?channel=news'")),
            ("publish", publish_line(url)),
            ("WebSocket", format!("{websocket}/v1/ws?channel=news")),
            ("long-poll", format!("{url}/v1/poll?channel=news")),
            ("health", format!("{url}/livez  {url}/readyz")),
            ("metrics", format!("{url}/metrics")),
            ("config", format!("{}  (throughline config show)", self.config_text())),
        ];
        block.push('\n');
        for (name, what) in rows {
            let _ = writeln!(block, "  {name:<11} {what}");
        }
        block.push_str(
            "\n  Everything is open: whoever reaches this address may publish and subscribe. Stop with ctrl-c.\n\n",
        );
        block
    }
}

fn publish_line(url: &str) -> String {
    format!("curl -d '{{\"channel\":\"news\",\"data\":\"hello\"}}' {url}/v1/publish")
}
