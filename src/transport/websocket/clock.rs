//! What a connection does by the clock: pings, heartbeats, and giving up on a client that is silent or stuck.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::transport::Transports;
use crate::transport::pulse::Alarm;

/// How long the client has to take the last frames and to close its side.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// How long a client that took nothing for the write deadline has to begin with it after all.
const LAST_CHANCE_MS: u64 = 2_000;

/// A tick that does not come: options would take twice the room.
const NEVER: u32 = u32::MAX;

/// When things happened on one connection, in ticks of the pulse.
#[derive(Debug)]
pub(super) struct Clock {
    alarm: Alarm,
    sent: u32,
    pinged: u32,
    heard: u32,
    /// Since when; [`NEVER`]: it is not.
    stuck: u32,
    /// When the message that is under way has to be here; [`NEVER`] without one.
    message_due: u32,
    /// When the session has something to say about its token; [`NEVER`]: never.
    token: u32,
    closing: Closing,
}

/// Until when the client has to close its side.
#[derive(Debug, Clone, Copy)]
enum Closing {
    /// Nobody closes.
    Open,
    Until(u32),
    /// The client was given up as stuck, and has still taken nothing.
    LastChance(u32),
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
    /// A message has been under way for too long.
    Late,
    /// The session has something to say about its token.
    Token,
    /// The client has had long enough to close its side.
    Over,
}

impl Clock {
    pub(super) fn new(transports: &Transports) -> Self {
        let pulse = &transports.pulse;
        let now = pulse.now();
        let heartbeat = pulse.heartbeat();
        // Pings of connections that began together do not come together.
        let spread = transports.node.random_below(u64::from(heartbeat));
        let early = u32::try_from(spread).unwrap_or_default() / 2;
        Self {
            alarm: Alarm::new(Arc::clone(pulse), usize::try_from(spread).unwrap_or_default()),
            sent: now,
            pinged: now.saturating_sub(early),
            heard: now,
            stuck: NEVER,
            message_due: NEVER,
            token: NEVER,
            closing: Closing::Open,
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
        if matches!(self.closing, Closing::LastChance(_)) {
            self.note_closing();
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
        self.closing = Closing::Until(self.after(CLOSE_TIMEOUT_MS));
    }

    /// The client, which took nothing for the write deadline, is told its last.
    pub(super) fn note_last_chance(&mut self) {
        self.closing = Closing::LastChance(self.after(LAST_CHANCE_MS));
    }

    fn after(&self, ms: u64) -> u32 {
        let pulse = self.alarm.pulse();
        pulse.now() + pulse.ticks(ms)
    }

    /// A message is under way, which may take so many milliseconds since its first byte.
    pub(super) fn note_under_way(&mut self, message_time_ms_max: u64) {
        if self.message_due == NEVER {
            self.message_due = self.after(message_time_ms_max);
        }
    }

    /// No message is under way, or it waits for us.
    pub(super) fn note_arrived(&mut self) {
        self.message_due = NEVER;
    }

    /// What is due now; pending until something is.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Due> {
        let due = self.next_due();
        if self.alarm.poll(due, cx).is_pending() {
            return Poll::Pending;
        }
        let now = self.alarm.pulse().now();
        let heartbeat = self.alarm.pulse().heartbeat();
        Poll::Ready(if !matches!(self.closing, Closing::Open) {
            Due::Over
        } else if now >= self.stuck.saturating_add(self.alarm.pulse().write_timeout()) {
            Due::Stuck
        } else if now >= self.message_due {
            Due::Late
        } else if now >= self.heard + 2 * heartbeat {
            Due::Silent
        } else if now >= self.token {
            Due::Token
        } else if now >= self.pinged + heartbeat {
            self.pinged = now;
            Due::Ping
        } else {
            self.sent = now;
            Due::Heartbeat
        })
    }

    fn next_due(&self) -> u32 {
        match self.closing {
            Closing::Until(due) | Closing::LastChance(due) => due,
            Closing::Open => {
                let heartbeat = self.alarm.pulse().heartbeat();
                let stuck = self.stuck.saturating_add(self.alarm.pulse().write_timeout());
                let beat = self.sent.min(self.pinged) + heartbeat;
                let silent = self.heard + 2 * heartbeat;
                stuck.min(beat).min(silent).min(self.message_due).min(self.token)
            }
        }
    }
}
