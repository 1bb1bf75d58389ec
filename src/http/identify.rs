//! From a request to the identity behind it.

use std::sync::Arc;

use axum::http::request;

use super::credential::credential;
use crate::protocol::{Code, Problem, Secret};
use crate::session::Node;
use crate::session::identity::Identity;

/// Who sends this request. Where no authority is configured, that is anybody, and what it shows is not looked at.
///
/// # Errors
/// What [`credential`](super::credential()) and [`Node::identify`] say.
pub async fn identify(node: &Node, head: &request::Parts, in_body: Option<&Secret>) -> Result<Arc<Identity>, Problem> {
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
    node.identify(shown?.as_ref()).await
}
