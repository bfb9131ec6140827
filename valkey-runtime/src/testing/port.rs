//! Ports of this machine, reserved for as long as a test needs them.
//!
//! They are below the range that the system uses for outgoing connections. A port in that range may
//! be the local end of a connection when a server returns to it. A client that keeps trying such a
//! port while nothing listens can even connect to itself, by TCP's simultaneous open.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

use tokio::net::TcpSocket;

/// Outgoing connections use ports from 32768 on Linux, and from 49152 on other systems.
const PORTS: Range<u16> = 10_000..32_000;

/// A port of 127.0.0.1 that refuses connections while this value exists, for tests without a
/// server.
///
/// A bound socket that does not listen reserves it, so no other program gets it. A port that is
/// merely free may be taken before the test connects.
///
/// ```
/// use valkey_runtime::testing::ClosedPort;
/// use valkey_runtime::{ErrorKind, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let nobody = ClosedPort::new();
/// let store = Store::builder().url(&nobody.url()).require_server();
/// let error = store.connect().await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Connection);
/// # }
/// ```
#[derive(Debug)]
pub struct ClosedPort {
    number: u16,
    _held: TcpSocket,
}

impl ClosedPort {
    /// Takes a free port.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn new() -> Self {
        let (held, number) = hold();
        Self {
            number,
            _held: held,
        }
    }

    /// The port number.
    pub fn port(&self) -> u16 {
        self.number
    }

    /// The address with [`ClosedPort::port`].
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// The URL of the port for a store.
    pub fn url(&self) -> String {
        format!("valkey://127.0.0.1:{}/", self.number)
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// A port on which the kit listens now and then, for a server that is killed and restarted, or a
/// proxy that refuses.
///
/// On Linux it is also reserved in between. There a socket may listen beside one that is bound and
/// does not listen, if both have `SO_REUSEADDR`. The reserving socket gets that option after
/// binding, so it never shares a port with another program. On other systems the port may be lost
/// while nothing listens.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Option<TcpSocket>,
}

impl Port {
    /// Reserves a free port.
    pub fn free() -> Self {
        let (held, number) = hold();
        Self {
            number,
            _held: cfg!(target_os = "linux").then_some(held),
        }
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Listens on the port until the listener is dropped.
    pub fn listen(&self) -> io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// A port to which no other socket is bound, and the socket that reserves it.
fn hold() -> (TcpSocket, u16) {
    for attempt in 0..1_000 {
        // Each hasher of the standard library has a random key.
        let random = RandomState::new().hash_one(attempt) % PORTS.len() as u64;
        let number = PORTS.start + random as u16;
        if let Ok(socket) = bind(number) {
            return (socket, number);
        }
    }
    panic!("no free port among {PORTS:?} on 127.0.0.1");
}

fn bind(number: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, number).into())?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn refuses(number: u16) -> bool {
        let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, number));
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    #[test]
    fn a_closed_port_refuses_and_is_given_to_nobody_else() {
        let port = ClosedPort::new();
        assert!(refuses(port.port()));
        assert!(bind(port.port()).is_err());
        assert!(refuses(port.port()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_port_is_held_before_and_after_somebody_listens() {
        let port = Port::free();
        for _ in 0..3 {
            assert!(refuses(port.number()));
            assert!(bind(port.number()).is_err());
            let listener = port.listen().unwrap();
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
            // This end of the connection remains in the system, as after the kill of a server.
            drop((listener.accept().unwrap(), stream, listener));
        }
    }
}
