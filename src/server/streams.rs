//! The streams of an HTTP/2 connection as tasks, each of which ends when its reader takes nothing for too long.
//!
//! A client can shut the window of one stream and keep the connection alive. The library then waits for room without
//! asking the answer's body for more, so no body can tell that it waits in vain. Here its task is watched instead: if
//! it waits, and neither for the answer nor for more of the body, then it waits for the client.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::http::Lent;

/// What is given to the library at a time: a reader has to take so much within the write deadline.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// What a stream's task did of ours while it was polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Nothing,
    /// It got something.
    Progress,
    /// It waits for us.
    Wait,
}

thread_local! {
    static DID: Cell<Did> = const { Cell::new(Did::Nothing) };
    /// Of a stream that is about to be lent to another protocol.
    static LENT: Cell<Option<Lent>> = const { Cell::new(None) };
}

fn note<T>(polled: Poll<T>) -> Poll<T> {
    DID.set(if polled.is_pending() { Did::Wait } else { Did::Progress });
    polled
}

/// Marks what a stream's task waits for on our side.
pub(super) async fn waited_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| note(future.as_mut().poll(cx))).await
}

/// The stream that is being answered will be lent, if the answer allows it.
pub(super) fn lend(lent: Lent) {
    LENT.set(Some(lent));
}

/// Runs the streams of one connection, and counts them.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    write_timeout: Duration,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    begun: AtomicUsize,
}

/// Counts one stream for as long as it lives.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Streams {
    pub(super) fn new(write_timeout: Duration) -> Self {
        Self {
            write_timeout,
            counts: Arc::default(),
        }
    }

    /// Ready when there was no stream for at least so long. Cancel safe.
    pub(super) async fn idle(&self, at_least: Duration) {
        loop {
            let begun = self.counts.begun.load(Ordering::Relaxed);
            let is_quiet = self.counts.open.load(Ordering::Relaxed) == 0;
            sleep(at_least).await;
            if is_quiet && begun == self.counts.begun.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let open = Open::new(&self.counts);
        let write_timeout = self.write_timeout;
        match LENT.take() {
            Some(lent) => drop(tokio::spawn(async move {
                send_lent(stream, lent, write_timeout).await;
                drop(open);
            })),
            None => drop(tokio::spawn(async move {
                send(stream, write_timeout).await;
                drop(open);
            })),
        }
    }
}

/// Sends one answer; a reader that takes nothing for too long gets a reset, for that is what dropping it does.
async fn send(stream: impl Future<Output = ()>, write_timeout: Duration) {
    let mut stream = pin!(stream);
    let mut stuck: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        DID.set(Did::Nothing);
        let polled = stream.as_mut().poll(cx);
        // Only one that was not refused is still to be lent.
        LENT.set(None);
        if polled.is_ready() {
            return polled;
        }
        match DID.get() {
            Did::Wait => {
                stuck = None;
                return Poll::Pending;
            }
            Did::Progress => stuck = None,
            Did::Nothing => {}
        }
        let stuck = stuck.get_or_insert_with(|| Box::pin(sleep(write_timeout)));
        let is_over = stuck.as_mut().poll(cx);
        if is_over.is_ready() {
            tracing::debug!("the reader of an HTTP/2 stream took nothing for too long");
        }
        is_over
    })
    .await;
}

/// Sends what another protocol has to say. Whoever speaks it has a clock of its own; when it has left, its last words
/// have so long to be taken.
async fn send_lent(stream: impl Future<Output = ()>, mut lent: Lent, write_timeout: Duration) {
    let impatient = async {
        poll_fn(|cx| lent.poll_over(cx)).await;
        sleep(write_timeout).await;
    };
    tokio::select! {
        () = stream => {}
        () = impatient => {}
    }
}

/// A body in pieces that are small enough for a deadline each.
///
/// The last byte of a body that is known to be whole is a piece of its own: it is asked for when all before it has
/// found room at the reader, so that nothing is left behind when the task ends.
#[derive(Debug)]
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
}

impl Pieces {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }

    fn next_piece(&mut self) -> Bytes {
        let len = match self.rest.len() {
            len if len > PIECE_BYTES_MAX => PIECE_BYTES_MAX,
            len if len > 1 && self.body.is_end_stream() => len - 1,
            len => len,
        };
        self.rest.split_to(len)
    }
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.rest.is_empty() {
            let polled = note(Pin::new(&mut self.body).poll_frame(cx));
            match polled.map_ok(Frame::into_data) {
                Poll::Ready(Some(Ok(Ok(data)))) => self.rest = data,
                Poll::Ready(Some(Ok(Err(frame)))) => return Poll::Ready(Some(Ok(frame))),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        let piece = self.next_piece();
        note(Poll::Ready(Some(Ok(Frame::data(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
