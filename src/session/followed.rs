//! Which channels somebody follows on this node, as an operator asks.

use std::sync::Arc;

use super::Node;
use crate::delivery::{Followed, Listing};
use crate::protocol::{Code, FollowedQuery, Problem};

impl Node {
    /// The same node, whose engine tells which channels somebody follows.
    #[must_use]
    pub fn with_listing(mut self, listing: Option<Arc<dyn Listing>>) -> Self {
        self.listing = listing;
        self
    }

    /// The channels that somebody follows on this node: one more than was asked for, if there are more.
    ///
    /// # Errors
    /// `not_found`, if the engine does not tell.
    pub async fn followed(&self, query: &FollowedQuery) -> Result<Vec<Followed>, Problem> {
        let Some(listing) = self.listing.clone() else {
            return Err(Problem::new(
                Code::NotFound,
                "this node's engine does not tell which channels are followed",
            ));
        };
        let query = query.clone();
        // On a thread that may take its time.
        let looking =
            tokio::task::spawn_blocking(move || listing.followed(&query.prefix, &query.after, query.limit + 1));
        looking.await.map_err(|_| {
            Problem::new(Code::Overloaded, "the channels could not be looked at; try again").retry_after_ms(1000)
        })
    }
}
