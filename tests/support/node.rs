//! One node of Throughline in this process, on a port that the system chose.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use throughline::Edge;
use throughline::config::{Address, Auth, Config, Connections, Hooks};
use throughline::delivery::{Ack, Engine, Health, LogPolicy};
use throughline::http::{HttpClient, OriginPattern};
use throughline::protocol::Limits;
use throughline::server::{self, Listener, Settings, Tls};
use throughline::session::identity::FetchKeys;
use throughline::session::limits::{Clock, RateSettings};
use throughline::session::policy::{Policies, Policy};
use throughline::session::presence::PresenceSettings;
use throughline::transport::Timings;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::deadline::within;

/// What a node is started with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) window: LogPolicy,
    pub(crate) limits: Limits,
    pub(crate) timings: Timings,
    /// The kernel's send buffer for each connection; 0 leaves it to the kernel.
    pub(crate) send_buffer_bytes: usize,
    pub(crate) connections: Connections,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) drain_window: Duration,
    /// Shared by several nodes, or moved by the test; absent: the node's own memory.
    pub(crate) engine: Option<Arc<dyn Engine>>,
    /// How much each client may do, once and for all, for buckets do not refill; absent: whatever it wants.
    pub(crate) rates: Option<RateSettings>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The origins whose pages may ask; none: the same origin.
    pub(crate) origins: &'static [&'static str],
    /// Whether that engine can do its work.
    pub(crate) health: Option<Arc<dyn Health>>,
    /// Who may come in; unless told, everybody.
    pub(crate) auth: Auth,
    /// How presence is kept, if it is.
    pub(crate) presence: Option<PresenceSettings>,
    /// What namespaces allow, where that is not the same for all.
    pub(crate) policies: Option<Policies>,
    /// Which app is asked; unless told, none.
    pub(crate) hooks: Hooks,
    /// By which the app's answers grow old; absent: the machine's.
    pub(crate) clock: Option<Clock>,
}

impl Default for Setup {
    /// No heartbeat and no deadline of the server's strikes while a test waits, and nothing is too old.
    fn default() -> Self {
        Self {
            window: LogPolicy {
                count_max: 1_000,
                bytes_max: 1 << 30,
                age_ms_max: 24 * 60 * 60 * 1000,
                position_ttl_ms: 24 * 60 * 60 * 1000,
            },
            limits: Limits::default(),
            timings: Timings {
                heartbeat_ms: 600_000,
                write_timeout_ms: 600_000,
            },
            send_buffer_bytes: 0,
            connections: Connections::default(),
            tls: None,
            drain_window: Duration::from_millis(500),
            engine: None,
            rates: None,
            trusted_proxies: Vec::new(),
            origins: &[],
            health: None,
            auth: Auth::default(),
            presence: None,
            policies: None,
            hooks: Hooks::default(),
            clock: None,
        }
    }
}

impl Setup {
    /// With the `[auth]` of this text, where `{keys}` is the folder of the keys for tests.
    pub(crate) fn auth(text: &str) -> Self {
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/keys");
        let auth = toml::from_str(&text.replace("{keys}", keys)).expect("an [auth] that can be read");
        Self {
            auth,
            ..Self::default()
        }
    }

    /// With the `[auth]` and the `[[namespaces]]` of a configuration, and its rates where a namespace has some.
    pub(crate) fn configured(text: &str) -> Self {
        let config = read_config(text);
        let has_rates = text.contains("_per_s");
        Self {
            rates: has_rates.then(|| config.rates()),
            policies: Some(config.policies()),
            auth: config.auth,
            ..Self::default()
        }
    }

    /// The same, whose publishers are answered when this is true.
    pub(crate) fn acknowledging(self, ack: Ack) -> Self {
        let policy = Policy {
            ack,
            ..Policy::granted(self.window)
        };
        Self {
            policies: Some(Policies::uniform(policy)),
            ..self
        }
    }

    /// A window of so many publications.
    pub(crate) fn window(count_max: usize) -> Self {
        let default = Self::default();
        let window = LogPolicy {
            count_max,
            ..default.window
        };
        Self { window, ..default }
    }
}

/// A configuration that is well.
pub(crate) fn read_config(text: &str) -> Config {
    let config: Config = toml::from_str(text).expect("a configuration that can be read");
    assert_eq!(config.faults(), [], "{text}");
    config
}

/// A running node; dropping it stops it at once.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    edge: Edge,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Node {
    pub(crate) fn start(setup: Setup) -> Self {
        Self::start_at(IpAddr::from([127, 0, 0, 1]), setup)
    }

    /// At another of this machine's addresses.
    pub(crate) fn start_at(ip: IpAddr, setup: Setup) -> Self {
        let mut builder = Edge::builder()
            .window(setup.window)
            .limits(setup.limits)
            .timings(setup.timings)
            .trusted_proxies(setup.trusted_proxies)
            .origins(
                setup
                    .origins
                    .iter()
                    .map(|text| text.parse::<OriginPattern>().expect("an origin"))
                    .collect(),
            );
        if let Some(engine) = setup.engine {
            builder = builder.engine(engine);
        }
        if let Some(rates) = setup.rates {
            // The clock stands still: nothing comes back, however long a test takes.
            let clock = Arc::new(|| Duration::ZERO);
            builder = builder.rates(rates).clock(clock);
        }
        if let Some(health) = setup.health {
            builder = builder.health(health);
        }
        if let Some(presence) = setup.presence {
            builder = builder.presence(presence);
        }
        if let Some(clock) = setup.clock {
            builder = builder.clock(clock);
        }
        assert_eq!(setup.hooks.faults(), [], "[hooks] that are right");
        if let Some(hooks) = setup.hooks.settings(setup.limits.publication_bytes_max) {
            builder = builder.hooks(hooks);
        }
        if let Some(policies) = setup.policies {
            builder = builder.policies(policies);
        }
        let fetch: Arc<dyn FetchKeys> = Arc::new(HttpClient::default());
        if let Some(authority) = setup.auth.authority(&fetch).expect("an [auth] that is right") {
            builder = builder.authority(authority);
        }
        let edge = builder.build();
        let connections = Connections {
            send_buffer_bytes: setup.send_buffer_bytes,
            heartbeat_ms: setup.timings.heartbeat_ms,
            write_timeout_ms: setup.timings.write_timeout_ms,
            ..setup.connections
        };
        let anywhere = Address::Tcp(SocketAddr::from((ip, 0)));
        let listener = Listener::bind(&anywhere, &connections).expect("a port that is free");
        let Ok(Address::Tcp(address)) = listener.address() else {
            panic!("a listener has an address");
        };
        let (stop, stopped) = oneshot::channel();
        let serving = edge.clone();
        let running = tokio::spawn(async move {
            let shutdown = async {
                // An error is a node that was dropped, whose task is aborted.
                let _ = stopped.await;
            };
            let settings = Settings {
                connections,
                drain_window: setup.drain_window,
                tls: setup.tls,
            };
            server::run(vec![listener], serving, settings, shutdown).await;
        });
        Self {
            address,
            edge,
            stop: Some(stop),
            running,
        }
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.edge.node().registry().count()
    }

    /// The node as the library has it.
    pub(crate) fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The first signal: from now on it drains.
    pub(crate) fn begin_shutdown(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Waits until a node that was told to stop has stopped.
    pub(crate) async fn stopped(mut self) {
        within("the end of the node", &mut self.running)
            .await
            .expect("it ends well");
    }

    /// Sends its sessions away and returns when they are gone, but stays: new ones are refused for good.
    pub(crate) async fn refuse_sessions(&self) {
        within("the end of all sessions", self.edge.node().drain(Duration::ZERO)).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.running.abort();
    }
}
