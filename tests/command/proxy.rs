//! What stands between a command and a server: one that loses an answer, one that speaks TLS, one behind a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

/// Lets the first request through, and loses its answer after the server gave it.
#[derive(Debug)]
pub(crate) struct Cutting {
    address: SocketAddr,
    cuts: Arc<AtomicUsize>,
}

impl Cutting {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            lose_the_answer(client, server).await;
            counted.fetch_add(1, Ordering::SeqCst);
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server));
            }
        });
        Self { address, cuts }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many answers were lost.
    pub(crate) fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn lose_the_answer(mut client: TcpStream, server: SocketAddr) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut client_bytes, mut server_bytes) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut client_bytes) => server.write_all(&client_bytes[..read.unwrap()]).await.unwrap(),
            read = server.read(&mut server_bytes) => {
                assert!(read.unwrap() > 0, "an answer that can be lost");
                return;
            }
        }
    }
}

async fn pass(mut client: impl AsyncRead + AsyncWrite + Unpin, server: SocketAddr) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// Speaks TLS, with a certificate of its own for `localhost`.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) url: String,
    /// PEM.
    pub(crate) certificate: String,
}

impl Secure {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // One that does not believe us leaves.
                    if let Ok(client) = acceptor.accept(client).await {
                        pass(client, server).await;
                    }
                });
            }
        });
        Self {
            url,
            certificate: made.cert.pem(),
        }
    }
}

/// A socket in the file system that leads to the server.
pub(crate) fn socket_to(path: &Path, server: SocketAddr) {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, server));
        }
    });
}

/// A way to the server that can be cut and mended.
#[derive(Debug)]
pub(crate) struct Way {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Way {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, seen) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = seen.wait_for(|is_open| !is_open) => {}
                        () = pass(client, server) => {}
                    }
                });
            }
        });
        Self { address, is_open }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections, and those that come from now on.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}
