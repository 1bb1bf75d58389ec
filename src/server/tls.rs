//! TLS: a certificate and its key from files, which may change while the server runs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::ProducesTickets;

/// How often the files are looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(10);

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What connections begin with. Those that have begun keep what they began with.
#[derive(Debug)]
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    /// Kept when the certificate changes, so that clients resume their sessions.
    tickets: Arc<dyn ProducesTickets>,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    stamp: Stamp,
    /// What was tried last and found to be wrong, which is not tried again until it changes.
    rejected: Option<Stamp>,
}

/// By what it is seen that the files have changed.
type Stamp = [Option<(SystemTime, u64, u64)>; 2];

/// Whether there was anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The files are as they were.
    Unchanged,
    /// New connections get the new certificate.
    Changed,
}

impl Tls {
    /// Reads a certificate with its chain and its private key, both in PEM.
    ///
    /// # Errors
    /// [`TlsError`] says which file is wrong, and why.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let stamp = stamp(cert_file, key_file);
        let tickets = ring::Ticketer::new().map_err(|error| TlsError(format!("no TLS tickets can be had: {error}")))?;
        let config = configure(cert_file, key_file, Arc::clone(&tickets))?;
        Ok(Self {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            tickets,
            current: Mutex::new(Current {
                acceptor: TlsAcceptor::from(config),
                stamp,
                rejected: None,
            }),
        })
    }

    /// Reads the files again, if they have changed. Connections that there are stay as they are.
    ///
    /// # Errors
    /// If what is there now cannot be used: nothing is changed then.
    pub fn reload(&self) -> Result<Reload, TlsError> {
        let stamp = stamp(&self.cert_file, &self.key_file);
        {
            let current = self.current();
            if stamp == current.stamp || Some(stamp) == current.rejected {
                return Ok(Reload::Unchanged);
            }
        }
        let configured = configure(&self.cert_file, &self.key_file, Arc::clone(&self.tickets));
        let mut current = self.current();
        match configured {
            Ok(config) => {
                current.acceptor = TlsAcceptor::from(config);
                current.stamp = stamp;
                current.rejected = None;
                Ok(Reload::Changed)
            }
            Err(error) => {
                current.rejected = Some(stamp);
                Err(error)
            }
        }
    }

    /// The same, telling the log.
    pub fn reload_and_tell(&self) {
        match self.reload() {
            Ok(Reload::Unchanged) => {}
            Ok(Reload::Changed) => tracing::info!(file = %self.cert_file.display(), "new TLS certificate"),
            Err(error) => tracing::error!(%error, "the TLS certificate stays as it was"),
        }
    }

    /// Looks at the files for ever. Cancel safe.
    pub(super) async fn look(&self) {
        loop {
            tokio::time::sleep(LOOK_PERIOD).await;
            self.reload_and_tell();
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.current().acceptor.clone()
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamp(cert_file: &Path, key_file: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    [cert_file, key_file].map(|path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    })
}

fn configure(
    cert_file: &Path,
    key_file: &Path,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |key: &str, path: &Path, why: &dyn fmt::Display| TlsError(format!("{key} = {}: {why}", path.display()));
    let wrong_cert = |why: &dyn fmt::Display| wrong("tls.cert_file", cert_file, why);
    let wrong_key = |why: &dyn fmt::Display| wrong("tls.key_file", key_file, why);
    let text = read(cert_file).map_err(|error| wrong_cert(&error))?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| wrong_cert(&error))?;
    if chain.is_empty() {
        return Err(wrong_cert(
            &"there is no certificate in it; it must be PEM, the server's own certificate first",
        ));
    }
    let text = read(key_file).map_err(|error| wrong_key(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            return wrong_key(&"there is no private key in it; it must be PEM");
        }
        wrong_key(&error)
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth();
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| wrong_cert(&format!("{error} (with {})", key_file.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = tickets;
    Ok(Arc::new(config))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is wrong with a certificate or its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("stamp", &self.stamp)
            .finish_non_exhaustive()
    }
}
