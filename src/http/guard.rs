//! A socket under guard: what comes in is checked before the HTTP library reads it, and what goes out must be taken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::frames::Frames;
use super::framing::Framing;
use crate::protocol::Problem;

/// A socket that ends where a request of doubtful length begins, where one does not arrive, where too much comes that
/// says nothing, or when its reader takes nothing for too long.
#[derive(Debug)]
pub struct Guarded<S> {
    socket: S,
    /// What was read of it already, to see what is spoken.
    prefix: Box<[u8]>,
    following: Following,
    write_timeout: Duration,
    /// Set while the socket takes nothing.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Set while a head is to come: from the start, and from the first byte of a later one.
    arriving: Option<Pin<Box<Sleep>>>,
    is_over: bool,
    /// Whether the socket has not passed on what it took.
    is_unflushed: bool,
}

/// How long a request's head may take to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

#[derive(Debug)]
enum Following {
    Http1(Framing),
    Http2(Frames),
}

impl Following {
    fn is_within_head(&self) -> bool {
        match self {
            Self::Http1(framing) => framing.is_within_head(),
            Self::Http2(frames) => frames.is_within_head(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Guards a socket from which no more was read than `prefix`, and from which the first head must come until
    /// `deadline`.
    pub fn new(socket: S, version: Version, prefix: Box<[u8]>, deadline: Instant) -> Self {
        Self {
            socket,
            prefix,
            following: match version {
                Version::Http1 => Following::Http1(Framing::new()),
                Version::Http2 => Following::Http2(Frames::new()),
            },
            write_timeout: Duration::MAX,
            stuck: None,
            arriving: Some(Box::pin(sleep_until(deadline))),
            is_over: false,
            is_unflushed: false,
        }
    }

    /// How long the reader may take nothing.
    #[must_use]
    pub fn write_timeout(self, write_timeout: Duration) -> Self {
        Self { write_timeout, ..self }
    }

    /// The socket, for another protocol.
    pub fn into_inner(self) -> S {
        self.socket
    }

    /// Answers what cannot be believed, as far as the socket takes it, and ends the connection.
    fn refuse(&mut self, problem: &Problem, cx: &mut Context<'_>) {
        let answer = refusal(problem);
        self.is_over = true;
        let _ = Pin::new(&mut self.socket).poll_write(cx, answer.as_bytes());
        let _ = Pin::new(&mut self.socket).poll_shutdown(cx);
    }

    /// What is written shows whether another protocol begins. A client that was refused it has said something that
    /// nobody followed, so its connection ends after the answer.
    fn note_answer(&mut self, bytes: &[u8]) {
        if let Following::Http1(framing) = &mut self.following
            && framing.is_switching()
        {
            framing.switched();
            self.is_over = !bytes.starts_with(b"HTTP/1.1 101");
        }
    }

    /// Checks what came.
    fn note_input(&mut self, buffer: &mut ReadBuf<'_>, before: usize, cx: &mut Context<'_>) {
        let came = &buffer.filled()[before..];
        match &mut self.following {
            Following::Http1(framing) => {
                if let Err(problem) = framing.follow(came) {
                    buffer.set_filled(before);
                    self.refuse(&problem, cx);
                }
            }
            Following::Http2(frames) => {
                if frames.follow(came).is_err() {
                    tracing::debug!("an HTTP/2 client sent too many frames that say nothing");
                    buffer.set_filled(before);
                    self.is_over = true;
                }
            }
        }
        if !self.following.is_within_head() {
            self.arriving = None;
        } else if self.arriving.is_none() {
            self.arriving = Some(Box::pin(sleep(HEAD_TIMEOUT)));
        }
    }

    /// Lets the reader wait only for so long. A socket with a buffer of its own (TLS) may take bytes although its
    /// reader does not: then only what it has passed on counts.
    fn limit<T>(&mut self, done: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            if !self.is_unflushed {
                self.stuck = None;
            }
            return done;
        }
        let write_timeout = self.write_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        stuck
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }
}

/// The answer to a client that speaks no HTTP that can be believed; the connection ends after it.
pub fn refusal(problem: &Problem) -> String {
    let body = problem.to_json();
    format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\naccess-control-allow-origin: *\r\nvary: origin\r\nconnection: close\r\n\r\n{body}",
        StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::BAD_REQUEST),
        body.len()
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        if !self.prefix.is_empty() {
            let prefix = std::mem::take(&mut self.prefix);
            let len = prefix.len().min(buffer.remaining());
            buffer.put_slice(&prefix[..len]);
            self.prefix = prefix[len..].into();
            self.note_input(buffer, before, cx);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if polled.is_pending() {
            let Some(arriving) = &mut self.arriving else {
                return Poll::Pending;
            };
            // It took too long: it ends as if the client had left.
            return arriving.as_mut().poll(cx).map(Ok);
        }
        self.note_input(buffer, before, cx);
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
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.is_unflushed = flushed.is_pending();
        self.limit(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.limit(shut, cx)
    }
}
