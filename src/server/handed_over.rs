//! Sockets that a service manager hands over: `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES` (`sd_listen_fds(3)`).

use std::io;

use listenfd::ListenFd;

use super::Listener;

/// The listeners that were handed to this process, TCP and Unix alike; none if there are none. To be asked once: what
/// was taken is not there any more. Must be called inside a tokio runtime.
///
/// # Errors
/// If one of them is no socket that listens for a stream.
pub fn handed_over() -> io::Result<Vec<Listener>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut descriptors = ListenFd::from_env();
    let listeners = (0..descriptors.len()).map(|at| {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unnamed");
        take(&mut descriptors, at)
            .map_err(|error| io::Error::new(error.kind(), format!("the socket {at} ({name}): {error}")))
    });
    listeners.collect()
}

fn take(descriptors: &mut ListenFd, at: usize) -> io::Result<Listener> {
    if let Ok(Some(listener)) = descriptors.take_tcp_listener(at) {
        listens(&socket2::SockRef::from(&listener))?;
        return Listener::try_from(listener);
    }
    match descriptors.take_unix_listener(at) {
        Ok(Some(listener)) => {
            listens(&socket2::SockRef::from(&listener))?;
            Listener::try_from(listener)
        }
        Ok(None) | Err(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a TCP nor a Unix stream socket; in a socket unit, use ListenStream=",
        )),
    }
}

fn listens(socket: &socket2::Socket) -> io::Result<()> {
    if socket.is_listener()? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "it does not listen; in a socket unit, use Accept=no",
    ))
}
