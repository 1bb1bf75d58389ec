//! What a connection does by the clock: pings, heartbeats, and giving up on a client that is silent or stuck.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::transport::Transports;
use crate::transport::pulse::Alarm;

/// How long the client has to take the last frames and to close its side.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// A tick that does not come: options would take twice the room.
const NEVER: u32 = u32::MAX;

/// When things happened on one connection, in ticks of the pulse.
#[derive(Debug)]
pub(super) struct Clock {
    alarm: Alarm,
    heartbeat: u32,
    write_timeout: u32,
    sent: u32,
    pinged: u32,
    heard: u32,
    /// Since when; [`NEVER`]: it is not.
    stuck: u32,
    /// Until when; [`NEVER`]: it is not.
    closing: u32,
    /// When the session has something to say about its token; [`NEVER`]: never.
    token: u32,
}

/// What the time has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// To ask the client for a sign of life.
    Ping,
    /// To give the client one.
    Heartbeat,
    /// The client gave none for two heartbeats.
    Silent,
    /// The socket took nothing for the write deadline.
    Stuck,
    /// The session has something to say about its token.
    Token,
    /// The client has had long enough to close its side.
    Over,
}

impl Clock {
    pub(super) fn new(transports: &Transports) -> Self {
        let pulse = &transports.pulse;
        let now = pulse.now();
        let heartbeat = pulse.ticks(transports.timings.heartbeat_ms);
        // Pings of connections that began together do not come together.
        let spread = transports.node.random_below(u64::from(heartbeat));
        let early = u32::try_from(spread).unwrap_or_default() / 2;
        Self {
            alarm: Alarm::new(Arc::clone(pulse), usize::try_from(spread).unwrap_or_default()),
            heartbeat,
            write_timeout: pulse.ticks(transports.timings.write_timeout_ms),
            sent: now,
            pinged: now.saturating_sub(early),
            heard: now,
            stuck: NEVER,
            closing: NEVER,
            token: NEVER,
        }
    }

    /// Something came from the client, or a socket that was stuck took something: it is alive.
    pub(super) fn note_heard(&mut self) {
        self.heard = self.alarm.pulse().now();
    }

    /// A push was sent.
    pub(super) fn note_sent(&mut self) {
        self.sent = self.alarm.pulse().now();
    }

    /// All that was pending is written.
    pub(super) fn note_flushed(&mut self) {
        self.stuck = NEVER;
    }

    /// The socket took some of what was pending: however slow the reader is, it lives.
    pub(super) fn note_progress(&mut self) {
        if self.stuck != NEVER {
            self.note_heard();
        }
        self.stuck = self.alarm.pulse().now();
    }

    /// The socket took nothing.
    pub(super) fn note_stuck(&mut self) {
        self.stuck = self.stuck.min(self.alarm.pulse().now());
    }

    /// The session has something to say about its token in so many milliseconds.
    pub(super) fn note_token(&mut self, due_in_ms: Option<u64>) {
        let pulse = self.alarm.pulse();
        self.token = due_in_ms.map_or(NEVER, |ms| pulse.now().saturating_add(pulse.ticks(ms)));
    }

    /// The last frames are on their way.
    pub(super) fn note_closing(&mut self) {
        self.closing = self.alarm.pulse().now() + self.alarm.pulse().ticks(CLOSE_TIMEOUT_MS);
    }

    /// What is due now; pending until something is.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Due> {
        let due = self.next_due();
        if self.alarm.poll(due, cx).is_pending() {
            return Poll::Pending;
        }
        let now = self.alarm.pulse().now();
        Poll::Ready(if self.closing != NEVER {
            Due::Over
        } else if now >= self.stuck.saturating_add(self.write_timeout) {
            Due::Stuck
        } else if now >= self.heard + 2 * self.heartbeat {
            Due::Silent
        } else if now >= self.token {
            Due::Token
        } else if now >= self.pinged + self.heartbeat {
            self.pinged = now;
            Due::Ping
        } else {
            self.sent = now;
            Due::Heartbeat
        })
    }

    fn next_due(&self) -> u32 {
        if self.closing != NEVER {
            return self.closing;
        }
        let stuck = self.stuck.saturating_add(self.write_timeout);
        let beat = self.sent.min(self.pinged) + self.heartbeat;
        stuck.min(beat).min(self.heard + 2 * self.heartbeat).min(self.token)
    }
}
