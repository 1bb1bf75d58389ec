//! Real reverse proxies, started with the configurations that come with the project; only the addresses are changed.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;

use super::deadline::within;

/// How often a port is tried.
const ATTEMPTS_MAX: usize = 5;

/// Which proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

/// A running proxy; ended on drop.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    kind: Kind,
    process: Child,
    folder: PathBuf,
}

impl Kind {
    fn configuration(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::Caddy => "Caddyfile",
        }
    }

    fn command(self, folder: &Path) -> Command {
        let file = folder.join(self.configuration());
        let mut command;
        match self {
            Self::Nginx => {
                command = Command::new("nginx");
                command
                    .arg("-p")
                    .arg(folder)
                    .arg("-c")
                    .arg(file)
                    .args(["-g", "daemon off;"]);
            }
            Self::Haproxy => {
                command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file);
            }
            Self::Caddy => {
                command = Command::new("caddy");
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
                command
                    .env("HOME", folder)
                    .env("XDG_DATA_HOME", folder)
                    .env("XDG_CONFIG_HOME", folder);
            }
        }
        command
    }

    /// Starts it in front of a node that says how it is where it is asked for everything, and waits until it takes
    /// connections.
    pub(crate) async fn start(self, node: SocketAddr) -> Proxy {
        self.start_checking(node, node).await
    }

    /// The same, with the port at which the node says how it is.
    pub(crate) async fn start_checking(self, node: SocketAddr, health: SocketAddr) -> Proxy {
        let mut attempts = 0;
        loop {
            let mut proxy = self.spawn(node, health);
            attempts += 1;
            let ended = within("the proxy", proxy.listens()).await;
            if !ended {
                return proxy;
            }
            // Somebody may have taken its port, which was free a moment ago.
            assert!(attempts < ATTEMPTS_MAX, "{self:?} ended: {}", proxy.log());
        }
    }

    fn spawn(self, node: SocketAddr, health: SocketAddr) -> Proxy {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("throughline-proxy-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder can be made");
        let address = free_address();
        let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("packaging/proxies");
        let text = fs::read_to_string(sources.join(self.configuration())).expect("the configuration is there");
        assert!(text.contains("127.0.0.1:8000") && text.contains(":8080"));
        let text = text.replace("127.0.0.1:8000", &node.to_string());
        let text = text.replace(":8080", &format!(":{}", address.port()));
        let text = text.replace("port 9000", &format!("port {}", health.port()));
        fs::write(folder.join(self.configuration()), text).expect("a file can be written");
        let log = fs::File::create(folder.join("log")).expect("a file can be made");
        let also = log.try_clone().expect("a file can be shared");
        let spawned = self
            .command(&folder)
            .stdin(Stdio::null())
            .stdout(also)
            .stderr(log)
            .spawn();
        let process = spawned.unwrap_or_else(|error| panic!("{self:?}: {error}; scripts/test installs it"));
        Proxy {
            address,
            kind: self,
            process,
            folder,
        }
    }
}

impl Proxy {
    /// Waits until it takes connections; says whether it has ended instead.
    async fn listens(&mut self) -> bool {
        while TcpStream::connect(self.address).await.is_err() {
            if self.process.try_wait().expect("its state can be asked").is_some() {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let log = fs::File::open(self.folder.join("log"));
        // Only said beside a failure; that there is nothing to say is no failure of its own.
        let _ = log.and_then(|mut log| log.read_to_string(&mut text));
        text
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.kind == Kind::Nginx {
            // Its master ends its workers at once at SIGTERM, but not if it is killed.
            let id = self.process.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &id]).status();
        } else {
            // At SIGTERM Caddy would wait for connections that this process holds.
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port that is free");
    listener.local_addr().expect("a listener has an address")
}
