//! An HTTP/2 client over one connection: requests, and a WebSocket by extended CONNECT (RFC 8441).

use std::io;
use std::net::SocketAddr;

use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::deadline::within;
use super::frames::{self, Frame};

/// How much the client lets the server send on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    Usual,
    Bytes(u32),
}

/// What is sent of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    /// There is none.
    Nothing,
    Whole(&'a str),
    /// Nothing yet, and there is no end.
    Open,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    running: JoinHandle<Result<(), h2::Error>>,
}

/// One answer that goes on, or a WebSocket.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: RecvStream,
    sending: SendStream<Bytes>,
    pub(crate) input: Vec<u8>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr, window: Window) -> Self {
        let socket = TcpStream::connect(address).await.expect("a connection");
        socket.set_nodelay(true).expect("an open socket");
        let mut builder = h2::client::Builder::new();
        if let Window::Bytes(bytes) = window {
            builder.initial_window_size(bytes);
        }
        builder.initial_connection_window_size(16 * 1024 * 1024);
        let (sender, connection) = builder.handshake(socket).await.expect("a handshake");
        let running = tokio::spawn(connection);
        Self { sender, running }
    }

    /// Sends a request whose body is whole.
    pub(crate) async fn ask(&mut self, method: Method, target: &str, body: &str) -> Stream {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://localhost{target}"));
        let request = request.body(()).expect("a request");
        let body = if body.is_empty() {
            Sent::Nothing
        } else {
            Sent::Whole(body)
        };
        self.send(request, body).await.expect("an answer")
    }

    pub(crate) async fn get(&mut self, target: &str) -> Stream {
        self.ask(Method::GET, target, "").await
    }

    /// Publishes a string of so many letters, or less if it is short.
    pub(crate) async fn publish(&mut self, channel: &str, data: &str) {
        let body = serde_json::json!({"channel": channel, "data": data}).to_string();
        let answer = self.ask(Method::POST, "/v1/publish", &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.headers);
        answer.text().await;
    }

    /// Asks for a WebSocket, with these headers besides.
    pub(crate) async fn websocket(&mut self, target: &str, headers: &[(&str, &str)]) -> Stream {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("http://localhost{target}"))
            .header("sec-websocket-version", "13");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).expect("a request");
        request
            .extensions_mut()
            .insert(h2::ext::Protocol::from_static("websocket"));
        within("extended CONNECT allowed by the server", async {
            while !self.sender.is_extended_connect_protocol_enabled() {
                self.sender = self.sender.clone().ready().await.expect("an open connection");
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.send(request, Sent::Open).await.expect("an answer")
    }

    /// Sends a request, and waits for its answer.
    pub(crate) async fn send(&mut self, request: Request<()>, body: Sent<'_>) -> Result<Stream, h2::Error> {
        self.sender = within("a free stream", self.sender.clone().ready()).await?;
        let (answer, mut sending) = self.sender.send_request(request, body == Sent::Nothing)?;
        if let Sent::Whole(body) = body {
            sending.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        let answer: Response<RecvStream> = within("an answer", answer).await?;
        let (head, body) = answer.into_parts();
        Ok(Stream {
            status: head.status,
            headers: head.headers,
            body,
            sending,
            input: Vec::new(),
        })
    }

    /// Waits until the server has ended the connection in good order.
    pub(crate) async fn ended(self) {
        let running = self.running;
        drop(self.sender);
        within("the end of the connection", running)
            .await
            .expect("its task ends")
            .expect("in good order");
    }
}

impl Stream {
    /// Reads once, and makes room for as much again; `false` is the end.
    pub(crate) async fn read(&mut self) -> Result<bool, h2::Error> {
        match within("anything from the server", self.body.data()).await {
            Some(data) => {
                let data = data?;
                self.input.extend_from_slice(&data);
                let _ = self.body.flow_control().release_capacity(data.len());
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Reads once, and lets the server have no more room.
    pub(crate) async fn read_without_room(&mut self) -> Result<bool, h2::Error> {
        let data = within("anything from the server", self.body.data()).await;
        data.transpose().map(|data| data.is_some())
    }

    /// Reads until this has come.
    pub(crate) async fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.input).contains(text) {
            assert!(self.read().await.expect("more"), "it ended before {text:?}");
        }
    }

    /// All there is.
    pub(crate) async fn text(mut self) -> String {
        while self.read().await.expect("more") {}
        String::from_utf8(self.input).expect("text")
    }

    /// The next frame of a WebSocket; answers pings.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            match frames::take(&mut self.input)? {
                Some(Frame::Ping(payload)) => self.say(&frames::pong(&payload)),
                Some(frame) => return Ok(frame),
                None if self.read().await.map_err(io::Error::other)? => {}
                None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        }
    }

    /// The next text frame's text.
    pub(crate) async fn message(&mut self) -> String {
        match self.frame().await.expect("a frame") {
            Frame::Text(text) => text,
            other @ (Frame::Ping(_) | Frame::Pong | Frame::Close { .. }) => {
                panic!("{other:?} where a text was to come")
            }
        }
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.sending.send_data(bytes, false).expect("an open stream");
    }
}
