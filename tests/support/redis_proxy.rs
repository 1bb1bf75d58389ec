//! What stands between a client and a Redis: it can lose what Redis tells, break every connection, and lead elsewhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections go through as long as nothing else is said.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: Arc<Way>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    Bytes,
    Values,
}

#[derive(Debug)]
struct Way {
    passing: Passing,
    /// Where it leads; 0: nowhere.
    target: AtomicU16,
    /// Of a thousand publications that Redis tells, so many are lost.
    lost_of_1000: AtomicU64,
    lost: AtomicU64,
    /// Connections of an earlier count are broken.
    cuts: watch::Sender<u64>,
}

impl Proxy {
    /// Passes on bytes, whatever they are.
    pub(crate) async fn start(target: u16) -> Self {
        Self::of(target, Passing::Bytes).await
    }

    /// Passes on what Redis answers value by value, so that some can be lost.
    pub(crate) async fn start_lossy(target: u16) -> Self {
        Self::of(target, Passing::Values).await
    }

    async fn of(target: u16, passing: Passing) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            passing,
            target: AtomicU16::new(target),
            lost_of_1000: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&way)));
        Self { port, way, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Breaks every connection, and leads elsewhere from now on; 0 is nowhere.
    pub(crate) fn lead_to(&self, target: u16) {
        self.way.target.store(target, Ordering::SeqCst);
        self.way.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on, loses so many of a thousand publications that Redis tells.
    pub(crate) fn lose(&self, of_1000: u64) {
        self.way.lost_of_1000.store(of_1000, Ordering::SeqCst);
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.way.lost.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.way.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let way = Arc::clone(&way);
        tokio::spawn(async move {
            let mut cuts = way.cuts.subscribe();
            let target = way.target.load(Ordering::SeqCst);
            if target == 0 {
                return;
            }
            tokio::select! {
                // How a connection ends does not matter here.
                _ = carry(client, target, &way) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, target: u16, way: &Way) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut from_client = from_client;
    tokio::select! {
        done = tokio::io::copy(&mut from_client, &mut to_server) => done.map(|_| ()),
        done = tell(&mut from_server, to_client, way) => done,
    }
}

/// Passes on what the server says, value by value, where some are to be lost.
async fn tell(from_server: &mut OwnedReadHalf, mut to_client: OwnedWriteHalf, way: &Way) -> io::Result<()> {
    const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";
    if way.passing == Passing::Bytes {
        return tokio::io::copy(from_server, &mut to_client).await.map(|_| ());
    }
    let mut input = Vec::new();
    loop {
        let mut bytes = [0; 16 * 1024];
        let count = from_server.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        input.extend_from_slice(&bytes[..count]);
        let mut output = Vec::new();
        while let Some(len) = value_len(&input) {
            let value: Vec<u8> = input.drain(..len).collect();
            let is_lost = value.starts_with(MESSAGE) && fastrand::u64(..1000) < way.lost_of_1000.load(Ordering::SeqCst);
            if is_lost {
                way.lost.fetch_add(1, Ordering::SeqCst);
            } else {
                output.extend(value);
            }
        }
        to_client.write_all(&output).await?;
    }
}

/// The length of the first value (RESP3), if it is whole.
fn value_len(input: &[u8]) -> Option<usize> {
    let line_len = input.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || str::from_utf8(&input[1..line_len - 2]).ok()?.parse::<i64>().ok();
    let children = match input[0] {
        b'$' | b'=' | b'!' => {
            let len = usize::try_from(number()?).map_or(line_len, |len| line_len + len + 2);
            return (input.len() >= len).then_some(len);
        }
        b'*' | b'~' | b'>' => number()?.max(0),
        b'%' => number()? * 2,
        _ => 0,
    };
    let mut len = line_len;
    for _ in 0..children {
        len += value_len(&input[len..])?;
    }
    Some(len)
}
