//! Subscribers that only count. All share one thread, one read buffer and one tally, to disturb the servers little.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::connect::Connected;
use super::frames;

/// How long a publication may take to reach everyone before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 65_536]);
}

/// Subscribers of one channel at one server.
pub(crate) struct Audience {
    tally: Arc<Tally>,
    published: usize,
    _readers: JoinSet<()>,
}

struct Tally {
    seats: Vec<AtomicUsize>,
    received: AtomicUsize,
    goal: AtomicUsize,
    changed: Notify,
    broken: OnceLock<String>,
}

impl Audience {
    pub(crate) fn seat(connections: Vec<Connected>) -> Audience {
        let tally = Arc::new(Tally {
            seats: connections.iter().map(|_| AtomicUsize::new(0)).collect(),
            received: AtomicUsize::new(0),
            goal: AtomicUsize::new(0),
            changed: Notify::new(),
            broken: OnceLock::new(),
        });
        let mut readers = JoinSet::new();
        for (seat, connected) in connections.into_iter().enumerate() {
            let tally = Arc::clone(&tally);
            readers.spawn(async move {
                if let Err(error) = read(connected, seat, &tally).await {
                    let _ = tally.broken.set(format!("subscriber {seat}: {error}"));
                    tally.changed.notify_one();
                }
            });
        }
        Audience {
            tally,
            published: 0,
            _readers: readers,
        }
    }

    /// Says that so many publications are about to be published.
    pub(crate) fn expect(&mut self, publications: usize) {
        self.published += publications;
        self.tally.goal.store(self.published * self.tally.seats.len(), Relaxed);
    }

    /// Waits until everyone has received all that was expected.
    pub(crate) async fn caught_up(&self) -> io::Result<()> {
        loop {
            if let Some(reason) = self.tally.broken.get() {
                return Err(io::Error::other(reason.as_str()));
            }
            let (received, goal) = (self.tally.received.load(Relaxed), self.tally.goal.load(Relaxed));
            if received >= goal {
                return Ok(());
            }
            if timeout(PATIENCE, self.tally.changed.notified()).await.is_err() {
                return Err(io::Error::other(format!(
                    "deliveries were lost: {received} of {goal} arrived"
                )));
            }
        }
    }

    /// Fails unless every single subscriber has received every publication once.
    pub(crate) fn assert_complete(&self) -> io::Result<()> {
        for (seat, count) in self.tally.seats.iter().enumerate() {
            let count = count.load(Relaxed);
            if count != self.published {
                let published = self.published;
                return Err(io::Error::other(format!(
                    "subscriber {seat} received {count} of {published}"
                )));
            }
        }
        Ok(())
    }
}

async fn read(connected: Connected, seat: usize, tally: &Tally) -> io::Result<()> {
    let Connected {
        stream,
        rest: mut pending,
    } = connected;
    loop {
        stream.readable().await?;
        let Some(seen) = BUFFER.with_borrow_mut(|buffer| read_ready(&stream, buffer, &mut pending))? else {
            continue;
        };
        if seen.pings > 0 {
            stream.try_write(&frames::PONG)?;
        }
        tally.seats[seat].fetch_add(seen.publications, Relaxed);
        let received = tally.received.fetch_add(seen.publications, Relaxed) + seen.publications;
        if seen.publications > 0 && received >= tally.goal.load(Relaxed) {
            tally.changed.notify_one();
        }
    }
}

/// Reads once and counts the complete frames; the beginning of another is kept in `pending`.
fn read_ready(stream: &TcpStream, buffer: &mut [u8], pending: &mut Vec<u8>) -> io::Result<Option<frames::Seen>> {
    let read = match stream.try_read(buffer) {
        Ok(0) => return Err(io::Error::other("the server ended the connection")),
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    if pending.is_empty() {
        let seen = frames::count(&buffer[..read])?;
        pending.extend_from_slice(&buffer[seen.length..read]);
        return Ok(Some(seen));
    }
    pending.extend_from_slice(&buffer[..read]);
    let seen = frames::count(pending)?;
    pending.drain(..seen.length);
    Ok(Some(seen))
}
