//! The yardstick: a process that does nothing but write the same bytes to every socket, one `write()` each.
//!
//! Its first connection controls it: the number of subscribers and the frame, then one byte for every round.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// The hidden argument that makes the benchmark's binary this process.
pub(crate) const ARGUMENT: &str = "--bare-loop-of-write";

/// The control connection's other end.
pub(crate) struct Control(TcpStream);

impl Control {
    pub(crate) fn connect(address: SocketAddr, subscribers: usize, frame: &[u8]) -> io::Result<Control> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&(subscribers as u64).to_be_bytes())?;
        stream.write_all(&(frame.len() as u64).to_be_bytes())?;
        stream.write_all(frame)?;
        Ok(Control(stream))
    }

    /// Lets it write the frame once to every subscriber.
    pub(crate) fn round(&mut self) -> io::Result<()> {
        self.0.write_all(b".")
    }
}

/// The process itself; ends with its control connection.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stderr(), "http://{}", listener.local_addr()?)?;
    let (mut control, _) = listener.accept()?;
    let subscribers = length(&mut control)?;
    let mut frame = vec![0; length(&mut control)?];
    control.read_exact(&mut frame)?;
    let mut sockets = Vec::with_capacity(subscribers);
    while sockets.len() < subscribers {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let mut order = [0];
    while control.read_exact(&mut order).is_ok() {
        for socket in &mut sockets {
            if socket.write(&frame)? < frame.len() {
                return Err(io::Error::other("a short write"));
            }
        }
    }
    Ok(())
}

fn length(control: &mut TcpStream) -> io::Result<usize> {
    let mut bytes = [0; 8];
    control.read_exact(&mut bytes)?;
    usize::try_from(u64::from_be_bytes(bytes)).map_err(io::Error::other)
}
