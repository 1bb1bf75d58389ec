//! What is wrong with a configuration, where, and what would be right.

use std::fmt;

use super::Source;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, if that is known.
    pub(super) source: Option<Source>,
    /// Of which key, if it is one key's.
    pub(super) key: Option<String>,
    pub(super) why: String,
}

impl Fault {
    /// Of a key, wherever its value comes from.
    pub fn of_key(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            source: None,
            key: Some(key.into()),
            why: why.into(),
        }
    }

    pub(super) fn at(source: Source, why: impl Into<String>) -> Self {
        Self {
            source: Some(source),
            key: None,
            why: why.into(),
        }
    }

    pub(super) fn of_file(path: &std::path::Path, why: impl fmt::Display) -> Self {
        Self {
            source: None,
            key: None,
            why: format!("{}: {why}", path.display()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(Source::Default) | None => f.write_str(&self.why),
            Some(source) => write!(f, "{source}: {}", self.why),
        }
    }
}

/// All that is wrong with a configuration; at least one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl ConfigError {
    /// One thing after the other.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Those of a file in the order of its lines, then the others as they were found.
    pub(super) fn unless_empty(mut faults: Vec<Fault>) -> Result<(), Self> {
        faults.sort_by_key(|fault| match fault.source {
            Some(Source::File { line, column, .. }) => (line, column),
            _ => (usize::MAX, 0),
        });
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Self { faults })
        }
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}

/// A fault a line.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
