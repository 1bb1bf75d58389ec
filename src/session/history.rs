//! Reading part of a channel's window, forwards from a position or backwards from one.

use std::sync::Arc;

use super::Node;
use super::identity::{Action, Identity};
use crate::delivery::{ChannelName, Gap, Page, Position, Publication, Since};
use crate::protocol::{Framed, HistoryQuery, HistoryReply, Problem};

/// Publications that `history` answers unless told.
const HISTORY_COUNT_DEFAULT: u64 = 100;

/// Publications that are read on with at a time.
const READ_ON_COUNT: usize = 64;

impl Node {
    /// Reads part of a channel's window.
    ///
    /// # Errors
    /// `forbidden`, or what the engine says.
    pub async fn history(&self, identity: &Identity, query: HistoryQuery) -> Result<HistoryReply, Problem> {
        self.allow(identity, Action::History, &query.channel).await?;
        let count_max = self.limits().history_count_max;
        let limit = usize::try_from(query.limit.unwrap_or(HISTORY_COUNT_DEFAULT))
            .unwrap_or(count_max)
            .min(count_max);
        let mut page = match (query.since, query.before) {
            (None, Some(before)) => self.page_before(&query.channel, &before, limit).await?,
            (since, before) => {
                let since = since.unwrap_or(Since::Start);
                let mut page = self.engine().history(&query.channel, since, limit).await?;
                if let Some(before) = before {
                    end_before(&mut page, &before);
                }
                page
            }
        };
        let fits = self.fitting(page.publications.iter());
        page.publications.truncate(fits);
        Ok(HistoryReply::new(query.channel, page))
    }

    /// The newest `limit` publications before a position: offsets have no holes, so they begin so many offsets lower.
    async fn page_before(&self, channel: &ChannelName, before: &Position, limit: usize) -> Result<Page, Problem> {
        let mut page = self.engine().history(channel, Since::Now, 0).await?;
        if before.epoch != page.top.epoch {
            end_before(&mut page, before);
            return Ok(page);
        }
        let end = before.offset.min(page.top.offset + 1);
        let offset = end.saturating_sub(limit as u64 + 1);
        // Nobody but the engine can make up a position, so it is told how far from the top it is. Should something be
        // published meanwhile, that is too little: then more is asked for than is given.
        for more in [0, 64, 4096] {
            let count = page.top.offset.saturating_sub(offset).saturating_add(more as u64);
            page = self
                .engine()
                .history(channel, Since::Last(count), limit.saturating_add(more))
                .await?;
            if page.top.epoch != before.epoch || page.after.offset <= offset.max(page.start.offset) {
                break;
            }
        }
        self.read_up_to(end, channel, &mut page).await?;
        end_before(&mut page, before);
        let surplus = page.publications.len().saturating_sub(limit);
        page.publications.drain(..surplus);
        let fits = self.fitting(page.publications.iter().rev());
        page.publications.drain(..page.publications.len() - fits);
        Ok(page)
    }

    /// An engine may give less than it was asked for, where publications are large: reads on until right before `end`, and
    /// keeps of all that what fits into one answer.
    async fn read_up_to(&self, end: u64, channel: &ChannelName, page: &mut Page) -> Result<(), Problem> {
        while let Some(last) = page.publications.last().map(|last| last.position)
            && last.offset + 1 < end
        {
            let next = self
                .engine()
                .history(channel, Since::After(last), READ_ON_COUNT)
                .await?;
            if next.gap.is_some() || next.publications.is_empty() {
                break;
            }
            page.publications.extend(next.publications);
            let fits = self.fitting(page.publications.iter().rev());
            page.publications.drain(..page.publications.len() - fits);
        }
        Ok(())
    }

    /// How many of the publications fit into one answer, from the first on; one always does.
    fn fitting<'a>(&self, publications: impl Iterator<Item = &'a Arc<Publication>>) -> usize {
        let mut bytes = 0;
        let bytes_max = self.limits().answer_bytes_max;
        let fits = publications.take_while(|publication| {
            let is_first = bytes == 0;
            bytes += Framed::of(publication).json().len();
            is_first || bytes <= bytes_max
        });
        fits.count()
    }
}

/// Leaves what comes before a position. Of another life of the log nothing is left that could: that is a gap, as it is
/// for a reader who comes with such a position.
fn end_before(page: &mut Page, before: &Position) {
    if before.epoch == page.top.epoch {
        page.publications
            .retain(|publication| publication.position.offset < before.offset);
        return;
    }
    page.publications.clear();
    page.gap.get_or_insert(Gap {
        from: *before,
        to: page.start,
    });
}
