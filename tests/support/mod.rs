//! What the wire tests share: a node in this process, clients over real sockets, and the model of the promise.
//!
//! Nothing here uses the server's own encoders or parsers: what a client sees is judged by code of its own.
#![allow(dead_code, reason = "each test uses its own part of this")]

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod crowd;
pub(crate) mod deadline;
pub(crate) mod draft;
pub(crate) mod edge;
pub(crate) mod event_source;
pub(crate) mod event_stream;
pub(crate) mod folder;
pub(crate) mod frames;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod link;
pub(crate) mod node;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod process;
#[macro_use]
pub(crate) mod promise;
pub(crate) mod proxy;
pub(crate) mod publisher;
pub(crate) mod push;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod redis_proxy;
pub(crate) mod redis_sentinel;
pub(crate) mod served;
pub(crate) mod service;
pub(crate) mod slow_motion;
pub(crate) mod text;
pub(crate) mod tokens;
pub(crate) mod traffic;
pub(crate) mod websocket;
pub(crate) mod whole_cursor;
pub(crate) mod written;
