//! Standard input: whole, or line by line within bounds.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The most bytes that one publication may have; servers take less.
pub(super) const DATA_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many bytes of lines are read ahead of what was answered.
const AHEAD_BYTES_MAX: usize = 2 * DATA_BYTES_MAX;

/// How many lines are read ahead of what was answered.
const AHEAD_LINES_MAX: usize = 1024;

/// A line, without its end.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) text: String,
    /// Its share of what may be read ahead.
    _share: OwnedSemaphorePermit,
}

/// Why no more input is read.
#[derive(Debug)]
pub(super) enum InputError {
    /// It makes no sense.
    Data(String),
    /// It cannot be read.
    Io(io::Error),
}

/// All of it, without the line end after it.
pub(super) async fn whole(input: impl AsyncRead + Unpin) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    let mut input = input.take(DATA_BYTES_MAX as u64 + 1);
    input.read_to_end(&mut bytes).await.map_err(InputError::Io)?;
    if bytes.len() > DATA_BYTES_MAX {
        let why = format!("standard input has more than {DATA_BYTES_MAX} bytes; publish it in parts");
        return Err(InputError::Data(why));
    }
    text(bytes, "standard input")
}

/// Reads lines in a task of its own, which ends with the input or with the receiver.
pub(super) fn lines(input: impl AsyncRead + Send + Unpin + 'static) -> mpsc::Receiver<Result<Line, InputError>> {
    let (lines, receiver) = mpsc::channel(AHEAD_LINES_MAX);
    tokio::spawn(async move {
        let ahead = Arc::new(Semaphore::new(AHEAD_BYTES_MAX));
        let mut input = BufReader::new(input);
        for number in 1.. {
            let line = line(&mut input, number, &ahead).await.transpose();
            let Some(line) = line else { return };
            let is_last = line.is_err();
            if lines.send(line).await.is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

async fn line(
    input: &mut (impl AsyncBufReadExt + Unpin),
    number: u64,
    ahead: &Arc<Semaphore>,
) -> Result<Option<Line>, InputError> {
    let mut bytes = Vec::new();
    let mut bounded = input.take(DATA_BYTES_MAX as u64 + 1);
    bounded.read_until(b'\n', &mut bytes).await.map_err(InputError::Io)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > DATA_BYTES_MAX {
        let why = format!("line {number} has more than {DATA_BYTES_MAX} bytes");
        return Err(InputError::Data(why));
    }
    let text = text(bytes, &format!("line {number}"))?;
    let share = u32::try_from(text.len() + 1).unwrap_or(u32::MAX);
    let share = Arc::clone(ahead).acquire_many_owned(share).await;
    let share = share.map_err(|closed| InputError::Io(io::Error::other(closed)))?;
    Ok(Some(Line {
        number,
        text,
        _share: share,
    }))
}

/// Text without the line end after it.
fn text(mut bytes: Vec<u8>, what: &str) -> Result<String, InputError> {
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        InputError::Data(format!("{what} is not UTF-8: byte {at} is wrong"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_in_order_without_their_ends() {
        let mut lines = lines("a\r\n\nb".as_bytes());
        let mut texts = Vec::new();
        while let Some(line) = lines.recv().await {
            let line = line.unwrap();
            texts.push((line.number, line.text));
        }
        assert_eq!(texts, [(1, "a".to_owned()), (2, String::new()), (3, "b".to_owned())]);
    }

    #[tokio::test]
    async fn what_is_not_utf8_is_named() {
        let mut lines = lines(&b"good\nb\xffd\n"[..]);
        assert!(lines.recv().await.unwrap().is_ok());
        let Err(InputError::Data(why)) = lines.recv().await.unwrap() else {
            panic!("the second line is wrong")
        };
        assert_eq!(why, "line 2 is not UTF-8: byte 2 is wrong");
        assert!(lines.recv().await.is_none());
    }
}
