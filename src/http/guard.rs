//! A socket under guard: what comes in is checked before the HTTP library reads it, and what goes out must be taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::framing::Framing;
use crate::protocol::Problem;

/// A socket that ends where a request of doubtful length begins, or when its reader takes nothing for too long.
#[derive(Debug)]
pub struct Guarded<S> {
    socket: S,
    framing: Framing,
    write_timeout: Duration,
    /// Set while the socket takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Set while a head is to come: from the start, and from the first byte of a later one.
    arriving: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

/// How long a request's head may take to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Guards a socket on which nothing was read yet.
    pub fn new(socket: S, write_timeout: Duration) -> Self {
        Self {
            socket,
            framing: Framing::new(),
            write_timeout,
            stuck: None,
            arriving: Some(Box::pin(sleep(HEAD_TIMEOUT))),
            is_over: false,
        }
    }

    /// The socket, for another protocol.
    pub fn into_inner(self) -> S {
        self.socket
    }

    /// Answers what cannot be believed, as far as the socket takes it, and ends the connection.
    fn refuse(&mut self, problem: &Problem, cx: &mut Context<'_>) {
        let body = problem.to_json();
        let answer = format!(
            "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\naccess-control-allow-origin: *\r\nvary: origin\r\nconnection: close\r\n\r\n{body}",
            StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::BAD_REQUEST),
            body.len()
        );
        self.is_over = true;
        let _ = Pin::new(&mut self.socket).poll_write(cx, answer.as_bytes());
        let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
    }

    /// What is written shows whether another protocol begins. A client that was refused it has said something that
    /// nobody followed, so its connection ends after the answer.
    fn note_answer(&mut self, bytes: &[u8]) {
        if self.framing.is_switching() {
            self.framing.switched();
            self.is_over = !bytes.starts_with(b"HTTP/1.1 101");
        }
    }

    /// Lets the reader wait only for so long.
    fn limit(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let write_timeout = self.write_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        stuck
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if polled.is_pending() {
            let Some(arriving) = &mut self.arriving else {
                return Poll::Pending;
            };
            // It took too long: it ends as if the client had left.
            return arriving.as_mut().poll(cx).map(Ok);
        }
        if let Err(problem) = self.framing.follow(&buffer.filled()[before..]) {
            buffer.set_filled(before);
            self.refuse(&problem, cx);
        }
        if !self.framing.is_within_head() {
            self.arriving = None;
        } else if self.arriving.is_none() {
            self.arriving = Some(Box::pin(sleep(HEAD_TIMEOUT)));
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.note_answer(bytes);
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.limit(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note_answer(slices.first().map_or(&[], |slice| slice));
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.limit(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
