//! Listeners: TCP and Unix sockets, bound here or handed over.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::config::{Address, Connections};
use crate::http::{Peer, Stream};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Something that accepts connections. Dropping it closes it; a Unix socket that was bound here is then removed.
///
/// One that was handed over is made from the standard library's listener, by `try_from`; its file is left alone.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    _file: Option<File>,
    is_handed_over: bool,
    is_for_operators: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds an address. Must be called inside a tokio runtime.
    ///
    /// The file of a Unix socket at which nobody listens any more is replaced; everything else that is there is left
    /// alone.
    ///
    /// # Errors
    /// What the system says, for an address in use, say.
    pub fn bind(address: &Address, connections: &Connections) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None)?;
                socket.set_reuse_address(true)?;
                socket.set_reuse_port(connections.reuse_port)?;
                socket.set_nonblocking(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(BACKLOG)?;
                let listener = Self::try_from(std::net::TcpListener::from(socket))?;
                Ok(Self {
                    is_handed_over: false,
                    ..listener
                })
            }
            Address::Unix(path) => {
                make_room(path)?;
                let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
                socket.set_nonblocking(true)?;
                socket.bind(&socket2::SockAddr::unix(path)?)?;
                let file = File::new(path)?;
                // Before it listens, so that nobody can connect who may not.
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode(connections)?))?;
                socket.listen(BACKLOG)?;
                let listener = Self::try_from(std_unix::UnixListener::from(socket))?;
                Ok(Self {
                    _file: Some(file),
                    is_handed_over: false,
                    ..listener
                })
            }
        }
    }

    /// The same, for operators alone: `/livez`, `/readyz` and `/metrics` are there, and no longer at the others.
    #[must_use]
    pub fn for_operators(self) -> Self {
        Self {
            is_for_operators: true,
            ..self
        }
    }

    /// Whether operators alone connect to it.
    pub(super) fn is_for_operators(&self) -> bool {
        self.is_for_operators
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<Address> {
        match &self.socket {
            Socket::Tcp(listener) => Ok(Address::Tcp(listener.local_addr()?)),
            Socket::Unix(listener) => {
                let address = listener.local_addr()?;
                Ok(Address::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned()))
            }
        }
    }

    /// Whether somebody else has the socket too, and will give it to this process's successor.
    pub(super) fn is_handed_over(&self) -> bool {
        self.is_handed_over
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Peer::from(address)))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::LOCAL))
            }
        }
    }
}

impl TryFrom<std::net::TcpListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::Tcp(TcpListener::from_std(listener)?),
            _file: None,
            is_handed_over: true,
            is_for_operators: false,
        })
    }
}

impl TryFrom<std_unix::UnixListener> for Listener {
    type Error = io::Error;

    fn try_from(listener: std_unix::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            socket: Socket::Unix(UnixListener::from_std(listener)?),
            _file: None,
            is_handed_over: true,
            is_for_operators: false,
        })
    }
}

fn mode(connections: &Connections) -> io::Result<u32> {
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "connections.unix_mode is no file mode in octal",
        )
    };
    connections.unix_mode().ok_or_else(wrong)
}

/// Removes the file of a socket at which nobody listens.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why.to_owned()));
    if !found.file_type().is_socket() {
        return in_use("there is a file which is no socket; it is not replaced");
    }
    match std_unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => in_use("another process listens there"),
    }
}

/// The file of a Unix socket that was bound here: removed in the end, unless another one stands in its place.
#[derive(Debug)]
struct File {
    path: PathBuf,
    inode: u64,
}

impl File {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: std::fs::symlink_metadata(path)?.ino(),
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let is_ours = |found: std::fs::Metadata| found.ino() == self.inode;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the file of a Unix socket stays behind");
        }
    }
}
