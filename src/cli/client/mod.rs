//! The client side of the command line: one stream of pushes, whichever the transport.
//!
//! In reading order: [`connect`] has the flags, [`url`] says where the server is, [`tls`] whether to believe it, and
//! [`peer`] reaches it; [`http`] asks it, and [`websocket`], [`event_source`] (with
//! the parser [`event_stream`]) and [`poll`] turn what it answers into [`arrival`]s of [`push`]es, behind one
//! [`transport`]. [`cursor`] keeps a [`place`] with its [`position`] for every channel, and checks the server's promise
//! against it; [`reconnect`] makes one stream of it all, at the pace of [`backoff`].
//! Every wait has its [`deadline`], every way to fail is a [`failure`], and [`terminal`] is where it is said.
//!
//! Nothing here knows the server's code: the client reads the protocol as any stranger's client would.

pub(crate) mod arrival;
pub(crate) mod backoff;
pub(crate) mod connect;
pub(crate) mod cursor;
pub(crate) mod deadline;
pub(crate) mod event_source;
pub(crate) mod event_stream;
pub(crate) mod failure;
pub(crate) mod http;
pub(crate) mod peer;
pub(crate) mod place;
pub(crate) mod poll;
pub(crate) mod position;
pub(crate) mod push;
pub(crate) mod reconnect;
pub(crate) mod terminal;
pub(crate) mod tls;
pub(crate) mod transport;
pub(crate) mod url;
pub(crate) mod websocket;

pub(crate) use connect::Connect;
pub(crate) use cursor::Cursor;
pub(crate) use failure::Failure;
pub(crate) use peer::Peer;
pub(crate) use reconnect::{Happening, pushes};
pub(crate) use transport::Transport;
pub(crate) use url::Target;
