//! A TCP proxy that cuts connections off after so many bytes towards the client, wherever in a frame that may be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How a connection ends for the client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// With a FIN, as if the stream were over.
    Finish,
    /// With a RST, as when a middlebox dies.
    Reset,
}

/// One cut: of the connection whose turn it is, after this many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) after_bytes: usize,
    pub(crate) manner: Manner,
}

/// The running proxy; its connections end on drop.
pub(crate) struct CuttingProxy {
    pub(crate) address: SocketAddr,
    /// How many connections have been cut.
    pub(crate) cuts: watch::Receiver<usize>,
    _relays: JoinSet<()>,
}

impl CuttingProxy {
    /// The n-th connection gets the n-th cut; those after the last cut are left whole.
    pub(crate) async fn start(upstream: SocketAddr, cuts: Vec<Cut>) -> CuttingProxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (count, seen) = watch::channel(0);
        let mut relays = JoinSet::new();
        relays.spawn(accept(listener, upstream, cuts.into(), count));
        CuttingProxy {
            address,
            cuts: seen,
            _relays: relays,
        }
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, mut cuts: VecDeque<Cut>, count: watch::Sender<usize>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(upstream).await.expect("the server accepts");
        relays.spawn(relay(client, server, cuts.pop_front(), count.clone()));
    }
}

async fn relay(mut client: TcpStream, mut server: TcpStream, cut: Option<Cut>, count: watch::Sender<usize>) {
    let Some(cut) = cut else {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    };
    {
        let (mut from_client, mut to_client) = client.split();
        let (from_server, mut to_server) = server.split();
        let mut allowed = from_server.take(cut.after_bytes as u64);
        tokio::select! {
            _ = tokio::io::copy(&mut allowed, &mut to_client) => {}
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        }
        if allowed.limit() > 0 {
            return;
        }
        let _ = to_client.flush().await;
    }
    match cut.manner {
        Manner::Finish => drop(client),
        Manner::Reset => {
            let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
            drop(client);
        }
    }
    count.send_modify(|cuts| *cuts += 1);
}
