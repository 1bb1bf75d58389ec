//! What of a client's own request goes along when the app is asked about it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The headers that the configuration lists, as the client sent them, and its address where that is wanted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// In the order of the list. Many clients have the same.
    pub headers: Arc<[CarriedHeader]>,
    /// Where the client is.
    pub address: Option<IpAddr>,
    /// Whether it has a cookie that stays here, because a page of another origin sent it.
    pub is_cookie_withheld: bool,
}

/// A header's name in lower case, and its value.
pub type CarriedHeader = (Arc<str>, Box<[u8]>);

impl Carried {
    /// The most bytes of all headers together, names and values.
    pub const BYTES_MAX: usize = 8 * 1024;
}

/// Nothing of what the client said: cookies stand there.
impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried")
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}
