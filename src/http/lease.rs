//! A stream of an HTTP/2 connection that speaks another protocol: lent to a task, and taken back when that task ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// An extension of an extended CONNECT request (RFC 8441), to be kept as long as the stream is used.
///
/// Whoever sends the stream's last bytes then knows from when on to be impatient.
#[derive(Debug, Clone)]
pub struct Lease {
    _sender: Arc<oneshot::Sender<()>>,
}

/// Knows when the lease is over.
#[derive(Debug)]
pub struct Lent(oneshot::Receiver<()>);

impl Lease {
    /// A lease, and the end that notices its end.
    pub fn new() -> (Self, Lent) {
        let (sender, receiver) = oneshot::channel();
        let lease = Self {
            _sender: Arc::new(sender),
        };
        (lease, Lent(receiver))
    }
}

impl Lent {
    /// Ready when the lease is over.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

/// The most bytes that are written at a time, so that what waits for the client's window stays small.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// A stream that takes little at a time.
#[derive(Debug)]
pub struct Narrow<S>(pub S);

impl<S: AsyncRead + Unpin> AsyncRead for Narrow<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Narrow<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len().min(WRITE_BYTES_MAX);
        Pin::new(&mut self.0).poll_write(cx, &bytes[..len])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
