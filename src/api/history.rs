//! `GET /v1/history`: reads a channel's window.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use crate::http;
use crate::protocol::{self, Code, HistoryQuery, Problem};
use crate::session::Node;

pub(super) async fn history(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    http::count_reading(&head)?;
    let identity = http::identify(&node, &head, None).await?;
    let query = read_query(head.uri.query().unwrap_or_default())?;
    Ok(http::json(node.history(&identity, query).await?.to_json()))
}

fn read_query(query: &str) -> Result<HistoryQuery, Problem> {
    let (mut channel, mut since, mut before, mut limit) = (None, None, None, None);
    for (name, value) in protocol::read_query(query)? {
        match &*name {
            "channel" if channel.is_some() => {
                let detail = "`channel` is there more than once; a history is of one channel";
                return Err(Problem::new(Code::BadRequest, detail));
            }
            "channel" => channel = Some(value.into_owned()),
            "since" => since = Some(value.into_owned()),
            "before" => before = Some(value.into_owned()),
            "limit" => {
                let bad = || {
                    Problem::new(
                        Code::BadRequest,
                        format!("`limit` must be a whole number, not {value:?}"),
                    )
                };
                limit = Some(value.parse().map_err(|_| bad())?);
            }
            _ => {}
        }
    }
    let channel = channel.ok_or_else(|| Problem::new(Code::BadRequest, "no channel is named; add `?channel=NAME`"))?;
    HistoryQuery::read(&channel, since.as_deref(), before.as_deref(), limit)
}
