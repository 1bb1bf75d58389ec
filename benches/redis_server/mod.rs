//! What the benchmarks of the Redis engine share: a `redis-server` of their own, and engines on it.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use throughline::delivery::Health;
use throughline::engine::redis::Prefix;
use throughline::engine::{RedisEngine, RedisSettings, System};

/// A `redis-server` of its own; killed on drop.
pub(crate) struct Redis {
    pub(crate) port: u16,
    process: Child,
}

impl Redis {
    pub(crate) fn start() -> io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Self { port, process };
        while redis.cli(&["PING"])?.trim() != "PONG" {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(redis)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) fn cli(&self, words: &[&str]) -> io::Result<String> {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(words).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// An engine that has found Redis.
pub(crate) async fn engine(url: &str) -> io::Result<Arc<RedisEngine>> {
    let settings = RedisSettings {
        url: url.to_owned(),
        prefix: Prefix::default(),
    };
    let engine = Arc::new(RedisEngine::start(settings, Arc::new(System)).map_err(io::Error::other)?);
    while engine.check().is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(engine)
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
