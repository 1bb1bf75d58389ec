//! `GET /v1/presence`: who is on a channel, or only how many.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use crate::delivery::ChannelName;
use crate::http;
use crate::protocol::{self, Code, PresenceQuery, Problem};
use crate::session::Node;

pub(super) async fn presence(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let (head, _) = request.into_parts();
    http::count_reading(&head)?;
    let identity = http::identify(&node, &head, None).await?;
    let query = read_query(head.uri.query().unwrap_or_default())?;
    Ok(http::json(node.presence(&identity, query).await?.to_json()))
}

fn read_query(query: &str) -> Result<PresenceQuery, Problem> {
    let (mut channel, mut members) = (None, None);
    for (name, value) in protocol::read_query(query)? {
        match &*name {
            "channel" => channel = Some(ChannelName::parse(&value)?),
            "members" => {
                let bad = || {
                    let detail = format!("`members` must be how many to list, 0 for their number alone, not {value:?}");
                    Problem::new(Code::BadRequest, detail)
                };
                members = Some(value.parse().map_err(|_| bad())?);
            }
            _ => {}
        }
    }
    let channel = channel.ok_or_else(|| Problem::new(Code::BadRequest, "no channel is named; add `?channel=NAME`"))?;
    Ok(PresenceQuery { channel, members })
}
