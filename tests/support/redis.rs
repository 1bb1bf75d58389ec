//! A real `redis-server` of a test's own, which can be stopped, paused, killed, emptied and asked.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use throughline::delivery::Health;
use throughline::engine::redis::Prefix;
use throughline::engine::{RedisEngine, RedisSettings, System};
use tokio::time::Instant;

use super::deadline::{PATIENCE, until};

/// A running `redis-server`; dropping it kills it and removes its files.
#[derive(Debug)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    folder: PathBuf,
    options: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts one that writes what it has to disk when it is told to.
    pub(crate) async fn start(options: &[&str]) -> Self {
        // A port that was free a moment ago may be taken by now: then another.
        for _ in 0..10 {
            let mut redis = Self::at(free_port(), options);
            redis.launch();
            if redis.is_answering().await {
                return redis;
            }
        }
        panic!("redis-server does not start; is it installed? scripts/test installs it");
    }

    fn at(port: u16, options: &[&str]) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("throughline-redis-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("clock"), 0_i64.to_le_bytes()).unwrap();
        Self {
            port,
            folder,
            options: options.iter().map(ToString::to_string).collect(),
            process: None,
        }
    }

    /// Starts the process, with the data that it had, if it saved any.
    pub(crate) fn launch(&mut self) {
        let mut command = Command::new(server());
        command
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(&self.folder)
            .args(&self.options)
            .env("SHIFTED_CLOCK_FILE", self.folder.join("clock"))
            .env("LD_PRELOAD", shifted_clock())
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.folder.join("log")).unwrap());
        self.process = Some(command.spawn().expect("redis-server; scripts/test installs it"));
    }

    /// Waits until it answers; `false` if it has ended instead.
    pub(crate) async fn is_answering(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self
                .process
                .as_mut()
                .is_none_or(|process| process.try_wait().unwrap().is_some())
            {
                return false;
            }
            if let Ok(mut connection) = self.try_connect().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server did not answer within {PATIENCE:?}");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub(crate) async fn try_connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?
            .get_multiplexed_async_connection()
            .await
    }

    /// Asks it something, over a connection that has nothing to do with what is tested.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        // A Sentinel that makes another the primary cuts all connections, those that are being made, too.
        let began = std::time::Instant::now();
        loop {
            let asked = async { command.query_async(&mut self.try_connect().await?).await };
            match asked.await {
                Ok(answer) => return answer,
                Err(error) if error.is_io_error() && began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{words:?}: {error}"),
            }
        }
    }

    /// Moves its wall clock on.
    pub(crate) fn pass_ms(&self, ms: u64) {
        let path = self.folder.join("clock");
        let shift = i64::from_le_bytes(fs::read(&path).unwrap().try_into().unwrap());
        let shift = shift + i64::try_from(ms).unwrap();
        // In place: the process has the file mapped.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &shift.to_le_bytes(), 0).unwrap();
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it without ending it: connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.as_ref().expect("a process").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(status.unwrap().success(), "kill -{name} {pid}");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The program: Redis of the system, or another that `THROUGHLINE_TEST_REDIS_SERVER` names, such as a Valkey.
pub(crate) fn server() -> std::ffi::OsString {
    std::env::var_os("THROUGHLINE_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into())
}

/// An engine that has found where its logs are kept.
pub(crate) async fn engine(url: &str) -> Arc<RedisEngine> {
    engine_under(url, Prefix::default()).await
}

/// The same, whose keys begin with this.
pub(crate) async fn engine_under(url: &str, prefix: Prefix) -> Arc<RedisEngine> {
    let settings = RedisSettings {
        url: url.to_owned(),
        prefix,
    };
    let engine = Arc::new(RedisEngine::start(settings, Arc::new(System)).unwrap());
    until("Redis", || engine.check().is_ok()).await;
    engine
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The library that shifts the clock, compiled once for each run of tests.
fn shifted_clock() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let library =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shifted-clock-{}.so", std::process::id()));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/shifted_clock.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .status();
        assert!(compiled.expect("a C compiler; scripts/test installs one").success());
        library
    })
}
