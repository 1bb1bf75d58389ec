//! Text that arrives in pieces, cut anywhere, also inside a character.

use super::Violation;

/// The text so far. Each byte is validated as it comes, so a piece after which no valid text is possible is refused
/// at once (RFC 6455 §8.1), and each is looked at a bounded number of times.
#[derive(Debug, Default)]
pub(super) struct PartialText {
    whole: String,
    /// The beginning of a character whose rest has not come yet; the fourth byte is room for completing it.
    cut: [u8; 4],
    cut_len: usize,
}

impl PartialText {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.whole.len() + self.cut_len
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), Violation> {
        while self.cut_len > 0
            && let Some((&byte, rest)) = piece.split_first()
        {
            self.complete(byte)?;
            piece = rest;
        }
        match str::from_utf8(piece) {
            Ok(text) => self.whole.push_str(text),
            Err(error) if error.error_len().is_none() => {
                let (valid, cut) = piece.split_at(error.valid_up_to());
                self.whole
                    .push_str(str::from_utf8(valid).map_err(|_| Violation::TextNotUtf8)?);
                self.cut[..cut.len()].copy_from_slice(cut);
                self.cut_len = cut.len();
            }
            Err(_) => return Err(Violation::TextNotUtf8),
        }
        Ok(())
    }

    /// The text, if it does not end inside a character.
    pub(super) fn finish(self) -> Result<String, Violation> {
        if self.cut_len == 0 {
            Ok(self.whole)
        } else {
            Err(Violation::TextNotUtf8)
        }
    }

    /// Adds a byte to the character that was cut.
    fn complete(&mut self, byte: u8) -> Result<(), Violation> {
        self.cut[self.cut_len] = byte;
        self.cut_len += 1;
        match str::from_utf8(&self.cut[..self.cut_len]) {
            Ok(character) => {
                self.whole.push_str(character);
                self.cut_len = 0;
                Ok(())
            }
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Violation::TextNotUtf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PartialText, Violation};

    /// Bytes up to and including the one that is refused, fed one at a time.
    fn refused_after(bytes: &[u8]) -> Option<usize> {
        let mut text = PartialText::default();
        (0..bytes.len())
            .find(|&at| text.push(&bytes[at..=at]).is_err())
            .map(|at| at + 1)
    }

    /// RFC 3629 §3: characters of one to four bytes, cut at every place.
    #[test]
    fn text_may_be_cut_anywhere() {
        let whole = "a\u{7f}\u{80}é\u{7ff}\u{800}€\u{d7ff}\u{e000}\u{ffff}\u{10000}🦀\u{10ffff}z";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let mut text = PartialText::default();
                for piece in [0..first, first..second, second..whole.len()] {
                    text.push(&whole.as_bytes()[piece]).unwrap();
                }
                assert_eq!(text.len(), whole.len());
                assert_eq!(text.finish().unwrap(), whole);
            }
        }
    }

    /// RFC 6455 §8.1 and RFC 3629 §4: overlong forms, surrogates and what lies above U+10FFFF are refused at the
    /// first byte that makes them impossible.
    #[test]
    fn the_first_impossible_byte_is_refused() {
        for (bytes, after) in [
            (&b"ok\x80"[..], 3),
            (b"\xc0\x80", 1),
            (b"\xc1\xbf", 1),
            (b"\xc3(", 2),
            (b"\xe0\x9f\xbf", 2),
            (b"\xed\xa0\x80", 2),
            (b"\xe2\x82(", 3),
            (b"\xf0\x8f\xbf\xbf", 2),
            (b"\xf4\x90\x80\x80", 2),
            (b"\xf5", 1),
            (b"\xff", 1),
        ] {
            assert_eq!(refused_after(bytes), Some(after), "{bytes:x?}");
            assert_eq!(
                PartialText::default().push(bytes),
                Err(Violation::TextNotUtf8),
                "{bytes:x?}"
            );
        }
    }

    /// RFC 6455 §8.1: a message that ends inside a character.
    #[test]
    fn half_a_character_is_not_text() {
        for cut in [&b"\xc3"[..], b"a\xe2\x82", b"\xf0\x9f\xa6"] {
            let mut text = PartialText::default();
            text.push(cut).unwrap();
            assert_eq!(text.finish(), Err(Violation::TextNotUtf8));
        }
    }
}
