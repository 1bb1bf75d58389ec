//! Frames on their way into a socket: one vectored write for all that is pending, and what a partial write leaves.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::delivery::Publication;
use crate::protocol::Framed;

/// The most frames in one write.
const BATCH_FRAMES_MAX: usize = 64;

/// Bytes after which no further frame is added to what is pending.
const BATCH_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    /// The room for a batch, lent to the one connection that is being polled, so that idle ones hold none.
    static ROOM: Cell<VecDeque<Frame>> = const { Cell::new(VecDeque::new()) };
}

/// A frame that is pending: a publication's, which all its readers share, or one of this connection's own.
#[derive(Debug)]
pub(super) enum Frame {
    Publication(Arc<Publication>),
    Other(Bytes),
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Publication(publication) => Framed::of(publication).websocket(),
            Self::Other(bytes) => bytes,
        }
    }
}

/// The frames that are pending. Between two polls it holds only what the socket did not take.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    /// How much of the first frame was written.
    written: usize,
    /// How much there is in all, what was written of the first included.
    bytes: usize,
}

impl Outbox {
    /// Borrows room for a batch; to be called when a poll begins.
    pub(super) fn borrow_room(&mut self) {
        if self.frames.capacity() == 0 {
            self.frames = ROOM.take();
        }
    }

    /// Gives the room back if nothing is pending; to be called when a poll ends.
    pub(super) fn return_room(&mut self) {
        if self.frames.is_empty() {
            ROOM.set(std::mem::take(&mut self.frames));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether more frames may be added before the next write.
    pub(super) fn has_room(&self) -> bool {
        self.frames.len() < BATCH_FRAMES_MAX && self.bytes < BATCH_BYTES_MAX
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes().len();
        self.frames.push_back(frame);
    }

    /// Drops what was not begun to be written. What was begun must be finished, or the stream is garbage.
    pub(super) fn clear_unbegun(&mut self) {
        self.frames.truncate(usize::from(self.written > 0));
        self.bytes = self.frames.iter().map(|frame| frame.bytes().len()).sum();
    }

    /// Writes until nothing is pending, or the socket takes no more. A socket with a buffer of its own (TLS, a stream of
    /// HTTP/2) has taken what it has passed on.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(&mut self, socket: &mut S, cx: &mut Context<'_>) -> Written {
        let mut written = Written::Nothing;
        while !self.frames.is_empty() {
            match self.poll_write_once(socket, cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Written::Failed,
                Poll::Ready(Ok(len)) => {
                    written = Written::Some;
                    self.advance(len);
                }
                Poll::Pending => return written,
            }
        }
        match Pin::new(socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => Written::All,
            Poll::Ready(Err(_)) => Written::Failed,
            Poll::Pending => written,
        }
    }

    fn poll_write_once<S: AsyncWrite + Unpin>(&self, socket: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        if self.frames.len() == 1 {
            return socket.poll_write(cx, &self.frames[0].bytes()[self.written..]);
        }
        let mut slices = [IoSlice::new(&[]); BATCH_FRAMES_MAX];
        let mut from = self.written;
        for (slice, frame) in slices.iter_mut().zip(&self.frames) {
            *slice = IoSlice::new(&frame.bytes()[from..]);
            from = 0;
        }
        let count = self.frames.len().min(BATCH_FRAMES_MAX);
        socket.poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, len: usize) {
        self.written += len;
        while let Some(first) = self.frames.front().map(|frame| frame.bytes().len())
            && self.written >= first
        {
            self.written -= first;
            self.bytes -= first;
            self.frames.pop_front();
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing is pending any more.
    All,
    /// The socket took some of it, and takes no more for now.
    Some,
    /// The socket took nothing.
    Nothing,
    /// The connection is broken.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes in all, and then nothing.
    struct Narrow {
        taken: Vec<u8>,
        room: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let len = bytes.len().min(self.room);
            self.room -= len;
            self.taken.extend(&bytes[..len]);
            if len == 0 { Poll::Pending } else { Poll::Ready(Ok(len)) }
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_partial_write_goes_on_where_it_stopped() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut socket = Narrow {
            taken: Vec::new(),
            room: 0,
        };
        let mut outbox = Outbox::default();
        for frame in ["abc", "de", "fgh"] {
            outbox.push(Frame::Other(frame.into()));
        }
        for _ in 0..8 {
            socket.room = 1;
            outbox.poll_write(&mut socket, &mut cx);
        }
        assert!(outbox.is_empty());
        assert_eq!(socket.taken, b"abcdefgh");
    }

    #[test]
    fn only_a_frame_that_was_begun_survives_clearing() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for (room, rest) in [(0, ""), (1, "abc"), (3, "abc"), (4, "abcde")] {
            let mut socket = Narrow {
                taken: Vec::new(),
                room,
            };
            let mut outbox = Outbox::default();
            for frame in ["abc", "de"] {
                outbox.push(Frame::Other(frame.into()));
            }
            outbox.poll_write(&mut socket, &mut cx);
            outbox.clear_unbegun();
            socket.room = 99;
            outbox.poll_write(&mut socket, &mut cx);
            assert_eq!(socket.taken, rest.as_bytes(), "after {room} bytes");
        }
    }
}
