//! A position as a client reads it: epoch, offset, and the tag that some engines add.

use std::fmt;

/// `<epoch>-<offset>`, or `<epoch>-<offset>-<tag>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    tag: Option<String>,
}

impl Place {
    /// Reads a position exactly as the protocol writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (epoch, offset, tag) = (parts.next()?, parts.next()?, parts.next());
        let is_word = |word: &str| (1..=16).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric());
        let place = Self {
            epoch: epoch.to_owned(),
            offset: offset.parse().ok()?,
            tag: tag.map(str::to_owned),
        };
        let is_whole = parts.next().is_none() && is_word(epoch) && tag.is_none_or(is_word);
        (is_whole && place.to_string() == text).then_some(place)
    }

    /// The same life of the log, at another offset, where no tags are used.
    pub(crate) fn at(&self, offset: u64) -> Self {
        Self { offset, ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.offset)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, "-{tag}"))
    }
}
