//! One TCP connection whose every buffer the test decides: how much the kernel holds, and how much is taken at a time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::deadline::in_time;

/// What is taken from the kernel at a time, unless told otherwise.
const GULP_BYTES: usize = 16 * 1024;

/// How much the kernel holds for a reader that does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receive {
    /// What the system gives.
    Usual,
    /// So many bytes, set before the connection is made, so that the peer never hears of a larger window.
    Bytes(u32),
}

/// A connection, and what came and was not yet understood.
#[derive(Debug)]
pub(crate) struct Link {
    socket: TcpStream,
    gulp: usize,
    pub(crate) input: Vec<u8>,
}

impl Link {
    pub(crate) async fn connect(address: SocketAddr, receive: Receive) -> io::Result<Self> {
        Self::connect_from(Ipv4Addr::LOCALHOST, address, receive).await
    }

    /// Connects as a client with this address; each of 127.0.0.0/8 is one.
    pub(crate) async fn connect_from(own: Ipv4Addr, address: SocketAddr, receive: Receive) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if own != Ipv4Addr::LOCALHOST {
            socket.bind(SocketAddr::from((own, 0)))?;
        }
        if let Receive::Bytes(bytes) = receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        let socket = in_time("a connection", socket.connect(address)).await?;
        socket.set_nodelay(true)?;
        // Small buffers and delayed acknowledgements make each other wait.
        #[cfg(target_os = "linux")]
        socket.set_quickack(true)?;
        Ok(Self {
            socket,
            gulp: GULP_BYTES,
            input: Vec::new(),
        })
    }

    /// From now on, takes so many bytes at a time, so that a read can end in the middle of anything.
    pub(crate) fn sip(&mut self, bytes: usize) {
        self.gulp = bytes.max(1);
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time("room for what was to be sent", self.socket.write_all(bytes)).await
    }

    /// Reads once and says whether anything came; `false` is the end of the stream. Cancel safe.
    pub(crate) async fn read(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; self.gulp];
        let count = in_time("anything from the server", self.socket.read(&mut bytes)).await?;
        self.input.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Says that nothing more will be sent, and can go on reading.
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }

    /// Breaks off as a crash does: with a reset, whatever was on its way.
    pub(crate) fn reset(self) {
        // Without it the connection is closed in good order, which is a drop too.
        let _ = self.socket.set_zero_linger();
    }
}

/// The peer ended a stream from which more was to come.
pub(crate) fn ended(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the server closed the connection {what}"),
    )
}
