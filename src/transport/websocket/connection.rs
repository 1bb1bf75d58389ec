//! One WebSocket connection: a small task on the socket, which pulls from its session what the socket takes.
//!
//! It wakes for four causes: the client sent something, the session has something, the socket takes bytes again, the
//! clock has come to something that is due.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clock::{Clock, Due};
use super::outbox::{Frame, Outbox, Written};
use crate::protocol::websocket::{self as codec, Decoder, Incoming, binary_frame, close_frame, pong_frame, text_frame};
use crate::protocol::{Code, Ending, Limits, Push, asks_to_publish, read_command};
use crate::session::{Closed, Output, Session, Wanted};
use crate::transport::{Transports, subscribed};

/// What is read at a time, into room that all connections of a thread share.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static READ_ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a connection begins with.
#[derive(Debug)]
pub(super) enum Opening {
    /// A session, and the channels that it asks for.
    Session(Box<Session>, Vec<Wanted>),
    /// Nothing but the reason for which there is none.
    Refused(Ending),
    /// No session: what comes is sent back.
    Echo,
}

/// One connection. A future that is ready when the socket can be closed.
pub(super) struct Connection<S> {
    socket: S,
    transports: Arc<Transports>,
    session: Option<Session>,
    decoder: Decoder,
    /// Bytes that came while the session took no further command.
    input: Box<[u8]>,
    outbox: Outbox,
    /// The answer to the newest ping; earlier ones need none (RFC 6455 §5.5.3).
    pong: Option<Box<Bytes>>,
    clock: Clock,
    phase: Phase,
    /// Whether the client has sent its close frame.
    is_peer_done: bool,
    /// Whether what comes is sent back; there is no session then.
    is_echo: bool,
    malformed: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The last frames are on their way.
    Closing,
    /// Nothing is left to be done.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection after its handshake; `input` is what came right behind it.
    pub(super) fn new(socket: S, input: Vec<u8>, transports: Arc<Transports>, opening: Opening) -> Self {
        let mut connection = Self {
            socket,
            session: None,
            decoder: Decoder::new(),
            input: input.into(),
            outbox: Outbox::default(),
            pong: None,
            clock: Clock::new(&transports),
            phase: Phase::Open,
            is_peer_done: false,
            is_echo: false,
            malformed: 0,
            transports,
        };
        connection.open(opening);
        connection
    }

    fn open(&mut self, opening: Opening) {
        match opening {
            Opening::Session(mut session, asked) => {
                self.push(&session.welcome(self.transports.timings.heartbeat_ms));
                if !asked.is_empty() {
                    session.begin_asked(asked);
                }
                self.clock.note_token(session.due_in_ms());
                self.session = Some(*session);
            }
            Opening::Echo => self.is_echo = true,
            Opening::Refused(ending) => self.end(&ending),
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let waits_for_input = self.read(cx);
            self.write(cx);
            // The clock comes last, for what was read and written moves what is due.
            let has_rung = self.keep_time(cx);
            if self.phase == Phase::Over {
                return Poll::Ready(());
            }
            // Everything that can wake us is asked: unless what the clock said is still to be written, or what was
            // written has made room for commands, so that the socket must be asked again.
            if !has_rung && (waits_for_input || !self.takes_input()) {
                return Poll::Pending;
            }
        }
    }

    fn takes_input(&self) -> bool {
        match (&self.phase, &self.session) {
            (Phase::Open, Some(session)) => session.takes_commands(),
            (Phase::Open, None) => !self.is_echo || self.outbox.has_room(),
            (Phase::Closing, _) => true,
            (Phase::Over, _) => false,
        }
    }

    /// Takes what the client sent, as long as it is understood and can be carried out; says whether the socket will
    /// wake us when there is more.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        while self.takes_input() {
            if !self.input.is_empty() {
                let mut held = std::mem::take(&mut self.input);
                self.take_input(&mut held);
                continue;
            }
            let mut room = READ_ROOM.take();
            room.resize(READ_BYTES, 0);
            let mut buffer = ReadBuf::new(&mut room);
            let polled = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
            let taken = buffer.filled().len();
            match polled {
                Poll::Ready(Ok(())) if taken > 0 => self.take_input(&mut room[..taken]),
                Poll::Ready(_) => self.phase = Phase::Over,
                Poll::Pending => {}
            }
            READ_ROOM.set(room);
            if polled.is_pending() {
                return true;
            }
        }
        false
    }

    fn take_input(&mut self, mut bytes: &mut [u8]) {
        self.clock.note_heard();
        let limits = self.transports.node.limits();
        let frame_limits = codec::Limits {
            message_bytes_max: limits.message_bytes_max,
            fragments_max: limits.message_fragments_max,
        };
        while self.takes_input() {
            match self.decoder.decode(&mut bytes, &frame_limits) {
                Ok(Some(incoming)) => self.take(incoming, &limits),
                Ok(None) => {
                    if self.decoder.is_under_way() {
                        self.clock.note_under_way(limits.message_time_ms_max);
                    }
                    return;
                }
                Err(violation) => self.end(&violation.into()),
            }
            if !self.decoder.is_under_way() {
                self.clock.note_arrived();
            }
        }
        // What is under way now waits for us.
        self.clock.note_arrived();
        self.input = (&*bytes).into();
    }

    fn take(&mut self, incoming: Incoming, limits: &Limits) {
        match incoming {
            Incoming::Close(frame) => self.answer_close(frame.map_or(1000, |frame| frame.code)),
            _ if self.phase != Phase::Open => {}
            Incoming::Text(message) if self.is_echo => self.push_frame(text_frame(message.as_bytes())),
            Incoming::Text(message) => self.take_message(&message, limits),
            Incoming::Binary(bytes) if self.is_echo => self.push_frame(binary_frame(&bytes)),
            Incoming::Binary(_) => self.end(&Ending::binary()),
            Incoming::Ping(payload) if self.is_echo => self.push_frame(pong_frame(&payload)),
            Incoming::Ping(payload) => self.pong = Some(Box::new(pong_frame(&payload))),
            Incoming::Pong => {}
        }
    }

    fn take_message(&mut self, message: &str, limits: &Limits) {
        let Some(session) = &mut self.session else { return };
        match read_command(message, limits) {
            (id, Ok(command)) => {
                self.malformed = 0;
                session.handle(id, command);
            }
            (id, Err(problem)) => {
                let is_malformed = matches!(problem.code, Code::BadJson | Code::BadRequest | Code::UnknownCommand);
                self.malformed = if is_malformed { self.malformed + 1 } else { 0 };
                if asks_to_publish(message) {
                    session.note_unpublished(&problem);
                }
                session.refuse(id, problem);
                if self.malformed == Limits::MALFORMED_MAX {
                    self.end(&Ending::malformed());
                }
            }
        }
    }

    /// The client closes: it is answered with its own code, and nothing follows.
    fn answer_close(&mut self, code: u16) {
        self.is_peer_done = true;
        if self.phase == Phase::Open {
            if let Some(session) = &mut self.session {
                session.note_closed(Closed::Client);
            }
            self.push_replies();
            self.push_frame(close_frame(code, ""));
            self.close();
        } else if self.outbox.is_empty() {
            self.phase = Phase::Over;
        }
    }

    /// The server closes: says why, as the last push and as the close frame.
    fn end(&mut self, ending: &Ending) {
        if self.phase != Phase::Open {
            return;
        }
        self.push_replies();
        if let Some(session) = &mut self.session {
            session.note_ending(ending);
        }
        let word = match &ending.problem {
            Some(problem) => {
                // An echo says nothing of its own.
                if !self.is_echo {
                    self.push(&Push::Closing(problem.clone()));
                }
                problem.code.as_str()
            }
            None => "",
        };
        self.push_frame(close_frame(ending.close_code, word));
        self.close();
    }

    fn push_replies(&mut self) {
        if let Some(session) = &mut self.session {
            for push in session.take_replies() {
                self.push(&push);
            }
        }
    }

    fn close(&mut self) {
        self.phase = Phase::Closing;
        self.clock.note_closing();
    }

    /// Does what the clock says, and says whether it said anything. What is pending already is as good as a ping or a
    /// heartbeat.
    fn keep_time(&mut self, cx: &Context<'_>) -> bool {
        let mut has_rung = false;
        let is_quiet = self.outbox.is_empty();
        while self.phase != Phase::Over
            && let Poll::Ready(due) = self.clock.poll(cx)
        {
            has_rung = true;
            match due {
                Due::Ping if is_quiet => self.push_frame(self.transports.ping_frame.clone()),
                Due::Heartbeat if is_quiet && !self.is_echo => {
                    self.push_frame(self.transports.heartbeat_frame.clone());
                }
                Due::Ping | Due::Heartbeat => {}
                Due::Token => {
                    if let Some(session) = &mut self.session {
                        session.tell_time();
                    }
                }
                Due::Silent => self.end(&Ending::silent()),
                Due::Stuck => {
                    self.outbox.clear_unbegun();
                    self.end(&Ending::slow_reader(self.transports.timings.write_timeout_ms));
                    self.clock.note_last_chance();
                }
                Due::Late => self.end(&Ending::late(self.transports.node.limits().message_time_ms_max)),
                Due::Over => self.phase = Phase::Over,
            }
            self.mind_token();
        }
        has_rung
    }

    /// Asks when the session has to be told the time: anew whenever the clock rang, for this clock stands still while
    /// the process does, and tokens do not.
    fn mind_token(&mut self) {
        if let Some(session) = &self.session {
            self.clock.note_token(session.due_in_ms());
        }
    }

    /// Writes what is pending and what the session has, until either the socket or the session has enough.
    fn write(&mut self, cx: &mut Context<'_>) {
        let mut has_more = true;
        while self.phase != Phase::Over {
            match self.outbox.poll_write(&mut self.socket, cx) {
                Written::All => self.clock.note_flushed(),
                Written::Some => return self.clock.note_progress(),
                Written::Nothing => return self.clock.note_stuck(),
                Written::Failed => self.phase = Phase::Over,
            }
            if has_more && self.phase == Phase::Open {
                has_more = self.gather(cx);
            }
            if self.outbox.is_empty() {
                return self.shut_down(cx);
            }
        }
    }

    /// After the last frame, says that nothing follows; the client's end of the stream, or the deadline, ends the
    /// connection.
    fn shut_down(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Open {
            return;
        }
        if self.is_peer_done || matches!(Pin::new(&mut self.socket).poll_shutdown(cx), Poll::Ready(Err(_))) {
            self.phase = Phase::Over;
        }
    }

    /// Takes from the session what one write holds; says whether there may be more, or the session will wake us.
    fn gather(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(pong) = self.pong.take() {
            self.push_frame(*pong);
        }
        let mut has_publications = false;
        let has_more = loop {
            if !self.outbox.has_room() {
                break true;
            }
            let Some(session) = &mut self.session else { break false };
            let Poll::Ready(output) = session.poll_next(cx) else {
                break false;
            };
            self.clock.note_sent();
            match output {
                Output::Publication { publication, .. } => {
                    has_publications = true;
                    self.outbox.push(Frame::Publication(publication));
                }
                Output::Gap { channel, gap, .. } => self.push(&Push::Gap { channel, gap }),
                Output::Joined { channel, joined, .. } => self.push(&subscribed(channel, joined)),
                Output::Presence(frame) => self.push_frame(frame.websocket()),
                Output::Push(push) => {
                    self.push(&push);
                    // A new token moves what is due.
                    if matches!(*push, Push::Refreshed { .. }) {
                        self.mind_token();
                    }
                }
                Output::Ending(ending) => {
                    self.end(&ending);
                    break false;
                }
            }
        };
        if has_publications && let Some(session) = &self.session {
            session.note_written();
        }
        has_more
    }

    fn push(&mut self, push: &Push) {
        self.push_frame(text_frame(push.to_json().as_bytes()));
    }

    fn push_frame(&mut self, frame: Bytes) {
        self.outbox.push(Frame::Other(frame));
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.outbox.borrow_room();
        let polled = self.drive(cx);
        self.outbox.return_room();
        polled
    }
}

impl<S> fmt::Debug for Connection<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("session", &self.session)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        // With what tokio adds, its task then fits into 512 bytes.
        let bytes = size_of::<Connection<crate::http::Kept<tokio::net::TcpStream>>>();
        assert!(bytes <= 400, "{bytes}");
    }
}
