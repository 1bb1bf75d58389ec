//! From a request to the identity behind it.

use std::sync::Arc;

use axum::http::request;

use super::admission::visitor;
use super::carried::carried;
use super::credential::credential;
use crate::protocol::{Code, Problem, Secret};
use crate::session::Node;
use crate::session::identity::Identity;

/// Who sends this request, as whom the app says, where it is asked.
///
/// # Errors
/// What [`verify`], [`Visitor::may_ask`](crate::session::limits::Visitor::may_ask), [`carried`](super::carried()) and [`Node::admit`] say.
pub async fn identify(node: &Node, head: &request::Parts, in_body: Option<&Secret>) -> Result<Arc<Identity>, Problem> {
    let identity = verify(node, head, in_body).await?;
    let Some(hooks) = node.hooks().filter(|_| !identity.is_back_end()) else {
        return Ok(identity);
    };
    visitor(&head.extensions).may_ask()?;
    let carried = carried(head, &hooks)?;
    node.admit(identity, carried).await
}

/// Counts a request that reads: like a poll that does not wait, and before anything else is looked at.
///
/// # Errors
/// What [`Visitor::may_ask`](crate::session::limits::Visitor::may_ask) says.
pub fn count_reading(head: &request::Parts) -> Result<(), Problem> {
    visitor(&head.extensions).may_ask()
}

/// Who sends this request, by what it shows alone: no app is asked. Where no authority is configured, that is anybody,
/// and what it shows is not looked at.
///
/// # Errors
/// What [`credential`](super::credential()) and [`Node::identify`] say.
pub async fn verify(node: &Node, head: &request::Parts, in_body: Option<&Secret>) -> Result<Arc<Identity>, Problem> {
    let authority = node.authority();
    let cookie_name = authority.as_deref().and_then(|authority| authority.cookie.as_deref());
    let shown = credential(head, in_body, cookie_name);
    if authority.is_none() {
        // Only an offer that a browser could not take an answer to is refused all the same.
        return match shown {
            Err(problem) if problem.code == Code::BadRequest => Err(problem),
            _ => Ok(Arc::clone(node.anybody())),
        };
    }
    let shown = shown.inspect_err(|problem| {
        if problem.code == Code::TokenInvalid {
            node.metrics().note_unbelieved("ambiguous");
        }
    });
    node.identify(shown?.as_ref()).await
}
