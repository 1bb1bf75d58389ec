//! `POST /v1/publish`: one publication, one for several channels, or a batch.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;

use crate::http;
use crate::protocol::{
    Code, Item, ItemResult, Object, Problem, PublishRequest, RawBody, answer_one, answer_refused, read_header_key,
    read_publish, read_query, read_raw,
};
use crate::session::Node;
use crate::session::identity::Identity;
use crate::session::limits::Visitor;

pub(super) async fn publish(State(node): State<Arc<Node>>, request: Request) -> Result<Response, Problem> {
    let visitor = http::visitor(request.extensions());
    let count = |problem: &Problem| node.metrics().note_published(problem.code.as_str());
    let (identity, asked) = admit(&node, &visitor, request).await.inspect_err(count)?;
    let visitor = visitor.identified(identity.caller());
    let answer = match asked {
        PublishRequest::One(item) => {
            visitor.publish(&item.channel).inspect_err(count)?;
            let channel = item.channel.clone();
            answer_one(&channel, &node.publish_one(&identity, item).await?)
        }
        PublishRequest::Many(items) => {
            let admit = |item: Item| match visitor.publish(&item.channel) {
                Ok(()) => Ok(item),
                Err(problem) => Err((item.channel.to_string(), problem)),
            };
            if items.is_empty() {
                visitor.request()?;
            }
            // What cannot be read counts as what can, so that it is not asked for without end.
            let unread = |item: ItemResult| item.inspect_err(|(_, problem)| visitor.note_refused(problem));
            let items = items.into_iter().map(unread).map(|item| item.and_then(admit));
            let items = items
                .map(|item| item.inspect_err(|(_, problem)| count(problem)))
                .collect();
            publish_many(&node, &identity, items).await?
        }
    };
    Ok(http::json(answer))
}

/// Who publishes, and what, if that can be read.
async fn admit(node: &Node, visitor: &Visitor, request: Request) -> Result<(Arc<Identity>, PublishRequest), Problem> {
    // Before anything of the body is kept or understood: who may not publish costs no more than its bytes.
    if let Err(problem) = visitor.may_publish() {
        http::discard_body(request, node.limits().body_bytes_max).await;
        return Err(problem);
    }
    let (head, body) = request.into_parts();
    let identified = http::identify(node, &head, None).await;
    let request = Request::from_parts(head, body);
    let identity = match identified {
        Ok(identity) => identity,
        Err(problem) => {
            visitor.note_refused(&problem);
            http::discard_body(request, node.limits().body_bytes_max).await;
            return Err(problem);
        }
    };
    let asked = read(node, request)
        .await
        .inspect_err(|problem| visitor.note_refused(problem))?;
    Ok((identity, asked))
}

async fn read(node: &Node, request: Request) -> Result<PublishRequest, Problem> {
    let (head, body) = http::read_body(request, node.limits().body_bytes_max).await?;
    understand(node, &head.headers, head.uri.query().unwrap_or_default(), &body)
}

fn understand(node: &Node, headers: &HeaderMap, query: &str, body: &Bytes) -> Result<PublishRequest, Problem> {
    let key = http::text_header(headers, "idempotency-key")?;
    let key = key.as_deref().map(read_header_key).transpose()?;
    let media_type = http::media_type(headers);
    // Without a type, or with the one that curl makes up, the body is what most bodies are.
    if matches!(
        &*media_type,
        "" | "application/json" | "application/x-www-form-urlencoded"
    ) {
        return read_publish(body, key.as_deref(), &node.limits());
    }
    let (mut channel, mut event) = (None, None);
    for (name, value) in read_query(query)? {
        match &*name {
            "channel" => channel = Some(value.into_owned()),
            "event" => event = Some(value.into_owned()),
            _ => {}
        }
    }
    let Some(channel) = channel else {
        let detail = format!("a body of type {media_type} needs its channel in the query: ?channel=NAME; or send JSON");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    };
    let raw = if media_type.ends_with("+json") {
        RawBody::Json(body)
    } else {
        RawBody::Text(body)
    };
    read_raw(raw, &channel, (event, key), &node.limits())
}

async fn publish_many(node: &Node, identity: &Identity, items: Vec<ItemResult>) -> Result<String, Problem> {
    let channels: Vec<_> = items
        .iter()
        .map(|item| item.as_ref().map(|item| item.channel.clone()).map_err(Clone::clone))
        .collect();
    let accepted: Vec<Item> = items.into_iter().flatten().collect();
    let mut stored = node.publish(identity, accepted).await?.into_iter();
    let answers = channels.into_iter().map(|channel| match channel {
        Ok(channel) => match stored.next() {
            Some(Ok(published)) => answer_one(&channel, &published),
            Some(Err(problem)) => answer_refused(channel.as_str(), &problem),
            None => answer_refused(channel.as_str(), &unanswered()),
        },
        Err((channel, problem)) => answer_refused(&channel, &problem),
    });
    Ok(Object::new().array("results", answers).finish())
}

fn unanswered() -> Problem {
    Problem::new(
        Code::EngineUnavailable,
        "the engine gave no answer for this publication",
    )
    .retry_after_ms(1000)
}
