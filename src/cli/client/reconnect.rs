//! One stream of pushes over as many connections as it takes.

use std::pin::pin;
use std::time::Duration;

use async_stream::try_stream;
use tokio::time;
use tokio_stream::{Stream, StreamExt};

use super::arrival::Arrival;
use super::backoff::Backoff;
use super::cursor::Cursor;
use super::failure::Failure;
use super::peer::Peer;
use super::push::{Body, Push};
use super::transport::{Connection, Transport};

#[derive(Debug)]
pub(crate) enum Happening {
    /// The transport works: something arrived by it.
    Connected,
    /// Verified: it is what had to come next.
    Push(Push),
    Reconnecting {
        delay: Duration,
        why: Failure,
    },
}

/// Every push from `cursor` on, once and in order, through reconnects. Ends only with the failure that is final.
pub(crate) fn pushes(
    peer: Peer,
    mut cursor: Cursor,
    transport: Transport,
) -> impl Stream<Item = Result<Happening, Failure>> {
    try_stream! {
        let mut backoff = Backoff::default();
        loop {
            let why = {
                let mut connection = pin!(one_connection(&peer, &mut cursor, &mut backoff, transport));
                loop {
                    match connection.next().await {
                        Some(Ok(happening)) => yield happening,
                        Some(Err(failure)) => break failure,
                        None => break Failure::Broken("the connection ended".to_owned()),
                    }
                }
            };
            let Some(delay) = backoff.after(why.comeback()) else {
                Err::<(), _>(why)?;
                break;
            };
            yield Happening::Reconnecting { delay, why };
            time::sleep(delay).await;
        }
    }
}

/// What one connection brings, up to the failure that ends it.
fn one_connection(
    peer: &Peer,
    cursor: &mut Cursor,
    backoff: &mut Backoff,
    transport: Transport,
) -> impl Stream<Item = Result<Happening, Failure>> {
    try_stream! {
        let mut connection = Connection::open(peer, cursor, transport).await?;
        let mut is_proved = false;
        loop {
            let arrival = connection.next(cursor).await?;
            if !is_proved && arrival.proves_transport() {
                is_proved = true;
                backoff.connected();
                yield Happening::Connected;
            }
            match arrival {
                Arrival::Push(push) => {
                    cursor.follow(&push)?;
                    let end = end_after(&push, cursor);
                    yield Happening::Push(push);
                    end?;
                }
                Arrival::Cursor(theirs) => cursor.reconcile(&theirs)?,
                Arrival::Retry(delay) => backoff.at_least(delay),
            }
        }
    }
}

/// Whether the connection is over after this push: the server says so, or no subscription is left. One that may be had
/// later is tried again by the server, while the others go on.
fn end_after(push: &Push, cursor: &Cursor) -> Result<(), Failure> {
    match &push.body {
        Body::Closing(closing) => Err(Failure::Refused(closing.refusal())),
        Body::Unsubscribed(unsubscribed) if cursor.is_ended() => Err(Failure::Refused(unsubscribed.refusal())),
        Body::Unsubscribed(_)
        | Body::Welcome(_)
        | Body::Subscribed(_)
        | Body::Publication(_)
        | Body::Gap(_)
        | Body::Other => Ok(()),
    }
}
