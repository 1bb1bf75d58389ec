//! A bare socket: bytes out, bytes in, every wait with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Failure, PATIENCE};

/// One connection. It reads only what it is asked for, so that a reader can be slow.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// What came and was not taken yet.
    received: Vec<u8>,
    /// Until when what is waited for must have come.
    deadline: Instant,
}

impl Wire {
    pub(crate) fn connect(server: SocketAddr) -> Result<Self, Failure> {
        let wrong = |error| format!("the server cannot be reached: {error}");
        let stream = TcpStream::connect_timeout(&server, PATIENCE).map_err(wrong)?;
        stream.set_nodelay(true).map_err(wrong)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(wrong)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        })
    }

    /// From now on something else is waited for. What is passed over meanwhile does not make the wait longer.
    pub(crate) fn begin_to_wait(&mut self) {
        self.deadline = Instant::now() + PATIENCE;
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = self.stream.write_all(bytes);
        sent.map_err(|error| format!("the server takes nothing: {error}"))
    }

    /// The next so many bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        self.wait(|received| (received.len() >= count).then_some(()))?;
        let rest = self.received.split_off(count);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    /// The bytes up to `end`, which is taken, too.
    pub(crate) fn take_until(&mut self, end: &[u8]) -> Result<Vec<u8>, Failure> {
        let find = |received: &[u8]| received.windows(end.len()).position(|window| window == end);
        let len = self.wait(find)?;
        let mut taken = self.take(len + end.len())?;
        taken.truncate(len);
        Ok(taken)
    }

    /// All that comes until the server ends the connection.
    pub(crate) fn take_rest(&mut self) -> Result<Vec<u8>, Failure> {
        while self.read_some()? {}
        Ok(std::mem::take(&mut self.received))
    }

    /// Reads on until `find` finds something.
    fn wait<T>(&mut self, find: impl Fn(&[u8]) -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(found) = find(&self.received) {
                return Ok(found);
            }
            if !self.read_some()? {
                return Err(match self.received.len() {
                    0 => "the server ended the connection".to_owned(),
                    left => format!("the server ended the connection in the middle, after {left} bytes"),
                });
            }
        }
    }

    /// Reads what there is; `false` at the end of the stream.
    fn read_some(&mut self) -> Result<bool, Failure> {
        const ROOM: usize = 16 * 1024;
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("nothing came within {} s", PATIENCE.as_secs()));
        }
        let timeout = self.stream.set_read_timeout(Some(left));
        timeout.map_err(|error| format!("no deadline can be set: {error}"))?;
        let mut room = [0; ROOM];
        match self.stream.read(&mut room) {
            Ok(count) => {
                self.received.extend_from_slice(&room[..count]);
                Ok(count > 0)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(format!("nothing came within {} s", PATIENCE.as_secs()))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(format!("the connection broke: {error}")),
        }
    }
}
