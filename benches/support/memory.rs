//! User memory of the server for each idle connection, and that every one of them is alive afterwards.

use std::io;
use std::ops::Range;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::time::{sleep, timeout};

use super::connect::{self, Client, Connected};
use super::cores::Cores;
use super::frames;
use super::process::Process;
use super::publisher::{Publisher, Request};
use super::terms::Terms;

const CHANNEL: &str = "idle";
const CONNECTING_MAX: usize = 32;
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that come and go before the first look, so that what a server makes once is not counted.
const WARM_UP: usize = 2 * CONNECTING_MAX;

/// The memory has settled when it stays this near to itself for so many looks: for longer than a user who left is kept,
/// and a connection to the app.
const SETTLED_WITHIN_BYTES: u64 = 65_536;
const SETTLED_LOOKS: usize = 70;
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_MAX: usize = 600;

/// What the connections are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    WebSocket,
    EventSource,
    Poll,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::WebSocket, Kind::EventSource, Kind::Poll];

    /// Whether a server says this to a connection that is idle.
    fn is_heartbeat(self, bytes: &[u8]) -> bool {
        match self {
            Kind::WebSocket => frames::count(bytes).is_ok_and(|seen| seen.publications == 0),
            Kind::EventSource => frames::contains(bytes, b"event: heartbeat\n"),
            Kind::Poll => false,
        }
    }
}

/// Bytes for each of `count` connections, at a server of their own.
pub(crate) async fn per_idle_connection(kind: Kind, count: usize, cores: &Cores, terms: &Terms) -> io::Result<f64> {
    let server = terms.serve(cores)?;
    let mut publisher = Publisher::connect(server.address).await?;
    let request = Request::new(CHANNEL, 1, terms);
    let position = position_in(publisher.publish(&request).await?)?;
    let path = format!("/v1/poll?channel={CHANNEL}&since={position}&wait=55");
    let client = |number| Client {
        server: &server,
        terms,
        number,
    };
    let connect = async |numbers: Range<usize>| -> io::Result<Vec<Connected>> {
        let connecting = numbers.map(|number| connect(kind, client(number), &path));
        stream::iter(connecting).buffered(CONNECTING_MAX).try_collect().await
    };
    drop(connect(count..count + WARM_UP).await?);
    let before = settled_bytes(&server).await?;
    let connections = connect(0..count).await?;
    let after = settled_bytes(&server).await?;
    assert_idle(kind, &connections)?;
    publisher.revive().await?;
    publisher.publish(&request).await?;
    assert_alive(&connections).await?;
    Ok((after as f64 - before as f64) / count as f64)
}

async fn connect(kind: Kind, client: Client<'_>, poll: &str) -> io::Result<Connected> {
    match kind {
        Kind::WebSocket => connect::websocket(client, CHANNEL).await,
        Kind::EventSource => connect::event_source(client, CHANNEL).await,
        Kind::Poll => connect::poll(client, poll).await,
    }
}

async fn settled_bytes(server: &Process) -> io::Result<u64> {
    let mut reference = server.memory_bytes()?;
    let mut looks = 0;
    for _ in 0..LOOKS_MAX {
        sleep(LOOK_EVERY).await;
        let now = server.memory_bytes()?;
        if now.abs_diff(reference) <= SETTLED_WITHIN_BYTES {
            looks += 1;
        } else {
            (reference, looks) = (now, 0);
        }
        if looks == SETTLED_LOOKS {
            return Ok(now);
        }
    }
    Err(io::Error::other("the server's memory does not settle"))
}

/// Nobody was sent anything but heartbeats: a poll that was answered is no longer held.
fn assert_idle(kind: Kind, connections: &[Connected]) -> io::Result<()> {
    for (number, connected) in connections.iter().enumerate() {
        let mut bytes = [0; 512];
        match connected.stream.try_read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(read) if read > 0 && kind.is_heartbeat(&bytes[..read]) => {}
            Ok(read) => {
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                return Err(io::Error::other(format!("connection {number} was not idle: {text:?}")));
            }
        }
    }
    Ok(())
}

/// Everyone receives something after one more publication.
async fn assert_alive(connections: &[Connected]) -> io::Result<()> {
    for (number, connected) in connections.iter().enumerate() {
        let mut bytes = [0; 16];
        let read = timeout(PATIENCE, async {
            loop {
                connected.stream.readable().await?;
                match connected.stream.try_read(&mut bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        });
        if read.await?? == 0 {
            return Err(io::Error::other(format!("connection {number} was ended")));
        }
    }
    Ok(())
}

fn position_in(answer: &str) -> io::Result<String> {
    let position = answer
        .split_once(r#""position":""#)
        .and_then(|(_, rest)| rest.split_once('"'));
    let (position, _) = position.ok_or_else(|| io::Error::other(format!("no position in {answer}")))?;
    Ok(position.to_owned())
}
