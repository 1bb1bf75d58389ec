//! The promise, as a property: publications come in offset order, none twice, none left out, unless a gap says which.
//!
//! Many small worlds, each from its seed: nodes that share an engine, publishers, and readers that join, lag, drop in
//! the middle of anything, and come back over another transport.
//! A reader's life on one channel is a history, and the model judges every word of it.

/// Breaks off with what is wrong, unless all is well.
macro_rules! must {
    ($is_well:expr, $($otherwise:tt)+) => {
        if !$is_well {
            return Err($crate::support::promise::Violation(format!($($otherwise)+)));
        }
    };
}

mod acts;
pub(crate) mod channels;
pub(crate) mod connection;
pub(crate) mod desk;
pub(crate) mod history;
pub(crate) mod ledger;
mod line;
mod publishers;
mod reader;
pub(crate) mod run;
pub(crate) mod tally;
mod world;

use std::{fmt, io};

/// How the promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Violation {
    /// Nobody but the readers ends connections here, and whatever is waited for is sure to come.
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}
