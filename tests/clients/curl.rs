//! `curl -N` on Server-Sent Events: started again with `Last-Event-ID` when its connection is cut.
//!
//! curl writes down what came; the lines are read here as the standard says: an event without its blank line is none.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::CHANNEL;
use super::publisher::COUNT;
use super::reader::{Report, child, missing};
use super::transcript::{Transcript, entry};

const CONNECTIONS_MAX: usize = 10;

/// One event of the stream.
#[derive(Default)]
struct Event {
    id: Option<String>,
    name: Option<String>,
    data: Vec<String>,
}

/// The fields of a push that are looked at; its data may hold what no number of ours can.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Push {
    position: String,
    resume: String,
}

/// What has been received, over all connections.
struct Ledger {
    reports: mpsc::Sender<Report>,
    transcript: File,
    lines: Vec<u8>,
    received: usize,
    last_event_id: Option<String>,
    is_ready: bool,
}

/// Runs curl until all is received, and reports as the scripts do.
pub(crate) async fn follow(server: SocketAddr, transcript: PathBuf, errors: PathBuf, reports: mpsc::Sender<Report>) {
    let mut ledger = Ledger {
        reports: reports.clone(),
        transcript: File::create(transcript).expect("a transcript can be made"),
        lines: Vec::new(),
        received: 0,
        last_event_id: None,
        is_ready: false,
    };
    for _ in 0..CONNECTIONS_MAX {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&errors)
            .expect("a log can be made");
        let mut curl = Command::new("curl");
        curl.args(["-q", "-sS", "-N", &format!("http://{server}/v1/sse?channel={CHANNEL}")]);
        if let Some(id) = &ledger.last_event_id {
            curl.arg("-H").arg(format!("Last-Event-ID: {id}"));
        }
        let mut running = child(&mut curl, log)
            .spawn()
            .unwrap_or_else(|error| missing(&curl, &error));
        let mut stream = BufReader::new(running.stdout.take().expect("piped"));
        while let Some(event) = next_event(&mut stream).await {
            if let Err(reason) = ledger.take(event).await {
                let _ = reports.send(Report::Failed(reason)).await;
                return;
            }
            if ledger.received == COUNT {
                let _ = reports.send(Report::Done(Transcript::new(ledger.lines).sha256)).await;
                return;
            }
        }
    }
    let _ = reports
        .send(Report::Failed(format!("cut off {CONNECTIONS_MAX} times")))
        .await;
}

impl Ledger {
    async fn take(&mut self, event: Event) -> Result<(), String> {
        let data = event.data.join("\n");
        let push: Push = serde_json::from_str(&data).map_err(|error| format!("{error} in {data}"))?;
        match event.name.as_deref() {
            None => {
                if event.id.as_ref() != Some(&push.position) {
                    return Err(format!("id {:?} on {data}", event.id));
                }
                let before = self.last_event_id.as_deref().unwrap_or_default();
                if offset(&push.position) != offset(before).map(|before| before + 1) {
                    return Err(format!("{} came after {before}", push.position));
                }
                let entry = entry(&push.position, &data);
                self.transcript
                    .write_all(entry.as_bytes())
                    .map_err(|error| error.to_string())?;
                self.lines.extend(entry.into_bytes());
                self.received += 1;
            }
            Some("subscribed") => {
                if push.resume != if self.is_ready { "complete" } else { "fresh" } {
                    return Err(format!("unexpected resume: {data}"));
                }
                let report = if self.is_ready { Report::Resumed } else { Report::Ready };
                self.is_ready = true;
                let _ = self.reports.send(report).await;
            }
            Some("welcome" | "heartbeat") => {}
            Some(other) => return Err(format!("unexpected event {other}: {data}")),
        }
        self.last_event_id = event.id.or(self.last_event_id.take());
        Ok(())
    }
}

fn offset(position: &str) -> Option<u64> {
    position.split('-').nth(1)?.parse().ok()
}

/// Reads up to the next blank line that ends an event with data. None: the stream is over.
async fn next_event(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Event> {
    let mut event = Event::default();
    loop {
        let mut line = Vec::new();
        stream
            .read_until(b'\n', &mut line)
            .await
            .expect("curl's output can be read");
        if line.pop() != Some(b'\n') {
            return None;
        }
        let line = String::from_utf8(line).expect("an event stream is UTF-8");
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "id" => event.id = Some(value),
            "event" => event.name = Some(value),
            "data" => event.data.push(value),
            "" if line.is_empty() && event.data.is_empty() => event = Event::default(),
            "" if line.is_empty() => return Some(event),
            _ => {}
        }
    }
}
